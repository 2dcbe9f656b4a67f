"""Hot pixels: single pixels whose value has nothing to do with that of their neighbours."""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from register.compute import sums
from register.images import filters, preprocess

SIDE = 1024
"""Side, in pixels, of the middle of the image in which they are looked for."""
DEVIATIONS = 10.0
"""Distance from the median of the neighbourhood, in standard deviations of the noise, from which a pixel is
an outlier. It must also exceed the range of these medians."""
LEAST_SHARE, MOST_SHARE = 5e-4, 0.12
"""Share of hot pixels in an image, at least and at most."""
ISOLATED, NEIGHBOURS = 0.6, 1
"""Share of the outliers that are isolated, at least, and the largest number of outliers among the neighbours
of such a pixel. Points of lines and stars have more."""
SPREAD = 0.1
"""Mean height of the four nearest neighbours, in units of that of the hot pixel, at most. An optical system
blurs a real point more."""


def threshold(plane: Tensor, valid: Tensor) -> float:
    """The distance from the median of the neighbourhood from which pixels of (1, h, w) are hot.

    It is infinite where there are no hot pixels; ``valid`` (1, h, w) are the valid pixels.
    """
    rows, columns = (slice(max((n - SIDE) // 2, 0), (n + SIDE) // 2) for n in plane.shape[-2:])
    plane, known = plane[:, rows, columns].cpu().float(), valid[:, rows, columns].cpu() > 0.5
    if min(plane.shape[-2:]) < 8 or len(preprocess.sampled(known, known)) == 0:
        return math.inf
    medians = _medians(plane)
    height = (plane - medians) * known
    low, high = preprocess.robust_range(medians, known.float())
    noise = 1.4826 * filters.median(preprocess.sampled(height.abs(), known))
    limit = max(DEVIATIONS * noise, high - low)
    if not (high > low and math.isfinite(limit)):
        return math.inf
    if int((height.abs() > limit).count_nonzero()) < LEAST_SHARE * height.numel():
        return math.inf
    hot, outliers = _isolated(height, limit)
    share = float(sums.mean(hot.float()))
    if not LEAST_SHARE <= share <= MOST_SHARE or share < ISOLATED * float(sums.mean(outliers.float())):
        return math.inf
    wide = pad(height.abs().masked_fill(outliers, 0.0), (1,) * 4)
    near = (wide[..., 1:-1, 2:] + wide[..., 1:-1, :-2] + wide[..., 2:, 1:-1] + wide[..., :-2, 1:-1]) / 4
    blurred = float(sums.total(near * hot)) / float(sums.total(height.abs() * hot))
    return limit if blurred < SPREAD else math.inf


def hot(plane: Tensor, limit: float) -> Tensor:
    """Which pixels of a plane (1, h, w) are hot, by the ``threshold`` of the image: bool (1, h, w)."""
    grey = plane.cpu().float()
    return _isolated(grey - _medians(grey), limit)[0].to(plane.device)


def _isolated(height: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """The outliers (1, h, w) with few outliers around them, and all outliers, by their distance from the
    median."""
    outliers = height.abs() > limit
    around = pad(outliers.float(), (1,) * 4)
    count = around.unfold(1, 3, 1).unfold(2, 3, 1).sum((-2, -1)) - outliers.float()
    return outliers & (count <= NEIGHBOURS), outliers


def _medians(plane: Tensor) -> Tensor:
    """The median (1, h, w) of three by three pixels around each of a plane on the CPU."""
    return torch.from_numpy(filters.opencv().medianBlur(plane[0].contiguous().numpy(), 3))[None]
