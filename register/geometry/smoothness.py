"""The disagreement of neighbouring patches, as a smoothness penalty and as a figure per patch."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from register.compute import sums
from register.geometry.patch_grid import PatchGrid, coefficients


@dataclass(frozen=True)
class SmoothnessPenalty:
    """The squared distance between the predictions of two neighbouring patches, summed over all neighbours.

    Two patches are compared at both of their centres; distances are in units of the spacing. The sum is
    quadratic in the parameters, and along one axis it couples the patches of every line in the same way:
    ``along_x`` (2 columns, 2 columns) and ``along_y`` (2 rows, 2 rows) are its second derivatives with
    respect to the displacements, then the gradients, of the patches of one line.
    """

    along_x: Tensor
    along_y: Tensor

    @classmethod
    def of(
        cls, grid: PatchGrid, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> "SmoothnessPenalty":
        """The penalty of a grid."""
        return cls(
            _line_hessian(grid.columns, grid.spacing[0], dtype, device),
            _line_hessian(grid.rows, grid.spacing[1], dtype, device),
        )

    def __call__(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The sum for parameters (2, 3, rows, columns), and its gradient of the same shape.

        The gradient is linear in the parameters, so the sum is half of their product.
        """
        rows, columns = parameters.shape[2:]
        k = coefficients(parameters)
        across, down = k[:, :rows] @ self.along_x, self.along_y @ k[:, :, :columns]
        gradient = torch.stack(
            [across[:, :, :columns] + down[:, :rows], across[:, :, columns:], down[:, rows:]], dim=1
        )
        return sums.total(parameters * gradient) / 2, gradient


@lru_cache(64)
def _line_hessian(count: int, spacing: float, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """The second derivative (2 count, 2 count) of the penalty of one line of patches.

    The penalty sums (d[i + 1] - d[i] - e[i])² and (d[i + 1] - d[i] - e[i + 1])² in units of the spacing, with
    the displacements d and their gradients e along the line.
    """
    unit = torch.eye(count, dtype=torch.float64)
    step = unit[1:] - unit[:-1]
    differences = torch.cat([torch.cat([step, -unit[:-1]], 1), torch.cat([step, -unit[1:]], 1)])
    return (2 / spacing**2 * differences.T @ differences).to(device, dtype)


def neighbour_disagreement(parameters: Tensor) -> Tensor:
    """The root mean square distance, in pixels, between each patch's and its neighbours' predictions.

    Both patches of a pair are evaluated at both centres. ``parameters`` (2, 3, rows, columns) give an array
    (rows, columns).
    """
    total, count = torch.zeros_like(parameters[0, 0]), torch.zeros_like(parameters[0, 0])
    for axis, along in ((1, 1), (0, 2)):
        n = parameters.shape[axis + 2] - 1
        step = parameters[:, 0].narrow(axis + 1, 1, n) - parameters[:, 0].narrow(axis + 1, 0, n)
        ends = [parameters[:, along].narrow(axis + 1, end, n) for end in (0, 1)]
        squared = sum((step - gradient).square().sum(0) for gradient in ends) / 2
        for end in (0, 1):
            total.narrow(axis, end, n).add_(squared)
            count.narrow(axis, end, n).add_(1)
    return (total / count).sqrt()
