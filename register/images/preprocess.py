"""What is compared: a working grey with a robust range, where it is valid, and the orientation structure in
it."""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from register.compute import sums
from register.images import filters, pyramid
from register.images.pyramid import Level

LOOKED_AT = 100_000
"""Pixels, evenly spread, that say what the range of an image is, and its noise."""
SECOND = 1.0, -2.0, 1.0
"""The second difference."""


def robust_range(plane: Tensor, mask: Tensor, share: float = 0.005) -> tuple[float, float]:
    """The values of (1, h, w) below and above which a ``share`` of the valid pixels lies; not many more than
    ``LOOKED_AT`` are looked at."""
    step = max(math.isqrt(plane.numel() // LOOKED_AT), 1)
    plane, mask = plane[..., ::step, ::step], mask[..., ::step, ::step]
    values = plane[mask > 0.5]
    if len(values) == 0:
        return 0.0, 0.0
    last = len(values) - 1
    low, high = (float(values.kthvalue(1 + round(place * last)).values) for place in (share, 1 - share))
    return low, high


def extent(plane: Tensor, mask: Tensor) -> tuple[float, float]:
    """The smallest and the largest value of (1, h, w) where ``mask`` is not 0; nan where it is 0
    everywhere."""
    values = plane if float(mask.amin()) > 0 else plane[mask > 0]
    low, high = (float(x) for x in values.aminmax()) if values.numel() else (math.nan, math.nan)
    return low, high


def normalise(plane: Tensor, mask: Tensor) -> Tensor:
    """The plane (1, h, w) with its robust range moved to [0, 1], values outside clipped, invalid pixels 0."""
    low, high = robust_range(plane, mask)
    if high <= low:  # nearly constant: a few pixels differ, and they are all there is to see
        low, high = robust_range(plane, mask, share=0.0)
    return (plane - low).div_(max(high - low, 1e-12)).clamp_(0, 1).masked_fill_(mask <= 0.5, 0.0)


def gradient(image: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Derivatives along x and y of (..., h, w) after a Gaussian of ``sigma`` pixels."""
    bell = filters.gaussian(sigma)
    places = range(-(len(bell) // 2), len(bell) // 2 + 1)
    spread = sum(t * t * weight for t, weight in zip(places, bell, strict=True))
    slope = [t * weight / spread for t, weight in zip(places, bell, strict=True)]
    return filters.separable(image, slope, bell), filters.separable(image, bell, slope)


def orientation(image: Tensor, mask: Tensor, *, sigma: float = 1.0, neighbourhood: float = 6.0) -> Tensor:
    """Orientation structure (b, 2, h, w) of grey images (b, 1, h, w) valid where ``mask`` (b, 1, h, w) is 1.

    Gradients as a double angle, ``(gx² - gy², 2 gx gy) / |g|``, so that an edge equals its contrast-reversed
    self, divided by the local magnitude (root mean square within ``neighbourhood`` pixels plus a floor), so
    that weak and strong edges count alike. Sources: double angle, Granlund 1978; normalised gradient fields,
    Haber & Modersitzki 2006, whose squared-cosine distance is the inner product of these vectors.
    """
    gx, gy = gradient(image, sigma)
    solid = erode(
        mask, round(2 * sigma) + 1
    )  # a gradient needs valid neighbours: the edge of a mask is no edge
    gx, gy = gx.mul_(solid), gy.mul_(solid)
    xx, yy = gx * gx, gy * gy
    energy = xx + yy
    weight = filters.smooth_widely(solid, neighbourhood).clamp_(min=1e-3)
    local = filters.smooth_widely(energy, neighbourhood).div_(weight)
    floor = (sums.plane(energy) / sums.plane(solid).clamp(min=1)) * 0.05 + 1e-10
    scale = energy.mul_(local.add_(floor)).clamp_(min=1e-20).rsqrt_()
    return torch.cat([xx.sub_(yy).mul_(scale), gx.mul_(2).mul_(gy).mul_(scale)], dim=1)


def self_similarity(image: Tensor, mask: Tensor, *, sigma: float = 1.0, distance: int = 2) -> Tensor:
    """Self-similarity (b, 8, h, w) of grey images (b, 1, h, w) valid where ``mask`` (b, 1, h, w) is 1.

    How alike each pixel's constant_border are to those ``distance`` pixels away in eight directions: exp(-D /
    V) with D the squared difference under a Gaussian of ``sigma`` pixels and V its mean over the directions,
    less the mean over the directions. Blind to any change of grey values that keeps edges where they are, and
    smoother around its optimum than orientation. Source: Heinrich et al., "MIND: Modality independent
    neighbourhood descriptor", Med. Image Anal. 16 (2012), eqs. 4-6.
    """
    solid = erode(mask, 2 * distance)
    around = [(y, x) for y in (-distance, 0, distance) for x in (-distance, 0, distance) if (y, x) != (0, 0)]
    few = max(TOGETHER // image.numel(), 1)
    squares = [
        torch.cat([(image - image.roll(step, (-2, -1))).square_() for step in around[i : i + few]], dim=1)
        for i in range(0, len(around), few)
    ]
    unlike = torch.cat([filters.smooth(some, sigma) for some in squares], dim=1)
    variance = unlike.mean(1, keepdim=True)
    floor = sums.plane(variance * solid) / sums.plane(solid).clamp(min=1) * 0.05 + 1e-8
    alike = torch.exp(-unlike / (variance + floor))
    return (alike - alike.mean(1, keepdim=True)) * solid


TOGETHER = 2**19
"""Numbers that are smoothed at once: enough of a small image, and not more of a large one than stays near the
processor."""


def noise_variance(plane: Tensor, mask: Tensor) -> float:
    """Variance of white noise in (1, h, w), from the median of a mask that is blind to planes and straight
    edges.

    Source: Immerkær, "Fast noise variance estimation", CVIU 64 (1996), with a median in place of the mean so
    that texture counts less.
    """
    step = max(math.isqrt(plane.numel() // LOOKED_AT), 1)

    def every(image: Tensor, y: int, x: int) -> Tensor:
        return image[..., y : image.shape[-2] - 2 + y : step, x : image.shape[-1] - 2 + x : step]

    high = torch.zeros_like(every(plane, 1, 1))
    for y in range(3):
        for x in range(3):
            high += SECOND[y] * SECOND[x] * every(plane, y, x)
    values = high.abs()[every(erode(mask[None], 1)[0], 1, 1) > 0.5]
    return (filters.median(values) / (6 * 0.6745)) ** 2 if len(values) else 0.0


def texture_weight(plane: Tensor, mask: Tensor, *, radius: float = 8.0, least: float = 0.02) -> Tensor:
    """How much there is to see around each pixel of (1, h, w) in [0, 1]: 0 in flat or noisy-flat places,
    towards 1 in texture.

    LocalFit variance above that of the noise, over itself plus a floor (``least`` squared, ``least`` in units
    of the robust range).
    """
    share, total = filters.smooth_widely(torch.stack([mask, plane * mask]), radius)
    share.clamp_(min=1e-3)
    apart = (plane - total.div_(share)).square_().mul_(mask)
    variance = filters.smooth_widely(apart[None], radius)[0].div_(share)
    noise = noise_variance(plane, mask)
    excess = variance.sub_(1.2 * noise).clamp_(min=0)
    return (mask * excess).div_(excess.add_(2 * noise).add_(least**2))


def texture_of(level: Level) -> Tensor:
    """The texture weight (1, h, w) of a level, computed once."""
    return pyramid.known(level, "texture", lambda: texture_weight(level.image, level.mask))


def erode(mask: Tensor, radius: int) -> Tensor:
    """1 where every pixel within ``radius`` (a square) of (b, 1, h, w) is fully valid, else 0."""
    if radius <= 0:
        return (mask > 0.999).to(mask.dtype)
    holes = mask < 0.999
    if not bool(holes.any()):
        return torch.ones_like(mask)
    return 1 - filters.widened(holes.to(mask.dtype), radius)


def constant_border(plane: Tensor, mask: Tensor, *, tolerance: float = 0.03, least: float = 0.02) -> Tensor:
    """Where a plane (1, h, w) in [0, 1] shows only a constant frame reaching in from its border: bool (1, h,
    w).

    The black around a fundus or an ultrasound fan, the padding of a turned image: it does not move with the
    object, and its rim is the strongest edge there is. Found as the darkest or brightest border value, grown
    inwards over blocks of locally constant pixels; regions smaller than a share ``least`` of the image are
    not constant_border.
    """
    found, invalid = torch.zeros(plane.shape, dtype=torch.bool, device=plane.device), mask < 0.5
    still: Tensor | None = None
    for extreme in (plane < tolerance, plane > 1 - tolerance / 3):
        extreme |= invalid
        if not bool(extreme[:, [0, -1]].any() | extreme[:, :, [0, -1]].any()):
            continue  # nothing reaches in from the border
        still = _spread(plane) < tolerance if still is None else still
        grown = _grow_from_border((extreme & still) | invalid)
        if int(grown.count_nonzero()) > least * grown.numel():
            found |= grown
    return found


def _spread(plane: Tensor) -> Tensor:
    """The difference (1, h, w) between the largest and the smallest value among each pixel of a plane and its
    neighbours."""
    wide = pad(plane, (1, 1, 1, 1), mode="replicate")
    return filters.highest(wide, 3).add_(filters.highest(wide.neg_(), 3))


def _grow_from_border(allowed: Tensor, side: int = 256) -> Tensor:
    """The part of ``allowed`` (1, h, w) that is connected to the border by blocks of pixels that are all
    allowed.

    Connection is followed on a copy of at most ``side`` pixels, from block to any of its eight neighbours.
    """
    block = max(math.ceil(max(allowed.shape[-2:]) / side), 1)
    free = filters.window_sums((~allowed)[None].float(), block)[0, 0] == 0
    parts = torch.from_numpy(
        filters.opencv().connectedComponents(free.cpu().byte().numpy(), connectivity=8)[1]
    )  # 0 is what is not free
    outer = torch.cat([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    current = torch.isin(parts, outer[outer > 0]).to(allowed.device)
    reached = (
        filters.widened(current[None].float(), 1).repeat_interleave(block, 1).repeat_interleave(block, 2)
    )
    return (reached[:, : allowed.shape[1], : allowed.shape[2]] > 0.5) & allowed
