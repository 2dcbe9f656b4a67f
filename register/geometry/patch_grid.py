"""The patch grid: centres, blend weights, and the way from a small image of patch parameters to a dense field.

Each patch i has an affine map ``x -> x + d + E (x - c) / s`` about its centre c, in units of the grid's spacing s, so that one
unit of any of its six numbers moves pixels by about one pixel. The field is the blend sum_i w_i(x) (patch i at x)
with hat weights. Weights and offsets factor by axis: with the stacked basis B = [w, w (x - c) / s] per axis, each
component of the displacement is two matrix products, B_y K B_x^T, where K holds the parameters. This is the partition-of-unity
method (Babuška & Melenk 1997) with linear local spaces, and contains every global affine exactly.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from register.compute import tensors
from register.geometry import affine


@dataclass(frozen=True)
class PatchGrid:
    """Centres at ``origin + (column, row) * spacing``, in pixels ``(x, y)``; at least two per axis."""

    columns: int
    rows: int
    origin: tuple[float, float]
    spacing: tuple[float, float]

    @classmethod
    def cover(cls, height: int, width: int, patch_size: float) -> "PatchGrid":
        """The grid whose outer centres lie on the outer edges of an image, spaced by about ``patch_size`` pixels."""
        columns, rows = (max(round(side / patch_size), 1) + 1 for side in (width, height))
        return cls(columns, rows, (-0.5, -0.5), (width / (columns - 1), height / (rows - 1)))

    @property
    def count(self) -> int:
        """How many patches there are."""
        return self.columns * self.rows

    def centres(self, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Tensor:
        """The patch centres (rows, columns, 2)."""
        x = self.origin[0] + self.spacing[0] * torch.arange(self.columns, dtype=dtype, device=device)
        y = self.origin[1] + self.spacing[1] * torch.arange(self.rows, dtype=dtype, device=device)
        return affine.points_at(x, y)

    def zeros(self, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Tensor:
        """Parameters (2, 3, rows, columns) of the identity."""
        return torch.zeros(2, 3, self.rows, self.columns, dtype=dtype, device=device)

    def still(self, *, device: torch.device | str = "cpu") -> "Patches":
        """Patches that move nothing."""
        return Patches(self, self.zeros(device=device))

    def axis_basis(self, positions: Tensor, axis: int) -> Tensor:
        """The stacked basis (n, 2 * count) of one axis (0 is x) at n positions: hat weights, then weighted offsets."""
        count = (self.columns, self.rows)[axis]
        steps = ((positions - self.origin[axis]) / self.spacing[axis])[:, None]
        index = torch.arange(count, dtype=positions.dtype, device=positions.device)
        weight = (1 - (steps.clamp(0, count - 1) - index).abs()).clamp(min=0)
        return torch.cat([weight, weight * (steps - index)], dim=1)

    def before(self, positions: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """The patch before each of n positions along an axis (0 is x), int32 (n,), and the share of the way to the next one (n,)."""
        steps = (positions - self.origin[axis]) / self.spacing[axis]
        cell = steps.floor().clamp(0, (self.columns, self.rows)[axis] - 2)
        return cell.int(), steps - cell

    def cells(self, first: float, last: float, axis: int) -> slice:
        """The patches along one axis (0 is x) that have a say between two positions."""
        count = (self.columns, self.rows)[axis]
        begin, end = (int((position - self.origin[axis]) // self.spacing[axis]) for position in (first, last))
        low = min(max(begin, 0), max(count - 2, 0))
        return slice(low, min(max(end, low) + 2, count))

    def cut(self, rows: slice, columns: slice) -> "PatchGrid":
        """The grid of some of its patches."""
        origin = (
            self.origin[0] + columns.start * self.spacing[0],
            self.origin[1] + rows.start * self.spacing[1],
        )
        return PatchGrid(columns.stop - columns.start, rows.stop - rows.start, origin, self.spacing)


class Patches(NamedTuple):
    """A grid and the parameters (2, 3, rows, columns) on it, in pixels of one level."""

    grid: PatchGrid
    parameters: Tensor

    def displacement(self, x: Tensor, y: Tensor) -> Tensor:
        """The field (h, w, 2) at positions x (w,) and y (h,)."""
        return displacement(self.parameters, self.grid.axis_basis(x, 0), self.grid.axis_basis(y, 1))


def coefficients(parameters: Tensor) -> Tensor:
    """The matrices K (2, 2 rows, 2 columns) of parameters (2, 3, rows, columns): [[d, E_x], [E_y, 0]] per component."""
    move, along_x, along_y = parameters.unbind(1)
    upper = torch.cat([move, along_x], dim=2)
    lower = torch.cat([along_y, torch.zeros_like(along_y)], dim=2)
    return torch.cat([upper, lower], dim=1)


def displacement(parameters: Tensor, basis_x: Tensor, basis_y: Tensor) -> Tensor:
    """The field (h, w, 2) of parameters (2, 3, rows, columns) on the product of two axis bases (w, ...) and (h, ...)."""
    return (basis_y @ (coefficients(parameters) @ basis_x.T)).permute(1, 2, 0)


def gather(field: Tensor, basis_x: Tensor, basis_y: Tensor) -> Tensor:
    """The adjoint of ``displacement``: what a field (h, w, 2) of slopes pulls at each parameter (2, 3, rows, columns)."""
    k = basis_y.T @ field.permute(2, 0, 1) @ basis_x
    rows, columns = k.shape[1] // 2, k.shape[2] // 2
    return torch.stack([k[:, :rows, :columns], k[:, :rows, columns:], k[:, rows:, :columns]], dim=1)


def pull_of_affine(grid: PatchGrid, slope: Tensor, centre: Tensor) -> Tensor:
    """What slopes (..., 2, 3, rows, columns) of all patches, as ``gather`` makes them, pull at an affine map (..., 2, 3) about a centre (2,) they share."""
    places = grid.centres(dtype=slope.dtype, device=slope.device) - centre
    move, *along = slope.unbind(-3)
    linear = [(move * places[..., axis] + along[axis] * grid.spacing[axis]).sum((-2, -1)) for axis in (0, 1)]
    return torch.stack([*linear, move.sum((-2, -1))], -1)


def displacement_at(grid: PatchGrid, parameters: Tensor, points: Tensor) -> Tensor:
    """The displacement (n, 2) at scattered points (n, 2)."""
    return blend_at(grid, to_matrices(grid, parameters), points)[0] - points


def blend_at(grid: PatchGrid, matrices: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Where the blend of absolute maps (rows, columns, 2, 3) takes points (n, 2), and its Jacobian (n, 2, 2) there.

    The four patches around each point are looked up; beyond the outer centres the weights stay what they are on the border.
    """
    x, y = points.unbind(1)
    (column, s, free_x), (row, t, free_y) = _cell(x, grid, 0), _cell(y, grid, 1)
    rows = matrices.reshape(-1, 6)
    corner = row * grid.columns + column
    upper, lower = rows[corner], rows[corner + grid.columns]
    along_upper, along_lower = rows[corner + 1] - upper, rows[corner + grid.columns + 1] - lower
    upper, lower = upper + s * along_upper, lower + s * along_lower
    across, along = lower - upper, along_upper + t * (along_lower - along_upper)

    def at(numbers: Tensor) -> Tensor:
        a, b, tx, c, d, ty = numbers.unbind(1)
        return torch.stack([a * x + b * y + tx, c * x + d * y + ty], -1)

    blended = upper + t * across
    linear = blended.reshape(-1, 2, 3)[:, :, :2]
    return at(blended), linear + torch.stack([at(along) * free_x, at(across) * free_y], -1)


