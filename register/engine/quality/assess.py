"""Assess an alignment: compute its quality, with verdict and expected error, and figures per patch."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from register.compute import device
from register.engine.fit.comparison import windows
from register.engine.fit.estimate import Estimate, LocalFit
from register.engine.fit.problem import Problem
from register.engine.quality import (
    evidence,
    expected_error,
    kinds,
    map_figures,
    parts,
    pieces,
    recognition,
    verdict,
)
from register.engine.quality.map_figures import rounded
from register.engine.quality.patch_quality import Patchwise, patch_figures, unknown, without_displacement
from register.engine.quality.pieces import Missing
from register.engine.quality.recognition import Regions
from register.engine.quality.round_trip import RoundTrip, round_trip
from register.geometry import affine, affine_tensors
from register.geometry.matches import Matches
from register.geometry.patch_grid import PatchGrid, blend_finite
from register.images import pyramid
from register.similarity import registry
from register.transforms.frame import Frame
from register.transforms.quality import PatchFigures, Quality, Verdict


@dataclass(frozen=True)
class Figures:
    """The quality of an alignment, the figures of its patches, and the estimate they belong to.

    The estimate is the one that was assessed, with finer patches of equal maps where a global map is right in
    parts of the image only.
    """

    quality: Quality
    patches: PatchFigures
    estimate: Estimate


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
    judge_metric = registry.get(metric).judge
    forward = estimate.transform("local", frames)
    at = problem.finest.image.device
    with device.concurrently(
        lambda: recognition.regions(problem.finest, problem.moving, estimate), at
    ) as known:
        back = round_trip(problem, forward, estimate.matrix, judge_metric)
        found = known()
    area = float(affine.determinant(estimate.matrix).abs()) * frames[0].width * frames[0].height
    most = min(frames[1].width * frames[1].height / area, 1.0) if area else 1.0
    quality = _evidence(problem, estimate, metric, back, matches, found, most)
    lost = pieces.missing(problem.images, problem.valid, forward.map)
    patches, estimate = _patches(problem, estimate, judge_metric, back, found, lost, frames[0])
    diagonal = math.hypot(*problem.finest.size) * pyramid.pixel(problem.finest)
    expected = verdict.Expected(diagonal, most, scale**2)
    called, reasons = verdict.verdict(quality, patches.on_content, expected)
    in_part = verdict.agrees_in_part(patches.on_content) or lost is not None
    if lost:
        called, reasons = Verdict.worst([called, Verdict.SUSPECT]), (*reasons, lost.reason)
    figures = patches.figures
    if called == Verdict.FAILED:
        figures = unknown(len(figures.status))
    error = expected_error.typical(figures)
    if in_part and (problem.model != "local" or expected_error.mostly_unknown(patches.on_content)):
        error = None
    return Figures(replace(quality, verdict=called, reasons=reasons, expected_error=error), figures, estimate)


def _patches(
    problem: Problem,
    estimate: Estimate,
    metric: str,
    back: RoundTrip,
    found: Regions | None,
    lost: Missing | None,
    frame: Frame,
) -> tuple[Patchwise, Estimate]:
    """The figures of the patches, and the estimate they belong to: patches whose match is not recognised, and
    those of ``lost`` pieces, have no expected error.

    Where a global map is recognised in parts of the image only, these are told apart by finer patches.
    """
    level, finest = problem.judging_level, problem.finest
    compare = problem.compare(level, estimate.matrix, metric)

    def figures(local: LocalFit) -> Patchwise:
        scale = affine.scale(estimate.matrix)
        found = patch_figures(compare, local, level, back, max_shift=problem.max_shift, scale=scale)
        return found.with_content(lost.at(local.centres)) if lost else found

    judged = parts.of(found) if found else None

    def unrecognised(local: LocalFit) -> Tensor:
        told = (
            judged.log_odds(local.centres) < 0 if judged else torch.zeros(local.grid.count, dtype=torch.bool)
        )
        return told | lost.at(local.centres) if lost else told

    local = estimate.patches or without_displacement(finest, frame)
    patches, pixel = figures(local), pyramid.pixel(level) * affine.scale(estimate.matrix)
    alike = kinds.alike(problem, estimate)
    patches = patches.with_errors(expected_error.between_kinds(patches.figures.expected_error, alike, pixel))
    patches = _with_not_kept(problem, estimate, patches, local.original_grid, metric, back)
    if estimate.patches is not None:
        return patches.without(unrecognised(local)), estimate
    finer = without_displacement(finest, frame, problem.effort.patch_size)
    foreign = unrecognised(finer)
    if not bool(foreign.any()):
        return patches, estimate
    errors = blend_finite(local.original_grid, patches.figures.expected_error, finer.centres.numpy())
    divided = figures(finer).with_errors(errors.tolist()).without(foreign)
    if not (lost or verdict.agrees_in_part(divided.on_content)):
        return patches, estimate
    return divided, replace(estimate, patches=finer)


def _with_not_kept(
    problem: Problem, estimate: Estimate, patches: Patchwise, grid: PatchGrid, metric: str, back: RoundTrip
) -> Patchwise:
    """The figures of the patches of a global map on a grid, whose expected errors include what the patches
    that were not kept show."""
    other = estimate.not_kept
    if other is None or other.patches is None:
        return patches
    level, scale = problem.judging_level, affine.scale(other.matrix)
    compare = problem.compare(level, other.matrix, metric)
    theirs = patch_figures(compare, other.patches, level, back, max_shift=problem.max_shift, scale=scale)
    shown = (other.map(other.patches.centres) - estimate.map(other.patches.centres)).norm(dim=1)
    excess = expected_error.excess(shown, theirs.figures.expected_error)
    return patches.with_errors(
        expected_error.with_excess(patches.figures.expected_error, grid, other.patches.centres, excess)
    )


def _evidence(
    problem: Problem,
    estimate: Estimate,
    metric: str,
    back: RoundTrip,
    matches: Matches | None,
    regions: Regions | None,
    most: float,
) -> Quality:
    """All figures of the quality but the verdict, its reasons and the expected error.

    ``most`` is the largest overlap there can be, as a share of the fixed image.
    """
    level, finest, moving, matrix = problem.judging_level, problem.finest, problem.moving, estimate.matrix
    found = regions.overall if regions else None
    chance = evidence.above_chance(finest, moving, matrix)
    overlap = evidence.overlap(*problem.images, matrix)
    agreeing = evidence.agreeing(finest, estimate, matches)
    before = problem.windows(Estimate(affine_tensors.identity()), metric)
    compare = problem.compare(level, matrix, metric)
    returned = back.median(finest)
    moved, det = map_figures.displacements(finest, estimate), map_figures.determinants(estimate)
    return Quality(
        verdict=Verdict.UNKNOWN,
        reasons=(),
        expected_error=None,
        probability_wrong=round(verdict.probability_wrong(found, chance, agreeing, float(overlap) / most), 4),
        recognised=round(found.rank, 4) if found else None,
        recognised_sigma=round(found.sigma, 2) if found else None,
        back_and_forth=rounded(returned) if math.isfinite(returned) else None,
        similarity_before=rounded(before.mean()),
        similarity_after=rounded(windows(compare, estimate.patches_on(level)).mean()),
        similarity_global=rounded(windows(compare).mean()),
        above_chance=round(chance, 2),
        matches_agreeing=agreeing,
        overlap=rounded(overlap),
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
