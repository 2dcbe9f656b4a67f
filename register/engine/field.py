"""Align two images, by their sources where both are fields of points, and by the images everywhere else."""

from dataclasses import replace
from typing import Any

from register.compute.clock import Clock
from register.engine import pair
from register.engine.fit.estimate import Estimate, coarse_grid
from register.engine.fit.problem import Problem
from register.engine.fit.working_copy import levels_of, working_copy
from register.engine.initial import registry, search, search_range, start
from register.engine.pair import Alignment, Size
from register.engine.points import answer, judge
from register.engine.points.look import Seen, look
from register.engine.quality import patch_quality
from register.geometry import affine_tensors
from register.images.pyramid import Level
from register.settings import Settings, effort_of
from register.transforms.frame import Frame
from register.transforms.quality import Verdict

FEW, BRIEF = 100, 1.0
"""Sources of the image with fewer of them, at most, that see as much as the images do, and the seconds in
which the stages of a search begin where these agree on no map, unless the settings say otherwise."""
BRIEFLY = (
    f"few sources, which agree on no map: the images were searched for {BRIEF:g} s;"
    " --search-budget gives another time"
)
"""Note on a brief search in place of that on one that a given budget ended."""
FAILED = "the alignment failed: the identity is written instead"


def align(
    fixed: Level, moving: Level, sizes: tuple[Size, Size], settings: Settings, **options: Any
) -> Alignment:
    """Align ``moving`` to ``fixed``; the arguments are those of ``pair.align``.

    Sources decide where both images are fields of points and a map is searched: if they agree on a map, or do
    not agree with the map that the images give. Points that are deformed are left to the images if these are
    ``ok``. Where few sources agree on no map, the search is brief.
    """

    def run(chosen: Settings) -> Alignment:
        return pair.align(fixed, moving, sizes, chosen, **options)

    registry.chosen(settings.matcher)  # a name that is not known is refused, whatever the images show
    given = options.get("start") is not None or options.get("landmarks") is not None
    if given or settings.metric != "auto":
        return run(settings)
    clock, effort = Clock(), effort_of(settings, sizes[0])
    ranges = search_range.ranges_of(
        settings,
        effort.candidates,
        options.get("pixel_ratio"),
        shift=options.get("shift_range"),
        size=sizes[0],
    )
    with clock("points"):
        seen = look(fixed, moving, ranges)
    if seen is None:
        return run(settings)
    deformed = bool(seen.agreed) and settings.model == "local" and judge.is_deformed(seen)
    if seen.agreed and not deformed and not seen.repeats:
        return _of_points(fixed, moving, sizes, settings, seen, clock)
    if seen.agreed is None:
        brief = settings.search_budget is None and min(len(seen.fixed), len(seen.moving)) <= FEW
        found = run(replace(settings, search_budget=BRIEF) if brief else settings)
        if brief:
            notes = tuple(BRIEFLY if note == start.CUT_SHORT else note for note in found.quality.notes)
            quality = replace(found.quality, notes=notes)
            found = replace(found, transform=replace(found.transform, quality=quality))
        return _doubted(found, seen, sizes, settings)
    found = run(settings)
    if found.quality.verdict == Verdict.OK or seen.repeats:
        return found
    return _of_points(fixed, moving, sizes, settings, seen, clock)


def _of_points(
    fixed: Level, moving: Level, sizes: tuple[Size, Size], settings: Settings, seen: Seen, clock: Clock
) -> Alignment:
    """The alignment by the sources that agree."""
    effort = effort_of(settings, sizes[0])
    with clock("working copies"):
        levels = levels_of(working_copy(fixed, effort.max_size, "fixed"))
        copy = working_copy(moving, effort.max_size, "moving")
    limit = float(settings.max_shift or max(sizes[0]))
    problem = Problem(levels, copy, settings.model, effort, limit)
    with clock("verdict"):
        estimate, figures = answer.made(problem, seen, _frames(sizes))
    transform = estimate.transform(settings.model, _frames(sizes), figures.patches).checked()
    return Alignment(replace(transform, quality=figures.quality), clock.seconds)


def _doubted(found: Alignment, seen: Seen, sizes: tuple[Size, Size], settings: Settings) -> Alignment:
    """The alignment by the images of two fields of points whose sources agree on no map."""
    quality = judge.against(found.quality, seen, found.transform)
    transform = found.transform
    if quality.verdict == Verdict.FAILED and found.quality.verdict != Verdict.FAILED:
        rejected = tuple(map(tuple, transform.matrix.tolist()))
        quality = replace(quality, rejected_matrix=rejected, notes=(*quality.notes, FAILED))
        patches = patch_quality.unknown(coarse_grid(*sizes[0]).count)
        transform = Estimate(affine_tensors.identity()).transform(settings.model, _frames(sizes), patches)
    if quality.verdict == Verdict.FAILED and seen.mirrored and search.MIRRORED not in quality.notes:
        quality = replace(quality, notes=(*quality.notes, search.MIRRORED))
    return replace(found, transform=replace(transform, quality=quality))


def _frames(sizes: tuple[Size, Size]) -> tuple[Frame, Frame]:
    """The frames of images of sizes (height, width)."""
    return Frame(sizes[0][1], sizes[0][0]), Frame(sizes[1][1], sizes[1][0])
