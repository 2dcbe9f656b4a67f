"""Fit a global map to matched sources by robust least squares, each with the error of its place."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from register.engine.points.sources import Sources
from register.geometry import affine, models
from register.geometry.arrays import Float64
from register.geometry.models import GlobalModel

STEPS = 4
TUKEY = 4.7
"""Residual, in standard deviations, from which a match has no weight (Beaton & Tukey, Technometrics 16,
1974)."""
ADDED = 0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.3, 2.6
"""Standard deviations, in pixels, of what the errors of the places do not explain; the most likely counts."""
ENOUGH, GAIN = 20, 6.0
"""Matches from which an affine map is fitted, and, with fewer, twice the increase of the log-likelihood over
a similarity from which it is."""


class Fit(NamedTuple):
    """A map (2, 3) of a model, the indices of the matched sources that agree with it, the standard deviation
    of their places per axis, and that of each (n,), in moving pixels."""

    matrix: Float64
    model: str
    fixed: NDArray[np.int64]
    moving: NDArray[np.int64]
    residual: float
    errors: Float64


def fit(
    one: Sources,
    other: Sources,
    fixed: NDArray[np.int64],
    moving: NDArray[np.int64],
    matrix: Float64,
    model: str,
) -> Fit:
    """The map of a ``model`` of matched sources (n,), from a map (2, 3) near it.

    For the affine and the local model it is a similarity where few sources do not show more.
    """
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    errors = np.hypot(one.errors[fixed] * scale, other.errors[moving])
    points = one.places[fixed], other.places[moving]
    wanted = "affine" if model == "local" else model
    tried = ["similarity"] if wanted == "affine" else []
    if wanted != "affine" or len(fixed) > models.get(wanted).least_points + 1:
        tried.append(wanted)
    made = [_robust(*points, errors, matrix, models.get(name)) for name in tried]
    best = 0
    if len(made) == 2:
        gain = made[1][2] - made[0][2]
        best = int(len(fixed) >= ENOUGH or 2 * gain > GAIN)
    found, each, _ = made[best]
    residual = np.hypot(*(affine.apply(found, points[0]) - points[1]).T)
    kept = residual < TUKEY * each
    return Fit(found, tried[best], fixed[kept], moving[kept], float(np.median(each)), each[kept])


def _robust(
    fixed: Float64, moving: Float64, errors: Float64, matrix: Float64, model: GlobalModel
) -> tuple[Float64, Float64, float]:
    """The map (2, 3), the standard deviation of each match (n,), and the log-likelihood."""
    each, likely = errors, -np.inf
    for _ in range(STEPS):
        residual = np.square(affine.apply(matrix, fixed) - moving).sum(1)
        each, likely = _with_added(residual, errors)
        weight = np.clip(1 - residual / (TUKEY * each) ** 2, 0, None) ** 2 / each**2
        if (weight > 0).sum() <= model.least_points:
            weight = 1 / (each**2 + residual)
        matrix = weighted(fixed, moving, weight, model)
    return matrix, each, likely


def _with_added(residual: Float64, errors: Float64) -> tuple[Float64, float]:
    """The errors (n,) with what they do not explain, and the log-likelihood of squared residuals (n,)."""
    variances = np.square(errors) + np.square(ADDED)[:, None]
    each = -np.log(variances) - np.minimum(residual / (2 * variances), TUKEY**2 / 2)
    likely = each.sum(1)
    best = int(likely.argmax())
    return np.sqrt(variances[best]), float(likely[best])


def weighted(fixed: Float64, moving: Float64, weight: Float64, model: GlobalModel) -> Float64:
    """The least-squares map (2, 3) of a model from points (n, 2) to others with weights (n,)."""
    weight = weight / weight.sum()
    centre, target = weight @ fixed, weight @ moving
    root = np.sqrt(weight)[:, None]
    linear = model.fit_linear(root * (fixed - centre), root * (moving - target))
    return np.concatenate([linear, (target - linear @ centre)[:, None]], 1)
