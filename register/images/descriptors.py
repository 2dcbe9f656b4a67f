"""Descriptors of grey images: gradients, orientation structure, and self-similarity."""

import torch
from torch import Tensor

from register.compute import sums
from register.images import filters, preprocess

VALUES_AT_A_TIME = 2**19
"""Number of values that are smoothed at a time: several directions of a small image, and not more of a large
one than fits into the cache of the processor."""


def gradient(image: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Derivatives along x and y of (..., h, w) after a Gaussian of ``sigma`` pixels."""
    kernel = filters.gaussian(sigma)
    places = range(-(len(kernel) // 2), len(kernel) // 2 + 1)
    variance = sum(t * t * weight for t, weight in zip(places, kernel, strict=True))
    derivative = [t * weight / variance for t, weight in zip(places, kernel, strict=True)]
    return filters.separable(image, derivative, kernel), filters.separable(image, kernel, derivative)


def orientation(image: Tensor, mask: Tensor, *, sigma: float = 1.0, neighbourhood: float = 6.0) -> Tensor:
    """Orientation structure (b, 2, h, w) of grey images (b, 1, h, w) valid where ``mask`` (b, 1, h, w) is 1.

    Gradients in double-angle representation, ``(gx² - gy², 2 gx gy) / |g|``, which does not depend on the
    sign of the contrast. They are divided by the local magnitude (root mean square within ``neighbourhood``
    pixels plus a floor), so that weak and strong edges have equal weight. Sources: double angle, Granlund
    1978; normalised gradient fields, Haber & Modersitzki 2006, whose squared-cosine distance is the inner
    product of these vectors.
    """
    gx, gy = gradient(image, sigma)
    solid = preprocess.erode(mask, round(2 * sigma) + 1)  # the edge of a mask is not an edge of the image
    gx, gy = gx.mul_(solid), gy.mul_(solid)
    xx, yy = gx * gx, gy * gy
    energy = xx + yy
    weight = filters.smooth_widely(solid, neighbourhood).clamp_(min=1e-3)
    local = filters.smooth_widely(energy, neighbourhood).div_(weight)
    floor = (sums.plane(energy) / sums.plane(solid).clamp(min=1)) * 0.05 + 1e-10
    scale = energy.mul_(local.add_(floor)).clamp_(min=1e-20).rsqrt_()
    return torch.cat([xx.sub_(yy).mul_(scale), gx.mul_(2).mul_(gy).mul_(scale)], dim=1)


def self_similarity(image: Tensor, mask: Tensor, *, sigma: float = 1.0, distance: int = 2) -> Tensor:
    """MIND descriptor (b, 8, h, w) of grey images (b, 1, h, w) valid where ``mask`` (b, 1, h, w) is 1.

    The similarity of each pixel's neighbourhood to those ``distance`` pixels away in eight directions: exp(-D
    / V), where D is the squared difference smoothed by a Gaussian of ``sigma`` pixels and V its mean over the
    directions. The mean over the directions is subtracted. The descriptor does not depend on the grey values
    of regions, only on the positions of their edges, and its optimum is wider than that of the orientation
    structure. Source: Heinrich et al., "MIND: Modality independent neighbourhood descriptor", Med. Image
    Anal. 16 (2012), eqs. 4-6.
    """
    solid = preprocess.erode(mask, 2 * distance)
    around = [(y, x) for y in (-distance, 0, distance) for x in (-distance, 0, distance) if (y, x) != (0, 0)]
    few = max(VALUES_AT_A_TIME // image.numel(), 1)
    squares = [
        torch.cat([(image - image.roll(step, (-2, -1))).square_() for step in around[i : i + few]], dim=1)
        for i in range(0, len(around), few)
    ]
    difference = torch.cat([filters.smooth(some, sigma) for some in squares], dim=1)
    variance = difference.mean(1, keepdim=True)
    floor = sums.plane(variance * solid) / sums.plane(solid).clamp(min=1) * 0.05 + 1e-8
    similarity = torch.exp(-difference / (variance + floor))
    return (similarity - similarity.mean(1, keepdim=True)) * solid
