"""Look up the points of a set that are near others."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from register.geometry.arrays import Float64

MOST_CELLS = 2**24
"""Cells of a picture of points, at most."""


class Picture:
    """A picture of points (n, 2): the cells within a ``radius`` of one, to look up many places at once."""

    def __init__(self, points: Float64, radius: float) -> None:
        self.cell = max(radius / 2, np.sqrt(np.prod(np.ptp(points, 0) + 4 * radius) / MOST_CELLS))
        self.origin = points.min(0) - 2 * radius - self.cell
        shape = np.ceil((points.max(0) - self.origin + 2 * radius) / self.cell).astype(int) + 2
        self.near = np.zeros(shape[::-1], np.bool_)
        reach = int(np.ceil(radius / self.cell))
        at = np.floor((points - self.origin) / self.cell).astype(int)
        for y in range(-reach, reach + 1):
            for x in range(-reach, reach + 1):
                if np.hypot(x, y) * self.cell <= radius + 0.5 * self.cell:
                    rows, columns = (at[:, 1] + y).clip(0, shape[1] - 1), (at[:, 0] + x).clip(0, shape[0] - 1)
                    self.near[rows, columns] = True
        self.area = float(self.near.sum()) * self.cell**2

    def has(self, x: Float64, y: Float64) -> NDArray[np.bool_]:
        """Whether places (...) are near a point."""
        column = np.floor((x - self.origin[0]) / self.cell).astype(np.int64)
        row = np.floor((y - self.origin[1]) / self.cell).astype(np.int64)
        inside = (column >= 0) & (row >= 0) & (column < self.near.shape[1]) & (row < self.near.shape[0])
        return self.near[np.where(inside, row, 0), np.where(inside, column, 0)] & inside


def nearest(points: Float64, others: Float64, radius: float) -> tuple[NDArray[np.int64], Float64]:
    """The index (n,) of the nearest of some ``others`` (m, 2) to each point (n, 2), and its distance (n,).

    The index is -1 and the distance infinite where none is within the ``radius``.
    """
    index, distance = np.full(len(points), -1), np.full(len(points), np.inf)
    if not len(points) or not len(others):
        return index, distance
    radius = max(radius, 1e-6)
    low = np.minimum(points.min(0), others.min(0))
    own, cells = (np.floor((x - low) / radius).astype(np.int64) + 1 for x in (points, others))
    wide = int(max(own[:, 1].max(), cells[:, 1].max())) + 3
    keys = cells[:, 0] * wide + cells[:, 1]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    for x in (-1, 0, 1):
        key = (own[:, 0] + x) * wide + own[:, 1]
        at, end = np.searchsorted(keys, key - 1), np.searchsorted(keys, key + 1, side="right")
        some = np.flatnonzero(at < end)
        while len(some):
            candidate = order[at[some]]
            far = np.hypot(*(others[candidate] - points[some]).T)
            better = (far < distance[some]) & (far <= radius)
            index[some[better]], distance[some[better]] = candidate[better], far[better]
            at[some] += 1
            some = some[at[some] < end[some]]
    return index, distance


class Pairs(NamedTuple):
    """Indices (n,) of points and of others that are each other's nearest, and their distance (n,)."""

    points: NDArray[np.int64]
    others: NDArray[np.int64]
    distance: Float64

    def within(self, radius: float) -> "Pairs":
        """The pairs that are no further apart than a radius."""
        near = self.distance <= radius
        return Pairs(self.points[near], self.others[near], self.distance[near])


def mutual(points: Float64, others: Float64, radius: float) -> Pairs:
    """The pairs of points (n, 2) and others (m, 2) that are each other's nearest within a ``radius``."""
    there, distance = nearest(points, others, radius)
    back, _ = nearest(others, points, radius)
    some = np.flatnonzero(there >= 0)
    some = some[back[there[some]] == some]
    return Pairs(some, there[some], distance[some])
