"""Search for an initial map.

The start finders of the package run first, in the order of ``engine.initial.stages``, with the smaller image
in the place of the fixed one, because a view in a large image is the smaller problem this way round. Start
finders of other packages are refined and compared with the result in the same way.
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from register.compute.budget import FOREVER, Budget
from register.engine.fit.parts import Sides
from register.engine.initial import registry, start
from register.engine.initial.finder import Proposal, StartFinder
from register.engine.initial.refine import refine
from register.engine.initial.search_range import SearchRange, mirror
from register.engine.initial.stages import Stages
from register.engine.initial.start import Start
from register.errors import RegisterError, RegisterWarning
from register.images.pyramid import Level

MIRRORED = "the mirrored moving image matches: try --allow-flip"
"""Advice after a failed alignment."""
SMALLER = 0.7
"""Ratio of the areas of the moving and the fixed image, in the scene, below which the search takes the moving
image for the fixed one."""


def find(
    fixed: Level,
    moving: Level,
    ranges: Sequence[SearchRange],
    *,
    always: Sequence[StartFinder] = (),
    fallback: Iterable[StartFinder] = (),
    sides: Sides | None = None,
    budget: Budget = FOREVER,
) -> Start:
    """The initial map between two images.

    The built-in finders search one range after the other until a start is significant, with the smaller
    image in the place of the fixed one. The finders in ``always`` are run in addition, that of points and
    those in ``fallback`` if no start is significant. ``sides`` read parts of both images; by default these
    are parts of the levels.
    When the ``budget`` is spent no stage begins, but for the first ones, and stages compare no more.
    """
    sides, ranges = sides or Sides.of(fixed, moving), [replace(each, budget=budget) for each in ranges]
    found = _built_in(fixed, moving, ranges, sides, tilted=True)
    for each in always:
        found = _better(fixed, moving, ranges[-1], each, found, required=True)
    if found.is_significant:
        return found
    for each in (registry.get("points"), *fallback):
        if not budget.left:
            break
        found = _better(fixed, moving, ranges[-1], each, found, required=False)
        if found.is_significant:
            break
    return found if budget.left else replace(found, cut_short=True)


def _built_in(
    fixed: Level,
    moving: Level,
    ranges: Sequence[SearchRange],
    sides: Sides,
    *,
    tilted: bool,
) -> Start:
    """The first significant start in one range after the other, with the smaller image as the fixed one.

    Where there is none, the first certain start of features of simulated views, if they are ``tilted``, or
    else the last one found.
    """
    if ranges[0].share(fixed, moving) < SMALLER:
        inverse = [within.inverted() for within in ranges]
        return _built_in(moving, fixed, inverse, sides.swapped(), tilted=tilted).inverted()
    tried = list[Start]()
    for within in ranges:
        if tried and not within.budget.left:
            break
        stages = Stages(fixed, moving, within, sides)
        tried.append(stages.run())
        if tried[-1].is_significant or tried[-1].is_certain:
            return tried[-1]
    while tilted and ranges[-1].budget.left and (proposals := next(stages.features, None)) is not None:
        certain = [proposal for proposal in proposals if proposal.is_certain]
        if certain:
            return start.at(fixed, moving, certain[0].matrix, certain[0].matches)
    return tried[-1]


def search_range(
    fixed: Level, moving: Level, within: SearchRange, sides: Sides | None = None, budget: Budget = FOREVER
) -> Start:
    """The start that the finders of the package, but for features of simulated views, find in one range."""
    within = replace(within, budget=budget)
    return _built_in(fixed, moving, [within], sides or Sides.of(fixed, moving), tilted=False)


def advice(fixed: Level, moving: Level, within: SearchRange, budget: Budget = FOREVER) -> list[str]:
    """Advice after a failed alignment: to search reflections, where a start of the mirrored image is
    significant."""
    if within.flip or not budget.left:
        return []
    found = search_range(fixed, mirror(moving), within, budget=budget)
    return [MIRRORED] if found.is_significant else []


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
    best = refine(fixed, moving, torch.stack([proposal.matrix for proposal in inside]), within)
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
