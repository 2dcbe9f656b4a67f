"""What one level compares: features of the fixed image, features of the moving one, and the map between their pixels."""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor

from register.compute import tensors
from register.geometry import affine, affine_tensors
from register.geometry.patch_grid import PatchGrid
from register.geometry.patch_tensors import Patches
from register.images import filters, interpolation, preprocess, pyramid
from register.images.pyramid import Level
from register.kernels import dispatch
from register.similarity import registry
from register.similarity.base import FixedImage, Similarity, Windows

STRIP = 500_000
"""Pixels of a strip of a level: few enough for what is computed of them to stay near the processor, enough to keep its threads busy."""
SMOOTHING = 0.7
"""Gaussian, in pixels, before intensities are compared: interpolation error would make half-pixel shifts attractive."""
NEARLY = 1.2
"""Ratio of pixel sizes up to which images are compared as they are."""


class LossExpansion(NamedTuple):
    """Weighted losses (b, n) of n windows and their weights (b, n), for small displacements of the fixed pixels.

    ``slope`` (b, h, w, 2) is how they follow each point of the moving image; ``curvature`` (b, 3, rows, columns) holds xx, xy and yy, for displacements
    of fixed pixels, summed over blocks of them.
    """

    losses: Tensor
    weights: Tensor
    slope: Tensor
    curvature: Tensor


