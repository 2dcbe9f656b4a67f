"""Whether what two aligned images do not share is content that moved, while a pattern stays where it is.

Where a pattern of the sensor, of dust or of the illumination decides that nothing has moved, the difference
of both images is content minus the same content elsewhere. It is opposite to itself after that displacement,
and its correlation with the sum of both images is odd: positive on one side, negative on the other. A
difference of contrast is even, and noise is neither.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from register.compute import sums
from register.images import filters, preprocess

DETAIL, WIDE = 1.0, 24.0
"""Standard deviations, in pixels, of the Gaussians between which detail lies."""
CLIPPED = 6.0
"""Largest value of the difference and of the sum, in units of the median of their lengths."""
LEAST_SHIFT, LEAST_OVERLAP = 8.0, 0.3
"""Displacement, in pixels, from which it is told from a fit that is not exact, and the share of the image
that must overlap itself."""
LEAST_ALIKE = 0.3
"""Correlation of the detail of both images, below which no pattern decides."""
LEAST_SHARE = 0.02
"""Variance of the difference, in units of that of the fixed image, below which nothing has moved."""
LEFT = 0.5
"""Variance of the difference under the transform, in units of that without displacement, from which the
transform explains nothing."""
OPPOSITE, OPPOSITE_DEVIATIONS = 0.1, 3.5
"""Least correlation of the difference with the opposite of itself, and in its standard deviations."""
ODD_DEVIATIONS, HIGHEST = 2.5, 0.8
"""Least odd part of the correlation at that displacement, in its standard deviations and in units of its
largest value."""
TOGETHER = 15.0
"""Least product of both in standard deviations."""


@dataclass(frozen=True)
class Motion:
    """How far, in pixels, content has moved from the fixed to the moving image."""

    x: float
    y: float


def find(fixed: Tensor, moving: Tensor, mask: Tensor) -> Motion | None:
    """The motion, if any, of what two planes (1, h, w) do not share, where a ``mask`` is 1."""
    valid = preprocess.erode((mask > 0.99).float()[None], 3)[0]
    one, other = _detail(fixed, valid), _detail(moving, valid)
    difference, alike = _difference(one, other)
    powers = [float(sums.total(x.square())) for x in (one, difference)]
    if alike <= LEAST_ALIKE or powers[1] < LEAST_SHARE * powers[0]:
        return None
    return _opposite(_clipped(difference), _clipped(2 * one - difference), valid)


def is_explained(fixed: Tensor, moving: Tensor, warped: Tensor, mask: Tensor) -> bool:
    """Whether much of the difference of two planes is gone where the moving one is ``warped``."""
    valid = preprocess.erode(mask[None], 3)[0]
    one = _detail(fixed, valid)
    before, after = (_difference(one, _detail(x, valid))[0] for x in (moving, warped))
    return float(sums.total(after.square())) < LEFT * float(sums.total(before.square()))


def _difference(one: Tensor, other: Tensor) -> tuple[Tensor, float]:
    """A plane minus the multiple of another one that is most like it, and the correlation of both."""
    common, own = sums.total(one * other), sums.total(other.square()).clamp(min=1e-12)
    alike = common / (sums.total(one.square()).clamp(min=1e-12) * own).sqrt()
    return one - common / own * other, float(alike)


def _opposite(difference: Tensor, total: Tensor, valid: Tensor) -> Motion | None:
    """The displacement at which the difference of two images is opposite to itself, and its correlation with
    their sum is odd; None where neither stands out."""
    size = tuple(2 * n for n in valid.shape[-2:])
    d, t, v = (torch.fft.rfft2(x[0].double(), s=size) for x in (difference, total, valid))
    products = torch.stack([v.abs().square(), d.abs().square(), d.conj() * t])
    count, own, across = torch.fft.irfft2(products, s=size)
    y, x = (torch.fft.fftfreq(n, 1 / n, device=own.device, dtype=own.dtype) for n in size)
    far = (count > LEAST_OVERLAP * count[0, 0]) & (torch.hypot(y[:, None], x) > LEAST_SHIFT)
    if not bool(far.any()):
        return None
    power = float(own[0, 0] / count[0, 0])
    own, across = (torch.where(far, each / count.clamp(min=1), 0.0) for each in (own, across))
    odd = (across - across.flip(0, 1).roll((1, 1), (0, 1))) / 2
    place = int(own.argmin())
    lowest, there = float(own.flatten()[place]), float(odd.flatten()[place])
    deviations = [max(float(each[far].std()), 1e-30) for each in (own, odd)]
    opposite, uneven = -lowest / deviations[0], abs(there) / deviations[1]
    if -lowest < OPPOSITE * power or opposite < OPPOSITE_DEVIATIONS or opposite * uneven < TOGETHER:
        return None
    if uneven < ODD_DEVIATIONS or abs(there) < HIGHEST * float(odd.abs().max()):
        return None
    sign = 1.0 if there > 0 else -1.0
    return Motion(sign * float(x[place % size[1]]), sign * float(y[place // size[1]]))


def _detail(plane: Tensor, valid: Tensor) -> Tensor:
    """A plane (1, h, w) minus its local mean; 0 where ``valid`` is 0."""
    sharp, count = filters.smooth(torch.stack([plane * valid, valid]), DETAIL)
    wide, around = filters.smooth_widely(torch.stack([plane * valid, valid]), WIDE)
    return (sharp / count.clamp(min=1e-3) - wide / around.clamp(min=1e-3)) * valid


def _clipped(plane: Tensor) -> Tensor:
    """A plane with outliers clipped: few strong edges would otherwise outweigh weak content."""
    return filters.clipped(plane, plane != 0, CLIPPED)
