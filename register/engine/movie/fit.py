"""Fit the displacement of one frame by Gauss-Newton steps with the Hessian of the reference."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from register.engine.movie import tensors
from register.engine.movie.reference import Prepared, Reference
from register.engine.movie.space import folded
from register.engine.movie.target import LevelTarget
from register.geometry import affine, affine_tensors
from register.kernels.movie import Displaced

LEAST_STEPS = {"fast": 1, "balanced": 1, "accurate": 4}
"""Steps at full resolution, at least, by preset."""
STILL = {"fast": 0.2, "balanced": 0.05, "accurate": 0.02}
"""Root mean square of a step in pixels from which another one is made, by preset."""
COARSE_STEPS, MORE_STEPS = 3, 6
"""Steps on each coarser level, and the largest number of steps at full resolution beyond the least."""
LEAST_GAIN, MOST_GAIN = 0.25, 4.0
"""Smallest and largest ratio of a frame's contrast to that of the reference."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A frame is at M (x + u(x)): ``matrix`` M (2, 3) float64 and the ``coefficients`` (2, rows, columns) of
    the spline u in pixels, None for a global model.

    ``moving`` is the root mean square of the last step, in pixels, ``misfit`` the mean squared error relative
    to the variance that the reference assumes, ``overlap`` the share of the reference's weight that the frame
    covers.
    """

    matrix: Tensor
    coefficients: Tensor | None
    moving: float
    misfit: float
    overlap: float

    def displaced(self, level: LevelTarget, image: Tensor) -> Displaced:
        """The image (h, w) of a frame on a level, at the positions that were fitted."""
        own = torch.zeros(level.space.shape) if self.coefficients is None else self.coefficients / level.step
        return displaced(level, image, self.matrix, own)


def fit(reference: Reference, frame: Prepared, matrix: Tensor) -> Fit:
    """The displacement of a prepared frame from a start (2, 3)."""
    space, preset = reference.levels[-1].space, reference.settings.preset
    found = Fit(matrix, None if space.directions is not None else torch.zeros(space.shape), 0.0, 1.0, 1.0)
    for level in reference.levels:
        finest = level is reference.levels[-1]
        grey = (1.0, 0.0)
        for number in range(LEAST_STEPS[preset] + MORE_STEPS if finest else COARSE_STEPS):
            found, grey = _step(reference, level, frame.on(level), found, grey)
            if finest and number >= LEAST_STEPS[preset] - 1 and found.moving < STILL[preset]:
                break
    return _centred(found)


def _step(
    reference: Reference, level: LevelTarget, frame: Tensor, before: Fit, grey: tuple[float, float]
) -> tuple[Fit, tuple[float, float]]:
    """The fit after one step on a level, and the gain and level of the frame's grey values before it."""
    space = level.space
    own = torch.zeros(space.shape) if before.coefficients is None else before.coefficients / level.step
    placed = displaced(level, frame, before.matrix, own)
    gradient, sums = tensors.step(placed, level.target, (*grey, level.limit))
    right = level.share * space.reduced(gradient)
    if before.coefficients is not None:
        right = right - level.prior @ own.reshape(-1).double()
    change = level.step * (level.inverse @ right)
    if not bool(torch.isfinite(change).all()):
        return before, grey
    statistics = _statistics(level, sums, grey)
    if before.coefficients is None:
        moved = folded(reference.settings.model, reference.size, before.matrix, change)
        size = math.sqrt(float(change.square().sum()))
        return Fit(moved, None, size, *statistics[:2]), statistics[2]
    coefficients = before.coefficients + change.reshape(space.shape).float()
    size = math.sqrt(float(2 * change.square().mean()))
    return Fit(before.matrix, coefficients, size, *statistics[:2]), statistics[2]


def _statistics(
    level: LevelTarget, sums: Tensor, grey: tuple[float, float]
) -> tuple[float, float, tuple[float, float]]:
    """Misfit, overlap, and the gain and level of the samples by linear regression on the reference."""
    weight, v, vv, vr, r, rr = sums.tolist()
    total = level.weight
    if weight <= 1e-6 * total or total <= 0:
        return math.inf, 0.0, grey
    variance, covariance = rr - r * r / weight, vr - v * r / weight
    gain = min(max(covariance / max(variance, 1e-30), LEAST_GAIN), MOST_GAIN)
    base = v / weight - gain * r / weight
    error = rr - 2 * (vr - base * r) / gain + (vv - 2 * base * v + base * base * weight) / gain**2
    count = level.pixels * weight / total
    return max(error, 0.0) / max(count, 1.0), weight / total, (gain, base)


def displaced(level: LevelTarget, image: Tensor, matrix: Tensor, own: Tensor) -> Displaced:
    """The image (h, w) of a frame on a level at M (x + u(x)), with the matrix M (2, 3) in pixels of the
    frame and the coefficients of u in pixels of the level."""
    a, b, c, d, e, f = matrix.flatten().tolist()
    step, edge = level.step, (level.step - 1) / 2  # as ``affine.scaling``
    numbers = a, b, ((a + b - 1) * edge + c) / step, d, e, ((d + e - 1) * edge + f) / step
    return Displaced(image.contiguous(), level.space.y, level.space.x, own.contiguous(), numbers)


def _centred(found: Fit) -> Fit:
    """The same map with the mean of the coefficients in its matrix."""
    if found.coefficients is None:
        return found
    mean = found.coefficients.double().mean((1, 2))
    moved = affine.compose(found.matrix, affine_tensors.translation(float(mean[0]), float(mean[1])))
    rest = found.coefficients - mean.float()[:, None, None]
    return Fit(moved, rest, found.moving, found.misfit, found.overlap)
