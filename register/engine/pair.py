"""The method on one page: two images and settings in, one alignment out. Tensors only, no files."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from register.compute import device
from register.engine.fit import comparison, global_fit, local_fit
from register.engine.fit.local_fit import LocalFit
from register.engine.initial import registry as finders
from register.engine.initial import search, search_range
from register.engine.initial import start as starts
from register.engine.initial.search_range import SearchRange
from register.engine.initial.start import Start
from register.engine.quality import assess
from register.errors import AlignmentError
from register.geometry import affine, affine_tensors
from register.images import preprocess, pyramid
from register.images.pyramid import Level
from register.optim.result import OptimisationResult
from register.settings import PRESETS, Effort, Settings
from register.similarity import registry
from register.transforms.frame import Frame
from register.transforms.quality import Quality, Verdict
from register.transforms.transform import Transform


@dataclass(frozen=True)
class Event:
    """What is being done: the stage, the level, the share of the whole work that is done, and the similarity reached."""

    stage: str
    level: str
    done: float
    similarity: float | None


Listener = Callable[[Event], None]
Size = tuple[int, int]
"""Height and width in pixels."""
COARSEST = 96
"""Shorter side, in pixels, below which no further level is made."""
SMALL_SHIFT = 3.0
"""Median displacement of the patches, in working pixels, below which one exact global map may explain the images as well."""
SURE_GAIN = 0.5
"""The same from which on no global map is fitted for comparison: the one nearest to the patches would explain nearly as much if one could explain all."""
CLOSE = 0.01
"""Distance from matched features, as a share of the matched region, within which a map agrees with them."""
BENT, LOOKED_AT = 0.02, 500
"""Largest distance between the map of the matches and its affine map, as a share of the matched region, up to which patches need no start of their own,
and at how many matches, at least, it is looked for."""


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

    def expected_error(self, points: Tensor) -> Tensor:
        """The error to expect (...,), in moving pixels, at fixed points (..., 2): two of three are smaller. Infinite where there is nothing to see."""
        return self.transform.expected_error(points)


def align(
    fixed: Level,
    moving: Level,
    sizes: tuple[Size, Size],
    settings: Settings,
    *,
    start: Tensor | None = None,
    pixel_ratio: float | None = None,
    listener: Listener = lambda event: None,
) -> Alignment:
    """Align ``moving`` to ``fixed``: greys (1, h, w) of any range with the share of each pixel that is valid, of originals of ``sizes`` (height, width).

    ``start`` (2, 3) replaces the search; ``pixel_ratio``, the fixed pixel size over the moving one where both are known, narrows it.
    Raises ``AlignmentError`` when there is nothing to see or nothing overlaps.
    """
    curves: dict[str, tuple[float, ...]] = {}

    def keep(name: str, outcome: OptimisationResult) -> None:
        curves[name] = outcome.history
        listener(Event("global", name, 0.3, 1 - math.exp(float(outcome.loss[0]))))

    effort, start = _effort(settings, sizes[0]), None if start is None else start.double()
    clock = Clock()
    frames = Frame(sizes[0][1], sizes[0][0]), Frame(sizes[1][1], sizes[1][0])
    with clock("working copies"):
        levels = levels_of(working_copy(fixed, effort.max_size, "fixed"))
        mover = working_copy(moving, effort.max_size, "moving")
    listener(Event("search", "", 0.02, None))
    with clock("search"):
        ranges = _ranges(settings, effort, pixel_ratio)
        always, fallback = finders.chosen(settings.matcher)
        with device.run_in_background(lambda: comparison.ready(levels), mover.image.device):
            begin = (
                search.find(levels[-1], mover, ranges, always=always, fallback=fallback)
                if start is None
                else starts.at_given_map(levels[-1], mover, start)
            )
    listener(Event("global", "", 0.2, begin.similarity))
    finder_notes = [f"the start finder {begin.finder} found the initial map"] if begin.finder else []
    max_shift = settings.max_shift or 0.1 * math.hypot(*sizes[0])
    bent = _bent(begin, levels[0], effort) if settings.model == "local" else None
    if bent and settings.max_shift is None:
        max_shift = max(
            max_shift, 1.5 * float(bent.parameters[:, 0].norm(dim=0).max()) * pyramid.pixel(bent.level)
        )
    with clock("global"):
        matrix, notes = (
            (begin.matrix, list[str]()) if bent else _from_start(levels, mover, begin, settings, keep)
        )
    metric, why, local, rest = str(settings.metric), "asked for", bent, levels
    with clock("metric"):
        if metric == "auto":
            choice = local_fit.choose_metric(levels, mover, matrix, effort, max_shift=max_shift, bent=bent)
            metric, why, local, rest = (
                choice.metric,
                choice.why,
                choice.local,
                levels[len(local_fit.probe_levels(levels)) :],
            )
    with clock("local"):
        fit = partial(
            local_fit.fit, max_shift=max_shift, begin=local, finer=effort.finer, report=_report(listener)
        )
        local = fit(rest, levels[-1], mover, matrix, metric, effort) if settings.model == "local" else None
    with clock("global or local"):
        matrix, local, more = _simplest(levels, mover, matrix, local, metric, settings, effort, keep)
    with clock("verdict"):
        figures = assess.judge(
            levels,
            mover,
            matrix,
            local,
            metric,
            effort,
            max_shift=max_shift,
            matched=begin.matches,
            frames=frames,
        )
    patches, quality = (
        figures.patches,
        replace(
            figures.quality,
            metric_choice=why,
            notes=(*finder_notes, *notes, *more),
            search_significance=begin.significance,
        ),
    )
    if quality.verdict == Verdict.FAILED and start is None:
        advice = _mirrored(levels[-1], mover, ranges)
        quality = replace(
            quality,
            rejected_matrix=tuple(map(tuple, matrix.tolist())),
            notes=(*quality.notes, "the alignment failed: the identity is written instead", *advice),
        )
        matrix, local, patches = (
            affine_tensors.identity(),
            None,
            assess.unknown(local_fit.few(*sizes[0]).count),
        )
    transform = local_fit.as_transform(settings.model, frames, matrix, local, patches).checked()
    transform = replace(transform, quality=quality)
    listener(Event("done", "", 1.0, quality.similarity_after))
    return Alignment(transform, clock.seconds, curves | (local.history if local else {}))


class Clock:
    """Seconds per stage, in the order they ran."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time the block under the name of its ``stage``."""
        begin = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - begin, 3)


