"""Where an alignment starts: matched features where many agree, else the most significant of many searched starts, refined together."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from register.engine.fit import comparison, global_fit
from register.engine.fit.comparison import Comparison
from register.engine.initial import correlation, features
from register.engine.initial.features import PLAIN, SURE, TILTED, FeatureSearch
from register.engine.quality import evidence
from register.errors import AlignmentError
from register.geometry import affine
from register.geometry.matches import Matches
from register.images import pyramid
from register.images.pyramid import Level

ROUNDS = (96, 16, 2), (224, 12, 1)
"""Rounds of refining starts: the level's longest side, Adam's steps, and how many starts are kept at least."""
KEPT = 25
"""One of so many starts is kept, too: among many wrong ones, some mean as much as the true one until they are seen in more detail."""
ANGLE_STEP, SCALE_STEP = 7.5, 1.2
"""Degrees, and factor, between the turns and scales that are searched."""
ORDINARY_ROTATION, ORDINARY_SCALE = 30.0, 1.25
"""Most pairs stand within so many degrees and such a factor."""
MANY = 150
"""Starts that are refined where none of the first few stands out: between images of different sensors, noise can put the true one behind a hundred others."""
FINER = 0.67
"""Steps of the ordinary range in units of the whole one's."""
STANDS_OUT, MEANT = 9.0, 0.5
"""Standard deviations above chance, and significance, from which on a start needs no other."""
SCALE_RANGE, KNOWN_SCALE_RANGE = 2.5, 1.25
"""Factors searched when the scale is not known, and about the scale that pixel sizes give."""


@dataclass(frozen=True)
class Start:
    """The global map (2, 3) in original pixels, its similarity, how much it means, the matched features it rests on, if any, and by how many standard
    deviations it lies ``above`` chance, if it was searched."""

    matrix: Tensor
    similarity: float
    significance: float
    matched: Matches | None = None
    above: float = 0.0

    @property
    def is_significant(self) -> bool:
        """Whether it rests on matched features, or lies well above chance and the images are alike there: shifted borders alone may lie above chance."""
        return self.sure or (self.significance >= MEANT and self.above >= STANDS_OUT)

    @property
    def sure(self) -> bool:
        """Whether it rests on so many matched features that nothing else is asked for."""
        return features.count(self.matched) >= SURE


@dataclass(frozen=True)
class SearchRange:
    """What is searched: the global map of a ``model``, turns of up to ``rotation`` degrees either way, scales within a factor ``scale`` of
    ``middle``, mirrored images too with ``flip``; ``count`` starts of each sweep are refined."""

    model: str
    rotation: float
    count: int
    scale: float = SCALE_RANGE
    middle: float = 1.0
    flip: bool = False

    def holds(self, matrix: Tensor) -> bool:
        """Whether a map (2, 3) turns and scales no more than this, with a little room; a mirror image turns as it does once turned over."""
        if float(affine.determinant(matrix)) < 0:
            matrix = torch.cat([-matrix[:, :1], matrix[:, 1:]], dim=1)
        parts = affine.decompose(matrix)
        return abs(parts.rotation) <= self.rotation + ANGLE_STEP and abs(
            math.log(parts.scale / self.middle)
        ) <= math.log(self.scale * SCALE_STEP)

    def sweeps(self) -> list[tuple[Tensor, Tensor]]:
        """Angles and scales of all of it, and of the ordinary range in finer steps."""
        rotation, scale = (
            0.0 if self.model == "translation" else self.rotation,
            1.0 if self.model in ("translation", "rigid") else self.scale,
        )
        near = min(rotation, ORDINARY_ROTATION), min(scale, ORDINARY_SCALE)
        return [
            (angles(rotation), scales(scale, self.middle)),
            (angles(near[0], ANGLE_STEP * FINER), scales(near[1], self.middle, SCALE_STEP**FINER)),
        ]


def angles(limit: float, step: float = ANGLE_STEP) -> Tensor:
    """Degrees from -limit to limit in steps of about ``step``; the full circle without its double end."""
    if limit >= 180:
        return torch.arange(-180.0, 180.0, step)
    n = math.ceil(limit / step - 0.5)
    return torch.linspace(-limit, limit, 2 * n + 1) if n else torch.zeros(1)


def scales(limit: float, middle: float = 1.0, step: float = SCALE_STEP) -> Tensor:
    """Factors from middle / limit to middle * limit, evenly in their logarithm."""
    n = math.ceil(math.log(limit) / math.log(step) - 0.5)
    return middle * (
        torch.exp(torch.linspace(-math.log(limit), math.log(limit), 2 * n + 1)) if n else torch.ones(1)
    )


def find(fixed: Level, moving: Level, ranges: list[SearchRange]) -> Start:
    """The first start that stands out in one range after the other, then on many features, then on those of simulated views; else the last one found."""
    for one in ranges:
        found = search_in(fixed, moving, one)
        if found.is_significant:
            return found
    return (
        on_features(fixed, moving, ranges[-1], PLAIN)
        or on_features(fixed, moving, ranges[-1], TILTED)
        or found
    )


def given(fixed: Level, moving: Level, matrix: Tensor) -> Start:
    """The start at a map (2, 3) that was given; raises ``AlignmentError`` when nothing overlaps under it."""
    start = _at(fixed, moving, matrix)
    if start.significance == 0:
        raise AlignmentError(
            "nothing overlaps under the given start; check its direction (fixed to moving, in pixels), or use --init auto"
        )
    return start


