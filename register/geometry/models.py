"""The global transform models: translation, rigid, similarity and affine, and those that are added."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import RegisterError
from register.geometry import arrays
from register.geometry.arrays import Array, Float64
from register.registries import MODELS

Linear = Callable[[Any], Any]
"""A function from parameters (b, n), which are 0 at the identity, to linear parts (b, 2, 2)."""
FitLinear = Callable[[Float64, Float64], Float64]
"""A function from centred fixed and moving points (n, 2) to the least-squares linear part (2, 2)."""


@dataclass(frozen=True)
class GlobalModel:
    """A group of affine maps x -> A (x - c) + c + t: it contains the products and inverses of its maps.

    The translation t is free in every model; ``linear_parameters`` numbers determine the linear part A.
    ``linear`` computes A from them: it gets an array or tensor (b, linear_parameters) that is 0 at the
    identity, must return (b, 2, 2) of the same kind, and must be differentiable (see ``arrays`` for functions
    that accept both kinds). ``fit_linear`` is the least-squares A of matched points whose means were
    subtracted, in NumPy. ``least_points`` point pairs determine the map. ``contained_in`` names the models
    that contain this one, the smallest first, so that the product of two models has a name.
    ``rotates`` and ``scales`` are whether the initial search varies the rotation and the scale.
    """

    name: str
    linear_parameters: int
    linear: Linear
    fit_linear: FitLinear
    least_points: int
    contained_in: tuple[str, ...] = ("affine",)
    rotates: bool = True
    scales: bool = True

    @property
    def parameters(self) -> int:
        """The number of parameters: those of the translation and of the linear part."""
        return 2 + self.linear_parameters

    def matrix(self, parameters: Array, centre: Array, radius: float) -> Array:
        """Matrices (b, 2, 3) near the identity from parameters (b, n), about a ``centre`` (2,).

        The first two parameters translate. A unit of any other moves a point at ``radius`` pixels from the
        centre by about one pixel, so that one step size suits all of them.
        """
        linear = self.linear(parameters[:, 2:] / radius)
        offset = parameters[:, :2, None] + centre[:, None] - linear @ centre[:, None]
        return arrays.concatenate([linear, offset], -1)

    def fit(self, fixed: Array, moving: Array) -> Array:
        """The least-squares matrix (2, 3) float64 that maps fixed points (n, 2) to moving points (n, 2).

        Raises ``ValueError`` for too few points or for different numbers of them.
        """
        if len(fixed) != len(moving) or len(fixed) < self.least_points:
            counts = f"got {len(fixed)} and {len(moving)}"
            raise ValueError(f"{self.name} needs at least {self.least_points} point pairs, {counts}")
        a, b = arrays.to_numpy(fixed), arrays.to_numpy(moving)
        centre, target = a.mean(0), b.mean(0)
        linear = self.fit_linear(a - centre, b - target)
        matrix = np.concatenate([linear, (target - linear @ centre)[:, None]], axis=1)
        return arrays.in_kind_of(matrix, fixed)


def get(name: str) -> GlobalModel:
    """The model of a name. Raises ``RegisterError`` for an unknown name, or a record that is not a model."""
    record = MODELS.get(name)
    if not isinstance(record, GlobalModel):
        raise RegisterError(f"the global model {name!r} is a {type(record).__name__}, not a GlobalModel")
    return record


def is_global(name: str) -> bool:
    """Whether a transform's model is one matrix, not patches or a chain."""
    return name in MODELS.names()


def common(first: str, second: str) -> str:
    """The smallest model that contains the products of two models."""
    one, other = ((name, *get(name).contained_in) for name in (first, second))
    return next((name for name in one if name in other), "affine")


def for_landmarks(count: int) -> str:
    """The model that is fitted to ``count`` landmarks: affine only for more landmarks than it needs."""
    if count > AFFINE.least_points:
        return AFFINE.name
    return SIMILARITY.name if count >= SIMILARITY.least_points else TRANSLATION.name


def _matrices(a: Array, b: Array, c: Array, d: Array) -> Array:
    """Linear parts (b, 2, 2) of their entries (b,)."""
    return arrays.stack([arrays.stack([a, b], -1), arrays.stack([c, d], -1)], -2)


def _rotations(angle: Array) -> Array:
    xp = arrays.namespace(angle)
    cos, sin = xp.cos(angle), xp.sin(angle)
    return _matrices(cos, -sin, sin, cos)


def _no_linear(parameters: Array) -> Array:
    return arrays.broadcast(arrays.identity(2, parameters), (len(parameters), 2, 2))


def _rotation(parameters: Array) -> Array:
    """Rotations (b, 2, 2) by an angle in radians."""
    return _rotations(parameters[:, 0])


def _rotation_and_scale(parameters: Array) -> Array:
    """Linear parts (b, 2, 2) from an angle in radians and the logarithm of a scale."""
    scale = arrays.namespace(parameters).exp(parameters[:, 1])
    return _rotations(parameters[:, 0]) * scale[:, None, None]


def _any_linear(parameters: Array) -> Array:
    """Linear parts (b, 2, 2) from the differences of their entries from those of the identity."""
    return parameters.reshape(-1, 2, 2) + arrays.identity(2, parameters)


def _products(one: Float64, other: Float64) -> Float64:
    """The sums (2, 2) of products of coordinates (n, 2), with the same rounding in every run, unlike a
    BLAS."""
    return (one[:, :, None] * other[:, None]).sum(0)


def _fit_rotation(a: Float64, b: Float64) -> tuple[Float64, float]:
    """The least-squares rotation (2, 2), and the sum of the signed singular values: the scale's numerator.

    Source: Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI
    13 (1991), eqs. 40 to 43.
    """
    u, stretch, vh = np.linalg.svd(_products(b, a))
    sign = np.array([1.0, np.sign(np.linalg.det(u @ vh))])
    return (u * sign) @ vh, float((stretch * sign).sum())


def _fit_similarity(a: Float64, b: Float64) -> Float64:
    rotation, total = _fit_rotation(a, b)
    return rotation * (total / np.square(a).sum())


def _fit_affine(a: Float64, b: Float64) -> Float64:
    return (_inverse(_products(a, a)) @ _products(a, b)).T


def _inverse(matrix: Float64) -> NDArray[np.float64]:
    """The inverse of a symmetric matrix (2, 2), or its pseudo-inverse where all points lie on a line."""
    (p, q), (_, r) = matrix.tolist()
    determinant = p * r - q * q
    if determinant <= 1e-14 * (p + r) ** 2:
        return np.asarray(np.linalg.pinv(matrix, hermitian=True), dtype=np.float64)
    return np.array([[r, -q], [-q, p]]) / determinant


TRANSLATION = GlobalModel(
    "translation",
    linear_parameters=0,
    linear=_no_linear,
    fit_linear=lambda a, b: np.eye(2),
    least_points=1,
    contained_in=("rigid", "similarity", "affine"),
    rotates=False,
    scales=False,
)
RIGID = GlobalModel(
    "rigid",
    linear_parameters=1,
    linear=_rotation,
    fit_linear=lambda a, b: _fit_rotation(a, b)[0],
    least_points=2,
    contained_in=("similarity", "affine"),
    scales=False,
)
SIMILARITY = GlobalModel(
    "similarity",
    linear_parameters=2,
    linear=_rotation_and_scale,
    fit_linear=_fit_similarity,
    least_points=2,
)
AFFINE = GlobalModel(
    "affine",
    linear_parameters=4,
    linear=_any_linear,
    fit_linear=_fit_affine,
    least_points=3,
    contained_in=(),
)
