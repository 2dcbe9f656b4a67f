"""Dense facts about a field: its Jacobian and its folds."""

import torch
from torch import Tensor

from register import patches
from register.patches import PatchGrid

_NODES = (0.0, 1 / 3, 2 / 3, 1.0)
_TO_BERNSTEIN = ((1.0, 0.0, 0.0, 0.0), (-5 / 6, 3.0, -3 / 2, 1 / 3), (1 / 3, -3 / 2, 3.0, -5 / 6), (0.0, 0.0, 0.0, 1.0))
"""Takes the values of a cubic at the nodes to its Bernstein coefficients."""


def smallest_determinants(grid: PatchGrid, parameters: Tensor) -> Tensor:
    """A lower bound (rows - 1, columns - 1) of det J of ``x + displacement`` over each whole cell between four centres.

    Within a cell the field is a polynomial and det J is at most bicubic. Its sixteen Bernstein coefficients, found from its values at
    4 x 4 nodes, enclose it (convex hull property): a positive bound proves that no point of the cell folds, not only no
    pixel. A bound that is not positive is sharpened by cutting each cell into 4 x 4 pieces.
    Source: Farouki, "The Bernstein polynomial basis: a centennial retrospective", CAGD 29 (2012), sections 3 and 4.
    """
    exact = parameters.detach().cpu().double()
    bound = _bernstein_bound(grid, exact, pieces=1)
    return bound if float(bound.min()) > 0 else _bernstein_bound(grid, exact, pieces=4)


def determinants(grid: PatchGrid, parameters: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """det J of ``x + displacement`` (len(y), len(x)) at the product of two lists of positions inside cells."""
    bases = [grid.axis_basis(x, 0), grid.axis_basis(y, 1)]
    slopes = [_slope(grid, x, 0), _slope(grid, y, 1)]
    k = patches.coefficients(parameters)
    along_x, along_y = bases[1] @ k @ slopes[0].T, slopes[1] @ k @ bases[0].T
    return (1 + along_x[0]) * (1 + along_y[1]) - along_x[1] * along_y[0]


def unfold(grid: PatchGrid, parameters: Tensor, least: float = 0.05) -> tuple[Tensor, int]:
    """Parameters whose field has det J > ``least`` everywhere, changed only where it had not, and how many cells that were.

    Patches around a fold move towards their neighbours' mean, again and again; what still folds after that shrinks as a
    whole towards the identity, which has det J = 1, so the loop ends.
    """
    bad = (smallest_determinants(grid, parameters) <= least).to(parameters.device)
    count = int(bad.sum())
    for _ in range(100):
        if not bool(bad.any()):
            return parameters, count
        near = torch.zeros(grid.rows, grid.columns, dtype=torch.bool, device=parameters.device)
        for dy in (0, 1):
            for dx in (0, 1):
                near[dy : grid.rows - 1 + dy, dx : grid.columns - 1 + dx] |= bad
        calmer = 0.5 * parameters + 0.5 * _neighbours_mean(parameters)
        calmer[:, 1:] *= 0.8
        parameters = torch.where(near, calmer, parameters)
        bad = (smallest_determinants(grid, parameters) <= least).to(parameters.device)
    while bool((smallest_determinants(grid, parameters) <= least).any()):
        parameters = parameters * 0.8
    return parameters, count


def _bernstein_bound(grid: PatchGrid, parameters: Tensor, pieces: int) -> Tensor:
    """The least Bernstein coefficient of det J in each cell, every cell cut into pieces x pieces."""
    t = torch.tensor(_NODES, dtype=torch.float64, device=parameters.device)
    to_bernstein = torch.tensor(_TO_BERNSTEIN, dtype=torch.float64, device=parameters.device)
    inward = 1e-9 + (1 - 2e-9) * t  # a node on a centre belongs to the cell it is asked for

    def nodes(axis: int, cells: int) -> Tensor:
        start = torch.arange(cells * pieces, dtype=torch.float64, device=parameters.device)[:, None]
        return ((start + inward) / pieces).flatten() * grid.spacing[axis] + grid.origin[axis]

    rows, columns = grid.rows - 1, grid.columns - 1
    values = determinants(grid, parameters, nodes(0, columns), nodes(1, rows))
    values = values.reshape(rows * pieces, 4, columns * pieces, 4).permute(0, 2, 1, 3)
    bound = (to_bernstein @ values @ to_bernstein.T).amin((2, 3))
    return bound.reshape(rows, pieces, columns, pieces).amin((1, 3))


def _slope(grid: PatchGrid, positions: Tensor, axis: int) -> Tensor:
    """The derivative (n, 2 * count) of ``grid.axis_basis`` at positions between the outer centres."""
    count = (grid.columns, grid.rows)[axis]
    steps = ((positions - grid.origin[axis]) / grid.spacing[axis])[:, None]
    index = torch.arange(count, dtype=positions.dtype, device=positions.device)
    away = steps - index
    weight = (1 - away.abs()).clamp(min=0)
    slope = torch.where(away.abs() < 1, -torch.sign(away), torch.zeros_like(away))
    return torch.cat([slope, weight + slope * away], dim=1) / grid.spacing[axis]


def _neighbours_mean(parameters: Tensor) -> Tensor:
    """The mean (2, 3, rows, columns) of the patches left, right, above and below, the border repeating itself."""
    p = torch.nn.functional.pad(parameters, (1, 1, 1, 1), mode="replicate")
    return (p[..., :-2, 1:-1] + p[..., 2:, 1:-1] + p[..., 1:-1, :-2] + p[..., 1:-1, 2:]) / 4
