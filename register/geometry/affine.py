"""Affine maps of the plane, and the conventions for coordinates and matrices.

The conventions hold for the entire package. Points are ``(x, y)`` in pixels, x right, y down, 0-based; an
integer is a pixel's centre, so pixel (0, 0) covers [-0.5, 0.5). Only arrays are indexed ``[row, column]``.
Images are (c, h, w) float32 inside the package. A matrix ``[[a, b, tx], [c, d, ty]]`` of shape (..., 2, 3)
maps ``(x, y)`` to ``(a x + b y + tx, c x + d y + ty)`` and is named by its direction: ``moving_from_fixed``
maps fixed points to moving points, which is what resampling the moving image needs. A transform maps fixed to
moving.

Functions that take arrays accept NumPy arrays and PyTorch tensors and return the same kind. Functions
that make a matrix from numbers return NumPy arrays; ``affine_tensors`` has them as tensors.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from register.geometry import arrays
from register.geometry.arrays import Array, Float64


def identity() -> Float64:
    """The matrix (2, 3) of the identity."""
    return np.eye(2, 3)


def translation(x: float, y: float) -> Float64:
    """The matrix (2, 3) that adds ``(x, y)``."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y]])


def scaling(x: float, y: float) -> Float64:
    """The matrix (2, 3) that maps a coarse pixel grid to a fine one, pixel edges on pixel edges.

    A pixel of the coarse grid covers ``x`` by ``y`` pixels of the fine one, so fine = s * coarse + (s - 1) /
    2.
    """
    return np.array([[x, 0.0, (x - 1) / 2], [0.0, y, (y - 1) / 2]])


def similarity(angle: float, scale: float, centre_from: ArrayLike, centre_to: ArrayLike) -> Float64:
    """The matrix (2, 3) that rotates by ``angle`` radians (x to y), scales, and maps a centre to a centre."""
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]])
    offset = arrays.to_numpy(centre_to) - linear @ arrays.to_numpy(centre_from)
    return np.concatenate([linear, offset[:, None]], axis=1)


def compose(outer: Array, inner: Array) -> Array:
    """The matrices (..., 2, 3) that apply ``inner`` first, then ``outer``; leading dimensions broadcast."""
    linear = outer[..., :2] @ inner[..., :2]
    offset = outer[..., :2] @ inner[..., 2:] + outer[..., 2:]
    return arrays.concatenate([linear, offset], -1)


def invert(matrix: Array) -> Array:
    """The inverses (..., 2, 3). Raises the ``LinAlgError`` of NumPy or PyTorch for a singular matrix."""
    linear = arrays.namespace(matrix).linalg.inv(matrix[..., :2])
    return arrays.concatenate([linear, -linear @ matrix[..., 2:]], -1)


def points_at(x: Array, y: Array) -> Array:
    """The points (h, w, 2) of the grid of positions x (w,) and y (h,)."""
    shape = len(y), len(x)
    return arrays.stack([arrays.broadcast(x, shape), arrays.broadcast(y[:, None], shape)], -1)


def apply(matrix: Array, points: Array) -> Array:
    """Map points (..., n, 2) by matrices (..., 2, 3); leading dimensions broadcast."""
    return points @ matrix[..., :2].swapaxes(-1, -2) + matrix[..., None, :, 2]


def apply_to_grid(matrix: Array, x: Array, y: Array) -> Array:
    """Map the grid of positions x (w,) and y (h,) by matrices (b, 2, 3): points (b, h, w, 2).

    The same as ``apply`` to all ``(x, y)``, with one addition per point: an affine map of a grid is the sum
    of a row and a column.
    """
    rows = matrix[:, :, 1, None] * y + matrix[:, :, 2, None]
    columns = matrix[:, :, 0, None] * x
    return arrays.move_axis(rows[..., None] + columns[:, :, None], 1, -1)


def determinant(matrix: Array) -> Array:
    """The factor (...) by which maps (..., 2, 3) change areas; negative for a mirrored orientation."""
    return matrix[..., 0, 0] * matrix[..., 1, 1] - matrix[..., 0, 1] * matrix[..., 1, 0]


def scale(matrix: Array) -> float:
    """The factor by which a map (2, 3) changes lengths, in the geometric mean over directions."""
    (a, b, _), (c, d, _) = matrix.tolist()
    return math.sqrt(abs(a * d - b * c))


class Parts(NamedTuple):
    """The polar decomposition of a linear map: a rotation and a stretch.

    ``rotation`` is in degrees, x towards y; ``scale`` is the geometric mean of the two principal stretches,
    and ``anisotropy`` the larger one divided by the smaller one, at least 1.
    """

    rotation: float
    scale: float
    anisotropy: float


def decompose(matrix: Array) -> Parts:
    """The parts of one matrix (2, 3), from its singular values; a reflection is part of the rotation."""
    u, stretch, vh = np.linalg.svd(arrays.to_numpy(matrix)[:, :2])
    rotation = u @ vh
    angle = math.degrees(math.atan2(rotation[1, 0], rotation[0, 0]))
    largest, smallest = float(stretch[0]), max(float(stretch[1]), 1e-300)
    return Parts(angle, math.sqrt(largest * smallest), largest / smallest)
