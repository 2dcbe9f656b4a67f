"""The method on one page: two images and settings in, one alignment out. Tensors only, no files."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import overload

from numpy.typing import ArrayLike
from torch import Tensor

from register.compute import device
from register.compute.budget import Budget
from register.compute.clock import Clock
from register.engine.ambiguity import candidates, outcome, rivals
from register.engine.ambiguity.rivals import Resolved
from register.engine.fit import comparison, global_fit, local_fit, metric_choice, model_choice
from register.engine.fit.estimate import Estimate, LocalFit, coarse_grid
from register.engine.fit.held import Held, Landmarks
from register.engine.fit.metric_choice import MetricChoice
from register.engine.fit.parts import Read, Side, Sides
from register.engine.fit.problem import Problem
from register.engine.fit.working_copy import levels_of, valid_pixels, working_copy
from register.engine.initial import first_estimate, from_landmarks, registry, search, search_range
from register.engine.initial import start as starts
from register.engine.initial.search_range import SearchRange
from register.engine.initial.start import Start
from register.engine.quality import assess, landmark_verdict, patch_quality, start_verdict
from register.geometry import affine_tensors
from register.geometry.arrays import Float64
from register.images import pyramid
from register.images.pyramid import Level
from register.optim.result import OptimisationResult
from register.settings import Effort, Settings, effort_of
from register.transforms.frame import Frame
from register.transforms.quality import PatchFigures, Quality, Verdict
from register.transforms.transform import Transform

STRUCTURE = "structure"
"""The similarity by which an estimate is compared with another one before the similarity of the pair is
chosen."""
MAX_SHIFT, DEFORMED_SHIFT = 0.1, 1.5
"""The default largest displacement of a patch from the global map, as a share of the diagonal of the fixed
image, and in units of that of the patches of a deformed start."""


@dataclass(frozen=True)
class Event:
    """Progress: the stage, the level, the share of all work that is done, and the similarity that was
    reached."""

    stage: str
    level: str
    done: float
    similarity: float | None


Listener = Callable[[Event], None]
Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Alignment:
    """The transform with its quality, the seconds per stage, and the loss per step of each level."""

    transform: Transform
    seconds: dict[str, float] = field(default_factory=dict)
    history: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def quality(self) -> Quality:
        """The quality of the transform."""
        return self.transform.quality

    @overload
    def expected_error(self, points: Tensor) -> Tensor: ...

    @overload
    def expected_error(self, points: ArrayLike) -> Float64: ...

    def expected_error(self, points: ArrayLike | Tensor) -> Float64 | Tensor:
        """The error to expect (...,), in moving pixels, at fixed points (..., 2): two of three are smaller.
        Infinite where there is nothing to see."""
        return self.transform.expected_error(points)


def align(
    fixed: Level,
    moving: Level,
    sizes: tuple[Size, Size],
    settings: Settings,
    *,
    start: Tensor | None = None,
    pixel_ratio: float | None = None,
    landmarks: Landmarks | None = None,
    shift_range: float | None = None,
    parts: tuple[Read | None, Read | None] = (None, None),
    listener: Listener = lambda event: None,
) -> Alignment:
    """Align ``moving`` to ``fixed``.

    The levels are grey images (1, h, w) of any range with their masks, of originals of ``sizes`` (height,
    width). ``start`` (2, 3), a map from fixed to moving pixels, replaces the search; ``pixel_ratio``, the
    fixed pixel size over the moving one where both are known, narrows it, and so does ``shift_range``, the
    largest displacement of the fixed image's centre in its pixels. ``landmarks`` hold. Images that share
    little are aligned on the parts that show the same, which the functions ``parts`` read from the originals
    (default: from the levels). Raises ``AlignmentError`` when an image is constant or nothing overlaps.
    """
    clock, effort = Clock(), effort_of(settings, sizes[0])
    with clock("working copies"):
        levels, copy = _copies(fixed, moving, effort.max_size)
        sides = _sides((levels[-1], copy), (fixed, moving), parts, effort.max_size)
    listener(Event("search", "", 0.02, None))
    ranges = search_range.ranges_of(
        settings, effort.candidates, pixel_ratio, shift=shift_range, size=sizes[0]
    )
    budget = Budget.of(settings.search_budget)
    within, scale = ranges[-1] if start is None and landmarks is None else None, pixel_ratio or 1.0
    with (
        clock("search"),
        device.run_in_background(lambda: comparison.ready(levels), copy.image.device),
        device.concurrently(  # what is found is kept with the levels
            lambda: within and candidates.is_repetitive(levels[-1], copy), copy.image.device
        ),
    ):
        initial = _initial_map(sides, ranges, settings.matcher, start, landmarks, budget)
    listener(Event("global", "", 0.2, initial.similarity))
    problem, deformed = _problem(sides, levels, initial, sizes[0], settings, landmarks)
    problem = replace(problem, valid=(valid_pixels(fixed, levels[-1]), valid_pixels(moving, copy)))
    fitted = _fit(problem, initial, deformed, within, settings.metric, clock, listener)
    frames = Frame(sizes[0][1], sizes[0][0]), Frame(sizes[1][1], sizes[1][0])
    problem, metric, initial = fitted.problem, fitted.choice.metric, fitted.initial
    estimate = _on_part(fitted.estimate, problem)
    with clock("verdict"):
        figures = assess.judge(problem, estimate, metric, matches=initial.matches, frames=frames, scale=scale)
    estimate = figures.estimate
    judged = start_verdict.with_start(figures.quality, initial.decided_at, estimate, frames)
    judged = landmark_verdict.with_landmarks(judged, problem, fitted.held)
    quality, patches = outcome.applied(judged, figures.patches, fitted.resolved)
    quality = _recorded(quality, initial, fitted.choice.reason, fitted.notes)
    if quality.verdict == Verdict.FAILED and start is None and not initial.landmarks:
        quality = _rejected(quality, estimate, search.advice(levels[-1], copy, ranges[0], budget))
        estimate, patches = _identity(sizes[0])
    transform = replace(estimate.transform(settings.model, frames, patches).checked(), quality=quality)
    listener(Event("done", "", 1.0, quality.similarity_after))
    return Alignment(transform, clock.seconds, fitted.history | estimate.history)


def _copies(fixed: Level, moving: Level, size: int) -> tuple[list[Level], Level]:
    """The levels of the working copy of the fixed image, and the working copy of the moving one."""
    with device.concurrently(lambda: working_copy(moving, size, "moving"), moving.image.device) as other:
        levels = levels_of(working_copy(fixed, size, "fixed"))
        return levels, other()


@dataclass(frozen=True)
class _Fitted:
    """What the fit found: the problem of the images or of their parts, the estimate, the start it is based
    on, its rivals, the similarity, what landmarks hold, notes, and losses by level of the global map."""

    problem: Problem
    estimate: Estimate
    initial: Start
    resolved: Resolved
    choice: MetricChoice
    held: Held
    notes: list[str]
    history: dict[str, tuple[float, ...]]


def _fit(
    problem: Problem,
    initial: Start,
    deformed: LocalFit | None,
    within: SearchRange | None,
    metric: str,
    clock: Clock,
    listener: Listener,
) -> _Fitted:
    """The fit from an initial map: the global map, the one that content decides for among its rivals
    ``within`` the range that was searched, the similarity, and the patches."""
    curves = dict[str, tuple[float, ...]]()

    def tick(name: str, outcome: OptimisationResult) -> None:
        curves[name] = outcome.history
        listener(Event("global", name, 0.3, 1 - math.exp(float(outcome.loss[0]))))

    def report(level: str, share: float, similarity: float) -> None:
        listener(Event("local", level, 0.4 + 0.55 * share, similarity))

    with clock("global"):
        estimate, resolved, notes = _global(problem, initial, deformed, within, tick)
    if resolved.replaced:  # matches are evidence for another map, and parts are those under it
        initial, problem = replace(initial, matches=None), problem.whole
    with clock("metric"):
        choice = _metric(problem, estimate, metric)
    with clock("local"):
        estimate = _with_patches(problem, estimate, choice, report)
    with clock("global or local"):
        estimate, more = model_choice.simplest(problem, estimate, choice.metric, tick)
        estimate = (held := landmark_verdict.hold(problem, estimate, choice.metric)).estimate
    return _Fitted(problem, estimate, initial, resolved, choice, held, [*notes, *more], curves)


def _sides(
    copies: tuple[Level, Level], given: tuple[Level, Level], parts: tuple[Read | None, Read | None], size: int
) -> Sides:
    """Both images with their working copies, and functions that read their parts."""
    fixed, moving = (
        Side(copy, read) if read else Side.of(copy, level)
        for copy, level, read in zip(copies, given, parts, strict=True)
    )
    return Sides(fixed, moving, size)


def _problem(
    sides: Sides,
    levels: list[Level],
    initial: Start,
    size: Size,
    settings: Settings,
    landmarks: Landmarks | None,
) -> tuple[Problem, LocalFit | None]:
    """The problem from an initial map, of the parts that both images show if that is little, and the patches
    of a deformed start."""
    entire = sides.fixed.copy, sides.moving.copy
    seen = sides.under(initial.matrix) if landmarks is None else None
    if seen:
        levels, pixel = levels_of(seen[0]), pyramid.pixel(seen[0])
        size = round(seen[0].size[0] * pixel), round(seen[0].size[1] * pixel)
    moving = seen[1] if seen else entire[1]
    effort = effort_of(settings, size)
    deformed = _deformed(initial, levels[0], settings, effort)
    limit = _max_shift(settings, size, deformed)
    return Problem(levels, moving, settings.model, effort, limit, landmarks, entire), deformed


def _initial_map(
    sides: Sides,
    ranges: list[SearchRange],
    matcher: str,
    start: Tensor | None,
    landmarks: Landmarks | None,
    budget: Budget,
) -> Start:
    """The initial map that was given, or that the search finds, or that of held landmarks."""
    fixed, moving = sides.fixed.copy, sides.moving.copy
    if start is not None:
        return starts.at_given_map(fixed, moving, start.double())
    always, fallback = registry.chosen(matcher)
    found = search.find(fixed, moving, ranges, always=always, fallback=fallback, sides=sides, budget=budget)
    return from_landmarks.better(fixed, moving, found, landmarks) if landmarks else found


def _deformed(initial: Start, coarsest: Level, settings: Settings, effort: Effort) -> LocalFit | None:
    """The patches of a start whose matched features are far from an affine map; None for the other starts."""
    if settings.model != "local":
        return None
    return first_estimate.deformed_patches(initial, coarsest, effort.patch_size)


def _global(
    problem: Problem,
    initial: Start,
    deformed: LocalFit | None,
    within: SearchRange | None,
    tick: global_fit.Tick,
) -> tuple[Estimate, Resolved, list[str]]:
    """The first estimate, what is known of its rivals, and notes.

    Where the images repeat themselves, content decides between the global maps ``within`` the range that was
    searched. Deformed patches are kept only if they explain the images better: features may be matched to
    other repeats.
    """
    estimate, notes = first_estimate.fit(problem, initial, deformed, tick)
    if within is None:
        return estimate, Resolved(estimate.matrix), notes
    if estimate.patches is None:
        resolved = rivals.resolve(problem, estimate.matrix, within, decided=initial.decided)
        return (Estimate(resolved.matrix) if resolved.replaced else estimate), resolved, notes
    if candidates.is_repetitive(problem.finest, problem.moving):
        undeformed, more = first_estimate.fit(problem, initial, None, tick)
        resolved = rivals.resolve(problem, undeformed.matrix, within)
        instead = Estimate(resolved.matrix)
        if problem.windows(estimate, STRUCTURE).loss_decrease(problem.windows(instead, STRUCTURE)) > 0:
            return instead, replace(resolved, replaced=True), more
    return estimate, Resolved(estimate.matrix), notes


def _max_shift(settings: Settings, size: Size, deformed: LocalFit | None) -> float:
    """The largest displacement of a patch from the global map, in pixels of the fixed image."""
    if settings.max_shift:
        return settings.max_shift
    default = MAX_SHIFT * math.hypot(*size)
    return max(default, DEFORMED_SHIFT * deformed.largest_shift) if deformed else default


def _metric(problem: Problem, estimate: Estimate, metric: str) -> MetricChoice:
    """The similarity that was asked for, or that suits the pair."""
    if metric == "auto":  # which the images decide
        return metric_choice.choose(replace(problem, landmarks=None), estimate)
    return MetricChoice(metric, "asked for", estimate.patches, problem.levels)


def _with_patches(
    problem: Problem, estimate: Estimate, choice: MetricChoice, report: local_fit.Report
) -> Estimate:
    """The estimate with patches fitted on the levels that are left, where the model has patches."""
    if problem.model != "local":
        return Estimate(estimate.matrix)
    start, finer = Estimate(estimate.matrix, choice.patches), problem.effort.finer
    patches = local_fit.fit(problem, start, choice.metric, choice.levels_left, finer=finer, report=report)
    return Estimate(estimate.matrix, patches)


def _on_part(estimate: Estimate, problem: Problem) -> Estimate:
    """The estimate, with patches without displacement on the part of the fixed image that was aligned, where
    it has none and they would otherwise cover all of the image."""
    if problem.model != "local" or estimate.patches or problem.finest is problem.images[0]:
        return estimate
    height, width = problem.finest.size
    return Estimate(estimate.matrix, patch_quality.without_displacement(problem.finest, Frame(width, height)))


def _identity(size: Size) -> tuple[Estimate, PatchFigures]:
    """What is written where an alignment failed."""
    return Estimate(affine_tensors.identity()), patch_quality.unknown(coarse_grid(*size).count)


def _recorded(quality: Quality, initial: Start, reason: str, notes: list[str]) -> Quality:
    """The quality with the reason for the metric, the notes on every stage and the evidence of the start."""
    every, significance = (*initial.notes, *notes), initial.significance
    return replace(quality, metric_choice=reason, notes=every, search_significance=significance)


def _rejected(quality: Quality, estimate: Estimate, advice: list[str]) -> Quality:
    """The quality of an alignment that failed, for which the identity is written."""
    return replace(
        quality,
        rejected_matrix=tuple(map(tuple, estimate.matrix.tolist())),
        notes=(*quality.notes, "the alignment failed: the identity is written instead", *advice),
    )
