"""Invert a smooth map of the plane at given points, by Newton's method."""

from collections.abc import Callable

import numpy as np

from register.geometry.arrays import Float64

HALVINGS = 6
"""Times that a step is halved while it does not reduce the distance to the target."""

Expand = Callable[[Float64], tuple[Float64, Float64]]
"""A function from points (n, 2) to mapped points (n, 2) and the Jacobians (n, 2, 2) of the map there."""


def invert(expand: Expand, start: Float64, target: Float64, *, steps: int, tolerance: float) -> Float64:
    """The points (n, 2) that a map takes to ``target`` (n, 2). ``start`` (n, 2) is changed in place.

    A point is done when it is mapped to within ``tolerance`` of its target, or after ``steps`` steps. The map
    has to be piecewise smooth and free of folds; the only safeguard is that steps that do not reduce the
    distance to the target are halved.
    """
    current, active = start, np.arange(len(target))
    mapped, jacobian = expand(current)
    for _ in range(steps):
        residual = mapped - target[active]
        wrong = _lengths(residual) > tolerance
        if not wrong.any():
            break
        active, residual, jacobian = active[wrong], residual[wrong], jacobian[wrong]
        move = -_solve(jacobian, residual)
        move, mapped, jacobian = _halve_until_nearer(expand, current[active], target[active], residual, move)
        current[active] += move
    return current


def _halve_until_nearer(
    expand: Expand, start: Float64, target: Float64, residual: Float64, move: Float64
) -> tuple[Float64, Float64, Float64]:
    """Steps (n, 2), halved where they do not reduce the distance, with the map and Jacobian at their ends."""
    before = _lengths(residual)
    for _ in range(HALVINGS):
        mapped, jacobian = expand(start + move)
        worse = _lengths(mapped - target) >= before
        if not worse.any():
            return move, mapped, jacobian
        move = np.where(worse[:, None], move / 2, move)
    return move, *expand(start + move)


def _lengths(vectors: Float64) -> Float64:
    return np.hypot(vectors[:, 0], vectors[:, 1])


def _solve(matrices: Float64, right: Float64) -> Float64:
    """The solutions (n, 2) of matrices (n, 2, 2) times x = right (n, 2), by Cramer's rule."""
    a, b, c, d = matrices[:, 0, 0], matrices[:, 0, 1], matrices[:, 1, 0], matrices[:, 1, 1]
    u, v = right[:, 0], right[:, 1]
    return np.stack([d * u - b * v, a * v - c * u], -1) / (a * d - b * c)[:, None]
