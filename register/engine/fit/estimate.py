"""The current estimate of an alignment: a global map and the residual maps of patches."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from register.engine.fit import comparison
from register.geometry import affine, models, patch_grid, patch_tensors
from register.geometry.patch_grid import PatchGrid
from register.geometry.patch_tensors import Patches
from register.images import interpolation, pyramid
from register.images.pyramid import Level
from register.transforms.frame import Frame
from register.transforms.quality import PatchFigures
from register.transforms.transform import Transform

COARSE_PATCHES = 4
"""Cells of the coarse patch grid along the longer side of an image that is aligned by a global map."""


@dataclass(frozen=True)
class LocalFit:
    """Residual affine maps of patches, applied to the fixed pixels before the global map.

    ``parameters`` (2, 3, rows, columns) on ``grid`` are in pixels of one fixed ``level``. ``folds`` is the
    number of folded cells that were smoothed, ``history`` the loss per step of each level, and ``left_out``
    names the levels whose patches did not improve held-out windows.
    """

    level: Level
    grid: PatchGrid
    parameters: Tensor
    folds: int = 0
    history: dict[str, tuple[float, ...]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def on(self, level: Level) -> Patches:
        """The patches in pixels of any fixed level."""
        ratio = pyramid.pixel(self.level) / pyramid.pixel(level)
        return Patches(scaled_grid(self.grid, ratio), self.parameters * ratio)

    def displacement(self, level: Level) -> Tensor:
        """The residual displacement (h, w, 2) on the pixels of any fixed level, in its pixels."""
        axes = interpolation.axes(*level.size, device=level.image.device)
        return self.on(level).displacement(*axes)

    @property
    def centres(self) -> Tensor:
        """The centres (n, 2) of the patches, in pixels of the original."""
        return affine.apply(self.level.original_from_level, patch_tensors.centres(self.grid).reshape(-1, 2))

    @property
    def original_grid(self) -> PatchGrid:
        """The grid in pixels of the original."""
        up, own = self.level.original_from_level, self.grid
        spacing = (float(up[0, 0]) * own.spacing[0], float(up[1, 1]) * own.spacing[1])
        x, y = affine.apply(up, torch.tensor([own.origin], dtype=torch.float64))[0].tolist()
        return PatchGrid(own.columns, own.rows, (x, y), spacing)

    @property
    def typical_shift(self) -> float:
        """The median displacement of the patch centres, in pixels of the level."""
        return float(self.parameters[:, 0].norm(dim=0).median())

    @property
    def largest_shift(self) -> float:
        """The largest displacement of a patch centre, in pixels of the original."""
        return float(self.parameters[:, 0].norm(dim=0).max()) * pyramid.pixel(self.level)


@dataclass(frozen=True)
class Estimate:
    """A global map ``matrix`` (2, 3) float64, fixed to moving, in pixels of the originals, and patches over
    it.

    ``not_kept`` is the estimate with patches that a global map replaced because they may be noise: what they
    show stands in the expected error.
    """

    matrix: Tensor
    patches: LocalFit | None = None
    not_kept: "Estimate | None" = None

    def map(self, points: Tensor) -> Tensor:
        """The moving points (n, 2) of fixed points (n, 2), in pixels of the originals, on the processor."""
        if self.patches is None:
            return affine.apply(self.matrix.double().cpu(), points)
        own, up = self.patches, self.patches.level.original_from_level
        points = affine.apply(affine.invert(up), points)
        moved = points + patch_grid.displacement_at(own.grid, own.parameters.double().cpu(), points)
        return affine.apply(affine.compose(self.matrix.double().cpu(), up), moved)

    @property
    def history(self) -> dict[str, tuple[float, ...]]:
        """The loss of every step of the patches' optimisation, by level; empty without patches."""
        return self.patches.history if self.patches else {}

    def patches_on(self, level: Level) -> Patches | None:
        """The patches in pixels of any fixed level."""
        return self.patches.on(level) if self.patches else None

    def nearest_affine(self) -> Tensor:
        """The affine map (2, 3) of the originals that is nearest to the maps of the patch centres."""
        if self.patches is None:
            return self.matrix
        centres = patch_tensors.centres(self.patches.grid).reshape(-1, 2)
        moved = centres + self.patches.parameters[:, 0].double().cpu().reshape(2, -1).T
        residual = models.AFFINE.fit(centres, moved)
        return affine.compose(
            self.matrix, comparison.residual_in_original_pixels(residual, self.patches.level)
        )

    def transform(
        self, model: str, frames: tuple[Frame, Frame], figures: PatchFigures | None = None
    ) -> Transform:
        """The transform of a ``model`` between two images, with figures per patch.

        Without patches, a transform of the local model has a coarse grid of patches with equal maps.
        """
        matrix, figures = self.matrix.double().cpu(), figures or PatchFigures()
        if model != "local":
            return Transform(model, *frames, matrix.numpy())
        if self.patches is None:
            grid = coarse_grid(frames[0].height, frames[0].width)
            equal = matrix.expand(grid.rows, grid.columns, 2, 3).clone()
            return Transform(model, *frames, matrix.numpy(), grid, equal.numpy(), patch_figures=figures)
        level, own, grid = self.patches.level, self.patches.grid, self.patches.original_grid
        residual = patch_grid.to_matrices(own, self.patches.parameters.double().cpu())
        absolute = affine.compose(matrix, comparison.residual_in_original_pixels(residual, level))
        return Transform(model, *frames, matrix.numpy(), grid, absolute.numpy(), patch_figures=figures)


