"""Test whether matching regions of two aligned images can be recognised among all regions."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import unfold

from register.compute import sums
from register.engine.fit import global_fit
from register.engine.fit.comparison import Comparison
from register.engine.fit.estimate import Estimate
from register.engine.fit.problem import MARGIN
from register.images import filters, interpolation
from register.images.pyramid import Level

SCALES = (512, 24), (256, 16)
"""Longest side of a level and side of its regions, in pixels. The coarser level is for images whose
detail is noise."""
LEAST_TEXTURE, LEAST_VALID, LEAST_REGIONS = 0.05, 0.9, 8
"""Texture and valid share below which a region is left out, and the smallest number of remaining regions."""
LEAST_ACROSS, SMALLEST = 6, 8
"""Regions across a small image, at least, and the side of the smallest region in pixels."""
NEAR_SHIFTS, DIRECTIONS = (0.25, 0.4, 0.6), 12
"""Lengths of the shifts to which a match is compared, as shares of the side of a region, and their
directions."""


class Recognition(NamedTuple):
    """The mean rank of matching regions, from 0 to 1, and its standard deviations above chance (0.5)."""

    rank: float
    sigma: float


@dataclass(frozen=True)
class Regions:
    """The regions (rows, columns) of a level, of a ``side`` in pixels, and how well each is recognised.

    ``rank`` is the share of other regions that are less similar than the match, NaN where a region is not
    used; ``texture`` its texture; ``similarity`` that of the match, and ``margin`` how much higher it is than
    under the best small shift, both in standard deviations of the similarities of regions that do not match.
    """

    level: Level
    side: int
    rank: Tensor
    texture: Tensor
    similarity: Tensor
    margin: Tensor
    overall: Recognition


@dataclass(frozen=True)
class _Ranked:
    """The regions (n,) of one level that are used, of all (rows * columns), with the ranks of their matches.

    ``planes`` are those of ``_sampled``; ``own`` is the similarity of each match, and ``unit`` the standard
    deviation of the similarities of regions that do not match.
    """

    level: Level
    side: int
    planes: tuple[Tensor, Tensor, Tensor, Tensor]
    used: Tensor
    rank: Tensor
    texture: Tensor
    own: Tensor
    unit: Tensor
    overall: Recognition

    def regions(self) -> Regions:
        """All regions, with the margins of those that are used."""
        fixed, aligned, _, valid = self.planes
        near = _near(fixed, aligned, valid, self.side).flatten()[self.used]
        rank, texture = self._placed(self.rank), self._placed(self.texture)
        similarity, margin = self._placed(self.own / self.unit), self._placed((self.own - near) / self.unit)
        return Regions(self.level, self.side, rank, texture, similarity, margin, self.overall)

    def _placed(self, values: Tensor) -> Tensor:
        everywhere = torch.full(self.used.shape, math.nan, device=self.used.device)
        everywhere[self.used] = values.to(everywhere)
        return everywhere.reshape([n // self.side for n in self.level.size]).cpu().double()


def recognised(fixed: Level, moving: Level, estimate: Estimate) -> Recognition | None:
    """The recognition of all regions together; None where too few have texture. See ``regions``."""
    found = _ranked(fixed, moving, estimate)
    return found.overall if found else None


def regions(fixed: Level, moving: Level, estimate: Estimate) -> Regions | None:
    """Rank the similarity of matching regions among the similarities of all pairs of regions.

    For every region of the fixed image this is the share of other aligned regions that are less similar to
    it than its own match, by the cosine of their structure; likewise for every aligned region. The mean is
    weighted by texture. Ranks of random pairs are uniform with mean 0.5, so this is a permutation test. A
    fit increases the similarity of matching regions, but not their rank. Of several scales the one with the
    largest ``sigma`` counts. None where too few regions have texture.

    Source: Good, "Permutation, Parametric and Bootstrap Tests of Hypotheses" (2005).
    """
    found = _ranked(fixed, moving, estimate)
    return found.regions() if found else None


def _ranked(fixed: Level, moving: Level, estimate: Estimate) -> _Ranked | None:
    """The regions of the scale at which they are recognised best; None where too few have texture."""
    found = [_at_scale(global_fit.at_side(fixed, side), moving, estimate, region) for side, region in SCALES]
    known = (one for one in found if one is not None)
    return max(known, key=lambda one: one.overall.sigma, default=None)


def _at_scale(level: Level, moving: Level, estimate: Estimate, side: int) -> _Ranked | None:
    """The regions of one level, of a ``side`` in pixels; smaller ones in a small image."""
    side = min(side, max(min(level.size) // LEAST_ACROSS, SMALLEST))
    if min(level.size) < side:
        return None
    compare = global_fit.compare_at(level, moving, estimate.matrix[None], "structure", margin=MARGIN)
    patches = estimate.patches
    points = compare.points_under() if patches is None else compare.shifted(patches.displacement(level))
    planes = _sampled(compare, level, points)
    fixed, aligned, texture, valid = (unfold(x, side, stride=side)[0].T for x in planes)
    weight = texture.mean(1)
    used = (valid.mean(1) > LEAST_VALID) & (weight > LEAST_TEXTURE)
    if int(used.sum()) < LEAST_REGIONS:
        return None
    chosen = weight[used]
    similarity = _unit(fixed[used]) @ _unit(aligned[used]).T
    own = similarity.diagonal()
    less = (similarity < own[:, None]).sum(1) + (similarity < own[None]).sum(0)
    ranks = less / (2 * (len(own) - 1))
    rank = float(sums.total(ranks * chosen) / sums.total(chosen))
    independent = float(sums.total(chosen).square() / sums.total(chosen.square()))
    others = similarity[~torch.eye(len(own), dtype=torch.bool, device=own.device)]
    overall = Recognition(rank, (rank - 0.5) * math.sqrt(12 * independent))
    unit = sums.deviation(others).clamp(min=1e-6)
    return _Ranked(level, side, planes, used, ranks, chosen, own, unit, overall)


def _near(fixed: Tensor, aligned: Tensor, valid: Tensor, side: int) -> Tensor:
    """The similarity of every region (rows, columns) to the most similar of the regions around its match."""
    shifts = {
        (round(side * length * math.sin(angle)), round(side * length * math.cos(angle)))
        for length in NEAR_SHIFTS
        for angle in (2 * math.pi * number / DIRECTIONS for number in range(DIRECTIONS))
    }

    def pooled(image: Tensor) -> Tensor:
        return filters.block_means(image.sum(1, keepdim=True), side)[0, 0]

    energy, found = pooled(fixed.square()), torch.zeros(0)
    planes = torch.cat([aligned, aligned.square().sum(1, keepdim=True), valid], 1)
    for shift in sorted(shifts):
        moved = planes.roll(shift, (2, 3))
        norms = (energy * pooled(moved[:, -2:-1])).sqrt() + 1e-6
        value = pooled(fixed * moved[:, :-2]) / norms
        value = torch.where(pooled(moved[:, -1:]) > LEAST_VALID, value, -1.0)
        found = torch.maximum(found, value) if len(found) else value
    return found


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
