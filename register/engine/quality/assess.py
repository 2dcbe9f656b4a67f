"""How good an alignment is: similarity before and after, overlap, Jacobian, chance, per-patch figures, a verdict."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from register.engine.fit import comparison, recover_patches
from register.engine.fit.comparison import Comparison, windows
from register.engine.fit.estimate import Estimate, LocalFit, coarse_grid
from register.engine.fit.problem import Problem
from register.engine.quality import evidence, expected_error, verdict
from register.engine.quality.evidence import Back
from register.geometry import affine, affine_tensors, patch_tensors
from register.geometry.matches import Matches
from register.geometry.patch_grid import PatchGrid
from register.images import filters, interpolation, pyramid
from register.images.pyramid import Level
from register.similarity import registry
from register.similarity.base import Windows
from register.transforms.frame import Frame
from register.transforms.quality import PatchFigures, Quality, Verdict

LOOKED_AT = 512
"""Points per side, at least, at which displacements are looked at."""
WEAK_TEXTURE, WEAK_CONFIDENCE, TYPICAL = 0.02, 0.05, 0.5
"""Texture and confidence of a patch below which nothing is known of it, and the share of patches that are less alike than the one it is held against."""


@dataclass(frozen=True)
class Figures:
    """The quality of an alignment as a whole, and the figures of its patches."""

    quality: Quality
    patches: PatchFigures


def judge(
    problem: Problem, estimate: Estimate, metric: str, *, matches: Matches | None, frames: tuple[Frame, Frame]
) -> Figures:
    """All figures of a finished alignment.

    Displacements are in fixed pixels, ``overlap`` is a share of the fixed image, expected errors are in moving pixels, as landmark errors are.
    """
    level, diagonal = problem.judging_level, math.hypot(frames[0].width, frames[0].height)
    finest, moving, matrix, local = problem.finest, problem.moving, estimate.matrix, estimate.patches
    compare = problem.compare(level, matrix, metric)
    still, after = windows(compare), windows(compare, estimate.patches_on(level))
    before = problem.windows(Estimate(affine_tensors.identity()), metric)
    found = evidence.recognised(finest, moving, estimate)
    chance = evidence.above_chance(finest, moving, matrix)
    agreeing = evidence.agreeing(finest, estimate, matches)
    forward = estimate.transform("local", frames)
    judge_metric = registry.get(metric).judge
    back = evidence.round_trip_error(problem, forward, matrix, judge_metric)
    returned = back.typical(finest)
    moved, det = _displacement(finest, matrix, local), _determinants(matrix, local)
    quality = Quality(
        verdict=Verdict.UNKNOWN,
        reasons=(),
        expected_error=None,
        probability_wrong=round(verdict.probability_wrong(found, chance, agreeing), 4),
        recognised=round(found[0], 4) if found else None,
        recognised_sigma=round(found[1], 2) if found else None,
        back_and_forth=_round(returned) if math.isfinite(returned) else None,
        similarity_before=_round(before.mean()),
        similarity_after=_round(after.mean()),
        similarity_global=_round(still.mean()),
        above_chance=round(chance, 2),
        matches_agreeing=agreeing,
        overlap=_round(evidence.overlap(level, moving, matrix)),
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
    local = local or _unpatched(finest, frames[0])
    if judge_metric != metric:
        compare = problem.compare(level, matrix, judge_metric)
        still, after = windows(compare), windows(compare, local.on(level))
    figures = _patch_figures(
        compare, (still, after), local, level, problem.max_shift, back, affine.scale(matrix)
    )
    called, reasons = verdict.verdict(quality, figures.status, diagonal)
    if called == Verdict.FAILED:
        figures = unknown(len(figures.status))
    typical = expected_error.typical(figures)
    return Figures(replace(quality, verdict=called, reasons=reasons, expected_error=typical), figures)


def unknown(count: int) -> PatchFigures:
    """The figures of patches of which nothing is known."""
    return PatchFigures(confidence=(0.0,) * count, status=("weak",) * count, expected_error=(None,) * count)


def _unpatched(level: Level, frame: Frame) -> LocalFit:
    """No displacement, on the grid of an image that needs no patches."""
    grid, (height, width) = coarse_grid(frame.height, frame.width), level.size
    grid = PatchGrid(
        grid.columns, grid.rows, grid.origin, (width / (grid.columns - 1), height / (grid.rows - 1))
    )
    return LocalFit(level, grid, patch_tensors.zeros(grid, device=level.image.device))


class Displacement(NamedTuple):
    """Median and largest displacement of a map, and of its local part, in fixed pixels."""

    median: float
    largest: float
    local_median: float
    local_largest: float


def _displacement(level: Level, matrix: Tensor, local: LocalFit | None) -> Displacement:
    """The displacements of the map at a grid of pixels of a level."""
    step, where = max(max(level.size) // LOOKED_AT, 1), level.image.device
    at = [positions[::step] for positions in interpolation.axes(*level.size, device=where)]
    shift = (
        local.on(level).displacement(*at).double()
        if local
        else torch.zeros(1, 1, 2, dtype=torch.float64, device=where)
    )
    up, whole = (
        x.to(where)
        for x in (level.original_from_level, affine.compose(matrix.double().cpu(), level.original_from_level))
    )
    moved = (
        affine.apply_to_grid((whole - up)[None], *(positions.double() for positions in at))[0]
        + shift @ whole[:, :2].T
    )
    length, local_length = (
        torch.hypot(*each.unbind(2)) for each in (moved, shift * up.diagonal()[:2])
    )  # norm() is slow where x and y are planes
    return Displacement(
        _round(filters.median(length.flatten())),
        _round(length.max()),
        _round(filters.median(local_length.flatten())),
        _round(local_length.max()),
    )


class Determinants(NamedTuple):
    """det J of the global map, its smallest value relative to that, and the number of cells of the grid that fold."""

    overall: float
    smallest: float
    folds: int


def _determinants(matrix: Tensor, local: LocalFit | None) -> Determinants:
    """Determinants from a lower bound over every cell of the patch grid."""
    overall = _round(affine.determinant(matrix))
    if local is None:
        return Determinants(overall, 1.0, 0)
    bounds = patch_tensors.smallest_determinants(local.grid, local.parameters)
    return Determinants(overall, _round(bounds.min()), int((bounds <= 0).sum()))


def _patch_figures(
    compare: Comparison,
    seen: tuple[Windows, Windows],
    local: LocalFit,
    level: Level,
    max_shift: float,
    back: Back,
    scale: float,
) -> PatchFigures:
    """Per patch, row by row: similarity before and after the local fit, as ``seen`` in windows, confidence, status and expected error in moving pixels.

    A fixed pixel is ``scale`` moving ones long.
    """
    grid, parameters = local.on(level)
    (at_start, _), (similarity, texture) = (
        [x.flatten() for x in comparison.per_patch(compare, grid, each)] for each in seen
    )
    confidence = (similarity.clamp(0, 1) * texture / (texture + 0.1)).clamp(0, 1)
    capped = parameters[:, 0].norm(dim=0).flatten() * pyramid.pixel(level) >= 0.99 * max_shift
    weak = (
        (texture < WEAK_TEXTURE)
        | (confidence < WEAK_CONFIDENCE)
        | recover_patches.lost(similarity, texture, below=TYPICAL)
    )
    status = [
        "weak" if nothing else "capped" if cap else "ok"
        for nothing, cap in zip(weak.tolist(), capped.tolist(), strict=True)
    ]
    bound = expected_error.bounds(compare, grid, parameters, max(float(seen[1].weight.sum()), 1e-6))
    centres = affine.apply(level.original_from_level, patch_tensors.centres(grid).reshape(-1, 2))
    error = (
        expected_error.errors(bound, parameters, back.apart(centres) / pyramid.pixel(level), similarity)
        * pyramid.pixel(level)
        * scale
    )
    known = zip(_rounded(error), status, strict=True)
    return PatchFigures(
        confidence=_rounded(confidence),
        status=tuple(status),
        similarity_before=_rounded(at_start),
        similarity_after=_rounded(similarity),
        expected_error=tuple(v if math.isfinite(v) and s != "weak" else None for v, s in known),
    )


def _rounded(values: Tensor) -> tuple[float, ...]:
    """Values (n,) to four decimals."""
    return tuple(values.cpu().double().round(decimals=4).tolist())


def _round(value: Tensor | float) -> float:
    return round(float(value), 5)
