"""The global part of the method: starts from a search, refined together, and one of them fitted level by level."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from register import affine, comparison, descent, features, optimise, pyramid, search
from register.comparison import Comparison
from register.features import Matched
from register.pyramid import Level

REFINE_SIDE, FIT_SIDE = 256, 256
"""Longest side, in pixels, of the levels on which the best starts are refined and the global map is fitted."""
ROUNDS = (128, 40, 4), (REFINE_SIDE, 40, 1)
"""Rounds of refining starts: the level's longest side, Adam's steps, and how many starts are kept."""
WINDOW, MARGIN = 16, 16
FIT_STEPS, NEWTON_STEPS, TOLERANCE = 35, 12, 0.003
"""Steps per level: Adam's for the fit on coarse levels, whose range is wider, and Gauss-Newton's where the answer is near."""
ANGLE_STEP, SCALE_STEP = 6.0, 1.15
SMOOTHING, EXACT_SMOOTHING = 0.7, 1.0
"""Gaussian, in pixels, before intensities are compared. A global map has data enough to afford the wider one, which leaves less of the pull
that linear interpolation has towards half pixels in noise."""
SURE = 30
"""Matched features that agree on a homography from which on nothing else is searched."""
ORDINARY_ROTATION, ORDINARY_SCALE = 30.0, 1.25
"""Most pairs stand within so many degrees and such a factor."""
FINER = 0.67
"""Steps of the ordinary range in units of the whole one's."""

Tick = Callable[[float], None]


@dataclass(frozen=True)
class Start:
    """The global map (2, 3) in original pixels, its structure similarity, how far it stands above chance, and the matched features it rests on, if any."""

    matrix: Tensor
    similarity: float
    significance: float
    matched: Matched | None = None


def angles(limit: float, step: float = ANGLE_STEP) -> Tensor:
    """Degrees from -limit to limit in steps of about ``step``; the full circle without its double end."""
    if limit >= 180:
        return torch.arange(-180.0, 180.0, step)
    n = math.ceil(limit / step - 0.5)
    return torch.linspace(-limit, limit, 2 * n + 1) if n else torch.zeros(1)


def scales(limit: float, middle: float = 1.0, step: float = SCALE_STEP) -> Tensor:
    """Factors from middle / limit to middle * limit, evenly in their logarithm."""
    n = math.ceil(math.log(limit) / math.log(step) - 0.5)
    return middle * (torch.exp(torch.linspace(-math.log(limit), math.log(limit), 2 * n + 1)) if n else torch.ones(1))


def find_start(fixed: Level, moving: Level, *, model: str, rotation: float, scale: float, middle: float = 1.0, count: int, flip: bool = False) -> Start:
    """Where to start: on matched features when many agree, else the most significant of the identity, the features' map and ``count`` searched starts.

    Rotations up to ``rotation`` degrees either way and scales within a factor ``scale`` of ``middle`` are searched; with ``flip`` the mirrored moving
    image too. As many starts again come from a finer sweep near the identity, where most pairs stand.
    """
    mirrored = [moving, mirror(moving)] if flip else [moving]
    matched = max((features.match(fixed, x, model=global_model(model)) for x in mirrored), key=lambda found: len(found.fixed) if found else 0)
    if matched and not _within(matched.matrix, rotation, scale, middle):
        matched = None
    if matched and len(matched.fixed) >= SURE:
        return _start_of(fixed, moving, matched)
    hits, ordinary = [
        sorted((hit for x in mirrored for hit in search.candidates(fixed, x, angles=turns, scales=sizes)), key=lambda hit: -hit.score)
        for turns, sizes in _sweeps(model, rotation, scale, middle)
    ]
    found = search.distinct(search.distinct(hits, count, fixed, moving) + search.distinct(ordinary, count, fixed, moving), 2 * count, fixed, moving)
    matrices = [affine.identity(), *(hit.matrix for hit in found), *([matched.matrix] if matched else [])]
    best = refine_starts(fixed, moving, torch.stack(matrices), model="similarity" if model in ("affine", "local") else model)
    return replace(best, matched=matched) if matched and agrees(best.matrix, matched) else best


def _sweeps(model: str, rotation: float, scale: float, middle: float) -> list[tuple[Tensor, Tensor]]:
    """Angles and scales of everything that was asked for, and of the ordinary range in finer steps."""
    turning, sizing = model != "translation", model not in ("translation", "rigid")
    near = min(rotation, ORDINARY_ROTATION), min(scale, ORDINARY_SCALE)
    return [
        (angles(rotation if turning else 0), scales(scale if sizing else 1, middle)),
        (angles(near[0] if turning else 0, ANGLE_STEP * FINER), scales(near[1] if sizing else 1, middle, SCALE_STEP**FINER)),
    ]


