"""Look for fields of points in two images, and for the map on which they agree."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from register.engine.initial.search_range import SearchRange
from register.engine.points import agreement, background, places, sources
from register.engine.points.agreement import Agreement
from register.engine.points.sources import Maxima, Sources
from register.geometry import affine
from register.geometry.arrays import Float64
from register.images import pyramid
from register.images.pyramid import Level

LEAST_SIDE = 32
"""Shorter side of an image in which points are looked for, in pixels, at least."""
LEAST_SOURCES = 5
"""Sources of an image that is a field of points, at least."""
LEAST_ALIKE, MOST_COVERED, LEAST_EXPLAINED = 0.78, 0.25, 0.75
"""Median correlation of the sources of a field of points with Gaussians, at least (of stars and beads it is
above 0.84, of textures that cover little below 0.77); share of the image that is above the noise, at most,
and of this that lies around sources, at least. Other images show more than points, which decides."""
COARSER = 2, 4
"""Sizes of the pixels of coarser copies, on which rings, discs of unequal sizes and trails are compact."""
FROM_FINE = 3.0
"""Distance of a source of a coarser copy from one of the image, in pixels of the copy, at most."""
OF_SAMPLE = 0.1
"""Largest difference of the median correlation of a sample of the maxima from that of all."""
CERTAIN = -5.0
"""Logarithm (base 10) of the number of false alarms up to which sources agree on a map."""
RIVAL = 0.5
"""Matched sources of another map, in units of those of the best one, from which it is a rival."""
LEAST_APART = 0.1
"""Sources that agree on a map of their own, in units of the matched ones, from which they do not repeat."""
BRIGHTEST = 400
"""Sources of each image whose differences are compared to find other shifts."""
LEFT = 8
"""Sources without a partner, in both images, that may agree on another map."""


@dataclass(frozen=True)
class Seen:
    """The sources of two fields of points, and the map on which they agree.

    ``agreed`` is None where no map ``within`` a range stands out; ``rival`` is the number of sources that
    agree on the best other map. With ``mirrored``, only the sources of the mirrored moving image agree.
    """

    fixed: Sources
    moving: Sources
    within: SearchRange
    agreed: Agreement | None = None
    rival: int = 0
    mirrored: bool = False

    @cached_property
    def apart(self) -> int:
        """The number of sources without a partner that agree on a map of their own."""
        return _apart(self.fixed, self.moving, self.agreed, self.within) if self.agreed else 0

    @property
    def repeats(self) -> bool:
        """Whether points repeat, so that they agree on other maps too: then the images decide."""
        count = len(self.agreed or ())
        return bool(self.agreed) and self.rival >= RIVAL * count and self.apart < LEAST_APART * count


def look(fixed: Level, moving: Level, ranges: Sequence[SearchRange]) -> Seen | None:
    """The sources of two grey levels of any range, and the map within one of the ranges on which they agree.

    None where one of the images is not a field of points.
    """
    if any(min(x.size) < LEAST_SIDE or float((x.mask > 0.5).sum()) < LEAST_SIDE**2 for x in (fixed, moving)):
        return None
    one = field_of(fixed)
    other = field_of(moving) if one else None
    if one is None or other is None:
        return None
    for within in ranges:
        if found := matched(one, other, within):
            return Seen(one, other, within, found[0], rival(one, other, found))
    flipped = matched(one, other, replace(ranges[0], flip=False, shift=None), mirrored=True)
    return Seen(one, other, ranges[0], mirrored=bool(flipped))


def field_of(level: Level) -> Sources | None:
    """The sources of an image that shows hardly anything else, or those of the coarser copy on which they
    look the most like sources where they do not in the image. The blobs of a texture do on a coarse copy."""
    if may_be_field(level) and is_field(found := sources.of(level)):
        return found
    seen_fine = Maxima.of(level)
    if seen_fine.cover > MOST_COVERED or not background.is_plain(seen_fine.flat):
        return None
    copies = [sources.coarser(level, factor) for factor in COARSER]
    seen = [_seen_in(level, copy) for copy in copies if min(copy.size) >= LEAST_SIDE]
    each = [sources.of_maxima(found) for found in seen if _may_be_sources(found)]
    return max(filter(is_field, each), key=lambda found: found.alike, default=None)


def _seen_in(level: Level, copy: Level) -> Maxima:
    """The maxima of a coarser copy that are near those of the image: others are remains of the background."""
    fine, found = Maxima.of(level), Maxima.of(copy)
    there = affine.apply(copy.original_from_level, torch.from_numpy(found.places)).numpy()
    known = affine.apply(fine.original_from_flat, torch.from_numpy(fine.places)).numpy()
    index, _ = places.nearest(there, known, FROM_FINE * pyramid.pixel(copy))
    kept = index >= 0
    return replace(found, places=found.places[kept], widths=found.widths[kept], signals=found.signals[kept])


def may_be_field(level: Level) -> bool:
    """Whether an image, by a sample of its maxima, shows sources and hardly anything else."""
    return _may_be_sources(Maxima.of(level))


def _may_be_sources(found: Maxima) -> bool:
    """Whether maxima, by a sample of them, are sources that explain what an image shows."""
    few = found.cover <= MOST_COVERED and found.explained >= LEAST_EXPLAINED
    return few and found.alike() >= LEAST_ALIKE - OF_SAMPLE


def is_field(found: Sources) -> bool:
    """Whether an image shows sources and hardly anything else."""
    return (
        len(found) >= LEAST_SOURCES
        and found.alike >= LEAST_ALIKE
        and found.cover <= MOST_COVERED
        and found.explained >= LEAST_EXPLAINED
    )


def matched(one: Sources, other: Sources, within: SearchRange, *, mirrored: bool = False) -> list[Agreement]:
    """The maps within a range on which sources agree beyond doubt, the least likely by chance first.

    The mirrored moving image is looked at too where the range allows it, or only that.
    """
    found = [] if mirrored else agreement.find(one, other, within)
    if within.flip or mirrored:
        back = np.array([[-1.0, 0.0, other.size[1] - 1.0], [0.0, 1.0, 0.0]])
        turned = replace(other, places=affine.apply(back, other.places))
        for each in agreement.find(one, turned, replace(within, shift=None)):
            matrix = affine.compose(back, each.matrix)
            if within.is_near(torch.from_numpy(matrix)):
                found.append(replace(each, matrix=matrix))
    found.sort(key=lambda x: x.chance)
    return found if found and found[0].chance <= CERTAIN else []


def rival(one: Sources, other: Sources, found: list[Agreement]) -> int:
    """The sources that agree on the best other map: one that was found too, or the best one shifted."""
    best = found[0]
    others = [len(x) for x in found[1:]]
    places_there = affine.apply(best.matrix, one.places[:BRIGHTEST])
    difference = (other.places[None, :BRIGHTEST] - places_there[:, None]).reshape(-1, 2)
    radius = agreement.radius_of(other)
    limit = math.hypot(*other.size) / 2
    shifts = difference[np.abs(difference).max(1) < limit]
    corners = np.array([(0, 0), (1, 0), (0, 1), (1, 1)]) * radius
    counts = [_count(shifts, corner, 2 * radius, limit) for corner in corners]
    zero = max(int((np.hypot(*difference.T) <= radius).sum()), 1)
    return max([0, *others, round(max(counts) / zero * len(best))])


def _count(shifts: Float64, offset: Float64, cell: float, limit: float) -> int:
    """The most shifts (n, 2) in one of the cells that do not touch the middle."""
    cells = np.floor((shifts + offset) / cell).astype(np.int64)
    cells = cells[np.abs(cells).max(1) > 1]
    if not len(cells):
        return 0
    wide = 2 * math.ceil(limit / cell) + 8
    return int(np.unique(cells[:, 0] * wide + cells[:, 1], return_counts=True)[1].max())


def _apart(one: Sources, other: Sources, best: Agreement, within: SearchRange) -> int:
    """The number of sources without a partner that agree on another map, of those that could have one."""
    there = affine.apply(best.matrix, one.places)
    back = affine.apply(affine.invert(best.matrix), other.places)
    near = agreement.radius_of(other) * 2
    lonely = (places.nearest(there, other.places, near)[0] < 0) & agreement.inside(there, other.size)
    alone = (places.nearest(other.places, there, near)[0] < 0) & agreement.inside(back, one.size)
    if min(int(lonely.sum()), int(alone.sum())) < max(LEFT, 0.1 * len(best)):
        return 0
    rest = matched(one.only(lonely), other.only(alone), within)
    return len(rest[0]) if rest else 0
