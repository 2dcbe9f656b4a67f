"""Landmark errors of a transform, in the field's own figures."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from register.errors import RegisterError
from register.transforms.quality import ErrorFigures, Intervals, LandmarkErrors, LandmarkSummary
from register.transforms.transform import Transform

DRAWS = 2000
"""Bootstrap samples behind a confidence interval."""


@dataclass(frozen=True)
class Evaluation:
    """Distances (n,) in moving pixels between each mapped fixed landmark and its moving one, with and without the transform.

    ``diagonal`` is that of the fixed image in pixels: rTRE is TRE over it, as in the ANHIR challenge (Borovec et al., IEEE TMI 39, 2020).
    """

    mapped: Tensor
    before: Tensor
    after: Tensor
    diagonal: float

    def summary(self, seed: int = 0) -> LandmarkSummary:
        """Errors before and after, robustness, and 95 % bootstrap intervals of the errors after.

        Source of the intervals: Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), percentile method.
        """
        draws = np.random.default_rng(seed).integers(0, len(self.after), (DRAWS, len(self.after)))
        samples = self.after.numpy()[draws]
        return LandmarkSummary(
            landmarks=len(self.after),
            diagonal=self.diagonal,
            robustness=float((self.after < self.before).double().mean()),
            before=self._errors(self.before),
            after=self._errors(self.after),
            interval_95=Intervals(
                median=_interval(np.median(samples, axis=1)), mean=_interval(np.mean(samples, axis=1))
            ),
        )

    def _errors(self, distances: Tensor) -> LandmarkErrors:
        """The figures of distances (n,), in pixels and as shares of the diagonal."""
        values = distances.numpy()
        tre = {
            "median": float(np.median(values)),
            "mean": float(np.mean(values)),
            "p90": float(np.percentile(values, 90)),
            "max": float(np.max(values)),
        }
        relative = {name: value / self.diagonal for name, value in tre.items()}
        return LandmarkErrors(tre=ErrorFigures.of(tre), rtre=ErrorFigures.of(relative))


def _interval(values: NDArray[np.float64]) -> tuple[float, ...]:
    """The 2.5th and the 97.5th percentile."""
    return tuple(float(v) for v in np.percentile(values, [2.5, 97.5]))


def landmark_errors(transform: Transform, fixed: Tensor, moving: Tensor) -> Evaluation:
    """The errors of landmarks (n, 2), pixels of their images, row by row the same thing. Raises ``RegisterError`` for unequal numbers."""
    if len(fixed) != len(moving) or len(fixed) == 0:
        raise RegisterError(
            f"{len(fixed)} fixed and {len(moving)} moving landmarks; as many of each are needed, and at least one"
        )
    mapped = transform.map(fixed)
    diagonal = float(torch.tensor([transform.fixed.width, transform.fixed.height]).double().norm())
    return Evaluation(mapped, (fixed - moving).norm(dim=1), (mapped - moving).norm(dim=1), diagonal)
