"""How alike two images are, window by window: one function and one entry in ``SIMILARITIES`` each.

Every similarity takes what stays (``FixedImage``) and a warped image (b, c, h, w) and
returns a value per window, at most 1 and higher when more alike, with the weight it deserves. Gradients flow through
``warped``; weights carry none, so no similarity is gained by pushing pixels out of sight.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from register.geometry.bspline import cubic_spline
from register.images.filters import window_sums

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


@dataclass(frozen=True)
class FixedImage:
    """What stays while a warped image changes: the fixed one (1 or b, c, h, w), the weight (b, 1, h, w) of its pixels in [0, 1], and the side of the windows.

    What is summed of them is summed once.
    """

    fixed: Tensor
    weight: Tensor
    side: int

    @cached_property
    def count(self) -> Tensor:
        """The weight (b, n) of each window's pixels."""
        return window_sums(self.weight, self.side).flatten(1)

    @cached_property
    def weighted(self) -> Tensor:
        """The fixed image times the weight of its pixels."""
        return self.fixed * self.weight

    @cached_property
    def energy(self) -> Tensor:
        """The sum (b, n) of the squared vectors of each window."""
        return window_sums((self.weighted * self.fixed).sum(1, True), self.side).flatten(1)

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """The mean and the variance (b, n) of each window, of a single channel."""
        sums, squares = (
            window_sums(torch.cat([self.weighted, self.weighted * self.fixed], 1), self.side)
            .flatten(2)
            .unbind(1)
        )
        n = self.count.clamp(min=1e-3)
        mean = sums / n
        return mean, (squares / n - mean.square()).clamp(min=0)


Similarity = Callable[[FixedImage, Tensor], Windows]


def cosine(still: FixedImage, warped: Tensor) -> Windows:
    """Cosine between two vector fields (orientation structure, self-similarity) over each window: sum f·w / sqrt(sum |f|² sum |w|²)."""
    parts = torch.cat(
        [(still.weighted * warped).sum(1, True), warped.square().sum(1, True) * still.weight], 1
    )
    product, energy_w = window_sums(parts, still.side).flatten(2).unbind(1)
    share = still.count / still.side**2
    floor = (0.02 * share + 1e-4) * still.side**2
    size = ((still.energy + floor) * (energy_w + floor)).rsqrt()
    value = product * size
    along = torch.stack([size, -value / (energy_w + floor), torch.zeros_like(size)], 1)
    return Windows(value, share, (value.clamp(min=LEAST_BEND) / (energy_w + floor)).detach(), along.detach())


def ncc(still: FixedImage, warped: Tensor) -> Windows:
    """Squared normalised cross-correlation over each window, blind to gain, offset and the sign of contrast.

    Source: the neighbourhood cross-correlation of Avants et al., "Symmetric diffeomorphic image registration with
    cross-correlation", Med. Image Anal. 12 (2008), eq. 5, over adjoining windows.
    """
    weighted = warped * still.weight
    sums = window_sums(
        torch.cat([weighted, weighted * warped, weighted * still.fixed], 1), still.side
    ).flatten(2)
    mean_w, square_w, product = (sums / still.count.clamp(min=1e-3)[:, None]).unbind(1)
    mean_f, var_f = still.moments
    var_w, cov = (square_w - mean_w.square()).clamp(min=0), product - mean_f * mean_w
    slope = cov / ((var_f + FLAT) * (var_w + FLAT))
    value = cov * slope
    per_pixel = 2 / ((var_w + FLAT) * still.count.clamp(min=1))
    a, b = 2 * slope / still.count.clamp(min=1), -value * per_pixel
    along = torch.stack([a, b, -a * mean_f - b * mean_w], 1)
    return Windows(
        value, still.count / still.side**2, (value.clamp(min=LEAST_BEND) * per_pixel).detach(), along.detach()
    )


def mse(still: FixedImage, warped: Tensor) -> Windows:
    """One minus the mean squared difference over each window in units of the fixed image's variance."""
    count = still.count
    squared = window_sums(still.weight * (still.fixed - warped).square().mean(1, True), still.side).flatten(
        1
    ) / count.clamp(min=1e-3)
    spread = (still.moments[1] * count).sum(1, True) / count.sum(1, True).clamp(min=1e-6) + FLAT
    bend = (2 / (spread * count.clamp(min=1))).expand_as(squared)
    each = bend / warped.shape[1]
    along = torch.stack([each, -each, torch.zeros_like(each)], 1)
    return Windows(1 - squared / spread, count / still.side**2, bend, along)


def mi(still: FixedImage, warped: Tensor, *, bins: int = 32, samples: int = 65536) -> Windows:
    """Mutual information of the whole images over the entropy of the fixed one; a single window, the side of windows is not used.

    The joint histogram is smooth: linear B-spline Parzen windows along the fixed axis, cubic ones along the moving axis, on a
    regular subset of at most ``samples`` pixels. Source: Mattes et al., "PET-CT image registration in the chest using
    free-form deformations", IEEE TMI 22 (2003), eqs. 3-9.
    """
    stride = max(round((warped.shape[-1] * warped.shape[-2] / samples) ** 0.5), 1)
    f, w, m = (x[:, :1, ::stride, ::stride].flatten(1) for x in (still.fixed, warped, still.weight))
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