def working_copy(level: Level, max_size: int, name: str) -> Level:
    """A grey level of bounded size in [0, 1]; pixels that are invalid, or constant constant_border, have no weight.

    Raises ``AlignmentError`` naming the image when it is too small, has no valid pixel or shows nothing.
    """
    if min(level.size) < 8:
        raise AlignmentError(f"is {level.size[1]} × {level.size[0]} pixels; at least 8 × 8 are needed", name)
    if not math.isfinite(float(level.image.sum())):  # one pixel that is not finite makes the sum so
        finite = torch.isfinite(level.image)
        level = Level(torch.where(finite, level.image, 0.0), level.mask * finite, level.original_from_level)
    if int((level.mask > 0.5).count_nonzero()) < 64:
        raise AlignmentError("has no valid pixels (all are NaN, transparent or masked); check the file", name)
    level = pyramid.shrink(level, max(level.size) / max_size)
    mask = (level.mask > 0.5).to(level.image)
    low, high = preprocess.extent(level.image, mask)
    if not high > low:
        raise AlignmentError(
            f"is constant ({low:g} everywhere), so there is nothing to align; check the file and its channel",
            name,
        )
    grey = preprocess.normalise(level.image, mask)
    seen = mask * ~preprocess.constant_border(grey, mask)
    return Level(grey, seen if float(seen.mean()) > 0.02 else mask, level.original_from_level)