def coarse_grid(height: int, width: int) -> PatchGrid:
    """The coarse grid of an image that is aligned by a global map."""
    return PatchGrid.cover(height, width, max(height, width) / COARSE_PATCHES)


def scaled_grid(grid: PatchGrid, ratio: float) -> PatchGrid:
    """The grid in pixels that are ``ratio`` times smaller; its origin, the corner of a pixel, is the same."""
    return PatchGrid(grid.columns, grid.rows, grid.origin, (grid.spacing[0] * ratio, grid.spacing[1] * ratio))


def patches_from_map(
    mapped: Callable[[Tensor], Tensor],
    box: tuple[Tensor, Tensor],
    level: Level,
    matrix: Tensor,
    patch_size: int,
) -> LocalFit:
    """The patches of one level that approximate a map of points (n, 2), in original pixels, to first order.

    The map is evaluated inside the ``box`` (two corners) only; patches outside are extrapolated from the
    nearest point of the box, because a homography may have its horizon beyond the matches that determine
    it. ``matrix`` (2, 3) is the global map, ``patch_size`` the spacing of the patches in pixels of the level.
    """
    grid, up = PatchGrid.cover(*level.size, patch_size), level.original_from_level
    back = affine.invert(affine.compose(matrix, up))

    def residual(points: Tensor) -> Tensor:
        return affine.apply(back, mapped(affine.apply(up, points))) - points

    centres = patch_tensors.centres(grid)
    corners = affine.apply(affine.invert(up), torch.stack(box))
    inside = torch.minimum(torch.maximum(centres, corners[0]), corners[1])
    move, along_x, along_y = patch_tensors.secants(residual, inside.reshape(-1, 2), 2.0, 2.0)
    gradients = [along_x / 2 * grid.spacing[0], along_y / 2 * grid.spacing[1]]
    outside = ((centres - inside) / torch.tensor(grid.spacing, dtype=torch.float64)).reshape(-1, 2)
    move = move + gradients[0] * outside[:, :1] + gradients[1] * outside[:, 1:]
    columns = torch.stack([move, *gradients], dim=-1)
    parameters = columns.reshape(grid.rows, grid.columns, 2, 3).permute(2, 3, 0, 1)
    unfolded, folds = patch_tensors.unfold(grid, parameters.to(level.image))
    return LocalFit(level, grid, unfolded, folds)
