"""Fit cubic B-splines to a map, for the B-spline transforms of ITK and elastix."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from register.geometry import affine, arrays
from register.geometry.arrays import Array, Float64

ORDER = 3
SAMPLES = 4
"""Points per knot interval and axis that a fit uses; its error is measured halfway between them."""
MARGIN = 1.0
"""Pixels by which the domain extends beyond the outer pixel centres: outside it, other programs set the
displacement to zero."""

Map = Callable[[Float64], Float64]
"""Maps points (n, 2) float64 to points (n, 2)."""


@dataclass(frozen=True)
class BSpline:
    """Coefficients (rows, columns, 2) of a displacement in pixels.

    Knot (column, row) is at ``origin + (column, row) * spacing``, in pixels ``(x, y)``.
    """

    coefficients: Float64
    origin: tuple[float, float]
    spacing: tuple[float, float]

    def displacement(self, x: Float64, y: Float64) -> Float64:
        """The displacement (len(y), len(x), 2) on the grid of positions x and y, in pixels."""
        return _tensor_product(self._basis(y, 1), self.coefficients, self._basis(x, 0))

    def _basis(self, positions: Float64, axis: int) -> Float64:
        count = self.coefficients.shape[1 - axis]
        return basis((positions - self.origin[axis]) / self.spacing[axis], count)


def cubic_spline(distance: Array) -> Array:
    """The cubic B-spline at distances >= 0 from its centre, in knots; zero from 2 on."""
    near = 2 / 3 - distance * distance * (1 - distance / 2)
    far = (2 - distance).clip(min=0) ** 3 / 6
    return arrays.namespace(distance).where(distance < 1, near, far)


def basis(positions: Float64, count: int) -> Float64:
    """The cubic B-splines (n, count) centred on knots 0 to count - 1, at positions (n,) in knots."""
    return cubic_spline(abs(positions[:, None] - np.arange(count)))


def fit(
    target: Map, width: int, height: int, spacing: float, *, tolerance: float, least: float = 1.0
) -> tuple[BSpline, float]:
    """The spline nearest to the displacement of ``target`` over an image, and its largest error in pixels.

    The knots have a spacing of about ``spacing`` pixels, which is halved until the error is within
    ``tolerance`` pixels or it is ``least``. The error is measured halfway between the fitted points. The
    tensor product makes the least-squares fit one small linear system per axis.
    """
    while True:
        spline, error = _fit_once(target, width, height, spacing)
        if error <= tolerance or spacing <= least:
            return spline, error
        spacing = max(spacing / 2, least)


def _fit_once(target: Map, width: int, height: int, spacing: float) -> tuple[BSpline, float]:
    positions, inverses, origin, steps = list[Float64](), list[Float64](), list[float](), list[float]()
    for side in (width, height):
        length = side - 1 + 2 * MARGIN
        cells = max(round(length / spacing), 1)
        steps.append(length / cells)
        origin.append(-MARGIN - steps[-1])
        positions.append(np.linspace(-MARGIN, side - 1 + MARGIN, SAMPLES * cells + 1))
        matrix = basis((positions[-1] - origin[-1]) / steps[-1], cells + ORDER)
        inverses.append(np.asarray(np.linalg.solve(matrix.T @ matrix, matrix.T), dtype=np.float64))
    sampled = _displacement(target, positions[0], positions[1])
    coefficients = _tensor_product(inverses[1], sampled, inverses[0])
    spline = BSpline(coefficients, (origin[0], origin[1]), (steps[0], steps[1]))
    x, y = ((at[1:] + at[:-1]) / 2 for at in positions)
    difference = spline.displacement(x, y) - _displacement(target, x, y)
    return spline, float(np.linalg.norm(difference, axis=-1).max())


def _tensor_product(down: Float64, values: Float64, across: Float64) -> NDArray[np.float64]:
    """``values`` (r, c, 2) times a matrix (y, r) along rows and a matrix (x, c) along columns: (y, x, 2)."""
    planes = down @ np.moveaxis(values, -1, 0) @ across.T
    return np.ascontiguousarray(np.moveaxis(planes, 0, -1))


def _displacement(target: Map, x: Float64, y: Float64) -> Float64:
    """Mapped minus original points (len(y), len(x), 2)."""
    points = affine.points_at(x, y)
    return target(points.reshape(-1, 2)).reshape(points.shape) - points