def search_in(fixed: Level, moving: Level, asked: SearchRange) -> Start:
    """Where to start in one range: on matched features when many agree, else the most significant of the identity, the features' map and searched starts.

    Half of the searched starts come from a finer sweep of the ordinary range, where most pairs stand. Where the winner does not stand out, many are refined.
    """
    mirrored = _hands(moving, asked)
    matched = max(
        (features.match(fixed, x, model=global_fit.global_model(asked.model)) for x in mirrored),
        key=features.count,
    )
    if matched and not asked.holds(matched.matrix):
        matched = None
    if matched and features.count(matched) >= SURE:
        return _at(fixed, moving, matched.matrix, matched)
    whole, ordinary = [
        sorted(
            (hit for x in mirrored for hit in correlation.candidates(fixed, x, angles=turns, scales=sizes)),
            key=lambda hit: -hit.score,
        )
        for turns, sizes in asked.sweeps()
    ]
    found = [correlation.distinct(hits, asked.count, fixed, moving) for hits in (whole, ordinary)]
    matrices = [
        affine.identity(),
        *(hit.matrix for hit in correlation.distinct(found[0] + found[1], 2 * asked.count, fixed, moving)),
    ]
    best = refine(fixed, moving, torch.stack(matrices + ([matched.matrix] if matched else [])), asked.model)
    if not best.is_significant:
        many = correlation.distinct(sorted(whole + ordinary, key=lambda hit: -hit.score), MANY, fixed, moving)
        again = refine(fixed, moving, torch.stack([best.matrix, *(hit.matrix for hit in many)]), asked.model)
        best = max(best, again, key=lambda start: start.significance)
    return replace(best, matched=matched) if matched and agrees(best.matrix, matched) else best


def on_features(fixed: Level, moving: Level, asked: SearchRange, look: FeatureSearch) -> Start | None:
    """A start from features looked for in one way; None when too few agree, they lie beyond the range, or the model cannot follow a tilt that is looked for."""
    if look.tilted and asked.model not in ("affine", "local"):
        return None
    matched = max(
        (
            features.match(fixed, x, model=global_fit.global_model(asked.model), look=look)
            for x in _hands(moving, asked)
        ),
        key=features.count,
    )
    sure = matched and features.count(matched) >= SURE and (look.tilted or asked.holds(matched.matrix))
    return _at(fixed, moving, matched.matrix, matched) if matched and sure else None


def mirror(level: Level) -> Level:
    """The same level with its columns in reverse order; its place in the original turns over too."""
    back = torch.tensor([[-1.0, 0.0, level.size[1] - 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    return Level(level.image.flip(-1), level.mask.flip(-1), affine.compose(level.original_from_level, back))


def refine(fixed: Level, moving: Level, matrices: Tensor, model: str) -> Start:
    """Fit starts (n, 2, 3) in batches of like scale on a coarse level, the best on a finer one, and keep the most significant.

    Similarities are fitted where the ``model`` is affine or local.
    """
    model = "similarity" if model in ("affine", "local") else model
    for side, steps, keep in ROUNDS:
        found = []
        sides = [_balanced_side(fixed, moving, matrix, side) for matrix in matrices]
        for one in sorted(set(sides)):
            group, level = matrices[[x == one for x in sides]], global_fit.at_side(fixed, one)
            compare = global_fit.compare_at(level, moving, group, "mind")
            residual, _ = global_fit.by_adam(compare, model, 1.0, steps)
            moved = replace(compare, moving_from_fixed=affine.compose(compare.moving_from_fixed, residual))
            found.append(
                (
                    affine.compose(group, comparison.residual_in_original_pixels(residual, level)),
                    *_significances(moved),
                )
            )
        matrices, mean, significance = (torch.cat(x) for x in zip(*found, strict=True))
        order = significance.argsort(descending=True)[: max(keep, len(matrices) // KEPT)]
        matrices, mean, significance = matrices[order], mean[order], significance[order]
    return Start(
        matrices[0],
        float(mean[0]),
        float(significance[0]),
        above=evidence.above_chance(fixed, moving, matrices[0]),
    )


def agrees(matrix: Tensor, matched: Matches, share: float = 0.05) -> bool:
    """Whether a map takes the matched features to within a ``share`` of their extent of where they are, in the median."""
    error = (affine.apply(matrix.double(), matched.fixed) - matched.moving).norm(dim=1)
    return float(error.median()) < share * matched.extent


def _hands(moving: Level, asked: SearchRange) -> list[Level]:
    """The moving image, and its mirror image where that is searched too."""
    return [moving, mirror(moving)] if asked.flip else [moving]


def _at(fixed: Level, moving: Level, matrix: Tensor, matched: Matches | None = None) -> Start:
    """The start at a known map."""
    mean, significance = _significances(
        global_fit.compare_at(
            global_fit.at_side(fixed, global_fit.FIT_SIDE), moving, matrix[None], "structure"
        )
    )
    return Start(matrix, float(mean), float(significance), matched)


def _significances(compare: Comparison) -> tuple[Tensor, Tensor]:
    """The similarity (b,) under each global map, and how much it means: similarity times the square root of the windows it was found in."""
    found = comparison.windows(compare)
    mean = found.mean().cpu()
    return mean, mean * found.weight.sum(1).cpu().sqrt()


def _balanced_side(fixed: Level, moving: Level, matrix: Tensor, side: int) -> int:
    """The fixed level's longer side at which both images are ``side`` pixels long in the geometric mean, in steps of half an octave."""
    ratio = (
        max(fixed.size)
        * pyramid.pixel(fixed)
        * affine.scale(matrix)
        / (max(moving.size) * pyramid.pixel(moving))
    )
    return round(side * 2 ** (min(max(round(math.log2(ratio)), -1), 2) / 2))
