"""Maps M (x + u(x)) of a movie's frames: an affine map M after a displacement u that is a cubic B-spline."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from register.geometry import affine, jacobian, patch_grid
from register.geometry.arrays import Float64
from register.geometry.patch_grid import PatchGrid

FINER = 2
"""Patches per interval of the spline."""
LEAST_DETERMINANT = 0.05
"""Determinant of the Jacobian from which on a displacement counts as folded."""
REDUCED = 0.75, 0.5, 0.25
"""Shares of a displacement that folds which are tried, the largest first."""
SAMPLES = 3
"""Points per interval and axis from which the spline of a composed map is fitted."""


@dataclass(frozen=True, eq=False)
class SplineMap:
    """The map from an image of ``height`` and ``width``: ``matrix`` M (2, 3), and u with ``coefficients``
    (2, rows, columns) in pixels, None where there is none.

    An axis of n pixels is divided into m = columns - 3 intervals between its edges -0.5 and n - 0.5. With
    p = (x + 0.5) m / n, i = floor(p) from 0 to m - 1 and t = p - i, coefficients i to i + 3 have the weights
    (1 - t)³ / 6, (3 t³ - 6 t² + 4) / 6, (-3 t³ + 3 t² + 3 t + 1) / 6 and t³ / 6; u is the sum over both axes.
    """

    height: int
    width: int
    matrix: Float64
    coefficients: Float64 | None = None

    def displacement(self, points: Float64) -> Float64:
        """The displacement u (n, 2) at points (n, 2)."""
        if self.coefficients is None:
            return np.zeros_like(points)
        rows, columns = self.coefficients.shape[1:]
        down = _weights(points[:, 1], self.height, rows - 3)[0]
        across = _weights(points[:, 0], self.width, columns - 3)[0]
        along = self.coefficients @ across.T
        return np.stack([(down.T * one).sum(0) for one in along], 1)

    def map(self, points: Float64) -> Float64:
        """Points (n, 2) in the frame of points (n, 2) in the reference."""
        return affine.apply(self.matrix, points + self.displacement(points))

    def then(self, other: "SplineMap") -> "SplineMap":
        """This map and then another one, with a displacement that is fitted by least squares."""
        matrix = affine.compose(other.matrix, self.matrix)
        shape = next((m.coefficients.shape for m in (self, other) if m.coefficients is not None), None)
        if shape is None:
            return SplineMap(self.height, self.width, matrix)
        (y, fit_y), (x, fit_x) = (
            _sampled(side, count - 3)
            for side, count in zip((self.height, self.width), shape[1:], strict=True)
        )
        points = affine.points_at(x, y).reshape(-1, 2)
        rest = affine.apply(affine.invert(matrix), other.map(self.map(points))) - points
        planes = np.moveaxis(rest.reshape(len(y), len(x), 2), 2, 0)
        return SplineMap(self.height, self.width, matrix, fit_y @ planes @ fit_x.T)

    def patches(self) -> tuple[PatchGrid, Float64] | None:
        """Patches with absolute maps (rows, columns, 2, 3) whose blend is this map; None without a spline.

        A patch has the displacement at its centre and half of its gradient there: with hat weights this
        reproduces every quadratic polynomial, so that the difference to the spline is of third order.
        """
        if self.coefficients is None:
            return None
        rows, columns = (FINER * (count - 3) + 1 for count in self.coefficients.shape[1:])
        spacing = self.width / (columns - 1), self.height / (rows - 1)
        grid = PatchGrid(columns, rows, (-0.5, -0.5), spacing)
        down, down_slope = _at_centres(self.height, self.coefficients.shape[1] - 3)
        across, across_slope = _at_centres(self.width, self.coefficients.shape[2] - 3)
        parameters = np.stack(
            [
                down @ self.coefficients @ across.T,
                down @ self.coefficients @ across_slope.T * spacing[0] / 2,
                down_slope @ self.coefficients @ across.T * spacing[1] / 2,
            ],
            1,
        )
        return grid, affine.compose(self.matrix, patch_grid.to_matrices(grid, parameters))

    @property
    def folds(self) -> bool:
        """Whether the displacement of the patches takes two points to one place, or comes near to that."""
        if self.coefficients is None:
            return False
        steepest = max(
            float(np.abs(np.diff(self.coefficients, axis=axis)).max()) * intervals / side
            for axis, side, intervals in (
                (1, self.height, self.coefficients.shape[1] - 3),
                (2, self.width, self.coefficients.shape[2] - 3),
            )
        )
        if 1 - 6 * steepest > LEAST_DETERMINANT:  # no slope of the patches exceeds three times that
            return False
        patches = SplineMap(self.height, self.width, np.eye(2, 3), self.coefficients).patches()
        assert patches is not None
        grid, matrices = patches
        parameters = patch_grid.from_matrices(grid, matrices)
        return float(jacobian.smallest_determinants(grid, parameters).min()) <= LEAST_DETERMINANT

    def unfolded(self) -> "SplineMap":
        """The map with as much of its displacement as does not fold."""
        if self.coefficients is None or not self.folds:
            return self
        mean = self.coefficients.mean((1, 2), keepdims=True)
        for share in REDUCED:
            less = replace(self, coefficients=mean + share * (self.coefficients - mean))
            if not less.folds:
                return less
        return replace(self, coefficients=np.broadcast_to(mean, self.coefficients.shape).copy())

    @cached_property
    def shift(self) -> tuple[float, float]:
        """The displacement (x, y) of the centre, in pixels."""
        centre = np.array([[(self.width - 1) / 2, (self.height - 1) / 2]])
        across, down = (self.map(centre) - centre)[0].tolist()
        return across, down

    @property
    def rotation(self) -> float:
        """The rotation of the global map in degrees."""
        return float(affine.decompose(self.matrix).rotation)

    @property
    def extent(self) -> float:
        """The root mean square of the displacement's coefficients about their mean, in pixels."""
        if self.coefficients is None:
            return 0.0
        rest = self.coefficients - self.coefficients.mean((1, 2), keepdims=True)
        return float(np.sqrt(2 * np.square(rest).mean()))


