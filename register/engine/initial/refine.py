"""Refine several initial maps in batches on coarse levels and select the most significant one."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from register.engine.fit import comparison, global_fit
from register.engine.initial.search_range import SearchRange
from register.engine.initial.start import Start, significances
from register.engine.quality import evidence
from register.geometry import affine
from register.images import pyramid
from register.images.pyramid import Level

ROUNDS = (96, 16, 2), (224, 12, 1)
"""Rounds of refinement: longest side of the level, steps of Adam, and the fewest starts that are kept."""
KEPT = 25
"""One in this many starts is kept if that is more: on a coarse level, some of many wrong starts are as
significant as the correct one."""
METRIC = "mind"
OUTSIDE = -1e3
"""Significance of a start outside of the range of shifts: below every other one."""


def refine(fixed: Level, moving: Level, matrices: Tensor, within: SearchRange) -> Start:
    """Fit starts (n, 2, 3) on a coarse level, the best of them on a finer one, and return the most
    significant.

    Starts of similar scale are fitted as one batch. Where the model is affine or local, similarities are
    fitted. One that leaves the range of shifts is not significant.
    """
    model = "similarity" if within.model in ("affine", "local") else within.model
    for side, steps, keep in ROUNDS:
        found = []
        sides = [_balanced_side(fixed, moving, matrix, side) for matrix in matrices]
        for one in sorted(set(sides)):
            group, level = matrices[[x == one for x in sides]], global_fit.at_side(fixed, one)
            compare = global_fit.compare_at(level, moving, group, METRIC)
            residual, _ = global_fit.by_adam(compare, model, 1.0, steps)
            moved = replace(compare, moving_from_fixed=affine.compose(compare.moving_from_fixed, residual))
            refined = affine.compose(group, comparison.residual_in_original_pixels(residual, level))
            found.append((refined, *significances(moved)))
        matrices, mean, significance = (torch.cat(x) for x in zip(*found, strict=True))
        near = torch.tensor([within.is_near(one) for one in matrices])
        significance = torch.where(near.to(significance.device), significance, OUTSIDE)
        order = significance.argsort(descending=True)[: max(keep, len(matrices) // KEPT)]
        matrices, mean, significance = matrices[order], mean[order], significance[order]
    above_chance = evidence.above_chance(fixed, moving, matrices[0])
    return Start(matrices[0], float(mean[0]), float(significance[0]), above_chance=above_chance)


def _balanced_side(fixed: Level, moving: Level, matrix: Tensor, side: int) -> int:
    """The longer side of the fixed level at which both images are ``side`` pixels long in the geometric mean.

    It is rounded to half octaves, so that few batches are needed.
    """
    fixed_length = max(fixed.size) * pyramid.pixel(fixed) * affine.scale(matrix)
    ratio = fixed_length / (max(moving.size) * pyramid.pixel(moving))
    return round(side * 2 ** (min(max(round(math.log2(ratio)), -1), 2) / 2))
