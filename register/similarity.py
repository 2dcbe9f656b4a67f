"""How alike two images are, window by window: one function and one entry in ``SIMILARITIES`` each.

Every similarity takes fixed (b, c, h, w), warped (b, c, h, w), weight (b, 1, h, w) in [0, 1] and a window side in pixels, and
returns a value per window, at most 1 and higher when more alike, with the weight it deserves. Gradients flow through
``warped``; weights carry none, so no similarity is gained by pushing pixels out of sight.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

FLAT = 1e-5
"""Variance, in units of the robust range squared, added to both sides of a ratio so that flat windows give 0, not noise."""

UNEXPLAINED = 0.005
"""Share of a window's variance that is never explained; it bounds how much a perfect window may outweigh the others."""

LEAST_BEND = 0.1
"""Similarity that curvature is never taken below: a window that matches nothing has almost none, and its step would have no bound."""


class Windows(NamedTuple):
    """Similarity values (b, n) of n windows, row by row, and their weights (b, n) >= 0.

    ``bend`` (b, n) is the Gauss-Newton second derivative of -value to each pixel of the warped image. ``along`` (b, 3, n) holds a, b and c of the first one:
    a value follows its window's pixels as weight · (a · fixed + b · warped + c). Both are None for a similarity of the whole image.
    """

    value: Tensor
    weight: Tensor
    bend: Tensor | None = None
    along: Tensor | None = None

    def mean(self) -> Tensor:
        """The weighted mean (b,); 0 where nothing has weight."""
        return (self.value * self.weight).sum(1) / self.weight.sum(1).clamp(min=1e-6)

    def loss(self) -> Tensor:
        """What a descent minimises (b,): the weighted mean of log(1 - value), shifted to 0 at a perfect match.

        For ncc, 1 - value is the share of variance left unexplained, and its logarithm the likelihood of Gaussian noise of unknown size:
        windows that match well count more, windows of mere noise hardly pull against their neighbours.
        """
        total, weight = self.summed_loss()
        return total / weight.clamp(min=1e-6)

    def fall(self, after: "Windows") -> float:
        """By how much the mean log of what is left unexplained falls from here to ``after``, over the windows that both see."""
        common = torch.minimum(self.weight, after.weight)
        return float(Windows(self.value, common).loss() - Windows(after.value, common).loss())

    def summed_loss(self) -> tuple[Tensor, Tensor]:
        """The weighted sum (b,) of the loss over the windows and the sum (b,) of their weights."""
        return self.losses().sum(1), self.weight.sum(1)

    def losses(self) -> Tensor:
        """The weighted loss (b, n) of every window."""
        left = (1 - self.value).clamp(min=0) / (1 + UNEXPLAINED) + UNEXPLAINED / (1 + UNEXPLAINED)
        return left.log() * self.weight

    def derivatives(self) -> Tensor:
        """How ``summed_loss`` follows the warped image, by window: a, b and c of its slope as in ``along``, and its curvature to each pixel (b, 4, n)."""
        assert self.bend is not None
        assert self.along is not None
        steep = self.weight / ((1 - self.value).clamp(min=0) + UNEXPLAINED)
        return torch.cat([-self.along, self.bend[:, None]], 1) * steep[:, None]


Similarity = Callable[[Tensor, Tensor, Tensor, int], Windows]


def window_sums(image: Tensor, side: int) -> Tensor:
    """Sums (b, c, rows, columns) over adjoining square windows of (b, c, h, w); the last ones may be cut by the border."""
    sides = min(side, image.shape[-2]), min(side, image.shape[-1])
    return avg_pool2d(image, sides, ceil_mode=True, divisor_override=1)


def cosine(fixed: Tensor, warped: Tensor, weight: Tensor, side: int) -> Windows:
    """Cosine between two vector fields (orientation structure, self-similarity) over each window: sum f·w / sqrt(sum |f|² sum |w|²)."""
    parts = torch.cat([(fixed * warped).sum(1, True), warped.square().sum(1, True)], 1)
    product, energy_w = window_sums(parts * weight, side).flatten(2).unbind(1)
    energy_f, count = window_sums(torch.cat([fixed.square().sum(1, True) * weight, weight], 1), side).flatten(2).unbind(1)
    share = count / side**2
    floor = (0.02 * share + 1e-4) * side**2
    size = ((energy_f + floor) * (energy_w + floor)).rsqrt()
    value = product * size
    along = torch.stack([size, -value / (energy_w + floor), torch.zeros_like(size)], 1)
    return Windows(value, share.detach(), (value.clamp(min=LEAST_BEND) / (energy_w + floor)).detach(), along.detach())


