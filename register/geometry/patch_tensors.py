"""Operations on the parameters of patches as PyTorch tensors, as the engine needs them."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from register.geometry import jacobian
from register.geometry.patch_grid import PatchGrid, displacement, displacement_at


class Patches(NamedTuple):
    """A grid and the parameters (2, 3, rows, columns) on it, in pixels of one level."""

    grid: PatchGrid
    parameters: Tensor

    @classmethod
    def identity(cls, grid: PatchGrid, *, device: torch.device | str = "cpu") -> "Patches":
        """Patches whose map is the identity."""
        return cls(grid, zeros(grid, device=device))

    def displacement(self, x: Tensor, y: Tensor) -> Tensor:
        """The displacement (h, w, 2) on the grid of positions x (w,) and y (h,)."""
        return displacement(self.parameters, self.grid.axis_basis(x, 0), self.grid.axis_basis(y, 1))


def zeros(
    grid: PatchGrid, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Tensor:
    """The parameters (2, 3, rows, columns) of the identity."""
    return torch.zeros(2, 3, grid.rows, grid.columns, dtype=dtype, device=device)


def centres(grid: PatchGrid) -> Tensor:
    """The patch centres (rows, columns, 2) as float64 on the CPU."""
    return torch.from_numpy(grid.centres())


def cells_before(grid: PatchGrid, positions: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The patch before each of n positions along an axis (0 is x), and the weight of the patch after it:
    (n,)."""
    steps = (positions - grid.origin[axis]) / grid.spacing[axis]
    cell = steps.floor().clamp(0, (grid.columns, grid.rows)[axis] - 2)
    return cell.int(), steps - cell


def gather(field: Tensor, basis_x: Tensor, basis_y: Tensor) -> Tensor:
    """The adjoint of ``displacement``: from the gradient (h, w, 2) of a loss with respect to the displacement
    to its gradient (2, 3, rows, columns) with respect to the parameters.
    """
    k = basis_y.T @ field.permute(2, 0, 1) @ basis_x
    rows, columns = k.shape[1] // 2, k.shape[2] // 2
    return torch.stack([k[:, :rows, :columns], k[:, :rows, columns:], k[:, rows:, :columns]], dim=1)


def gradient_of_affine(grid: PatchGrid, gradient: Tensor, centre: Tensor) -> Tensor:
    """The gradient (..., 2, 3) with respect to one affine map about a ``centre`` (2,) that all patches share.

    ``gradient`` (..., 2, 3, rows, columns) is that with respect to the parameters of all patches.
    """
    places = grid.centres_like(gradient) - centre
    shift, *along = gradient.unbind(-3)
    linear = [(shift * places[..., axis] + along[axis] * grid.spacing[axis]).sum((-2, -1)) for axis in (0, 1)]
    return torch.stack([*linear, shift.sum((-2, -1))], -1)


def refine(coarse: PatchGrid, parameters: Tensor, fine: PatchGrid, scale: float) -> Tensor:
    """Parameters on a ``fine`` grid in pixels ``scale`` times smaller, from the field of a coarse one.

    Each patch takes the displacement at its centre, and the differences of the displacement across its
    spacing.
    """
    at = fine.centres_like(parameters).reshape(-1, 2)
    columns = secants(
        lambda points: displacement_at(coarse, parameters, (points + 0.5) / scale - 0.5) * scale,
        at,
        *fine.spacing,
    )
    stacked = torch.stack(columns, dim=-1).reshape(fine.rows, fine.columns, 2, 3)
    return stacked.permute(2, 3, 0, 1).contiguous()


def secants(
    field: Callable[[Tensor], Tensor], points: Tensor, x: float, y: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Values (n, 2) of a ``field`` at points (n, 2), and its differences over ``x`` and over ``y`` pixels."""
    steps = points.new_tensor([[0.0, 0.0], [x / 2, 0.0], [-x / 2, 0.0], [0.0, y / 2], [0.0, -y / 2]])
    here, right, left, below, above = field((points + steps[:, None]).reshape(-1, 2)).reshape(5, -1, 2)
    return here, right - left, below - above


def unfold(grid: PatchGrid, parameters: Tensor) -> tuple[Tensor, int]:
    """Parameters without folds, and the number of cells that folded, as ``jacobian.unfold``."""
    unfolded, folds = jacobian.unfold(grid, parameters.detach().cpu().numpy())
    return (torch.from_numpy(unfolded).to(parameters) if folds else parameters), folds


def smallest_determinants(grid: PatchGrid, parameters: Tensor) -> Tensor:
    """A lower bound (rows - 1, columns - 1) of the Jacobian determinant in each cell, as in ``jacobian``."""
    return torch.from_numpy(jacobian.smallest_determinants(grid, parameters.detach().cpu().double().numpy()))
