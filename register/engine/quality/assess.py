"""Assess an alignment: compute its quality, with verdict and expected error, and figures per patch."""

import math
from dataclasses import dataclass, replace

from register.engine.fit.comparison import windows
from register.engine.fit.estimate import Estimate
from register.engine.fit.problem import Problem
from register.engine.quality import evidence, expected_error, map_figures, verdict
from register.engine.quality.map_figures import rounded
from register.engine.quality.patch_quality import patch_figures, unknown, without_displacement
from register.engine.quality.recognition import recognised
from register.engine.quality.round_trip import RoundTrip, round_trip
from register.geometry import affine, affine_tensors
from register.geometry.matches import Matches
from register.images import pyramid
from register.similarity import registry
from register.transforms.frame import Frame
from register.transforms.quality import PatchFigures, Quality, Verdict


@dataclass(frozen=True)
class Figures:
    """The quality of an alignment, and the figures of its patches."""

    quality: Quality
    patches: PatchFigures


def judge(
    problem: Problem,
    estimate: Estimate,
    metric: str,
    *,
    matches: Matches | None,
    frames: tuple[Frame, Frame],
    scale: float = 1.0,
) -> Figures:
    """Assess a finished alignment.

    ``matches`` are the matched features that the optimisation did not use, ``frames`` those of the fixed
    and the moving image, ``scale`` the ratio of their pixel sizes, 1 where they are not known.
    ``metric_choice``, ``notes`` and ``search_significance`` of the quality are left empty.
    """
    level, judge_metric = problem.judging_level, registry.get(metric).judge
    forward = estimate.transform("local", frames)
    back = round_trip(problem, forward, estimate.matrix, judge_metric)
    quality = _evidence(problem, estimate, metric, back, matches)
    local = estimate.patches or without_displacement(problem.finest, frames[0])
    patches = patch_figures(
        problem.compare(level, estimate.matrix, judge_metric),
        local,
        level,
        back,
        max_shift=problem.max_shift,
        scale=affine.scale(estimate.matrix),
    )
    diagonal = math.hypot(*problem.finest.size) * pyramid.pixel(problem.finest)
    area = abs(quality.det_global or 1.0) * frames[0].width * frames[0].height
    smaller = min(frames[1].width * frames[1].height / area, 1.0)
    called, reasons = verdict.verdict(quality, patches.status, verdict.Expected(diagonal, smaller, scale**2))
    if called == Verdict.FAILED:
        patches = unknown(len(patches.status))
    error = expected_error.typical(patches)
    return Figures(replace(quality, verdict=called, reasons=reasons, expected_error=error), patches)


def _evidence(
    problem: Problem, estimate: Estimate, metric: str, back: RoundTrip, matches: Matches | None
) -> Quality:
    """All figures of the quality but the verdict, its reasons and the expected error."""
    level, finest, moving, matrix = problem.judging_level, problem.finest, problem.moving, estimate.matrix
    found = recognised(finest, moving, estimate)
    chance = evidence.above_chance(finest, moving, matrix)
    agreeing = evidence.agreeing(finest, estimate, matches)
    before = problem.windows(Estimate(affine_tensors.identity()), metric)
    compare = problem.compare(level, matrix, metric)
    returned = back.median(finest)
    moved, det = map_figures.displacements(finest, estimate), map_figures.determinants(estimate)
    return Quality(
        verdict=Verdict.UNKNOWN,
        reasons=(),
        expected_error=None,
        probability_wrong=round(verdict.probability_wrong(found, chance, agreeing), 4),
        recognised=round(found.rank, 4) if found else None,
        recognised_sigma=round(found.sigma, 2) if found else None,
        back_and_forth=rounded(returned) if math.isfinite(returned) else None,
        similarity_before=rounded(before.mean()),
        similarity_after=rounded(windows(compare, estimate.patches_on(level)).mean()),
        similarity_global=rounded(windows(compare).mean()),
        above_chance=round(chance, 2),
        matches_agreeing=agreeing,
        overlap=rounded(evidence.overlap(*problem.images, matrix)),
        displacement_median=moved.median,
        displacement_max=moved.largest,
        local_displacement_median=moved.local_median,
        local_displacement_max=moved.local_largest,
        det_global=det.overall,
        det_min=det.smallest,
        folds=det.folds,
        metric=metric,
        metric_choice=None,
        notes=(),
        search_significance=None,
    )