@dataclass(frozen=True)
class Comparison:
    """What one level compares; ``moving_from_fixed`` takes pixels of the fixed level to pixels of ``moving``."""

    fixed: Tensor  # (1, c, h, w)
    fixed_mask: Tensor  # (1, 1, h, w)
    moving: Tensor  # (b, c, h', w')
    moving_mask: Tensor  # (b, 1, h', w')
    moving_from_fixed: Tensor  # (b, 2, 3) float32
    similarity: Similarity
    window: int
    tensors_only: bool = False
    """Whether the compiled pass is to be left out."""

    def __call__(self, points: Tensor) -> Windows:
        """Similarity per window when fixed pixel (row, column) is compared with ``moving`` at its points (b, h, w, 2)."""
        fixed = self._fixed_image(points.detach())
        return self.similarity.function(fixed, interpolation.sample(self.moving, points))

    def expand(self, points: Tensor, block: int) -> "LossExpansion":
        """The summed loss at ``points`` (b, h, w, 2) to second order, for moving every point a little; curvature is summed over blocks."""
        warped, slope = interpolation.sample_and_slope(self.moving, points)
        fixed = self._fixed_image(points)
        windows = self.similarity.function(fixed, warped)
        rows, columns = (-(-n // self.window) for n in warped.shape[-2:])
        known = windows.derivatives().reshape(len(warped), 4, rows, columns)
        a, b, c, bend = filters.over_windows(known, self.window, self.size).chunk(4, 1)
        pull = torch.addcmul(c, a, fixed.image).addcmul(b, warped).mul_(fixed.weight)
        gx, gy = filters.differences(warped)
        squares = torch.cat([(gx * gx).sum(1, True), (gx * gy).sum(1, True), (gy * gy).sum(1, True)], 1)
        curvature = filters.window_sums(squares.mul_(bend * fixed.weight), block)
        return LossExpansion(windows.losses(), windows.weight, slope(pull), curvature)

    def axes(self) -> tuple[Tensor, Tensor]:
        """The positions x (w,) and y (h,) of the fixed pixels."""
        return interpolation.axes(*self.size, dtype=self.fixed.dtype, device=self.fixed.device)

    def under(self, residual: Tensor | None = None) -> Tensor:
        """Points (b, h, w, 2) of ``moving`` that the fixed pixels meet under residual matrices (b, 2, 3) of the fixed level."""
        matrices = (
            self.moving_from_fixed if residual is None else affine.compose(self.moving_from_fixed, residual)
        )
        return affine.apply_to_grid(matrices, *self.axes())

    def shifted(self, displacement: Tensor) -> Tensor:
        """Points (1, h, w, 2) of ``moving`` that the fixed pixels meet after a displacement (h, w, 2) of the fixed level."""
        return self.under()[:1] + self.in_moving(displacement)

    def in_moving(self, displacement: Tensor) -> Tensor:
        """A displacement (h, w, 2) of fixed pixels as one of moving pixels; x and y are each in one piece, as arithmetic likes them."""
        planes = self.moving_from_fixed[0, :, :2] @ displacement.movedim(-1, 0).flatten(1)
        return planes.reshape(2, *displacement.shape[:2]).movedim(0, -1)

    @cached_property
    def compiled(self) -> list[dispatch.PreparedPair]:
        """What the compiled pass reads, one pair per batch item; nothing where there is none for these images."""
        kind = self.similarity.compiled
        if self.tensors_only or kind is None or not dispatch.supports(self.fixed, self.moving):
            return []
        moving = zip(self.moving, self.moving_mask, self.moving_from_fixed, strict=True)
        return [
            dispatch.prepare(self.fixed[0], self.fixed_mask[0], *one, kind, self.window) for one in moving
        ]

    def in_moving_frame(self, parameters: Tensor) -> Tensor:
        """Parameters (b, 2, 3, rows, columns) of patches that move fixed pixels as those that move points of the moving image. The blend is linear:
        parameters are turned, not pixels."""
        return (self.moving_from_fixed[:, :, :2] @ parameters.flatten(2)).reshape(-1, *parameters.shape[1:])

    def batches(self, parts: int) -> list["Comparison"]:
        """The same comparison with its batch items in up to ``parts`` groups."""
        groups = torch.arange(len(self.moving)).chunk(parts)
        return [
            replace(
                self,
                moving=self.moving[i],
                moving_mask=self.moving_mask[i],
                moving_from_fixed=self.moving_from_fixed[i],
            )
            for i in groups
        ]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What is compared."""
        return self.fixed, self.fixed_mask, self.moving, self.moving_mask, self.moving_from_fixed

    def of(self, *tensors: Tensor) -> "Comparison":
        """The same comparison of other ``tensors``."""
        fixed, fixed_mask, moving, moving_mask, moving_from_fixed = tensors
        return Comparison(
            fixed,
            fixed_mask,
            moving,
            moving_mask,
            moving_from_fixed,
            self.similarity,
            self.window,
            self.tensors_only,
        )

    @cached_property
    def counts(self) -> bool:
        """Whether any pixel has weight; on a GPU, which would have to be waited for, it is taken for granted."""
        return not tensors.is_on_cpu(self.fixed_mask) or bool((self.fixed_mask > 0).any())

    def half(self, parity: int) -> "Comparison":
        """The same comparison in every second window only, like the black or the white fields of a chessboard, and of a large level in every other strip."""
        y, x = (torch.arange(n, device=self.fixed.device) // self.window % 2 == 0 for n in self.size)
        chosen = torch.zeros_like(self.fixed_mask)
        for rows in self.strips(1)[::2]:
            fields = y[rows, None] ^ x if parity else y[rows, None] == x
            torch.mul(self.fixed_mask[:, :, rows], fields, out=chosen[:, :, rows])
        return replace(self, fixed_mask=chosen)

    def blank(self, block: int) -> "LossExpansion":
        """What ``expand`` gives where nothing counts."""
        sizes = [[-(-n // side) for n in self.size] for side in (self.window, block)]
        zero, count = self.fixed_mask.new_zeros, len(self.moving)
        nothing = zero(count, sizes[0][0] * sizes[0][1])
        return LossExpansion(nothing, nothing, zero(count, 1, 1, 2), zero(count, 3, *sizes[1]))

    def rows(self, rows: slice) -> "Comparison":
        """The comparison of some rows of the fixed level only."""
        return replace(self, fixed=self.fixed[:, :, rows], fixed_mask=self.fixed_mask[:, :, rows])

    def strips(self, parts: int) -> list[slice]:
        """About ``parts`` ranges of rows that hold whole windows, or on a CPU as many as ``STRIP`` asks for; one for a similarity of the whole image."""
        height, width = self.size
        if tensors.is_on_cpu(self.fixed):
            parts = max(parts, round(height * width / STRIP))
        lines = -(-height // self.window)
        step = -(-lines // (parts if self.similarity.windowed else 1)) * self.window
        return [slice(begin, min(begin + step, height)) for begin in range(0, height, step)]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the fixed level, in pixels."""
        return self.fixed.shape[-2], self.fixed.shape[-1]

    @cached_property
    def _all(self) -> FixedImage:
        """The fixed side where the moving image is seen everywhere."""
        return FixedImage(self.fixed, self.fixed_mask, self.window)

    def _fixed_image(self, points: Tensor) -> FixedImage:
        """The fixed side, weighed by what is seen of the moving image at points (b, h, w, 2)."""
        if interpolation.all_seen(self.moving_mask, points):
            return self._all
        return FixedImage(
            self.fixed,
            self.fixed_mask * filters.shares(interpolation.sample(self.moving_mask, points, padding="zeros")),
            self.window,
        )


def prepare(
    fixed: Level,
    moving: Level,
    moving_from_fixed: Tensor,
    metric: str,
    *,
    window: int,
    margin: int,
    smoothing: float = SMOOTHING,
) -> Comparison:
    """A comparison of two grey levels around the global fits ``moving_from_fixed`` (b, 2, 3), in original pixels.

    Intensities are smoothed by ``smoothing`` pixels and read in the moving image's own pixels. Orientation turns with the image: for ``structure`` and
    ``mind`` the moving image is brought into the fixed frame first, ``margin`` pixels wider on every side, and its features are taken there.
    """
    similarity = registry.get(metric)
    step = affine.compose(
        affine.compose(affine.invert(moving.original_from_level), moving_from_fixed),
        fixed.original_from_level,
    )
    step = step.to(fixed.image)
    b, (height, width) = len(step), fixed.size
    moving_image, moving_mask = (x[None].expand(b, -1, -1, -1) for x in (moving.image, moving.mask))
    fixed_image, fixed_mask = fixed.image[None], fixed.mask[None]
    weight = preprocess.texture_of(fixed)[None]
    features = similarity.descriptor
    if features is None:
        fixed_image, moving_image = (_smoothed(x, smoothing) for x in (fixed, moving))
        moving_image = moving_image.expand(b, -1, -1, -1)
        return Comparison(fixed_image, weight, moving_image, moving_mask, step, similarity, window)
    points = affine.apply_to_grid(step, *interpolation.axes(height, width, margin=margin, device=step.device))
    seen = filters.shares(
        interpolation.sample(moving_mask, points) * interpolation.inside(points, *moving.size)[:, None]
    )
    brought = interpolation.sample(moving_image, points, interpolation="bicubic")
    back = affine_tensors.translation(margin, margin).to(step).expand(b, -1, -1)
    still = pyramid.known(fixed, metric, lambda: features(fixed_image, fixed_mask))
    return Comparison(still, weight, features(brought, seen), seen, back, similarity, window)


def ready(levels: list[Level]) -> None:
    """Compute of fixed levels what their comparisons need whatever is found, while something else is waited for."""
    for level in levels:
        preprocess.texture_of(level)
        _smoothed(level, SMOOTHING)


def _smoothed(level: Level, sigma: float) -> Tensor:
    """The image (1, 1, h, w) of a level under a Gaussian, computed once."""
    return pyramid.known(level, ("smooth", sigma), lambda: filters.smooth(level.image[None], sigma))


def batch(comparisons: list[Comparison]) -> Comparison:
    """Comparisons of one fixed level with equally large moving features as one."""
    moving, mask, maps = (
        torch.cat([getattr(x, name) for x in comparisons])
        for name in ("moving", "moving_mask", "moving_from_fixed")
    )
    return replace(comparisons[0], moving=moving, moving_mask=mask, moving_from_fixed=maps)


def match_pixel_size(moving: Level, fixed: Level, moving_from_fixed: Tensor) -> Level:
    """The moving image shrunk until its pixels are as large as those of the ``fixed`` level under one global fit (2, 3).

    Pixels that are nearly as large already stay: reading them anew would only blur.
    """
    factor = affine.scale(moving_from_fixed) * pyramid.pixel(fixed) / pyramid.pixel(moving)
    return pyramid.shrink(moving, factor if factor > NEARLY else 1.0)


def residual_in_original_pixels(residual: Tensor, fixed: Level) -> Tensor:
    """Residual matrices (..., 2, 3) given in pixels of a fixed level, in original pixels (float64)."""
    up, residual = fixed.original_from_level, residual.detach().cpu().double()
    carried = affine.compose(affine.compose(up, residual), affine.invert(up))
    still = (residual == affine_tensors.identity()).all((-2, -1), keepdim=True)
    return torch.where(
        still, residual, carried
    )  # the identity stays exact, without the rounding of the way up and down


def windows(compare: Comparison, moved: Patches | None = None) -> Windows:
    """Similarity per window, without gradients, with patches that move the pixels of the fixed level or without."""
    if compare.compiled:
        grid, parameters = moved or Patches.identity(
            PatchGrid.cover(*compare.size, max(compare.size)), device=compare.fixed.device
        )
        turned = compare.in_moving_frame(parameters.expand(len(compare.moving), -1, -1, -1, -1))
        values, weights = zip(
            *(dispatch.similarities(*item) for item in zip(compare.compiled, repeat(grid), turned)),
            strict=True,
        )
        return Windows(torch.stack(values), torch.stack(weights))
    found = []
    with torch.no_grad():
        displacement = None if moved is None else moved.displacement(*compare.axes())
        anchor = compare.under()
        for rows in compare.strips(1):
            strip, points = compare.rows(rows), anchor[:, rows]
            if strip.counts:
                found.append(
                    strip(
                        points if displacement is None else points[:1] + compare.in_moving(displacement[rows])
                    )
                )
            else:
                nothing = strip.blank(strip.window).losses
                found.append(Windows(nothing, nothing))
    return Windows(torch.cat([x.value for x in found], 1), torch.cat([x.weight for x in found], 1))


def per_patch(compare: Comparison, grid: PatchGrid, seen: Windows) -> tuple[Tensor, Tensor]:
    """The similarity of the windows around every patch and their mean weight, its texture, both (rows, columns), of the first batch item.

    A window counts as much as the patch has a say in its middle.
    """
    rows, columns = (-(-n // compare.window) for n in compare.size)
    value, share = seen.value[0], seen.weight[0]
    x, y = ((torch.arange(n, device=value.device) + 0.5) * compare.window - 0.5 for n in (columns, rows))
    along_x, along_y = grid.axis_basis(x, 0)[:, : grid.columns], grid.axis_basis(y, 1)[:, : grid.rows]
    sums = (
        along_y.T
        @ torch.stack([share * value, share, torch.ones_like(share)]).reshape(3, rows, columns)
        @ along_x
    )
    total, weight, whole = sums.unbind()
    return total / weight.clamp(min=1e-6), weight / whole.clamp(min=1e-6)
