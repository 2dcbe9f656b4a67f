"""Test whether matching regions of two aligned images can be recognised among all regions."""

import math
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import unfold

from register.compute import sums
from register.engine.fit import global_fit
from register.engine.fit.comparison import Comparison
from register.engine.fit.estimate import Estimate
from register.engine.fit.problem import MARGIN
from register.images import interpolation
from register.images.pyramid import Level

SCALES = (512, 24), (256, 16)
"""Longest side of a level and side of its regions, in pixels. The coarser level is for images whose
detail is noise."""
LEAST_TEXTURE, LEAST_VALID, LEAST_REGIONS = 0.05, 0.9, 8
"""Texture and valid share below which a region is left out, and the smallest number of remaining regions."""
LEAST_ACROSS, SMALLEST = 6, 8
"""Regions across a small image, at least, and the side of the smallest region in pixels."""


class Recognition(NamedTuple):
    """The mean rank of matching regions, from 0 to 1, and its standard deviations above chance (0.5)."""

    rank: float
    sigma: float


def recognised(
    fixed: Level,
    moving: Level,
    estimate: Estimate,
    scales: tuple[tuple[int, int], ...] = SCALES,
) -> Recognition | None:
    """Rank the similarity of matching regions among the similarities of all pairs of regions.

    For every region of the fixed image this is the share of other aligned regions that are less similar to
    it than its own match, by the cosine of their structure; likewise for every aligned region. The mean is
    weighted by texture. Ranks of random pairs are uniform with mean 0.5, so this is a permutation test. A
    fit increases the similarity of matching regions, but not their rank. Of several scales the one with the
    largest ``sigma`` counts. None where too few regions have texture.

    Source: Good, "Permutation, Parametric and Bootstrap Tests of Hypotheses" (2005).
    """
    found = [
        _recognised(global_fit.at_side(fixed, side), moving, estimate, region) for side, region in scales
    ]
    return max((one for one in found if one is not None), key=lambda one: one.sigma, default=None)


def _recognised(level: Level, moving: Level, estimate: Estimate, side: int) -> Recognition | None:
    """The recognition on one level, with regions of a ``side`` in pixels; smaller ones in a small image."""
    side = min(side, max(min(level.size) // LEAST_ACROSS, SMALLEST))
    if min(level.size) < side:
        return None
    compare = global_fit.compare_at(level, moving, estimate.matrix[None], "structure", margin=MARGIN)
    patches = estimate.patches
    points = compare.points_under() if patches is None else compare.shifted(patches.displacement(level))
    fixed, aligned, texture, valid = (
        unfold(x, side, stride=side)[0].T for x in _sampled(compare, level, points)
    )
    weight = texture.mean(1)
    used = (valid.mean(1) > LEAST_VALID) & (weight > LEAST_TEXTURE)
    if int(used.sum()) < LEAST_REGIONS:
        return None
    weight = weight[used]
    similarity = _unit(fixed[used]) @ _unit(aligned[used]).T
    own = similarity.diagonal()
    less = (similarity < own[:, None]).sum(1) + (similarity < own[None]).sum(0)
    rank = float(sums.total(less / (2 * (len(own) - 1)) * weight) / sums.total(weight))
    independent = float(sums.total(weight).square() / sums.total(weight.square()))
    return Recognition(rank, (rank - 0.5) * math.sqrt(12 * independent))


def _sampled(compare: Comparison, level: Level, points: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The structure of the fixed and of the aligned image, the texture, and the valid share (1, c, h, w)."""
    valid = interpolation.sample(compare.moving_mask, points)
    valid = valid * interpolation.inside(points, *compare.moving.shape[-2:])[:, None]
    fixed = compare.fixed * (level.mask[None] > 0.99)
    aligned = interpolation.sample(compare.moving, points) * valid
    return fixed, aligned, compare.fixed_mask * valid, valid


def _unit(regions: Tensor) -> Tensor:
    """Regions (n, values) scaled to length 1."""
    return regions / (regions.norm(dim=1, keepdim=True) + 1e-6)