def _cell(positions: Tensor, grid: PatchGrid, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """For positions (n,) along an axis: the centre before each (n,), the share (n, 1) of the way to the next, and how that share grows (n, 1)."""
    last = (grid.columns, grid.rows)[axis] - 1
    steps = (positions - grid.origin[axis]) / grid.spacing[axis]
    clamped = steps.clamp(0, last)
    cell = clamped.floor().clamp(max=last - 1)
    grows = (steps == clamped).to(steps) / grid.spacing[axis]
    return cell.long(), (clamped - cell)[:, None], grows[:, None]


def to_matrices(grid: PatchGrid, parameters: Tensor) -> Tensor:
    """The affine maps (rows, columns, 2, 3) of parameters (2, 3, rows, columns), in the pixels of the grid."""
    spacing = tensors.constant(grid.spacing, parameters.dtype, parameters.device)
    linear = parameters[:, 1:].permute(2, 3, 0, 1) / spacing + torch.eye(
        2, dtype=parameters.dtype, device=parameters.device
    )
    centres = grid.centres(dtype=parameters.dtype, device=parameters.device)
    offset = parameters[:, 0].permute(1, 2, 0) + centres - (linear @ centres[..., None])[..., 0]
    return torch.cat([linear, offset[..., None]], dim=-1)


def from_matrices(grid: PatchGrid, matrices: Tensor) -> Tensor:
    """The parameters (..., 2, 3, rows, columns) of affine maps (..., rows, columns, 2, 3)."""
    spacing = tensors.constant(grid.spacing, matrices.dtype, matrices.device)
    centres = grid.centres(dtype=matrices.dtype, device=matrices.device)
    eye = torch.eye(2, dtype=matrices.dtype, device=matrices.device)
    along = ((matrices[..., :2] - eye) * spacing).movedim((-2, -1), (-4, -3))
    move = ((matrices[..., :2] @ centres[..., None])[..., 0] + matrices[..., 2] - centres).movedim(-1, -3)
    return torch.cat([move.unsqueeze(-3), along], dim=-3)


def refine(coarse: PatchGrid, parameters: Tensor, fine: PatchGrid, scale: float) -> Tensor:
    """Parameters on a ``fine`` grid whose pixels are ``scale`` times smaller, from the coarse field and its secant slopes."""
    centres = fine.centres(dtype=parameters.dtype, device=parameters.device).reshape(-1, 2)
    columns = secants(
        lambda points: displacement_at(coarse, parameters, (points + 0.5) / scale - 0.5) * scale,
        centres,
        *fine.spacing,
    )
    return (
        torch.stack(columns, dim=-1).reshape(fine.rows, fine.columns, 2, 3).permute(2, 3, 0, 1).contiguous()
    )


def secants(
    field: Callable[[Tensor], Tensor], points: Tensor, x: float, y: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The values (n, 2) of a ``field`` at points (n, 2), and how much it changes along ``x`` and along ``y`` pixels with the point in the middle."""
    steps = points.new_tensor([[0.0, 0.0], [x / 2, 0.0], [-x / 2, 0.0], [0.0, y / 2], [0.0, -y / 2]])
    here, right, left, below, above = field((points + steps[:, None]).reshape(-1, 2)).reshape(5, -1, 2)
    return here, right - left, below - above


def blend_finite(grid: PatchGrid, values: Sequence[float | None], points: Tensor) -> Tensor:
    """One number per patch, blended at points (n, 2) as the maps are; infinite where more than half of the weight is of patches without one."""
    known = torch.tensor([torch.nan if v is None else v for v in values], dtype=torch.float64).reshape(
        grid.rows, grid.columns
    )
    x, y = (grid.axis_basis(points[:, axis], axis)[:, : (grid.columns, grid.rows)[axis]] for axis in (0, 1))
    share = ((y @ torch.isfinite(known).double()) * x).sum(1)
    return torch.where(
        share > 0.5, ((y @ known.nan_to_num(0.0)) * x).sum(1) / share.clamp(min=1e-9), torch.inf
    )
