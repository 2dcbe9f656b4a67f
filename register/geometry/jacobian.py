"""Dense facts about a field: its Jacobian and its folds."""

import torch
from torch import Tensor

from register.geometry.patch_grid import PatchGrid

_NODES = (0.0, 1 / 3, 2 / 3, 1.0)
_TO_BERNSTEIN = (
    (1.0, 0.0, 0.0, 0.0),
    (-5 / 6, 3.0, -3 / 2, 1 / 3),
    (1 / 3, -3 / 2, 3.0, -5 / 6),
    (0.0, 0.0, 0.0, 1.0),
)
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


def determinants(grid: PatchGrid, parameters: Tensor, shares: Tensor) -> Tensor:
    """det J of ``x + displacement`` in every cell between four centres, at shares (n,) of the way down and across it: (rows - 1, columns - 1, n, n).

    In a cell the displacement is a sum of three functions of each of the four patches at its corners, and these functions are the same in all cells.
    """
    ends = torch.tensor(
        [[-1.0], [1.0]], dtype=shares.dtype
    )  # how the weight of the patch at either end of an axis grows
    away = shares - (ends + 1) / 2
    weight = 1 - away.abs()
    plain, steep = (weight, weight * away), (ends.expand_as(weight), weight + ends * away)
    corners = (
        parameters.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5)
    )  # (2, rows - 1, columns - 1, 3, 2, 2)

    def functions(down: tuple[Tensor, Tensor], across: tuple[Tensor, Tensor], spacing: float) -> Tensor:
        kinds = (down[0], across[0]), (down[0], across[1]), (down[1], across[0])
        return (
            torch.stack([y[:, None, :, None] * x[None, :, None] for y, x in kinds]).reshape(12, -1) / spacing
        )

    slopes = torch.cat(
        [functions(plain, steep, grid.spacing[0]), functions(steep, plain, grid.spacing[1])], 1
    )
    found = (corners.reshape(-1, 12) @ slopes).reshape(*corners.shape[:3], 2, len(shares), len(shares))
    (xx, xy), (yx, yy) = (each.unbind(2) for each in found)
    return (1 + xx) * (1 + yy) - xy * yx


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
    along = torch.tensor(_TO_BERNSTEIN, dtype=torch.float64)
    shares = (
        torch.arange(pieces, dtype=torch.float64)[:, None] + torch.tensor(_NODES, dtype=torch.float64)
    ) / pieces
    values = determinants(grid, parameters, shares.flatten())
    values = values.reshape(*values.shape[:2], pieces, 4, pieces, 4).transpose(3, 4)
    return (values.reshape(-1, 16) @ torch.kron(along, along).T).reshape(*values.shape[:2], -1).amin(2)


def _neighbours_mean(parameters: Tensor) -> Tensor:
    """The mean (2, 3, rows, columns) of the patches left, right, above and below, the border repeating itself."""
    p = torch.nn.functional.pad(parameters, (1, 1, 1, 1), mode="replicate")
    return (p[..., :-2, 1:-1] + p[..., 2:, 1:-1] + p[..., 1:-1, :-2] + p[..., 1:-1, 2:]) / 4
