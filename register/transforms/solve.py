"""Invert the map of a transform without links or sides at given points."""

from typing import Protocol

import numpy as np

from register.geometry import affine, newton
from register.geometry.arrays import Float64
from register.geometry.patch_grid import PatchGrid

BATCH = 16384
"""Number of points that are mapped at a time, which limits the memory."""


class Continuous(Protocol):
    """A global map, or the blend of patches."""

    @property
    def matrix(self) -> Float64:
        """The global map (2, 3)."""

    @property
    def grid(self) -> PatchGrid | None:
        """The patch grid."""

    @property
    def matrices(self) -> Float64 | None:
        """The maps of the patches (rows, columns, 2, 3)."""

    def expand(self, points: Float64) -> tuple[Float64, Float64]:
        """Mapped points (n, 2) and the Jacobian (n, 2, 2)."""


def batches(points: Float64) -> list[Float64]:
    """Points (n, 2) in batches; one empty batch for no points."""
    return [points[first : first + BATCH] for first in range(0, max(len(points), 1), BATCH)]


def invert(transform: Continuous, target: Float64, steps: int, tolerance: float) -> Float64:
    """The fixed points (n, 2) that a transform without a chain maps to ``target`` (n, 2)."""
    found = [
        newton.invert(
            transform.expand, _nearest_inverse(transform, some), some, steps=steps, tolerance=tolerance
        )
        for some in batches(target)
    ]
    return np.concatenate(found)


def _nearest_inverse(transform: Continuous, target: Float64) -> Float64:
    """Moving points (n, 2) mapped by the inverse of the patch that is nearest by the global map."""
    found = affine.apply(affine.invert(transform.matrix), target)
    grid, matrices = transform.grid, transform.matrices
    if grid is None or matrices is None:
        return found
    last = np.array([grid.columns - 1, grid.rows - 1])
    steps = np.rint((found - np.array(grid.origin)) / np.array(grid.spacing))
    nearest = np.clip(steps, 0, last).astype(np.int64)
    inverses = affine.invert(matrices)[nearest[:, 1], nearest[:, 0]]
    return (inverses[:, :, :2] @ target[..., None])[..., 0] + inverses[:, :, 2]
