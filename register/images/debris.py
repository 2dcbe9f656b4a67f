"""Saturated debris: values at one end of the range that are far from all other values, as of dirt and hot
pixels.

One percent of such pixels would otherwise set the range to which grey values are scaled.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from register.compute import sums
from register.images import filters, preprocess

LEAST_SHARE, MOST_SHARE = 0.002, 0.25
"""Share of the pixels that are saturated, at least and at most, for them to be debris."""
NEAR = 0.02
"""Distance from the extreme value, as a share of its distance from the median, up to which a value is
saturated: lossy compression changes it a little."""
EDGES = 1.5
"""Share of pixels, in units of that of the saturated ones, that may lie between these and all others: the
blurred edges of debris."""
LEAST_GAP = 2.0
"""Distance of the saturated values from all others, at least, in units of the range of these."""
TAIL = 0.005
"""Share of the values at either end that does not count in their range."""
LEAST_STRUCTURE, LAG = 0.15, 3
"""Correlation of the other pixels over a distance of ``LAG`` pixels, at least. If they are only noise, as the
paper of a drawing is, then the saturated pixels are what the image shows."""
LEVELS = 16
"""Distinct values of the other pixels, at least; images with fewer are drawings or labels."""


class Bounds(NamedTuple):
    """The smallest and the largest grey value that is not debris; infinite where no debris was found."""

    low: float = -math.inf
    high: float = math.inf

    @property
    def is_open(self) -> bool:
        """Whether there is no debris."""
        return self.low == -math.inf and self.high == math.inf

    def contain(self, values: Tensor) -> Tensor:
        """Which values (...) are not debris."""
        return (values >= self.low) & (values <= self.high)


def bounds(plane: Tensor, valid: Tensor) -> Bounds:
    """The range of the grey values of a plane (1, h, w) without debris, from its ``valid`` pixels (1, h, w).

    Debris is a spike at the largest or the smallest value with a wide gap between it and the other values.
    These must have structure of their own.
    """
    found = Bounds()
    values = preprocess.sampled(plane, valid).sort().values
    for _ in range(2):
        high = _end(values)
        values = values[values <= high]
        low = -_end(-values.flip(0))
        values = values[values >= low]
        found = Bounds(max(found.low, low), min(found.high, high))
    if found.is_open or not _has_structure(plane, (valid > 0.5) & found.contain(plane), values):
        return Bounds()
    return found


def _end(values: Tensor) -> float:
    """The value above which sorted values (n,) are debris; infinite without debris."""
    count = len(values)
    if count < 1 / LEAST_SHARE:
        return math.inf
    extreme, centre = float(values[-1]), float(values[count // 2])
    spike = count - int(torch.searchsorted(values, extreme - NEAR * (extreme - centre)))
    if not LEAST_SHARE * count <= spike <= MOST_SHARE * count:
        return math.inf
    last = count - 1 - spike - math.ceil(EDGES * spike + TAIL * count)
    low, high = float(values[round(TAIL * count)]), float(values[max(last, 0)])
    gap = extreme - high
    between = int(
        torch.searchsorted(values, extreme - 0.1 * gap) - torch.searchsorted(values, high + 0.25 * gap)
    )
    if not (high > low and gap >= LEAST_GAP * (high - low) and between < spike / 2):
        return math.inf
    return high + 0.25 * gap


def _has_structure(plane: Tensor, clean: Tensor, values: Tensor) -> bool:
    """Whether the ``clean`` pixels of a plane (1, h, w), with sorted ``values`` (n,), are more than noise."""
    low, high = (float(values[round(share * (len(values) - 1))]) for share in (TAIL, 1 - TAIL))
    if not high > low or int((values.diff() > 0).sum()) + 1 < LEVELS or min(plane.shape[-2:]) < 4 * LAG:
        return False
    grey = ((plane - low) / (high - low)).clamp(0, 1).float()
    weight = clean.to(grey)
    means = filters.smooth_widely(torch.stack([grey * weight, weight]), 8.0)
    rest = (grey - means[0] / means[1].clamp(min=1e-3)) * weight
    both = weight[..., LAG:] * weight[..., :-LAG]
    covariance = sums.total(rest[..., LAG:] * rest[..., :-LAG]) / sums.total(both).clamp(min=1)
    variance = sums.total(rest.square()) / sums.total(weight).clamp(min=1)
    return bool(covariance > LEAST_STRUCTURE * variance)


def removed(plane: Tensor, clean: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """A plane (1, h, w) without debris, and the share (1, h, w) of each pixel that is valid.

    ``clean`` and ``valid`` (1, h, w) are the shares of each pixel without debris, and with it. Debris up to
    two pixels wide, such as hot pixels, gets the mean value of its neighbours; wider debris becomes invalid,
    with its edges.
    """
    holes = ((valid > 0.5) & (clean <= 0.5)).to(plane)
    wide = filters.widened(1 - filters.widened(1 - holes, 1), 1)
    total, count = (filters.smooth(x, 1.0) for x in (plane * clean, clean))
    narrow = (holes > 0) & (wide == 0) & (count > 1e-3)
    mended = torch.where(narrow, total / count.clamp(min=1e-3), plane)
    share = torch.where(narrow, valid, clean) * (filters.widened(wide, 1) == 0)
    return mended, share
