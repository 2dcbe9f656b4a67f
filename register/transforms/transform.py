"""The answer: a frozen map from points of the fixed image to points of the moving image."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from register.errors import FileError, TransformError
from register.geometry import affine, patch_grid
from register.geometry import jacobian as fields
from register.geometry.patch_grid import PatchGrid
from register.transforms import convert, schema
from register.transforms.frame import Frame
from register.transforms.quality import PatchFigures, Provenance, Quality
from register.transforms.schema import Json, TransformFile

Units = tuple[tuple[float, float], tuple[float, float]]
"""Scale and offset of x and y, from pixels to other units."""
AS_THEY_ARE: Units = ((1.0, 1.0), (0.0, 0.0))


@dataclass(frozen=True)
class Transform:
    """**Maps fixed (x, y) to moving (x, y)**, in pixels, 0-based, centres at integers: what resampling the moving image needs.

    ``matrix`` (2, 3) float64 is the global map. With a ``grid``, ``matrices`` (rows, columns, 2, 3) float64 are absolute affine maps,
    one per patch, and the map is their blend; with a ``chain`` (model ``chain``), links are applied one after the other, the first link first, and
    ``matrix`` is the product of their global maps; without either, the global map is all there is. ``extras`` holds the unknown
    keys of a file: those of the transform itself under the empty name, those of ``fixed``, ``moving`` and ``global``.
    """

    model: str
    fixed: Frame
    moving: Frame
    matrix: Tensor
    grid: PatchGrid | None = None
    matrices: Tensor | None = None
    chain: tuple["Link", ...] = ()
    patch_figures: PatchFigures = field(default_factory=PatchFigures)
    quality: Quality = field(default_factory=Quality)
    provenance: Provenance = field(default_factory=Provenance)
    extras: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def map(self, points: Tensor) -> Tensor:
        """Moving points (..., 2) float64 of fixed points (..., 2), in pixels."""
        flat = torch.as_tensor(points, dtype=torch.float64).reshape(-1, 2)
        return self.expand(flat)[0].reshape(torch.as_tensor(points).shape)

    def expand(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Moving points (n, 2) of fixed points (n, 2) float64, and the Jacobian (n, 2, 2) of the map there."""
        if self.chain:
            whole = torch.eye(2, dtype=torch.float64).expand(len(points), 2, 2)
            for link in self.chain:
                points, jacobian = link.expand(points)
                whole = jacobian @ whole
            return points, whole
        if self.grid is None or self.matrices is None:
            return affine.apply(self.matrix, points), self.matrix[:, :2].expand(len(points), 2, 2)
        parts = [patch_grid.blend_at(self.grid, self.matrices, part) for part in torch.split(points, 65536)]
        return torch.cat([mapped for mapped, _ in parts]), torch.cat([jacobian for _, jacobian in parts])

    def expected_error(self, points: Tensor) -> Tensor:
        """The error to expect (...,), in moving pixels, of ``map`` at fixed points (..., 2): two of three are smaller. Infinite where nothing is known.

        Errors of a chain's links add as independent ones do, each scaled by the links after it.
        """
        flat = torch.as_tensor(points, dtype=torch.float64).reshape(-1, 2)
        overall = self.quality.expected_error
        error = torch.full((len(flat),), torch.inf if overall is None else overall, dtype=torch.float64)
        if self.chain:
            error = torch.zeros(len(flat), dtype=torch.float64)
            for link in self.chain:
                own = link.expected_error(flat)
                flat, jacobian = link.expand(flat)
                error = torch.hypot(error * torch.linalg.det(jacobian).abs().sqrt(), own)
        elif self.grid is not None and self.patch_figures.expected_error:
            parts = torch.split(flat, 65536)
            error = torch.cat(
                [
                    patch_grid.blend_finite(self.grid, self.patch_figures.expected_error, part)
                    for part in parts
                ]
            )
        return error.reshape(torch.as_tensor(points).shape[:-1])

    def map_grid(self, x: Tensor, y: Tensor, then: Units | None = None) -> Tensor:
        """Moving points (len(y), len(x), 2) of the product of ascending fixed positions x and y (float64, pixels), in other units ``then`` if given."""
        (across, down), (left, top) = then or AS_THEY_ARE
        if self.chain:
            return _in_units(self.map(affine.points_at(x, y)), then)
        if self.grid is None or self.matrices is None:
            return _in_units(affine.apply_to_grid(self.matrix[None], x, y)[0], then)
        rows, columns = (
            self.grid.cells(float(y[0]), float(y[-1]), 1),
            self.grid.cells(float(x[0]), float(x[-1]), 0),
        )
        near = self.grid.cut(rows, columns)
        parameters = (
            patch_grid.from_matrices(near, self.matrices[rows, columns])
            * x.new_tensor([across, down])[:, None, None, None]
        )
        mapped = patch_grid.displacement(parameters, near.axis_basis(x, 0), near.axis_basis(y, 1))
        mapped[..., 0] += x * across + left
        mapped[..., 1] += (y * down + top)[:, None]
        return mapped

    def field(self) -> Tensor:
        """The displacement (height, width, 2) float64, moving point minus fixed point, at every pixel of the fixed image."""
        x = torch.arange(self.fixed.width, dtype=torch.float64)
        y = torch.arange(self.fixed.height, dtype=torch.float64)
        still = affine.points_at(x, y)
        return self.map_grid(x, y) - still

    def inverse(self) -> "Inverse":
        """The map from moving points to fixed points."""
        return Inverse(self)

    def at_scale(self, scale: float) -> "Transform":
        """The same map between the same images with pixels ``scale`` times finer: edges stay on edges, x' = s x + (s - 1) / 2."""
        up, down = affine.scaling(scale, scale), affine.scaling(1 / scale, 1 / scale)

        def scaled(matrix: Tensor) -> Tensor:
            return affine.compose(affine.compose(up, matrix), down)

        grid = self.grid
        if grid is not None:
            origin = (grid.origin[0] + 0.5) * scale - 0.5, (grid.origin[1] + 0.5) * scale - 0.5
            grid = PatchGrid(
                grid.columns, grid.rows, origin, (grid.spacing[0] * scale, grid.spacing[1] * scale)
            )
        matrices = None if self.matrices is None else scaled(self.matrices)
        chain = tuple(replace(link, transform=link.transform.at_scale(scale)) for link in self.chain)
        fixed, moving = self.fixed.at_scale(scale), self.moving.at_scale(scale)
        return replace(
            self,
            fixed=fixed,
            moving=moving,
            matrix=scaled(self.matrix),
            grid=grid,
            matrices=matrices,
            chain=chain,
        )

    @property
    def parameters(self) -> Tensor | None:
        """The patches as parameters (2, 3, rows, columns) of the blend, in fixed pixels."""
        return (
            None
            if self.grid is None or self.matrices is None
            else patch_grid.from_matrices(self.grid, self.matrices)
        )

    def smallest_determinant(self) -> float:
        """A lower bound of det J over the whole fixed image, relative to the sign of the global map; positive means no fold.

        Of a chain, the smallest at 64 x 64 points: each link has a bound of its own, and inverses and products of maps that do not fold do not.
        """
        if self.chain:
            x, y = (
                torch.linspace(0, side - 1, 64, dtype=torch.float64)
                for side in (self.fixed.width, self.fixed.height)
            )
            jacobian = self.expand(torch.cartesian_prod(x, y))[1]
            return float((torch.linalg.det(jacobian) * affine.determinant(self.matrix).sign()).min())
        whole = float(affine.determinant(self.matrix))
        parameters = self.parameters
        if self.grid is None or parameters is None:
            return abs(whole)
        if whole < 0:  # a mirror turns every determinant's sign: undo it, and ask the same question
            mirror = torch.tensor([-1.0, 1.0], dtype=torch.float64)[:, None]
            assert self.matrices is not None
            parameters = patch_grid.from_matrices(self.grid, self.matrices * mirror)
        return float(fields.smallest_determinants(self.grid, parameters).min())

    def checked(self) -> "Transform":
        """Itself; raises ``TransformError`` naming a number that is not finite, a wrong count or a fold."""
        tensors = [self.matrix] + ([] if self.matrices is None else [self.matrices])
        if not all(bool(torch.isfinite(t).all()) for t in tensors):
            raise TransformError("the transform holds a number that is not finite")
        if (
            self.grid is not None
            and self.matrices is not None
            and self.matrices.shape != (self.grid.rows, self.grid.columns, 2, 3)
        ):
            raise TransformError(
                f"the patches have shape {tuple(self.matrices.shape)}, the grid asks for {(self.grid.rows, self.grid.columns, 2, 3)}"
            )
        for link in self.chain:
            link.transform.checked()
        if not self.chain and self.smallest_determinant() <= 0:
            raise TransformError(
                "the transform folds: its Jacobian determinant is not positive everywhere in the fixed image"
            )
        return self

    def save(self, path: str | Path) -> None:
        """Write the JSON file atomically."""
        schema.write(self.values(), path)

    @staticmethod
    def load(path: str | Path) -> "Transform":
        """Read and check a JSON file. Raises ``FileError`` naming the file and what is wrong with it."""
        file = schema.read(path)
        try:
            return Transform.of(file).checked()
        except TransformError as error:
            raise FileError(path, str(error)) from None

    @staticmethod
    def of(file: TransformFile) -> "Transform":
        """The transform of the content of a file. Raises ``TransformError`` for a wrong number of values."""
        patches = convert.patches_of(file.patches)
        frames = {"fixed": file.fixed, "moving": file.moving}
        links = ((Transform.of(link.transform), link.inverse) for link in file.chain or ())
        return Transform(
            model=file.model,
            fixed=convert.frame_of(file.fixed),
            moving=convert.frame_of(file.moving),
            matrix=torch.tensor(file.global_.matrix, dtype=torch.float64),
            grid=patches.grid,
            matrices=patches.matrices,
            chain=tuple(Link(transform, inverse) for transform, inverse in links),
            patch_figures=patches.figures,
            quality=Quality.of(file.quality),
            provenance=Provenance.of(file.provenance),
            extras={name: convert.unknown_keys(frame) for name, frame in frames.items()}
            | {"": file.unknown(), "global": file.global_.unknown()},
        )

    def values(self) -> Json:
        """The content of the file as JSON values."""
        patches = convert.patches_values(self.grid, self.matrices, self.patch_figures)
        links = [{"inverse": link.inverse, "transform": link.transform.values()} for link in self.chain]
        return {
            "format": "register-transform",
            "version": 1,
            "convention": schema.CONVENTION,
            "fixed": convert.frame_values(self.fixed) | self._unknown("fixed"),
            "moving": convert.frame_values(self.moving) | self._unknown("moving"),
            "model": self.model,
            "global": {"matrix": self.matrix.tolist()} | self._unknown("global"),
            "patches": patches,
            **({"chain": links} if links else {}),
            "quality": dict(self.quality),
            "provenance": dict(self.provenance),
        } | self._unknown("")

    def _unknown(self, part: str) -> Json:
        return dict(self.extras.get(part, {}))


