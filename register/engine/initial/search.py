"""Search for an initial map.

The start finders of the package run first: features that agree on one map, then correlation over rotations
and scales, whose starts are refined together and compared by their significance. Start finders of other
packages are refined and compared with the result in the same way.
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from register.engine.initial import registry, start
from register.engine.initial.finder import Proposal, StartFinder
from register.engine.initial.refine import refine
from register.engine.initial.search_range import SearchRange, mirror
from register.engine.initial.start import Start
from register.errors import RegisterError, RegisterWarning
from register.geometry import affine_tensors
from register.images.pyramid import Level

MIRRORED = "the mirrored moving image matches: try --allow-flip"
"""Advice after a failed alignment."""


def find(
    fixed: Level,
    moving: Level,
    ranges: Sequence[SearchRange],
    *,
    always: Sequence[StartFinder] = (),
    fallback: Iterable[StartFinder] = (),
) -> Start:
    """The initial map between two images.

    The built-in finders search one range after the other until a start is significant. The finders in
    ``always`` are run in addition, those in ``fallback`` if no start is significant.
    """
    found = _built_in(fixed, moving, ranges)
    for each in always:
        found = _better(fixed, moving, ranges[-1], each, found, required=True)
    if found.is_significant:
        return found
    for each in fallback:
        found = _better(fixed, moving, ranges[-1], each, found, required=False)
        if found.is_significant:
            break
    return found


def _built_in(fixed: Level, moving: Level, ranges: Sequence[SearchRange]) -> Start:
    """The first significant start in one range after the other.

    Where there is none, the first certain start of the slower searches for features, or else the last one
    found.
    """
    for within in ranges:
        features = registry.get("features").rounds(fixed, moving, within)
        found = _in_range(fixed, moving, within, next(features))
        if found.is_significant:
            return found
    for proposals in features:
        certain = [proposal for proposal in proposals if proposal.is_certain]
        if certain:
            return start.at(fixed, moving, certain[0].matrix, certain[0].matches)
    return found


def search_range(fixed: Level, moving: Level, within: SearchRange) -> Start:
    """The start that the first round of features and the correlation find in one range."""
    features = registry.get("features").rounds(fixed, moving, within)
    return _in_range(fixed, moving, within, next(features))


def advice(fixed: Level, moving: Level, within: SearchRange) -> list[str]:
    """Advice after a failed alignment: to search reflections, where a start of the mirrored image is
    significant."""
    if within.flip:
        return []
    found = search_range(fixed, mirror(moving), within)
    return [MIRRORED] if found.is_significant else []


def _in_range(fixed: Level, moving: Level, within: SearchRange, from_features: list[Proposal]) -> Start:
    """The start from features where it is certain, or the most significant of it, the identity and the
    correlation.

    Many starts of the correlation are refined where the best of a few is not significant.
    """
    matched = from_features[0] if from_features else None
    if matched and matched.is_certain:
        return start.at(fixed, moving, matched.matrix, matched.matches)
    correlation = registry.get("correlation").rounds(fixed, moving, within)
    best = _refined(fixed, moving, within, affine_tensors.identity(), [*next(correlation), *from_features])
    if not best.is_significant:
        again = _refined(fixed, moving, within, best.matrix, next(correlation))
        best = max(best, again, key=lambda one: one.significance)
    if matched and matched.matches and start.agrees(best.matrix, matched.matches):
        return replace(best, matches=matched.matches)
    return best


def _refined(
    fixed: Level, moving: Level, within: SearchRange, first: Tensor, proposals: Sequence[Proposal]
) -> Start:
    """The most significant start after the refinement of a first map (2, 3) and of some proposals."""
    matrices = torch.stack([first, *(proposal.matrix for proposal in proposals)])
    return refine(fixed, moving, matrices, within)


def _better(
    fixed: Level, moving: Level, within: SearchRange, other: StartFinder, found: Start, *, required: bool
) -> Start:
    """The start of another package's finder where it is better than the one ``found``, or else that one.

    Its proposals are refined. It is better where it is more significant, and replaces a significant start
    only if it is significant itself. A finder that raises an error is left out with a warning; a
    ``RegisterError`` of a ``required`` finder, which means that it cannot be used at all, is raised.
    """
    try:
        for proposals in other.rounds(fixed, moving, within):
            found = _compared(fixed, moving, within, other.name, proposals, found)
            if found.is_significant:
                break
    except RegisterError as error:
        if required:
            raise
        warnings.warn(f"the start finder {other.name!r} is not used: {error}", RegisterWarning, stacklevel=2)
    except Exception as error:  # any error in the code of another package
        reason = f"{type(error).__name__}: {error}"
        warnings.warn(
            f"the start finder {other.name!r} failed and is not used: {reason}", RegisterWarning, stacklevel=2
        )
    return found


def _compared(
    fixed: Level, moving: Level, within: SearchRange, name: str, proposals: Sequence[Proposal], found: Start
) -> Start:
    """The better one of a start and the best of some proposals, by ``structure`` on the same level."""
    inside = [proposal for proposal in proposals if within.contains(proposal.matrix)]
    if not inside:
        return found
    best = _refined(fixed, moving, within, inside[0].matrix, inside[1:])
    agreeing = [p.matches for p in inside if p.matches and start.agrees(best.matrix, p.matches)]
    if found.is_significant and not best.is_significant:
        return found
    if found.matches and start.agrees(best.matrix, found.matches):
        return found  # the same map, and the matches are evidence for it
    after, before = (start.at(fixed, moving, one.matrix) for one in (best, found))
    if after.significance <= before.significance:
        return found
    matches = max(agreeing, key=lambda one: len(one.fixed)) if agreeing and best.is_significant else None
    return replace(best, matches=matches, finder=name)
