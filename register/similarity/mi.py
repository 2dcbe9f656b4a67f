"""Normalised mutual information of the entire images."""

import torch
from torch import Tensor

from register.compute import sums
from register.geometry.bspline import cubic_spline
from register.similarity.base import FixedImage, Similarity, Windows


def mi(fixed: FixedImage, warped: Tensor, *, bins: int = 32, samples: int = 65536) -> Windows:
    """Mutual information of the entire images divided by the entropy of the fixed image, as a single window.

    The joint histogram is smooth: linear B-spline Parzen windows along the fixed axis, cubic ones along the
    moving axis, on a regular subset of at most ``samples`` pixels. Source: Mattes et al., "PET-CT image
    registration in the chest using free-form deformations", IEEE TMI 22 (2003), eqs. 3-9.
    """
    stride = max(round((warped.shape[-1] * warped.shape[-2] / samples) ** 0.5), 1)
    f, w, m = (x[:, :1, ::stride, ::stride].flatten(1) for x in (fixed.image, warped, fixed.weight))
    centres = torch.arange(bins, dtype=f.dtype, device=f.device)
    inner = bins - 5  # two bins of padding on either side hold the tails of the cubic window
    f_bins = (1 - (f.clamp(0, 1) * inner + 2)[..., None].sub(centres).abs()).clamp(min=0)
    w_bins = cubic_spline((w.clamp(0, 1) * inner + 2)[..., None].sub(centres).abs())
    joint = (f_bins * m[..., None]).transpose(1, 2) @ w_bins
    joint = joint / joint.sum((1, 2), keepdim=True).clamp(min=1e-12)
    p_f, p_w = joint.sum(2, keepdim=True), joint.sum(1, keepdim=True)
    information = (joint * (joint.clamp(min=1e-12).log() - (p_f * p_w).clamp(min=1e-12).log())).sum((1, 2))
    entropy = -(p_f * p_f.clamp(min=1e-12).log()).sum((1, 2)).clamp(max=-1e-6)
    return Windows((information / entropy.detach())[:, None], (sums.last(m) / m.shape[1])[:, None].detach())


MI = Similarity("mi", mi, windowed=False, curved=False, judged_by="structure")
