"""Mean squared difference of intensities."""

import torch
from torch import Tensor

from register.compute import sums
from register.images.filters import window_sums
from register.similarity.base import FLAT, FixedImage, Similarity, Windows


def mse(fixed: FixedImage, warped: Tensor) -> Windows:
    """One minus the mean squared difference over each window, divided by the mean variance of the fixed
    image's windows."""
    count = fixed.count
    squares = fixed.weight * (fixed.image - warped).square().mean(1, True)
    squared = window_sums(squares, fixed.side).flatten(1) / count.clamp(min=1e-3)
    variance = sums.last(fixed.moments[1] * count) / sums.last(count).clamp(min=1e-6)
    spread = variance[:, None] + FLAT
    curvature = (2 / (spread * count.clamp(min=1))).expand_as(squared)
    each = curvature / warped.shape[1]
    terms = torch.stack([each, -each, torch.zeros_like(each)], 1)
    return Windows(1 - squared / spread, count / fixed.side**2, curvature, terms)


MSE = Similarity("mse", mse)