def global_model(model: str) -> str:
    """The global map that a ``model`` of an alignment has."""
    return "affine" if model == "local" else model


def find_tilted(fixed: Level, moving: Level, *, flip: bool = False) -> Start | None:
    """A start from features of simulated views, which takes seconds; None when too few agree."""
    found = [features.match(fixed, x, tilted=True) for x in ([moving, mirror(moving)] if flip else [moving])]
    matched = max(found, key=lambda x: len(x.fixed) if x else 0)
    return _start_of(fixed, moving, matched) if matched and len(matched.fixed) >= SURE else None


def mirror(level: Level) -> Level:
    """The same level with its columns in reverse order; its place in the original turns over too."""
    back = torch.tensor([[-1.0, 0.0, level.size[1] - 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    return Level(level.image.flip(-1), level.mask.flip(-1), affine.compose(level.original_from_level, back))


def refine_starts(fixed: Level, moving: Level, matrices: Tensor, *, model: str) -> Start:
    """Fit all starts (n, 2, 3) in batches of like scale on a coarse level, the best on a finer one, and keep the most significant."""
    for side, steps, keep in ROUNDS:
        found = []
        sides = [_balanced_side(fixed, moving, matrix, side) for matrix in matrices]
        for one in sorted(set(sides)):
            group, level = matrices[[x == one for x in sides]], at_side(fixed, one)
            compare = compare_at(level, moving, group, "structure")
            residual, _ = _adam(compare, model, 1.0, steps)
            group = affine.compose(group, comparison.residual_in_original(residual, level))
            compare = compare_at(level, moving, group, "structure")
            found.append((group, *significances(compare)))
        matrices, mean, significance = (torch.cat(x) for x in zip(*found, strict=True))
        order = significance.argsort(descending=True)[:keep]
        matrices, mean = matrices[order], mean[order]
    return Start(matrices[0], float(mean[0]), float(significance[order[0]]))


def _balanced_side(fixed: Level, moving: Level, matrix: Tensor, side: int) -> int:
    """The fixed level's longer side at which both images are ``side`` pixels long in the geometric mean, in steps of half an octave."""
    scale = float(affine.determinant(matrix).abs().sqrt())
    ratio = max(fixed.size) * pyramid.pixel(fixed) * scale / (max(moving.size) * pyramid.pixel(moving))
    return round(side * 2 ** (min(max(round(math.log2(ratio)), -1), 2) / 2))


def _start_of(fixed: Level, moving: Level, matched: Matched) -> Start:
    """The start that matched features give."""
    mean, significance = significances(compare_at(at_side(fixed, REFINE_SIDE), moving, matched.matrix[None], "structure"))
    return Start(matched.matrix, float(mean), float(significance), matched)


def _within(matrix: Tensor, rotation: float, scale: float, middle: float) -> bool:
    """Whether a map (2, 3) turns and scales no more than was asked for, with a little room; a mirror image turns as it does once turned over."""
    if float(affine.determinant(matrix)) < 0:
        matrix = torch.cat([matrix[:, :1] * -1, matrix[:, 1:]], dim=1)
    parts = affine.decompose(matrix)
    return abs(parts.rotation) <= rotation + ANGLE_STEP and abs(math.log(parts.scale / middle)) <= math.log(scale * SCALE_STEP)


def agrees(matrix: Tensor, matched: Matched, share: float = 0.05) -> bool:
    """Whether a map takes the matched features to within a ``share`` of their extent of where they are, in the median."""
    extent = float((matched.moving.amax(0) - matched.moving.amin(0)).norm())
    return float((affine.apply(matrix.double(), matched.fixed) - matched.moving).norm(dim=1).median()) < share * extent


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


def compare_at(level: Level, moving: Level, matrices: Tensor, metric: str, *, smoothing: float = SMOOTHING, margin: int = MARGIN) -> Comparison:
    """The comparison of one fixed level with the moving image under the global maps (b, 2, 3)."""
    each = [
        comparison.prepare(level, comparison.matching_level(moving, level, one), one[None], metric, window=WINDOW, margin=margin, smoothing=smoothing)
        for one in matrices
    ]
    return comparison.batch(each)


def at_side(level: Level, side: int) -> Level:
    """The level shrunk to ``side`` pixels along its longer side, or itself when it is smaller."""
    return pyramid.shrink(level, max(level.size) / side)
