"""The cosine between two fields of descriptor vectors, used by the metrics that compare descriptors."""

import torch
from torch import Tensor

from register.images.filters import window_sums
from register.similarity.base import LEAST_SIMILARITY, FixedImage, Windows

LEAST_GAIN = 0.06
"""The least gain of similarities of descriptors, see ``Similarity.least_gain``."""
SHARE_OF_FULL, LEAST_ENERGY = 0.02, 1e-4
"""Energy per pixel that is added to both images: a term proportional to the weight of a window, and a
constant."""


def cosine(fixed: FixedImage, warped: Tensor) -> Windows:
    """Cosine between two vector fields over each window: sum f·w / sqrt(sum |f|² sum |w|²)."""
    products = torch.cat(
        [(fixed.weighted * warped).sum(1, True), warped.square().sum(1, True) * fixed.weight], 1
    )
    product, energy = window_sums(products, fixed.side).flatten(2).unbind(1)
    share = fixed.count / fixed.side**2
    floor = (SHARE_OF_FULL * share + LEAST_ENERGY) * fixed.side**2
    size = ((fixed.energy + floor) * (energy + floor)).rsqrt()
    value = product * size
    terms = torch.stack([size, -value / (energy + floor), torch.zeros_like(size)], 1)
    curvature = value.clamp(min=LEAST_SIMILARITY) / (energy + floor)
    return Windows(value, share, curvature.detach(), terms.detach())
