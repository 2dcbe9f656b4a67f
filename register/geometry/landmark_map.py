"""The global map that most of a few landmarks agree on."""

from itertools import combinations, islice
from typing import NamedTuple

import torch
from torch import Tensor

from register.geometry import affine, models

TRIALS = 2000
"""Pairs of landmarks that are tried."""
REACH = 4.0
"""Distance, in robust standard deviations, up to which a landmark agrees with the map."""
LEAST_SPREAD = 0.15
"""Ratio of the widths of the landmarks across and along from which they determine an affine map."""


class Agreed(NamedTuple):
    """A map (2, 3) float64, fixed to moving, and which landmarks (n,) agree with it."""

    matrix: Tensor
    agrees: Tensor


def agree(fixed: Tensor, moving: Tensor, tolerance: float) -> Agreed:
    """The map that most landmarks (n, 2) agree on, by the least median of squares.

    Every pair of landmarks proposes a similarity, and a mirrored one; that with the least median residual is
    taken, and the map of its agreeing landmarks is fitted again: a translation for one, a similarity for up
    to three, an affine map for more. Landmarks within ``tolerance`` pixels agree in any case. Fewer than
    four agree by themselves.

    Source: Rousseeuw, "Least median of squares regression", J. Am. Stat. Assoc. 79 (1984).
    """
    count = len(fixed)
    if count < 4:
        return Agreed(_fit(fixed, moving), torch.ones(count, dtype=torch.bool))
    chosen = list(islice(combinations(range(count), 2), TRIALS))
    residuals = [
        (affine.apply(matrix, fixed) - moving).norm(dim=1)
        for i, j in chosen
        for matrix in _through(fixed[[i, j]], moving[[i, j]])
    ]
    half = count // 2  # of count // 2 + 1 landmarks with the least residuals, the last
    best = min(residuals, key=lambda one: float(one.sort().values[half]))
    spread = 1.4826 * (1 + 5 / (count - 2)) * float(best.sort().values[half])
    agrees = best <= max(REACH * spread, tolerance)
    return Agreed(_fit(fixed[agrees], moving[agrees]), agrees)


def _through(fixed: Tensor, moving: Tensor) -> list[Tensor]:
    """The similarity through two landmarks, and the mirrored one; none where they are the same point."""
    if float((fixed[1] - fixed[0]).norm()) < 1e-6 or float((moving[1] - moving[0]).norm()) < 1e-6:
        return []
    mirror = torch.tensor([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    mirrored = models.SIMILARITY.fit(affine.apply(mirror, fixed), moving)
    return [models.SIMILARITY.fit(fixed, moving), affine.compose(mirrored, mirror)]


def _fit(fixed: Tensor, moving: Tensor) -> Tensor:
    """The least-squares map of the richest model that the landmarks determine."""
    name = models.for_landmarks(len(fixed))
    if name == models.AFFINE.name:
        widths = torch.linalg.svdvals(fixed - fixed.mean(0))
        if float(widths[1]) < LEAST_SPREAD * float(widths[0]):
            name = models.SIMILARITY.name
    return models.get(name).fit(fixed, moving)
