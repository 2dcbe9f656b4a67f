"""Whether two images are of one kind: whether they look alike where they are coarse enough.

Noise, fine texture that differs and small errors of the map disappear on coarse levels, so that images of one
sensor or stain correlate there. Images of two sensors or stains do not, whatever the level.
"""

import torch
from torch import Tensor

from register.engine.fit.estimate import Estimate
from register.engine.fit.problem import Problem
from register.similarity.base import Windows

SIDE = 512
"""Longest side, in pixels, of the levels that are compared, if there is one so small."""
METRIC = "ncc"


def alike(problem: Problem, estimate: Estimate) -> float:
    """The similarity, squared correlation, of the middle window, on the coarse level where it is largest.

    The middle window is the weighted median: pieces that are missing in one image do not count.
    """
    levels = [level for level in problem.levels if max(level.size) <= SIDE] or problem.levels[:1]
    return max(_middle(problem.windows(estimate, METRIC, level)) for level in levels)


def _middle(found: Windows) -> float:
    """The weighted median of the values of windows; 0 where none has weight."""
    values, order = found.value[0].double().cpu().sort()
    total = found.weight[0].double().cpu()[order].cumsum(0)
    if not len(total) or not float(total[-1]) > 0:
        return 0.0
    half: Tensor = torch.searchsorted(total, total[-1] / 2)
    return float(values[half.clamp(max=len(values) - 1)])
