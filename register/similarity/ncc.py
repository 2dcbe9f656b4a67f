"""Squared normalised cross-correlation of intensities."""

import torch
from torch import Tensor

from register.images.filters import window_sums
from register.similarity.base import FLAT, LEAST_SIMILARITY, FixedImage, Similarity, Windows


def ncc(fixed: FixedImage, warped: Tensor) -> Windows:
    """Squared normalised cross-correlation over each window: invariant to gain, offset and sign of the
    contrast.

    Source: the neighbourhood cross-correlation of Avants et al., "Symmetric diffeomorphic image registration
    with cross-correlation", Med. Image Anal. 12 (2008), eq. 5, over adjoining windows.
    """
    weighted = warped * fixed.weight
    products = torch.cat([weighted, weighted * warped, weighted * fixed.image], 1)
    sums = window_sums(products, fixed.side).flatten(2)
    mean_w, square_w, product = (sums / fixed.count.clamp(min=1e-3)[:, None]).unbind(1)
    mean_f, var_f = fixed.moments
    var_w, cov = (square_w - mean_w.square()).clamp(min=0), product - mean_f * mean_w
    ratio = cov / ((var_f + FLAT) * (var_w + FLAT))
    value = cov * ratio
    per_pixel = 2 / ((var_w + FLAT) * fixed.count.clamp(min=1))
    a, b = 2 * ratio / fixed.count.clamp(min=1), -value * per_pixel
    terms = torch.stack([a, b, -a * mean_f - b * mean_w], 1)
    curvature = value.clamp(min=LEAST_SIMILARITY) * per_pixel
    return Windows(value, fixed.count / fixed.side**2, curvature.detach(), terms.detach())


NCC = Similarity("ncc", ncc, compiled="ncc")
