"""Judge for every place whether its match is recognised, from the ranks of the regions around it.

A pair may agree in part only: pieces of tissue are exchanged, missing, or moved further than patches can
follow. The ranks of regions that match are near 1, those of the others are spread as by chance. The shares of
both are estimated from the pair itself, because regions of different stains or sensors rank lower than those
of one.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from register.compute import sums
from register.engine.quality.recognition import Regions
from register.geometry import affine

CHANCE, LOW, HIGH = 1.5, 5.0, 60.0
"""Exponents k of the densities k r^(k-1) of the rank r: of regions that do not match (a fit raises their rank
somewhat above chance), and of those that match in images that are little and much alike."""
STRAY, LEAST_SHARE, LEAST_KIND = 0.05, 0.02, 0.1
"""Share of matching regions of any rank; the smallest share of each density in a pair, and of either density
of matching regions among these."""
ROUNDS = 60
"""Steps of the estimation of the shares."""
REACH = 1.2
"""Standard deviation, in sides of a region, of the Gaussian that weights the evidence around a place."""
DECIDED, CLEAR, TYPICAL = 0.5, 5.0, 0.8
"""Share of the typical margin from which a region tells its place; the smallest typical margin for which
others do not, in standard deviations; and the quantile of the margins of high ranks that is typical."""
LENIENCE = 5.0
"""Log-odds in favour of a match in pairs with a smaller typical margin: of two sensors or stains, regions
that match rank low in groups, where one image shows less than the other."""
HIGH_RANK, ALIKE, MOST_ALIKE = 0.95, 0.5, 0.9
"""Rank from which margins are typical; share of the similarity of regions that are most alike (its quantile)
from which a region is alike, although others are as similar."""


@dataclass(frozen=True)
class Parts:
    """The evidence of regions for being matched rightly, as log-odds.

    ``centres`` (n, 2) are those of the regions and ``side`` is their side, both in pixels of the fixed
    original; ``evidence`` (n,) is positive where the match is recognised; ``prior`` is the log-odds of any
    region of the pair.
    """

    centres: Tensor
    side: float
    evidence: Tensor
    prior: float

    def log_odds(self, points: Tensor) -> Tensor:
        """The log-odds (m,) that the match of fixed points (m, 2) is right, from the regions around them."""
        away = (points[:, None] - self.centres).square().sum(-1) / self.side**2
        near = torch.exp(-away / (2 * REACH**2))
        return sums.last(near * self.evidence) + self.prior


def of(regions: Regions) -> Parts:
    """The evidence of regions.

    The log-likelihood ratio of the rank is weighted by texture. High ranks count less where a small shift
    explains a region as well, unless this is so in the entire pair: an outline tells no position along
    it. Low ranks count less where a region is as similar to its match as others are to theirs, so that in
    a lattice, where many regions are alike, it is not taken for wrong.
    """
    used = ~regions.rank.isnan()
    rank = regions.rank[used].clamp(min=0.5 / int(used.sum()))
    texture, margin, similarity = (x[used] for x in (regions.texture, regions.margin, regions.similarity))
    ratio, prior = _likelihood(rank, texture)
    high = rank > HIGH_RANK
    typical = float(margin[high].quantile(TYPICAL)) if bool(high.any()) else 0.0
    if typical <= CLEAR:
        prior += LENIENCE
    else:
        ratio = torch.where(ratio > 0, ratio * (margin / (DECIDED * typical)).clamp(0, 1), ratio)
    alike = (similarity / similarity.quantile(MOST_ALIKE).clamp(min=1e-6) / ALIKE).clamp(0, 1)
    ratio = torch.where(ratio < 0, ratio * (1 - alike), ratio)
    row, column = used.nonzero(as_tuple=True)
    at = (torch.stack([column, row], 1).double() + 0.5) * regions.side - 0.5
    up = regions.level.original_from_level.double().cpu()
    return Parts(affine.apply(up, at), regions.side * affine.scale(up), ratio * texture, prior)


def _likelihood(rank: Tensor, weight: Tensor) -> tuple[Tensor, float]:
    """The log of the likelihood ratio (n,) of ranks (n,), matching to not matching, and the log-odds of the
    shares of both.

    The shares of three densities are estimated by expectation maximisation. Source: Dempster, Laird & Rubin,
    "Maximum likelihood from incomplete data via the EM algorithm", JRSS B 39 (1977).
    """
    exponents = torch.tensor([CHANCE, LOW, min(HIGH, max(len(rank) / 2, LOW))], dtype=torch.float64)[:, None]
    density = exponents * rank ** (exponents - 1)
    share = torch.full((3, 1), 1 / 3, dtype=torch.float64)
    for _ in range(ROUNDS):
        of_each = share * density
        of_each = of_each / of_each.sum(0)
        share = (sums.last(of_each * weight) / sums.last(weight)).clamp(min=LEAST_SHARE)[:, None]
        share = share / share.sum()
    kinds = (share[1:] / share[1:].sum()).clamp(min=LEAST_KIND)
    matching = (1 - STRAY) * (kinds / kinds.sum() * density[1:]).sum(0) + STRAY
    right = float(share[1:].sum())
    return matching.log() - density[0].log(), math.log(right / (1 - right))
