"""Align a frame of a movie to a reference: phase correlation, a global map and patches on two levels."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from register.compute import sums
from register.engine.fit import global_fit, local_fit
from register.engine.fit.estimate import Estimate
from register.engine.fit.problem import Problem
from register.engine.fit.working_copy import levels_of, working_copy
from register.engine.initial import registry, search, search_range
from register.engine.quality import evidence, recognition, verdict
from register.geometry import affine_tensors
from register.images import pyramid
from register.images.line_offset import line_offset
from register.images.pyramid import Level
from register.settings import PRESETS, Effort, Settings, working_size
from register.transforms.frame import Frame
from register.transforms.quality import Quality, Verdict
from register.transforms.transform import Transform

SIDE = 256
"""Longest side, in pixels, of the level on which the shift is found."""
LARGEST_SHIFT = 0.3
"""Largest shift that is searched, as a share of a side."""
MAX_SHIFT = 0.1
"""Default largest displacement of a patch from the global map, as a share of the diagonal."""
LEVELS = 2
"""Levels on which patches are fitted."""


@dataclass(frozen=True)
class Reference:
    """The reference of a series: the levels of an image, coarse to fine, its pixel grid, and the settings."""

    levels: list[Level]
    frame: Frame
    settings: Settings
    effort: Effort


def prepare(level: Level, settings: Settings) -> Reference:
    """Make the reference from a grey level of any range at full resolution.

    Raises ``AlignmentError`` when it is constant.
    """
    height, width = level.size
    preset = PRESETS[settings.preset]
    levels = levels_of(working_copy(level, working_size(settings), "reference"))
    patch = settings.patch_size or max(preset.patch_size, 40)
    effort = Effort(
        preset.max_size,
        patch,
        min(preset.window, max(patch // 2, 8)),
        preset.steps,
        preset.candidates,
        settings.optimizer,
    )
    return Reference(levels[-LEVELS:], Frame(width, height), settings, effort)


def align(reference: Reference, frame: Level) -> Transform:
    """Align a frame to the reference; returns the transform with its verdict, similarity and shift.

    Where the frame is not recognised after a shift by phase correlation, the search for initial maps over
    rotations and scales decides. Raises ``AlignmentError`` when the frame is constant.
    """
    moving = working_copy(frame, max(reference.levels[-1].size), "frame")
    found = _fitted(reference, frame, moving, _shift(reference.levels[-1], moving))
    if found.quality.verdict == Verdict.OK:
        return found
    settings = reference.settings
    ranges = search_range.ranges_of(settings, reference.effort.candidates, None)
    always, fallback = registry.chosen(settings.matcher)
    initial = search.find(reference.levels[-1], moving, ranges, always=always, fallback=fallback)
    searched = _fitted(reference, frame, moving, initial.matrix)
    wrong = [one.quality.probability_wrong or 0.0 for one in (found, searched)]
    return searched if wrong[1] < wrong[0] else found


def _fitted(reference: Reference, frame: Level, moving: Level, matrix: Tensor) -> Transform:
    """The transform of a frame, of which ``moving`` is the working copy, from an initial map (2, 3)."""
    settings, levels = reference.settings, reference.levels
    height, width = frame.size
    metric = "ncc" if settings.metric == "auto" else settings.metric
    model = "rigid" if settings.model == "local" else settings.model
    matrix = global_fit.fit(
        levels[:1], moving, matrix, model=model, metric=metric, exact=True, optimizer=settings.optimizer
    )
    limit = settings.max_shift or MAX_SHIFT * math.hypot(height, width)
    problem = Problem(levels, moving, settings.model, reference.effort, limit)
    estimate = Estimate(matrix)
    if settings.model == "local":
        estimate = Estimate(matrix, local_fit.fit(problem, estimate, metric))
    found = recognition.recognised(levels[-1], moving, estimate, recognition.SCALES[-1:])
    wrong = verdict.probability_wrong(
        found, evidence.above_chance(levels[-1], moving, matrix) if found is None else 0.0, 0
    )
    after = problem.windows(estimate, metric, levels[0]).mean()
    transform = estimate.transform(settings.model, (reference.frame, Frame(width, height)))
    called, reasons = verdict.called(wrong), list[str]()
    if called != Verdict.OK:
        reasons.append(f"the frame is not recognised in its reference: probably wrong ({wrong:.0%})")
    lines = line_offset([frame.image[0].cpu()])
    if lines:
        called = Verdict.worst((called, Verdict.SUSPECT))
        reasons.append(f"odd lines lie {lines} px beside even lines; --bidirectional auto corrects it")
    quality = Quality(
        verdict=called,
        reasons=tuple(reasons),
        probability_wrong=round(wrong, 4),
        similarity_after=round(float(after), 5),
        shift=shift(transform),
    )
    return replace(transform, quality=quality)


def shift(transform: Transform) -> tuple[float, ...]:
    """The displacement (x, y) of the centre of the fixed image, in pixels."""
    middle = torch.tensor(
        [[(transform.fixed.width - 1) / 2, (transform.fixed.height - 1) / 2]], dtype=torch.float64
    )
    return tuple(round(v, 4) for v in (transform.map(middle) - middle)[0].tolist())


def identity(reference: Reference, verdict: Verdict = Verdict.OK, why: str | None = None) -> Transform:
    """The identity: the transform of the reference to itself, or of a frame that cannot be aligned."""
    estimate = Estimate(affine_tensors.identity())
    transform = estimate.transform(reference.settings.model, (reference.frame, reference.frame))
    return replace(
        transform,
        quality=Quality(
            verdict=verdict,
            reasons=(why,) if why else (),
            similarity_after=None if why else 1.0,
            shift=(0.0, 0.0),
        ),
    )


def _shift(fixed: Level, moving: Level) -> Tensor:
    """The translation (2, 3) between two levels, in original pixels, by phase correlation.

    It is accurate to a pixel of a coarse level.

    Source: Kuglin & Hines, "The phase correlation image alignment method", Proc. Int. Conf. Cybernetics and
    Society (1975).
    """
    factor = max(max(fixed.size) / SIDE, 1.0)
    one, other = (pyramid.shrink(x, factor) for x in (fixed, moving))
    height, width = (min(a, b) for a, b in zip(one.size, other.size, strict=True))
    taper = torch.hann_window(height, periodic=False)[:, None] * torch.hann_window(width, periodic=False)
    spectra = [
        torch.fft.rfft2((x.image[0, :height, :width].cpu() - sums.mean(x.image).cpu()) * taper)
        for x in (one, other)
    ]
    cross = spectra[0].conj() * spectra[1]
    surface = torch.fft.irfft2(cross / (cross.abs() + 1e-3 * sums.mean(cross.abs())), s=(height, width))
    y, x = (
        torch.where(torch.arange(n) > n // 2, torch.arange(n) - n, torch.arange(n)) for n in (height, width)
    )
    near = (y.abs() <= LARGEST_SHIFT * height)[:, None] & (x.abs() <= LARGEST_SHIFT * width)
    peak = int(torch.where(near, surface, -torch.inf).argmax())
    pixel = pyramid.pixel(one)
    return affine_tensors.translation(float(x[peak % width]) * pixel, float(y[peak // width]) * pixel)
