"""The global part of the method: starts from a search, refined together, and one of them fitted level by level."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from register import affine, comparison, descent, optimise, pyramid, search
from register.comparison import Comparison
from register.pyramid import Level

SEARCH_SIDE, REFINE_SIDE, FIT_SIDE = 128, 256, 256
"""Longest side, in pixels, of the levels on which starts are searched, refined and fitted."""
WINDOW, MARGIN = 16, 16
START_STEPS, FIT_STEPS, NEWTON_STEPS, TOLERANCE = 40, 35, 12, 0.003
"""Steps per level: Adam's for starts and for the fit on coarse levels, whose range is wider, and Gauss-Newton's where the answer is near."""
ANGLE_STEP, SCALE_STEP = 5.0, 1.12
SMOOTHING, EXACT_SMOOTHING = 0.7, 1.0
"""Gaussian, in pixels, before intensities are compared. A global map has data enough to afford the wider one, which leaves less of the pull
that linear interpolation has towards half pixels in noise."""

Tick = Callable[[float], None]


@dataclass(frozen=True)
class Start:
    """The global map (2, 3) in original pixels, its structure similarity, and how far it stands above the next other one."""

    matrix: Tensor
    similarity: float
    significance: float


def angles(limit: float) -> Tensor:
    """Degrees from -limit to limit in steps of about five; the full circle without its double end."""
    if limit >= 180:
        return torch.arange(-180.0, 180.0, ANGLE_STEP)
    n = round(limit / ANGLE_STEP)
    return torch.linspace(-limit, limit, 2 * n + 1) if n else torch.zeros(1)


def scales(limit: float) -> Tensor:
    """Factors from 1 / limit to limit, evenly in their logarithm."""
    n = round(math.log(limit) / math.log(SCALE_STEP))
    return torch.exp(torch.linspace(-math.log(limit), math.log(limit), 2 * n + 1)) if n else torch.ones(1)


def find_start(fixed: Level, moving: Level, *, model: str, rotation_range: float, scale_range: float, count: int) -> Start:
    """The most significant of the identity and ``count`` searched starts after all were refined in one batch."""
    small_fixed, small_moving = at_side(fixed, SEARCH_SIDE), at_side(moving, SEARCH_SIDE)
    hits = search.candidates(
        small_fixed,
        small_moving,
        angles=angles(0 if model == "translation" else rotation_range),
        scales=scales(1 if model in ("translation", "rigid") else scale_range) * _size_ratio(small_fixed, small_moving),
        count=count,
    )
    down = affine.invert(small_fixed.original_from_level)
    starts = [affine.compose(small_moving.original_from_level, affine.compose(hit.moving_from_fixed, down)) for hit in hits]
    matrices = torch.stack([affine.identity(), *starts])
    return refine_starts(fixed, moving, matrices, model="similarity" if model in ("affine", "local") else model)


def refine_starts(fixed: Level, moving: Level, matrices: Tensor, *, model: str) -> Start:
    """Fit all starts (n, 2, 3) at once on a coarse level, the best three on a finer one, and keep the most significant."""
    for side, keep in ((SEARCH_SIDE, 3), (REFINE_SIDE, 1)):
        level = at_side(fixed, side)
        residual, _ = _adam(compare_at(level, moving, matrices, "structure"), model, 1.0, START_STEPS)
        matrices = affine.compose(matrices, comparison.residual_in_original(residual, level))
        mean, significance = significances(compare_at(level, moving, matrices, "structure"))
        order = significance.argsort(descending=True)[:keep]
        matrices, mean = matrices[order], mean[order]
    return Start(matrices[0], float(mean[0]), float(significance[order[0]]))


def fit(levels: list[Level], moving: Level, matrix: Tensor, *, model: str, metric: str, exact: bool = False, tick: Tick = lambda similarity: None) -> Tensor:
    """The global map (2, 3) of a ``model`` fitted from coarse to fine: on all levels when it is to be ``exact``, else on those up to ``FIT_SIDE``."""
    for level in levels if exact else coarse_levels(levels):
        compare = compare_at(level, moving, matrix[None], metric, smoothing=EXACT_SMOOTHING if exact else SMOOTHING)
        if exact and metric != "mi":  # which has no curvature
            residual, outcome = descent.descend_global(compare, model, optimizer=descent.GAUSS_NEWTON, step=0.0, steps=NEWTON_STEPS, tolerance=TOLERANCE)
        else:
            residual, outcome = _adam(compare, model, 0.12 if exact else 0.5, FIT_STEPS)
        matrix = affine.compose(matrix, comparison.residual_in_original(residual[0], level))
        tick(1 - math.exp(float(outcome.loss[0])))
    return matrix


def coarse_levels(levels: list[Level]) -> list[Level]:
    """The levels of at most ``FIT_SIDE`` pixels, or the coarsest when there is none."""
    return [x for x in levels if max(x.size) <= FIT_SIDE] or levels[:1]


def significances(compare: Comparison) -> tuple[Tensor, Tensor]:
    """The similarity (b,) under each global map, and how much it means: similarity times the square root of the windows it was found in."""
    found = comparison.windows(compare)
    mean = found.mean().cpu()
    return mean, mean * found.weight.sum(1).cpu().sqrt()


def _adam(compare: Comparison, model: str, step: float, steps: int) -> tuple[Tensor, optimise.Descent]:
    """Residual matrices (b, 2, 3) of a model by first-order descent, with a first ``step`` in pixels."""
    return descent.descend_global(compare, model, optimizer=descent.ADAM, step=step, steps=steps, tolerance=TOLERANCE)


def compare_at(level: Level, moving: Level, matrices: Tensor, metric: str, *, smoothing: float = SMOOTHING) -> Comparison:
    """The comparison of one fixed level with the moving image under the global maps (b, 2, 3)."""
    matched = comparison.matching_level(moving, level, matrices[min(1, len(matrices) - 1)])
    return comparison.prepare(level, matched, matrices, metric, window=WINDOW, margin=MARGIN, smoothing=smoothing)


def at_side(level: Level, side: int) -> Level:
    """The level shrunk to ``side`` pixels along its longer side, or itself when it is smaller."""
    return pyramid.shrink(level, max(level.size) / side)


def _size_ratio(fixed: Level, moving: Level) -> float:
    """The factor between level pixels that a scale of one in original pixels means."""
    ratio = affine.determinant(fixed.original_from_level) / affine.determinant(moving.original_from_level)
    return math.sqrt(float(ratio))
