"""Find a line along which two images do not match: a path of least cost through an image, and its sides."""

import numpy as np
from numpy.typing import NDArray

from register.geometry.arrays import Float64

STEEPEST = 2
"""Columns by which a path moves from a row to the next one, at most."""
BEND = 0.05
"""Cost of a column by which it moves."""


def through(cost: Float64) -> NDArray[np.int64]:
    """The path from the first to the last row of costs (h, w) in [0, 1] with the least sum: its columns (h,).

    It is found by dynamic programming, so no other path is cheaper.
    """
    height, width = cost.shape
    total, came = cost[0].copy(), np.zeros((height, width), np.int64)
    moves = sorted(range(-STEEPEST, STEEPEST + 1), key=abs)
    columns = np.arange(width)
    for row in range(1, height):
        tried = np.full((len(moves), width), np.inf)
        for k, move in enumerate(moves):
            source = columns + move
            known = (source >= 0) & (source < width)
            tried[k, known] = total[source[known]] + BEND * abs(move)
        best = tried.argmin(0)
        came[row] = np.array(moves)[best]
        total = tried[best, columns] + cost[row]
    path = np.empty(height, np.int64)
    path[-1] = int(total.argmin())
    for row in range(height - 1, 0, -1):
        path[row - 1] = path[row] + came[row, path[row]]
    return path


def divided(bad: Float64) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """The sides (h, w), 1 and 2, of the path through an image along which most is ``bad`` (h, w) in [0, 1],
    and the path itself; it runs from top to bottom or from left to right."""
    found = []
    for turned in (False, True):
        plane = bad.T if turned else bad
        path = through(1 - plane)
        rows = np.arange(len(path))
        on = np.zeros(plane.shape, bool)
        on[rows, path] = True
        sides = np.where(np.arange(plane.shape[1]) < path[:, None], 1, 2).astype(np.int8)
        saved = float(plane[rows, path].sum())
        found.append((saved, sides.T if turned else sides, on.T if turned else on))
    _, sides, on = max(found, key=lambda each: each[0])
    return sides, on