def ncc(fixed: Tensor, warped: Tensor, weight: Tensor, side: int) -> Windows:
    """Squared normalised cross-correlation over each window, blind to gain, offset and the sign of contrast.

    Source: the neighbourhood cross-correlation of Avants et al., "Symmetric diffeomorphic image registration with
    cross-correlation", Med. Image Anal. 12 (2008), eq. 5, over adjoining windows.
    """
    count, mean_f, mean_w, var_f, var_w, cov = _moments(fixed, warped, weight, side)
    slope = cov / ((var_f + FLAT) * (var_w + FLAT))
    value = cov * slope
    per_pixel = 2 / ((var_w + FLAT) * count.clamp(min=1))
    a, b = 2 * slope / count.clamp(min=1), -value * per_pixel
    along = torch.stack([a, b, -a * mean_f - b * mean_w], 1)
    return Windows(value, (count / side**2).detach(), (value.clamp(min=LEAST_BEND) * per_pixel).detach(), along.detach())


def mse(fixed: Tensor, warped: Tensor, weight: Tensor, side: int) -> Windows:
    """One minus the mean squared difference over each window in units of the fixed image's variance."""
    count, _, _, var_f, _, _ = _moments(fixed, warped, weight, side)
    squared = window_sums(weight * (fixed - warped).square().mean(1, True), side).flatten(1) / count.clamp(min=1e-3)
    spread = (var_f * count).sum(1, True) / count.sum(1, True).clamp(min=1e-6) + FLAT
    bend = 2 / (spread * count.clamp(min=1))
    each = bend / fixed.shape[1]
    along = torch.stack([each, -each, torch.zeros_like(each)], 1)
    return Windows(1 - squared / spread.detach(), (count / side**2).detach(), bend.detach(), along.detach())


def mi(fixed: Tensor, warped: Tensor, weight: Tensor, side: int, *, bins: int = 32, samples: int = 65536) -> Windows:
    """Mutual information of the whole images over the entropy of the fixed one; a single window, ``side`` is not used.

    The joint histogram is smooth: linear B-spline Parzen windows along the fixed axis, cubic ones along the moving axis, on a
    regular subset of at most ``samples`` pixels. Source: Mattes et al., "PET-CT image registration in the chest using
    free-form deformations", IEEE TMI 22 (2003), eqs. 3-9.
    """
    stride = max(round((fixed.shape[-1] * fixed.shape[-2] / samples) ** 0.5), 1)
    f, w, m = (x[:, :1, ::stride, ::stride].flatten(1) for x in (fixed, warped, weight))
    centres = torch.arange(bins, dtype=f.dtype, device=f.device)
    inner = bins - 5  # two bins of padding on either side hold the tails of the cubic window
    f_bins = (1 - (f.clamp(0, 1) * inner + 2)[..., None].sub(centres).abs()).clamp(min=0)
    w_bins = cubic_spline((w.clamp(0, 1) * inner + 2)[..., None].sub(centres).abs())
    joint = (f_bins * m[..., None]).transpose(1, 2) @ w_bins
    joint = joint / joint.sum((1, 2), keepdim=True).clamp(min=1e-12)
    p_f, p_w = joint.sum(2, keepdim=True), joint.sum(1, keepdim=True)
    information = (joint * (joint.clamp(min=1e-12).log() - (p_f * p_w).clamp(min=1e-12).log())).sum((1, 2))
    entropy = -(p_f * p_f.clamp(min=1e-12).log()).sum((1, 2)).clamp(max=-1e-6)
    return Windows((information / entropy.detach())[:, None], m.mean(1, True).detach())


SIMILARITIES: dict[str, Similarity] = {"structure": cosine, "mind": cosine, "ncc": ncc, "mi": mi, "mse": mse}
CURVED = "structure", "mind", "ncc", "mse"
"""Those of windows, whose second derivative is known; ``mi`` is of the whole image."""


def _moments(fixed: Tensor, warped: Tensor, weight: Tensor, side: int) -> tuple[Tensor, ...]:
    """Weight, means, variances and covariance (b, n) per window of single-channel images."""
    weighted_f, weighted_w = weight * fixed, weight * warped
    count, s_f, s_ff = window_sums(torch.cat([weight, weighted_f, weighted_f * fixed], 1), side).flatten(2).unbind(1)
    s_w, s_ww, s_fw = window_sums(torch.cat([weighted_w, weighted_w * warped, weighted_f * warped], 1), side).flatten(2).unbind(1)
    n = count.clamp(min=1e-3)
    mean_f, mean_w = s_f / n, s_w / n
    var_f, var_w = (s_ff / n - mean_f.square()).clamp(min=0), (s_ww / n - mean_w.square()).clamp(min=0)
    return count, mean_f, mean_w, var_f, var_w, s_fw / n - mean_f * mean_w


def cubic_spline(t: Tensor) -> Tensor:
    """The cubic B-spline at distances t >= 0."""
    near = 2 / 3 - t.square() * (1 - t / 2)
    far = (2 - t).clamp(min=0).pow(3) / 6
    return torch.where(t < 1, near, far)
