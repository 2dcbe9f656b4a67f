"""The answer: a frozen map from points of the fixed image to points of the moving image."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from register import affine, patches
from register import field as fields
from register.errors import TransformError
from register.patches import PatchGrid


@dataclass(frozen=True)
class Frame:
    """The pixel grid of one image: its size, its pixel size (x, y) in ``pixel_unit`` when known, and the file it came from."""

    width: int
    height: int
    pixel_size: tuple[float, float] | None = None
    pixel_unit: str | None = None
    path: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Transform:
    """**Maps fixed (x, y) to moving (x, y)**, in pixels, 0-based, centres at integers: what resampling the moving image needs.

    ``matrix`` (2, 3) float64 is the global map. With a ``grid``, ``matrices`` (rows, columns, 2, 3) float64 are absolute affine maps,
    one per patch, and the map is their blend; without, the global map is all there is. ``extras`` holds what the file
    knows beside the map: per-patch figures, quality, provenance and unknown keys.
    """

    model: str
    fixed: Frame
    moving: Frame
    matrix: Tensor
    grid: PatchGrid | None = None
    matrices: Tensor | None = None
    patch_figures: dict[str, list[Any]] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)

    def map(self, points: Tensor) -> Tensor:
        """Moving points (..., 2) float64 of fixed points (..., 2), in pixels."""
        flat = torch.as_tensor(points, dtype=torch.float64).reshape(-1, 2)
        parameters = self.parameters
        if self.grid is None or parameters is None:
            mapped = affine.apply(self.matrix, flat)
        else:
            mapped = flat + torch.cat([patches.displacement_at(self.grid, parameters, part) for part in torch.split(flat, 65536)])
        return mapped.reshape(torch.as_tensor(points).shape)

    def map_grid(self, x: Tensor, y: Tensor) -> Tensor:
        """Moving points (len(y), len(x), 2) of the product of fixed positions x and y (float64, pixels)."""
        grid = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1)
        parameters = self.parameters
        if self.grid is None or parameters is None:
            return affine.apply(self.matrix, grid.flatten(0, 1)).reshape(grid.shape)
        return grid + patches.displacement(parameters, self.grid.axis_basis(x, 0), self.grid.axis_basis(y, 1))

    def field(self) -> Tensor:
        """The displacement (height, width, 2) float64, moving point minus fixed point, at every pixel of the fixed image."""
        x = torch.arange(self.fixed.width, dtype=torch.float64)
        y = torch.arange(self.fixed.height, dtype=torch.float64)
        still = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1)
        return self.map_grid(x, y) - still

    def inverse(self) -> "Inverse":
        """The map from moving points to fixed points."""
        return Inverse(self)

    @property
    def parameters(self) -> Tensor | None:
        """The patches as parameters (2, 3, rows, columns) of the blend, in fixed pixels."""
        return None if self.grid is None or self.matrices is None else patches.from_matrices(self.grid, self.matrices)

    def smallest_determinant(self) -> float:
        """A lower bound of det J over the whole fixed image, relative to the sign of the global map; positive means no fold."""
        whole = float(affine.determinant(self.matrix))
        parameters = self.parameters
        if self.grid is None or parameters is None:
            return abs(whole)
        if whole < 0:  # a mirror turns every determinant's sign: undo it, and ask the same question
            mirror = torch.tensor([-1.0, 1.0], dtype=torch.float64)[:, None]
            assert self.matrices is not None
            parameters = patches.from_matrices(self.grid, self.matrices * mirror)
        return float(fields.smallest_determinants(self.grid, parameters).min())

    def checked(self) -> "Transform":
        """Itself; raises ``TransformError`` naming a number that is not finite, a wrong count or a fold."""
        tensors = [self.matrix] + ([] if self.matrices is None else [self.matrices])
        if not all(bool(torch.isfinite(t).all()) for t in tensors):
            raise TransformError("the transform holds a number that is not finite")
        if self.grid is not None and self.matrices is not None and self.matrices.shape != (self.grid.rows, self.grid.columns, 2, 3):
            raise TransformError(f"the patches have shape {tuple(self.matrices.shape)}, the grid asks for {(self.grid.rows, self.grid.columns, 2, 3)}")
        if self.smallest_determinant() <= 0:
            raise TransformError("the transform folds: its Jacobian determinant is not positive everywhere in the fixed image")
        return self

    def save(self, path: str | Path) -> None:
        """Write the JSON file; whole or not at all."""
        from register.io.transforms import write_transform

        write_transform(self, path)

    @staticmethod
    def load(path: str | Path) -> "Transform":
        """Read and check a JSON file; raises ``FileError`` or ``TransformError`` by name of what is wrong."""
        from register.io.transforms import read_transform

        return read_transform(path)


@dataclass(frozen=True)
class Inverse:
    """**Maps moving (x, y) to fixed (x, y)**, found numerically point by point."""

    forward: Transform

    def map(self, points: Tensor, *, steps: int = 30, tolerance: float = 1e-6) -> Tensor:
        """Fixed points (..., 2) float64 of moving points (..., 2), by Newton's method from the inverse of the global map.

        The map is piecewise smooth and does not fold, so the iteration is safeguarded only by halving steps that do not reduce the
        residual. Points far outside the moving image follow the outer patches.
        """
        target = torch.as_tensor(points, dtype=torch.float64).reshape(-1, 2)
        current = affine.apply(affine.invert(self.forward.matrix), target)
        residual = self.forward.map(current) - target
        for _ in range(steps):
            if len(target) == 0 or float(residual.norm(dim=1).max()) < tolerance:
                break
            move = torch.linalg.solve(self._jacobian(current), -residual[..., None])[..., 0]
            current, residual = self._halve_until_better(target, current, residual, move)
        return current.reshape(torch.as_tensor(points).shape)

    def _halve_until_better(self, target: Tensor, current: Tensor, residual: Tensor, move: Tensor) -> tuple[Tensor, Tensor]:
        for _ in range(6):
            trial = self.forward.map(current + move) - target
            worse = trial.norm(dim=1) > residual.norm(dim=1)
            if not bool(worse.any()):
                break
            move = torch.where(worse[:, None], move / 2, move)
        trial = self.forward.map(current + move) - target
        better = (trial.norm(dim=1) < residual.norm(dim=1))[:, None]
        return torch.where(better, current + move, current), torch.where(better, trial, residual)

    def _jacobian(self, points: Tensor, step: float = 1e-3) -> Tensor:
        """Central differences (n, 2, 2); the map is piecewise polynomial, so they are exact to about 1e-9 inside a cell."""
        columns = []
        for shift in ((step, 0.0), (0.0, step)):
            delta = torch.tensor(shift, dtype=torch.float64)
            columns.append((self.forward.map(points + delta) - self.forward.map(points - delta)) / (2 * step))
        return torch.stack(columns, dim=-1)
