"""Landmark errors of a transform, in the field's own figures."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from register.errors import RegisterError
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

    def summary(self, seed: int = 0) -> dict[str, Any]:
        """TRE median, mean, 90 %, max, their rTRE, robustness, and 95 % bootstrap intervals (Efron & Tibshirani 1993, percentile)."""
        values: dict[str, Any] = {
            "landmarks": len(self.after),
            "diagonal": self.diagonal,
            "robustness": float((self.after < self.before).double().mean()),
        }
        for when, errors in (("before", self.before.numpy()), ("after", self.after.numpy())):
            tre = {name: float(figure(errors)) for name, figure in FIGURES.items()}
            values[when] = {"tre": tre, "rtre": {name: value / self.diagonal for name, value in tre.items()}}
        draws = np.random.default_rng(seed).integers(0, len(self.after), (DRAWS, len(self.after)))
        samples = self.after.numpy()[draws]
        values["interval_95"] = {
            name: [float(v) for v in np.percentile(FIGURES[name](samples, axis=1), [2.5, 97.5])]
            for name in ("median", "mean")
        }
        return values


def _p90(errors: NDArray[np.float64], axis: int | None = None) -> Any:
    return np.percentile(errors, 90, axis=axis)


FIGURES: dict[str, Any] = {"median": np.median, "mean": np.mean, "p90": _p90, "max": np.max}


def landmark_errors(transform: Transform, fixed: Tensor, moving: Tensor) -> Evaluation:
    """The errors of landmarks (n, 2), pixels of their images, row by row the same thing. Raises ``RegisterError`` for unequal numbers."""
    if len(fixed) != len(moving) or len(fixed) == 0:
        raise RegisterError(
            f"{len(fixed)} fixed and {len(moving)} moving landmarks; as many of each are needed, and at least one"
        )
    mapped = transform.map(fixed)
    diagonal = float(torch.tensor([transform.fixed.width, transform.fixed.height]).double().norm())
    return Evaluation(mapped, (fixed - moving).norm(dim=1), (mapped - moving).norm(dim=1), diagonal)
