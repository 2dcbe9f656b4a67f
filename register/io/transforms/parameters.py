"""Parameters of affine and B-spline transforms as ITK orders them; elastix uses the same."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from register.errors import TransformError
from register.geometry import bspline
from register.transforms.transform import Transform

Pair = tuple[float, float]
Parameters = tuple[list[float], list[float]]
"""The parameters of a transform, and its fixed parameters."""


@dataclass(frozen=True)
class GlobalParameters:
    """A global transform of another program: its kind, its parameters and its centre of rotation (x, y)."""

    kind: str
    values: list[float]
    centre: list[float]

    def affine(self) -> NDArray[np.float64]:
        """The map y = A (x - c) + t + c as a matrix (2, 3).

        Raises ``KeyError`` or ``ValueError`` for another kind of transform or number of parameters.
        """
        *linear_values, tx, ty = self.values
        linear = self._linear(linear_values)
        if len(self.centre) not in (0, 2):
            raise ValueError("a centre has two coordinates")
        centre = np.array(self.centre or [0.0, 0.0])
        offset = np.array([tx, ty]) + centre - linear @ centre
        return np.column_stack([linear, offset])

    def _linear(self, values: list[float]) -> NDArray[np.float64]:
        """The linear part (2, 2) from the parameters without the translation."""
        if self.kind == "TranslationTransform":
            () = values
            return np.eye(2)
        if self.kind in ("Euler2DTransform", "EulerTransform"):
            (angle,) = values
            return _rotation(angle)
        if self.kind in ("Similarity2DTransform", "SimilarityTransform"):
            scale, angle = values
            return scale * _rotation(angle)
        if self.kind in ("AffineTransform", "MatrixOffsetTransformBase"):
            return np.array(values).reshape(2, 2)
        raise KeyError(self.kind)


def affine_parameters(matrix: NDArray[np.float64]) -> Parameters:
    """The parameters of a matrix (2, 3), linear part and translation; and the centre, the origin."""
    return [*matrix[:, :2].ravel().tolist(), *matrix[:, 2].tolist()], [0.0, 0.0]


def fitted_spline(
    target: bspline.Map, transform: Transform, spacing: float | None, tolerance: float, stretch: float
) -> tuple[bspline.BSpline, float]:
    """A B-spline fitted to a map, and its largest error in moving pixels, ``stretch`` times that of the fit.

    Knots start half a patch apart and are refined until the error is below ``tolerance`` moving pixels;
    with a ``spacing`` they are not refined. Raises ``TransformError`` when the tolerance is not reached, and
    for a transform with sides.
    """
    if not transform.continuous:
        raise TransformError(
            "the transform has sides that move apart, which a B-spline cannot hold; export a displacement"
            " field"
        )
    fixed = transform.fixed
    start = spacing or max(fixed.width, fixed.height) / 16
    if spacing is None and transform.grid:
        start = min(transform.grid.spacing) / 2
    enough = tolerance / stretch if spacing is None else math.inf
    spline, error = bspline.fit(target, fixed.width, fixed.height, start, tolerance=enough)
    if error > enough:
        raise TransformError(
            f"the largest error of a B-spline is {error * stretch:.3g} px, --tolerance is {tolerance:g};"
            " raise --tolerance or export a displacement field"
        )
    return spline, error * stretch


def spline_parameters(spline: bspline.BSpline, pixel: Pair) -> Parameters:
    """The parameters of a spline for a pixel of a size (x, y): all x coefficients, x fastest, then all y.

    The fixed parameters are the number of knots, origin, spacing and direction.
    """
    rows, columns, _ = spline.coefficients.shape
    values = [*_scaled(spline, 0, pixel[0]), *_scaled(spline, 1, pixel[1])]
    origin = [v * p for v, p in zip(spline.origin, pixel, strict=True)]
    spacing = [v * p for v, p in zip(spline.spacing, pixel, strict=True)]
    return values, [columns, rows, *origin, *spacing, 1, 0, 0, 1]


def _scaled(spline: bspline.BSpline, axis: int, factor: float) -> list[float]:
    """The coefficients of one axis, times a factor."""
    scaled: list[float] = (spline.coefficients[..., axis] * factor).ravel().tolist()
    return scaled


def _rotation(angle: float) -> NDArray[np.float64]:
    """The matrix (2, 2) of a rotation by an angle in radians."""
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
