"""The patch grid: the centres of patches, their blend weights, and the blended map of their affine maps.

Patch i has an affine map ``x -> x + d + E (x - c) / s`` about its centre c, with the grid's spacing s, so
that one unit of any of its six parameters moves pixels by about one pixel. The map is the blend sum_i w_i(x)
(patch i at x) with hat weights w_i, which sum to one. Weights and offsets factor by axis: with the basis B =
[w, w (x - c) / s] of each axis, a component of the displacement is two matrix products, B_y K B_x^T, where K
holds the parameters. This is the partition of unity method (Babuška & Melenk, "The partition of unity
method", IJNME 40, 1997) with linear local spaces; it reproduces every affine map exactly.

All functions accept NumPy arrays and PyTorch tensors. ``parameters`` have the shape (2, 3, rows, columns):
for each component of the displacement d, then E's columns for x and for y.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from register.geometry import affine, arrays
from register.geometry.arrays import Array, Float64


@dataclass(frozen=True)
class PatchGrid:
    """Centres at ``origin + (column, row) * spacing``, in pixels ``(x, y)``; at least two per axis."""

    columns: int
    rows: int
    origin: tuple[float, float]
    spacing: tuple[float, float]

    @classmethod
    def cover(cls, height: int, width: int, patch_size: float) -> "PatchGrid":
        """The grid with its outer centres on the edges of an image, and a spacing of about ``patch_size``
        pixels."""
        columns, rows = (max(round(side / patch_size), 1) + 1 for side in (width, height))
        return cls(columns, rows, (-0.5, -0.5), (width / (columns - 1), height / (rows - 1)))

    @property
    def count(self) -> int:
        """The number of patches."""
        return self.columns * self.rows

    def centres(self) -> Float64:
        """The patch centres (rows, columns, 2)."""
        return self.centres_like(np.empty(0))

    def centres_like(self, array: Array) -> Array:
        """The patch centres (rows, columns, 2) in the kind and type, and on the device, of an array."""
        x = self.origin[0] + self.spacing[0] * arrays.counting(self.columns, array)
        y = self.origin[1] + self.spacing[1] * arrays.counting(self.rows, array)
        return affine.points_at(x, y)

    def axis_basis(self, positions: Array, axis: int) -> Array:
        """The basis (n, 2 * count) of an axis (0 is x) at n positions: hat weights, then weighted offsets."""
        count = (self.columns, self.rows)[axis]
        steps = ((positions - self.origin[axis]) / self.spacing[axis])[:, None]
        index = arrays.counting(count, positions)
        weight = (1 - abs(steps.clip(0, count - 1) - index)).clip(min=0)
        return arrays.concatenate([weight, weight * (steps - index)], 1)

    def cells(self, first: float, last: float, axis: int) -> slice:
        """The patches along one axis (0 is x) with a non-zero weight anywhere between two positions."""
        count = (self.columns, self.rows)[axis]
        start, end = (int((position - self.origin[axis]) // self.spacing[axis]) for position in (first, last))
        low = min(max(start, 0), max(count - 2, 0))
        return slice(low, min(max(end, low) + 2, count))

    def cut(self, rows: slice, columns: slice) -> "PatchGrid":
        """The grid of some adjacent rows and columns of patches."""
        origin = (
            self.origin[0] + columns.start * self.spacing[0],
            self.origin[1] + rows.start * self.spacing[1],
        )
        return PatchGrid(columns.stop - columns.start, rows.stop - rows.start, origin, self.spacing)

    def at_scale(self, scale: float) -> "PatchGrid":
        """The same grid in pixels ``scale`` times finer, pixel edges on pixel edges."""
        origin = (self.origin[0] + 0.5) * scale - 0.5, (self.origin[1] + 0.5) * scale - 0.5
        return PatchGrid(self.columns, self.rows, origin, (self.spacing[0] * scale, self.spacing[1] * scale))


def coefficients(parameters: Array) -> Array:
    """The matrices K (2, 2 rows, 2 columns) of parameters: [[d, E_x], [E_y, 0]] for each component."""
    shift, along_x, along_y = parameters[:, 0], parameters[:, 1], parameters[:, 2]
    upper = arrays.concatenate([shift, along_x], 2)
    lower = arrays.concatenate([along_y, arrays.namespace(parameters).zeros_like(along_y)], 2)
    return arrays.concatenate([upper, lower], 1)


def displacement(parameters: Array, basis_x: Array, basis_y: Array) -> Array:
    """The displacement (h, w, 2) on the grid of the positions of two axis bases, (w, ...) and (h, ...)."""
    return arrays.move_axis(basis_y @ (coefficients(parameters) @ basis_x.T), 0, -1)


def displacement_at(grid: PatchGrid, parameters: Array, points: Array) -> Array:
    """The displacement (n, 2) at scattered points (n, 2)."""
    return blend_at(grid, to_matrices(grid, parameters), points)[0] - points


def blend_at(grid: PatchGrid, matrices: Array, points: Array) -> tuple[Array, Array]:
    """Points (n, 2) mapped by the blend of absolute maps (rows, columns, 2, 3), and its Jacobian (n, 2, 2).

    Only the four patches around each point have weight; beyond the outer centres the weights are those on the
    border.
    """
    x, y = points[:, 0], points[:, 1]
    (column, s, step_x), (row, t, step_y) = _cell(x, grid, 0), _cell(y, grid, 1)
    entries = matrices.reshape(-1, 6)
    corner = row * grid.columns + column
    upper, lower = entries[corner], entries[corner + grid.columns]
    along_upper, along_lower = entries[corner + 1] - upper, entries[corner + grid.columns + 1] - lower
    upper, lower = upper + s * along_upper, lower + s * along_lower
    across, along = lower - upper, along_upper + t * (along_lower - along_upper)

    def at(maps: Array) -> Array:
        mapped_x = maps[:, 0] * x + maps[:, 1] * y + maps[:, 2]
        return arrays.stack([mapped_x, maps[:, 3] * x + maps[:, 4] * y + maps[:, 5]], -1)

    blended = upper + t * across
    jacobian = arrays.stack([at(along) * step_x, at(across) * step_y], -1)
    return at(blended), blended.reshape(-1, 2, 3)[:, :, :2] + jacobian


def _cell(positions: Array, grid: PatchGrid, axis: int) -> tuple[Array, Array, Array]:
    """The cell between two centres that each of n positions along an axis is in.

    Returns the index (n,) of the centre before it, the weight (n, 1) of the centre after it, and the
    derivative (n, 1) of that weight, which is zero beyond the outer centres.
    """
    last = (grid.columns, grid.rows)[axis] - 1
    steps = (positions - grid.origin[axis]) / grid.spacing[axis]
    inside = steps.clip(0, last)
    cell = arrays.namespace(positions).floor(inside).clip(max=last - 1)
    derivative = arrays.in_type_of(steps == inside, positions) / grid.spacing[axis]
    return arrays.to_index(cell), (inside - cell)[:, None], derivative[:, None]


def to_matrices(grid: PatchGrid, parameters: Array) -> Array:
    """The affine maps (rows, columns, 2, 3) of parameters, in the pixels of the grid."""
    shift, along_x, along_y = (arrays.move_axis(parameters[:, k], 0, -1) for k in range(3))
    gradient = arrays.stack([along_x / grid.spacing[0], along_y / grid.spacing[1]], -1)
    linear = gradient + arrays.identity(2, parameters)
    centres = grid.centres_like(parameters)
    offset = shift + centres - (linear @ centres[..., None])[..., 0]
    return arrays.concatenate([linear, offset[..., None]], -1)


def from_matrices(grid: PatchGrid, matrices: Array) -> Array:
    """The parameters (..., 2, 3, rows, columns) of affine maps (..., rows, columns, 2, 3)."""
    centres = grid.centres_like(matrices)
    linear, gradient = matrices[..., :2], matrices[..., :2] - arrays.identity(2, matrices)
    shift = (linear @ centres[..., None])[..., 0] + matrices[..., 2] - centres
    along_x, along_y = gradient[..., 0] * grid.spacing[0], gradient[..., 1] * grid.spacing[1]
    return arrays.stack([arrays.move_axis(values, -1, -3) for values in (shift, along_x, along_y)], -3)


def blend_finite(grid: PatchGrid, values: Sequence[float | None], points: Float64) -> NDArray[np.float64]:
    """One number per patch, blended at points (n, 2) as the maps are.

    Patches whose number is None are left out; where they have half of the weight or more the result is
    infinite, as it is further from the grid than its spacing.
    """
    numbers = np.array([np.nan if value is None else value for value in values]).reshape(
        grid.rows, grid.columns
    )
    x, y = (grid.axis_basis(points[:, axis], axis)[:, : (grid.columns, grid.rows)[axis]] for axis in (0, 1))
    weight = ((y @ np.isfinite(numbers)) * x).sum(1)
    total = ((y @ np.nan_to_num(numbers)) * x).sum(1)
    low = np.array(grid.origin) - grid.spacing
    high = low + np.array(grid.spacing) * [grid.columns + 1, grid.rows + 1]
    near = ((points >= low) & (points <= high)).all(1)
    return np.where((weight > 0.5) & near, total / weight.clip(min=1e-9), np.inf)
