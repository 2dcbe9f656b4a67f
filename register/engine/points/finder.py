"""Find initial maps by matching the arrangement of sources, in images that show more than points too."""

from collections.abc import Iterator

import torch

from register.engine.initial.finder import Proposal, StartFinder
from register.engine.initial.search_range import SearchRange
from register.engine.points import look, sources
from register.geometry import homography
from register.geometry.matches import Matches
from register.images.pyramid import Level

MOST = 3
"""Proposals, at most."""


def rounds(fixed: Level, moving: Level, within: SearchRange) -> Iterator[list[Proposal]]:
    """The maps on which sources agree beyond doubt, with the matched sources."""
    one, other = sources.of(fixed), sources.of(moving)
    proposals = []
    for each in look.matched(one, other, within)[:MOST]:
        matrix = torch.from_numpy(each.matrix)
        points = (torch.from_numpy(x) for x in (one.places[each.fixed], other.places[each.moving]))
        found = Matches(homography.from_affine(matrix), matrix, *points)
        proposals.append(Proposal(matrix, float(len(each)), found))
    yield proposals


FINDER = StartFinder("points", rounds)
