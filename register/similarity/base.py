"""Types that all similarity metrics share: the fixed image, values per window, and the registry record.

A similarity compares a fixed image (1 or b, c, h, w) with a warped moving image (b, c, h, w) in adjoining
square windows. It returns a value per window, at most 1 and higher for more similar images, with the window's
weight. Gradients flow through the warped image only. Weights carry no gradient, so that the loss cannot fall
by moving pixels out of the overlap.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from register.compute import sums
from register.images.filters import window_sums
from register.kernels.step_sums import Kind

FLAT = 1e-5
"""Variance, in units of the squared robust range, added to denominators so that flat windows give 0
instead of noise."""
UNEXPLAINED = 0.005
"""Share of a window's variance that always counts as unexplained. It limits the influence of a window that
matches perfectly."""
LEAST_SIMILARITY = 0.1
"""Lower bound of the similarity in the curvature: without it, a window without a match has almost no
curvature and Gauss-Newton steps have no bound."""


class Windows(NamedTuple):
    """Similarity values (b, n) of n windows, row by row, and their weights (b, n) >= 0.

    ``curvature`` (b, n) is the Gauss-Newton second derivative of -value with respect to each pixel of the
    warped image. ``gradient_terms`` (b, 3, n) holds a, b and c of the gradient: the derivative of a value
    with respect to a pixel of its window is weight · (a · fixed + b · warped + c). Both are None for a
    similarity without a Hessian per window.
    """

    value: Tensor
    weight: Tensor
    curvature: Tensor | None = None
    gradient_terms: Tensor | None = None

    def mean(self) -> Tensor:
        """The weighted mean (b,); 0 where no window has weight."""
        return sums.last(self.value * self.weight) / sums.last(self.weight).clamp(min=1e-6)

    def loss(self) -> Tensor:
        """The loss (b,) that is minimised: the weighted mean of log(1 - value), shifted to 0 at a perfect
        match.

        For ncc, 1 - value is the share of variance that is not explained, and its logarithm is the
        log-likelihood under Gaussian noise of unknown variance. Windows that match well have large gradients,
        windows of noise small ones.
        """
        total, weight = self.summed_loss()
        return total / weight.clamp(min=1e-6)

    def loss_decrease(self, after: "Windows") -> float:
        """The decrease of the loss from these windows to ``after``, with the smaller weight of each
        window."""
        common = torch.minimum(self.weight, after.weight)
        return float(Windows(self.value, common).loss() - Windows(after.value, common).loss())

    def summed_loss(self) -> tuple[Tensor, Tensor]:
        """The weighted sum (b,) of the loss over the windows and the sum (b,) of their weights."""
        return sums.last(self.losses()), sums.last(self.weight)

    def losses(self) -> Tensor:
        """The weighted loss (b, n) of every window."""
        left = (1 - self.value).clamp(min=0) / (1 + UNEXPLAINED) + UNEXPLAINED / (1 + UNEXPLAINED)
        return left.log() * self.weight

    def derivatives(self) -> Tensor:
        """Derivatives (b, 4, n) of ``summed_loss`` with respect to the warped image, by window.

        The first three are a, b and c of the gradient, as in ``gradient_terms``; the fourth is the curvature
        per pixel.
        """
        assert self.curvature is not None
        assert self.gradient_terms is not None
        chain = self.weight / ((1 - self.value).clamp(min=0) + UNEXPLAINED)
        return torch.cat([-self.gradient_terms, self.curvature[:, None]], 1) * chain[:, None]


@dataclass(frozen=True)
class FixedImage:
    """The fixed image of a comparison, with the sums over windows that are equal for all warped images."""

    image: Tensor  # (1 or b, c, h, w): intensities or descriptors
    weight: Tensor  # (b, 1, h, w): the weight of each pixel, in [0, 1]
    side: int  # of a window, in pixels

    @cached_property
    def count(self) -> Tensor:
        """The sum (b, n) of the weights of each window's pixels."""
        return window_sums(self.weight, self.side).flatten(1)

    @cached_property
    def weighted(self) -> Tensor:
        """The fixed image times the weight of its pixels."""
        return self.image * self.weight

    @cached_property
    def energy(self) -> Tensor:
        """The weighted sum (b, n) of the squared descriptor vectors of each window."""
        return window_sums((self.weighted * self.image).sum(1, True), self.side).flatten(1)

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """The mean and the variance (b, n) of each window, of an image with a single channel."""
        both = torch.cat([self.weighted, self.weighted * self.image], 1)
        sums, squares = window_sums(both, self.side).flatten(2).unbind(1)
        n = self.count.clamp(min=1e-3)
        mean = sums / n
        return mean, (squares / n - mean.square()).clamp(min=0)


Function = Callable[[FixedImage, Tensor], Windows]
Descriptor = Callable[[Tensor, Tensor], Tensor]
"""A function from images (b, 1, h, w) and masks (b, 1, h, w) to descriptors (b, c, h, w)."""
DEFAULT_JUDGE = "structure"
"""The similarity that gives the error estimates for a similarity without curvature."""


@dataclass(frozen=True)
class Similarity:
    """A similarity metric: its function and its properties.

    A similarity without ``descriptor`` compares intensities. Descriptors are computed in the frame of the
    fixed image, after the moving image was warped by the global map, because they are not rotation invariant.
    """

    name: str
    function: Function
    descriptor: Descriptor | None = None
    windowed: bool = True
    """Whether there is a value per window; otherwise there is one of the entire image, which cannot be split
    into strips."""
    curved: bool = True
    """Whether ``Windows.curvature`` and ``gradient_terms`` are given, which Gauss-Newton steps and error
    bounds need."""
    compiled: Kind | None = None
    """The compiled kernel that computes the same similarity, if there is one."""
    least_gain: float = 0.04
    """Decrease of the loss, relative to an exact global map, from which patches are kept. On affine pairs
    with noise, patches lower the loss by 0.01 to 0.03 with intensities, and by up to 0.05 with descriptors on
    pairs of different sensors."""
    judged_by: str | None = None
    """The name of the similarity that gives the error estimates instead; by default this one if
    ``curved``."""

    @property
    def judge(self) -> str:
        """The name of the similarity that gives the error estimates."""
        return self.judged_by or (self.name if self.curved else DEFAULT_JUDGE)