def _effort(settings: Settings, fixed: Size) -> Effort:
    """The preset with the settings' own figures in it; the patch size in working pixels."""
    preset = PRESETS[settings.preset]
    max_size = settings.max_size or preset.max_size
    shrink = max(max(fixed) / max_size, 1.0)
    patch = max(round(settings.patch_size / shrink), 8) if settings.patch_size else preset.patch_size
    window, finer = min(preset.window, max(patch // 8 * 4, 8)), None if settings.patch_size else preset.finer
    return Effort(max_size, patch, window, preset.steps, preset.candidates, settings.optimizer, finer)


def levels_of(finest: Level) -> list[Level]:
    """The levels of an image from coarse to fine, each half the next, while the shorter side keeps ``COARSEST`` pixels."""
    levels = [finest]
    while min(levels[0].size) >= 2 * COARSEST:
        levels.insert(0, pyramid.shrink(levels[0], 2))
    return levels


def _ranges(settings: Settings, effort: Effort, pixel_ratio: float | None) -> list[SearchRange]:
    """What is searched: about the scale that pixel sizes give, then everything."""
    whole = SearchRange(
        settings.model,
        settings.rotation_range,
        effort.candidates,
        settings.scale_range or search_range.SCALE_RANGE,
        flip=settings.allow_flip,
    )
    known = (
        [replace(whole, scale=settings.scale_range or search_range.KNOWN_SCALE_RANGE, middle=pixel_ratio)]
        if pixel_ratio
        else []
    )
    return [*known, whole]


def _mirrored(fixed: Level, moving: Level, ranges: list[SearchRange]) -> list[str]:
    """What to try when nothing was found and the mirrored image is."""
    if ranges[0].flip:
        return []
    mirrored = search_range.mirror(moving)
    found = search.search_range(fixed, mirrored, ranges[0])
    return ["the mirrored moving image stands out: try --allow-flip"] if found.is_significant else []


def _bent(start: Start, level: Level, effort: Effort) -> LocalFit | None:
    """The patches of a start whose matches, by a homography or a smooth map, are far from affine; None for the others."""
    matched = start.matches
    if matched is None or not start.is_certain:
        return None
    some = matched.fixed[:: max(len(matched.fixed) // LOOKED_AT, 1)]
    apart = (matched.map(some) - affine.apply(matched.matrix, some)).norm(dim=1).max()
    if float(apart) < BENT * matched.extent:
        return None
    return local_fit.of_map(
        matched.map, (matched.fixed.amin(0), matched.fixed.amax(0)), level, start.matrix, effort
    )


def _from_start(
    levels: list[Level], moving: Level, begin: Start, settings: Settings, keep: global_fit.Tick
) -> tuple[Tensor, list[str]]:
    """The global map fitted from a start, or the start's own map where the fit leaves the matched features that it agrees with."""
    coarse = global_fit.coarse_levels(levels)[
        -1 if begin.is_certain else 0 :
    ]  # matched features are near the answer: the finest of them will do
    matrix, notes = _fit_global(coarse, moving, begin.matrix, "mind", settings, keep, exact=begin.is_certain)
    if (
        begin.matches
        and starts.agrees(begin.matrix, begin.matches, CLOSE)
        and not starts.agrees(matrix, begin.matches, CLOSE)
    ):
        return begin.matrix, ["the global fit left the matched features, whose map was kept"]
    return matrix, notes


def _fit_global(
    levels: list[Level],
    moving: Level,
    begin: Tensor,
    metric: str,
    settings: Settings,
    keep: global_fit.Tick,
    *,
    exact: bool = False,
) -> tuple[Tensor, list[str]]:
    """The global map fitted on some levels, coarse to fine, or ``begin`` when the fit lowered its similarity on the windows both see."""
    model = global_fit.global_model(settings.model)
    matrix = global_fit.fit(
        levels,
        moving,
        begin,
        model=model,
        metric=metric,
        exact=exact,
        optimizer=settings.optimizer,
        tick=keep,
    )
    if assess.at_least_as_good(assess.judging_level(levels), moving, matrix, begin, metric):
        return matrix, []
    return begin, ["the global fit lowered the similarity of the start, which was kept"]


def _simplest(
    levels: list[Level],
    moving: Level,
    matrix: Tensor,
    local: LocalFit | None,
    metric: str,
    settings: Settings,
    effort: Effort,
    keep: global_fit.Tick,
) -> tuple[Tensor, LocalFit | None, list[str]]:
    """The global map and the patches over it, or an exact global map alone where patches bring no more than they would of noise, or harm."""
    if local is None:
        exact, notes = _fit_global(levels[-2:], moving, matrix, metric, settings, keep, exact=True)
        return exact, None, notes

    judging = assess.judging_level(levels)
    with_patches = assess.explained(judging, moving, matrix, local, metric, effort)

    def gain(instead: Tensor) -> float:
        return assess.explained(judging, moving, instead, None, metric, effort).loss_decrease(with_patches)

    over_matrix = least_gain = gain(matrix)
    begin, small = matrix, local_fit.typical_shift(local) < SMALL_SHIFT
    if small:
        nearest = local_fit.nearest_affine(local, matrix)
        if (over_nearest := gain(nearest)) < over_matrix:
            begin, least_gain = nearest, over_nearest
    if small and least_gain < SURE_GAIN:
        exact, notes = _fit_global(levels[-2:], moving, begin, metric, settings, keep, exact=True)
        if gain(exact) < registry.get(metric).least_gain:
            return (
                exact,
                None,
                [*notes, "the patches explain no more than they would of noise: the global fit was kept"],
            )
    if over_matrix < 0:
        return matrix, None, ["the patches lowered the similarity of the global fit, which was kept"]
    notes = [f"{local.folds} folded cells were smoothed out on the way"] if local.folds else []
    if local.dropped:
        notes.append(
            f"patches at {', '.join(local.dropped)} pixels were left out: they did not improve windows they had not seen"
        )
    return matrix, local, notes


def _report(listener: Listener) -> local_fit.Report:
    """Tells a listener how far the local part is."""
    return lambda level, share, similarity: listener(Event("local", level, 0.4 + 0.55 * share, similarity))
