"""The Jacobian determinant of a patch field: lower bounds that detect folds, and the removal of folds."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from register.geometry.arrays import Float64
from register.geometry.patch_grid import PatchGrid

_NODES = np.array([0.0, 1 / 3, 2 / 3, 1.0])
_TO_BERNSTEIN = np.array(
    [
        [1.0, 0.0, 0.0, 0.0],
        [-5 / 6, 3.0, -3 / 2, 1 / 3],
        [1 / 3, -3 / 2, 3.0, -5 / 6],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
"""The matrix from the values of a cubic polynomial at the nodes to its Bernstein coefficients."""
ROUNDS = 100
"""Rounds of smoothing around folds, after which the entire field is shrunk."""


def smallest_determinants(grid: PatchGrid, parameters: NDArray[np.floating]) -> Float64:
    """A lower bound (rows - 1, columns - 1) of det J of ``x + displacement`` in each cell of four centres.

    Within a cell the field is a polynomial and det J is at most bicubic. Its sixteen Bernstein coefficients,
    found from its values at 4 x 4 nodes, enclose it (convex hull property), so a positive bound proves that
    no point of the cell folds, not only no pixel. Where a bound is not positive, the cells are subdivided
    into 4 x 4 parts, which makes the bounds tighter. Source: Farouki, "The Bernstein polynomial basis: a
    centennial retrospective", CAGD 29 (2012), sections 3 and 4.
    """
    exact = parameters.astype(np.float64)
    bound = _bernstein_bound(grid, exact, subdivisions=1)
    return bound if bound.min() > 0 else _bernstein_bound(grid, exact, subdivisions=4)


def determinants(grid: PatchGrid, parameters: Float64, positions: Float64) -> Float64:
    """det J of ``x + displacement`` in every cell between four centres: (rows - 1, columns - 1, n, n).

    ``positions`` (n,) are relative positions in a cell, 0 to 1, used down and across it. In a cell the
    displacement is a sum of three functions of each of the four patches at its corners, the same functions in
    all cells.
    """
    ends = np.array([[-1.0], [1.0]])  # the derivative of the weight of the patch at either end of an axis
    away = positions - (ends + 1) / 2
    weight = 1 - abs(away)
    values = weight, weight * away
    derivatives = np.broadcast_to(ends, weight.shape), weight + ends * away
    corners = sliding_window_view(parameters, (2, 2), axis=(2, 3)).transpose(0, 2, 3, 1, 4, 5)

    def functions(down: tuple[Float64, Float64], across: tuple[Float64, Float64], spacing: float) -> Float64:
        kinds = (down[0], across[0]), (down[0], across[1]), (down[1], across[0])
        products = np.stack([y[:, None, :, None] * x[None, :, None] for y, x in kinds])
        return products.reshape(12, -1) / spacing

    gradients = np.concatenate(
        [functions(values, derivatives, grid.spacing[0]), functions(derivatives, values, grid.spacing[1])], 1
    )
    shape = *corners.shape[:3], 2, len(positions), len(positions)
    found = (corners.reshape(-1, 12) @ gradients).reshape(shape)
    xx, xy, yx, yy = found[0, :, :, 0], found[0, :, :, 1], found[1, :, :, 0], found[1, :, :, 1]
    return (1 + xx) * (1 + yy) - xy * yx


def unfold(
    grid: PatchGrid, parameters: NDArray[np.floating], least: float = 0.05
) -> tuple[NDArray[np.floating], int]:
    """Remove folds: parameters whose field has det J > ``least``, and the number of cells that did not.

    Only patches around a fold change: they are repeatedly moved towards the mean of their neighbours. If a
    fold remains after that, the entire field is shrunk towards the identity, whose det J is 1, so the loop
    ends.
    """
    folded = smallest_determinants(grid, parameters) <= least
    count = int(folded.sum())
    for _ in range(ROUNDS):
        if not folded.any():
            return parameters, count
        near = np.zeros((grid.rows, grid.columns), dtype=bool)
        for dy in (0, 1):
            for dx in (0, 1):
                near[dy : grid.rows - 1 + dy, dx : grid.columns - 1 + dx] |= folded
        smoothed = 0.5 * parameters + 0.5 * _neighbours_mean(parameters)
        smoothed[:, 1:] *= 0.8
        parameters = np.where(near, smoothed, parameters)
        folded = smallest_determinants(grid, parameters) <= least
    while (smallest_determinants(grid, parameters) <= least).any():
        parameters = parameters * 0.8
    return parameters, count


def _bernstein_bound(grid: PatchGrid, parameters: Float64, subdivisions: int) -> Float64:
    """The least Bernstein coefficient of det J in each cell, subdivided along each axis."""
    positions = (np.arange(subdivisions)[:, None] + _NODES) / subdivisions
    values = determinants(grid, parameters, positions.reshape(-1))
    shape = values.shape[:2]
    values = values.reshape(*shape, subdivisions, 4, subdivisions, 4).swapaxes(3, 4)
    coefficients = values.reshape(-1, 16) @ np.kron(_TO_BERNSTEIN, _TO_BERNSTEIN).T
    return coefficients.reshape(*shape, -1).min(2)


def _neighbours_mean(parameters: NDArray[np.floating]) -> NDArray[np.floating]:
    """The mean (2, 3, rows, columns) of the four neighbours of each patch; border patches are repeated."""
    p = np.pad(parameters, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    return (p[..., :-2, 1:-1] + p[..., 2:, 1:-1] + p[..., 1:-1, :-2] + p[..., 1:-1, 2:]) / 4
