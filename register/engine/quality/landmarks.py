"""Evaluate a transform with landmarks: target registration errors (TRE, rTRE) and their intervals."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from register.errors import RegisterError
from register.transforms.quality import ErrorFigures, Intervals, LandmarkErrors, LandmarkSummary
from register.transforms.transform import Transform

DRAWS = 2000
"""Bootstrap samples behind a confidence interval."""


@dataclass(frozen=True)
class Evaluation:
    """Distances (n,) in moving pixels between each mapped fixed landmark and its moving one, with and
    without the transform.

    ``diagonal`` is that of the fixed image in pixels: rTRE is TRE over it, as in the ANHIR challenge
    (Borovec et al., IEEE TMI 39, 2020).
    """

    mapped: NDArray[np.float64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    diagonal: float

    def summary(self, seed: int = 0) -> LandmarkSummary:
        """Errors before and after, robustness, and 95 % bootstrap intervals of the errors after.

        Source of the intervals: Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), percentile
        method.
        """
        draws = np.random.default_rng(seed).integers(0, len(self.after), (DRAWS, len(self.after)))
        samples = self.after[draws]
        return LandmarkSummary(
            landmarks=len(self.after),
            diagonal=self.diagonal,
            robustness=float((self.after < self.before).mean()),
            before=self._errors(self.before),
            after=self._errors(self.after),
            interval_95=Intervals(
                median=_interval(np.median(samples, axis=1)), mean=_interval(np.mean(samples, axis=1))
            ),
        )

    def _errors(self, distances: NDArray[np.float64]) -> LandmarkErrors:
        """The figures of distances (n,), in pixels and as shares of the diagonal."""
        tre = {
            "median": float(np.median(distances)),
            "mean": float(np.mean(distances)),
            "p90": float(np.percentile(distances, 90)),
            "max": float(np.max(distances)),
        }
        relative = {name: value / self.diagonal for name, value in tre.items()}
        return LandmarkErrors(tre=ErrorFigures.of(tre), rtre=ErrorFigures.of(relative))


def _interval(values: NDArray[np.float64]) -> tuple[float, ...]:
    """The 2.5th and the 97.5th percentile."""
    return tuple(float(v) for v in np.percentile(values, [2.5, 97.5]))


def landmark_errors(transform: Transform, fixed: ArrayLike, moving: ArrayLike) -> Evaluation:
    """The errors of landmarks (n, 2), in pixels of the fixed and of the moving image.

    Row i of both is the same landmark. Raises ``RegisterError`` for unequal numbers and for none.
    """
    fixed, moving = np.asarray(fixed, np.float64), np.asarray(moving, np.float64)
    if len(fixed) != len(moving) or len(fixed) == 0:
        raise RegisterError(
            f"{len(fixed)} fixed and {len(moving)} moving landmarks: the numbers must be equal and not 0"
        )
    mapped = transform.map(fixed)
    diagonal = math.hypot(transform.fixed.width, transform.fixed.height)
    before, after = (np.linalg.norm(points - moving, axis=1) for points in (fixed, mapped))
    return Evaluation(mapped, before, after, diagonal)