@dataclass(frozen=True)
class Link:
    """One link of a chain: a transform, or its numerical inverse."""

    transform: Transform
    inverse: bool = False

    def reversed(self) -> "Link":
        """The link the other way."""
        return replace(self, inverse=not self.inverse)

    def expand(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Mapped points (n, 2) and the Jacobian (n, 2, 2) of the map at points (n, 2)."""
        if not self.inverse:
            return self.transform.expand(points)
        mapped = self.transform.inverse().map(points)
        return mapped, torch.linalg.inv(self.transform.expand(mapped)[1])

    def expected_error(self, points: Tensor) -> Tensor:
        """The error to expect (n,) of points (n, 2), in pixels of where they are taken."""
        if not self.inverse:
            return self.transform.expected_error(points)
        mapped, jacobian = self.expand(points)
        return self.transform.expected_error(mapped) * torch.linalg.det(jacobian).abs().sqrt()


@dataclass(frozen=True)
class Inverse:
    """**Maps moving (x, y) to fixed (x, y)**, found numerically point by point; resamples the fixed image on the moving grid."""

    forward: Transform

    @property
    def fixed(self) -> Frame:
        """The frame whose points are mapped: that of the moving image."""
        return self.forward.moving

    @property
    def moving(self) -> Frame:
        """The frame the points are mapped to: that of the fixed image."""
        return self.forward.fixed

    def map(self, points: Tensor, *, steps: int = 30, tolerance: float = 1e-6) -> Tensor:
        """Fixed points (..., 2) float64 of moving points (..., 2), by Newton's method from the inverse of the nearest patch.

        The map is piecewise smooth and does not fold, so the iteration is safeguarded only by halving steps that do not reduce the
        residual. Points far outside the moving image follow the outer patches.
        """
        target = torch.as_tensor(points, dtype=torch.float64).reshape(-1, 2)
        if self.forward.chain:
            for link in reversed(self.forward.chain):
                target = (
                    link.transform.map(target)
                    if link.inverse
                    else link.transform.inverse().map(target, steps=steps, tolerance=tolerance)
                )
            return target.reshape(torch.as_tensor(points).shape)
        found = [self._solve(part, steps, tolerance) for part in torch.split(target, 65536)]
        return torch.cat(found or [target]).reshape(torch.as_tensor(points).shape)

    def map_grid(self, x: Tensor, y: Tensor, then: Units | None = None) -> Tensor:
        """Fixed points (len(y), len(x), 2) of the product of moving positions x and y (float64, pixels), in other units ``then`` if given."""
        return _in_units(self.map(affine.points_at(x, y)), then)

    def _solve(self, target: Tensor, steps: int, tolerance: float) -> Tensor:
        current = self._seed(target)
        mapped, jacobian = self.forward.expand(current)
        active = torch.arange(len(target))
        for _ in range(steps):
            wrong = (mapped - target[active]).norm(dim=1) > tolerance
            active, mapped, jacobian = active[wrong], mapped[wrong], jacobian[wrong]
            if len(active) == 0:
                break
            before = mapped - target[active]
            move = -_solve(jacobian, before)
            move, mapped, jacobian = self._halve_until_better(target[active], current[active], before, move)
            current[active] += move
        return current

    def _seed(self, target: Tensor) -> Tensor:
        """The inverse of the patch nearest to where the global map's inverse lands."""
        current = affine.apply(affine.invert(self.forward.matrix), target)
        grid, matrices = self.forward.grid, self.forward.matrices
        if grid is None or matrices is None:
            return current
        last = current.new_tensor([grid.columns - 1, grid.rows - 1])
        nearest = torch.minimum(
            ((current - current.new_tensor(grid.origin)) / current.new_tensor(grid.spacing))
            .round()
            .clamp(min=0),
            last,
        ).long()
        back = affine.invert(matrices)[nearest[:, 1], nearest[:, 0]]
        return (back[:, :, :2] @ target[..., None])[..., 0] + back[:, :, 2]

    def _halve_until_better(
        self, target: Tensor, current: Tensor, before: Tensor, move: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The step, halved where it does not bring the point nearer, with the map and its Jacobian at its end."""
        for _ in range(6):
            mapped, jacobian = self.forward.expand(current + move)
            worse = (mapped - target).norm(dim=1) >= before.norm(dim=1)
            if not bool(worse.any()):
                break
            move = torch.where(worse[:, None], move / 2, move)
        else:
            mapped, jacobian = self.forward.expand(current + move)
        return move, mapped, jacobian


def _in_units(points: Tensor, then: Units | None) -> Tensor:
    return points if then is None else points * points.new_tensor(then[0]) + points.new_tensor(then[1])


def _solve(matrices: Tensor, right: Tensor) -> Tensor:
    """x (n, 2) with matrices (n, 2, 2) times x = right (n, 2), by Cramer's rule."""
    (a, b), (c, d) = (row.unbind(-1) for row in matrices.unbind(1))
    u, v = right.unbind(1)
    return torch.stack([d * u - b * v, a * v - c * u], -1) / (a * d - b * c)[:, None]
