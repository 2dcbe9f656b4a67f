"""The stages of the search in one range, the cheapest evidence first.

Features that agree on one map come first, then correlation over rotations and scales, whose starts are
refined together and compared by their significance. Where nothing stands out, the images may share little:
many features are matched, and all shifts are compared at the resolution of the images. Many starts of the
correlation are refined last. For a small view of a large image, and where rotations and scales are ruled out,
all shifts are compared first. A stage begins only if no start before it is significant, and if time is left.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from register.engine.fit.parts import Sides
from register.engine.initial import registry, start
from register.engine.initial.finder import Proposal
from register.engine.initial.refine import refine
from register.engine.initial.search_range import SearchRange
from register.engine.initial.start import Start
from register.engine.quality import evidence
from register.geometry import affine, affine_tensors
from register.images.pyramid import Level

DECISIVE, ABOVE_OTHERS = 14.0, 1.4
"""Standard score from which the correlation at a shift decides, and its least ratio to that of every other
shift."""
SAME = 0.05
"""Distance within which two shifts are one, as a share of the fixed image's longer side."""
TRIED = 4
"""Shifts that are refined where none decides."""
LEAST_ON_PARTS = 7.0
"""Standard deviations above chance of a start on parts of the images that is not significant otherwise."""


@dataclass(frozen=True)
class Stages:
    """The search in one range ``within``: two levels, and the ``sides`` that read parts of them."""

    fixed: Level
    moving: Level
    within: SearchRange
    sides: Sides

    @cached_property
    def features(self) -> Iterator[list[Proposal]]:
        """The rounds of the finder of features: each is computed when it is asked for."""
        return registry.get("features").rounds(self.fixed, self.moving, self.within)

    @cached_property
    def correlation(self) -> Iterator[list[Proposal]]:
        """The rounds of the correlation over rotations and scales."""
        return registry.get("correlation").rounds(self.fixed, self.moving, self.within)

    def run(self) -> Start:
        """The first significant start, or the most significant one."""
        first, last = [self.by_features, self.by_correlation, self.by_more_features], [self.by_many]
        shifts_first = self.within.only_shifts or self.within.is_view(self.fixed, self.moving)
        order = [self.by_shifts, *first, *last] if shifts_first else [*first, self.by_shifts, *last]
        tried = list[Start]()
        for stage in order:
            if tried and not self.within.budget.left:
                break
            tried += stage()
            if any(one.is_significant or one.is_certain for one in tried):
                break
        return self._with_matches(_best(tried))

    def by_features(self) -> list[Start]:
        """The start from a few features, where it is certain."""
        return [self._at(one) for one in self.few_features if one.is_certain]

    @cached_property
    def few_features(self) -> list[Proposal]:
        """The proposals of the first round of features."""
        return next(self.features)

    def by_correlation(self) -> list[Start]:
        """The most significant of the identity, the best starts of the correlation and those of features."""
        identity = Proposal(affine_tensors.identity(), 0.0)
        return [self._refined([identity, *next(self.correlation), *self.few_features])]

    def by_more_features(self) -> list[Start]:
        """The start from many features, where it is certain, or else refined where both images show it."""
        found = next(self.features)
        return [self._at(one) if one.is_certain else self._on_parts(one) for one in found]

    def by_shifts(self) -> list[Start]:
        """The starts from the highest correlations over all shifts, or the one that decides."""
        distinct = list[Proposal]()
        for one in next(registry.get("shifts").rounds(self.fixed, self.moving, self.within)):
            if all(_apart(self.fixed, one.matrix, other.matrix) for other in distinct):
                distinct.append(one)
        best, *others = [one.score for one in distinct] or [0.0]
        if best >= DECISIVE and best >= ABOVE_OTHERS * max(others, default=0.0):
            return [replace(self._on_parts(distinct[0]), decided=True)]
        return [self._on_parts(one) for one in distinct[:TRIED]]

    def by_many(self) -> list[Start]:
        """The most significant of many starts of the correlation."""
        return [self._refined(many)] if (many := next(self.correlation)) else []

    def _at(self, one: Proposal) -> Start:
        """The start at a proposal."""
        return start.at(self.fixed, self.moving, one.matrix, one.matches)

    def _refined(self, proposals: list[Proposal]) -> Start:
        """The most significant start after the refinement of some proposals."""
        matrices = torch.stack([proposal.matrix for proposal in proposals])
        return refine(self.fixed, self.moving, matrices, self.within)

    def _on_parts(self, proposal: Proposal) -> Start:
        """The start at a proposal, refined on the parts of both images that show the same under it.

        It stays as it is where refinement makes it less significant.
        """
        matrix = proposal.matrix
        one, other = self.sides.under(matrix) or (self.fixed, self.moving)
        better, given = refine(one, other, matrix[None], self.within), start.at(one, other, matrix)
        if start.at(one, other, better.matrix).significance < given.significance:
            better = replace(given, above_chance=evidence.above_chance(one, other, matrix))
        return replace(better, matches=proposal.matches, on_parts=one is not self.fixed)

    def _with_matches(self, found: Start) -> Start:
        """A start with the matches of a few features that agree with it."""
        if found.matches is None and "few_features" in vars(self):
            for one in self.few_features:
                if one.matches and start.agrees(found.matrix, one.matches):
                    return replace(found, matches=one.matches)
        return found


def _best(tried: list[Start]) -> Start:
    """The significant or certain start, or else the most significant one.

    Starts on parts of the images are the best of millions, and some are similar by chance: without
    significance they are taken only if they are further above chance than any other start, and far.
    """
    found = [one for one in tried if one.is_significant or one.is_certain]
    if found:
        return max(found, key=lambda one: (one.is_certain, one.significance))
    entire = [one for one in tried if not one.on_parts]
    above = max((one.above_chance for one in entire), default=0.0)
    parts = [one for one in tried if one.on_parts and one.above_chance > max(above, LEAST_ON_PARTS)]
    if parts:
        return max(parts, key=lambda one: one.above_chance)
    return max(entire or tried, key=lambda one: one.significance)


def _apart(fixed: Level, one: Tensor, other: Tensor) -> bool:
    """Whether two maps (2, 3) take the centre of the fixed image to different places."""
    height, width = fixed.size
    middle = torch.tensor([[(width - 1) / 2, (height - 1) / 2]], dtype=torch.float64)
    centre = affine.apply(fixed.original_from_level, middle)
    corner = affine.apply(fixed.original_from_level, middle + max(height, width) * SAME)
    places = [affine.apply(matrix, centre) for matrix in (one, other)]
    far = affine.apply(one, corner) - places[0]
    return float((places[0] - places[1]).norm()) > float(far.abs().max())
