"""What features say about a set before its images are aligned: their order, and which are mirrored."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from register.engine.fit.working_copy import working_copy
from register.engine.group import graph
from register.engine.initial import consensus, features, search_range
from register.engine.initial.finder import CERTAIN
from register.errors import RegisterError
from register.geometry.arrays import Float64
from register.images import pyramid
from register.images.pyramid import Level
from register.settings import Settings

RATIO = 2
"""Factor by which more features must match in a mirrored image than in the image itself."""
SIDE = features.FEW.side
"""Longest side, in pixels, of the copies that are compared."""


def by_similarity(levels: Iterable[Level], tick: Callable[[float], None] = lambda share: None) -> list[int]:
    """The order in which neighbours are most similar, from the number of matched features of every pair.

    ``levels`` are grey levels of all images; mirrored images are matched too. An image that matches no other
    comes last.
    """
    copies = [_copy(level) for level in levels]
    mirrored = [None if copy is None else search_range.mirror(copy) for copy in copies]
    count = len(copies)
    matched: Float64 = np.zeros((count, count))
    for one in range(count):
        for other in range(one + 1, count):
            fixed, moving, reverse = copies[one], copies[other], mirrored[other]
            if fixed is not None and moving is not None and reverse is not None:
                found = (features.match(fixed, x, detection=features.FEW) for x in (moving, reverse))
                matched[one, other] = matched[other, one] = max(map(consensus.count, found))
        tick((one + 1) / count)
    return order_of(matched)


def flipped(chosen: Settings, fixed: Level, moving: Level) -> Settings:
    """The settings with which two grey levels are aligned: mirrored too if features match so only."""
    if chosen.allow_flip or chosen.init != "auto":
        return chosen
    return replace(chosen, allow_flip=is_mirrored(fixed, moving))


def is_mirrored(fixed: Level, moving: Level) -> bool:
    """Whether the features of two grey levels match only if one image is mirrored."""
    one, other = _copy(fixed), _copy(moving)
    if one is None or other is None:
        return False
    upright, reverse = (
        consensus.count(features.match(one, x, detection=features.FEW))
        for x in (other, search_range.mirror(other))
    )
    return reverse >= CERTAIN and reverse > RATIO * upright


def order_of(matched: Float64) -> list[int]:
    """The order from the numbers (n, n) of matched features; images without any come last."""
    alone = [image for image in range(len(matched)) if not matched[image].any()]
    others = [image for image in range(len(matched)) if matched[image].any()]
    if len(others) < 2:
        return list(range(len(matched)))
    distance = -np.log((matched[np.ix_(others, others)] + 1) / (matched.max() + 1))
    return [others[n] for n in graph.shortest_order(distance)] + alone


def _copy(level: Level) -> Level | None:
    """A small working copy, made once; None for an image without content."""
    try:
        return pyramid.cached(level, "small copy", lambda: working_copy(level, SIDE, "fixed"))
    except RegisterError:
        return None