def _weights(positions: Float64, length: int, intervals: int) -> tuple[Float64, Float64]:
    """The B-splines (n, intervals + 3) of an axis at positions (n,), and their derivatives."""
    place = (np.clip(positions, -0.5, length - 0.5) + 0.5) / length * intervals
    first = np.clip(np.floor(place), 0, intervals - 1).astype(np.int64)
    t = place - first
    values = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], 1) / 6
    slopes = np.stack([-((1 - t) ** 2), 3 * t**2 - 4 * t, -3 * t**2 + 2 * t + 1, t**2], 1) / 2
    found = np.zeros((2, len(positions), intervals + 3))
    places = first[:, None] + np.arange(4)
    np.put_along_axis(found[0], places, values, 1)
    np.put_along_axis(found[1], places, slopes * intervals / length, 1)
    return found[0], found[1]


@lru_cache(maxsize=16)
def _at_centres(length: int, intervals: int) -> tuple[Float64, Float64]:
    """The B-splines (n, intervals + 3) of an axis at the centres of n patches, and their derivatives."""
    count = FINER * intervals
    return _weights(np.arange(count + 1.0) * (length / count) - 0.5, length, intervals)


def _sampled(length: int, intervals: int) -> tuple[Float64, Float64]:
    """Positions (n,) along an axis, and the matrix (intervals + 3, n) that fits a spline to values there."""
    positions = np.linspace(-0.5, length - 0.5, SAMPLES * intervals + 4)
    matrix = _weights(positions, length, intervals)[0]
    return positions, np.asarray(np.linalg.pinv(matrix), dtype=np.float64)
