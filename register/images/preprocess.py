"""Preprocess grey images: robust range, noise, texture, and the mask of a constant border."""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from register.compute import sums
from register.images import filters, pyramid
from register.images.pyramid import Level

SAMPLED_PIXELS = 100_000
"""Approximate number of pixels, on a regular grid, from which the range and the noise are estimated."""
SECOND_DIFFERENCE = 1.0, -2.0, 1.0
THICK, SOLID, TEXTURED = 1 / 128, 0.5, 0.05
"""Thickness of a line, as a share of the longer side, up to which it is no area; the share of the pixels
within a border that are in areas, and the mean texture weight of these, at least."""


def sampled(plane: Tensor, mask: Tensor) -> Tensor:
    """About ``SAMPLED_PIXELS`` values (n,) of the valid pixels of (1, h, w), on a regular grid."""
    step = max(math.isqrt(plane.numel() // SAMPLED_PIXELS), 1)
    return plane[..., ::step, ::step][mask[..., ::step, ::step] > 0.5]


def robust_range(plane: Tensor, mask: Tensor, share: float = 0.005) -> tuple[float, float]:
    """The values of (1, h, w) below and above which a ``share`` of the valid pixels lies.

    They are estimated from about ``SAMPLED_PIXELS`` pixels.
    """
    values = sampled(plane, mask)
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
    """The plane (1, h, w) with its robust range scaled to [0, 1], other values clipped, invalid pixels 0."""
    low, high = robust_range(plane, mask)
    if high <= low:  # nearly constant: only a few pixels differ, so use the full range
        low, high = extent(plane, mask * (mask > 0.5))
    width = high - low if high > low else 1.0
    return (plane - low).div_(width).clamp_(0, 1).masked_fill_(mask <= 0.5, 0.0)


def noise_variance(plane: Tensor, mask: Tensor) -> float:
    """Variance of white noise in (1, h, w), from a filter that does not respond to planes and straight edges.

    Source: Immerkær, "Fast noise variance estimation", CVIU 64 (1996), with a median instead of the mean so
    that texture has less influence.
    """
    step = max(math.isqrt(plane.numel() // SAMPLED_PIXELS), 1)

    def every(image: Tensor, y: int, x: int) -> Tensor:
        return image[..., y : image.shape[-2] - 2 + y : step, x : image.shape[-1] - 2 + x : step]

    high = torch.zeros_like(every(plane, 1, 1))
    for y in range(3):
        for x in range(3):
            high += SECOND_DIFFERENCE[y] * SECOND_DIFFERENCE[x] * every(plane, y, x)
    values = high.abs()[every(erode(mask[None], 1)[0], 1, 1) > 0.5]
    return (filters.median(values) / (6 * 0.6745)) ** 2 if len(values) else 0.0


def texture_weight(plane: Tensor, mask: Tensor, *, radius: float = 8.0, least: float = 0.02) -> Tensor:
    """The amount of texture around each pixel of (1, h, w) in [0, 1]: 0 in flat or noisy regions, near 1 in
    texture.

    It is v / (v + f), where v is the local variance minus that of the noise, and the floor f is the variance
    of the noise plus ``least`` squared (in units of the robust range).
    """
    share, total = filters.smooth_widely(torch.stack([mask, plane * mask]), radius)
    share.clamp_(min=1e-3)
    squares = (plane - total.div_(share)).square_().mul_(mask)
    variance = filters.smooth_widely(squares[None], radius)[0].div_(share)
    noise = noise_variance(plane, mask)
    excess = variance.sub_(1.2 * noise).clamp_(min=0)
    return (mask * excess).div_(excess.add_(2 * noise).add_(least**2))


def texture_of(level: Level) -> Tensor:
    """The texture weight (1, h, w) of a level, computed once."""
    return pyramid.cached(level, "texture", lambda: texture_weight(level.image, level.mask))


def erode(mask: Tensor, radius: int) -> Tensor:
    """Erosion of a mask (b, 1, h, w): 1 where all pixels in a square of ``radius`` are fully valid, else
    0."""
    if radius <= 0:
        return (mask > 0.999).to(mask.dtype)
    holes = mask < 0.999
    if not bool(holes.any()):
        return torch.ones_like(mask)
    return 1 - filters.widened(holes.to(mask.dtype), radius)


def constant_border(plane: Tensor, mask: Tensor, *, tolerance: float = 0.03, least: float = 0.02) -> Tensor:
    """The constant border of a plane (1, h, w) in [0, 1]: bool (1, h, w).

    Examples are the black region around a fundus or an ultrasound fan, and the padding of a rotated image. It
    does not move with the object, and its outline is often the strongest edge of the image. It is found by
    growing the darkest or brightest border value inwards over blocks of locally constant pixels. Regions
    smaller than a share ``least`` of the image are ignored. The border is no border but background, and
    none of it is found, if what it surrounds is not an area with texture: on a blank page, the outlines of
    lines and letters are all that can be aligned.
    """
    found, invalid = torch.zeros(plane.shape, dtype=torch.bool, device=plane.device), mask < 0.5
    constant: Tensor | None = None
    for extreme in (plane < tolerance, plane > 1 - tolerance / 3):
        extreme |= invalid
        if not bool(extreme[:, [0, -1]].any() | extreme[:, :, [0, -1]].any()):
            continue  # no border pixel has the extreme value
        constant = _spread(plane) < tolerance if constant is None else constant
        grown = _grow_from_border((extreme & constant) | invalid)
        if int(grown.count_nonzero()) > least * grown.numel():
            found |= grown
    if not bool(found.any()) or _surrounds_texture(plane, mask * ~found):
        return found
    return torch.zeros_like(found)


def _surrounds_texture(plane: Tensor, inner: Tensor) -> bool:
    """Whether the pixels ``inner`` (1, h, w) are areas with texture, not lines, letters or flat shapes."""
    solid = erode(inner[None], max(round(max(plane.shape[-2:]) * THICK), 3))[0]
    area = sums.total(solid)
    if float(area) < SOLID * float(sums.total(inner)):
        return False
    return bool(sums.total(texture_weight(plane, solid)) > TEXTURED * area)


def _spread(plane: Tensor) -> Tensor:
    """The difference (1, h, w) between the largest and the smallest value among each pixel of a plane and its
    neighbours."""
    wide = pad(plane, (1, 1, 1, 1), mode="replicate")
    return filters.highest(wide, 3).add_(filters.highest(wide.neg_(), 3))


def _grow_from_border(allowed: Tensor, side: int = 256) -> Tensor:
    """The part of ``allowed`` (1, h, w) that is connected to the border by blocks of allowed pixels.

    Connected components are found on a copy of at most ``side`` pixels, with eight neighbours per block.
    """
    block = max(math.ceil(max(allowed.shape[-2:]) / side), 1)
    free = filters.window_sums((~allowed)[None].float(), block)[0, 0] == 0
    parts = torch.from_numpy(
        filters.opencv().connectedComponents(free.cpu().byte().numpy(), connectivity=8)[1]
    )  # the label 0 is that of blocks with other pixels
    outer = torch.cat([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    current = torch.isin(parts, outer[outer > 0]).to(allowed.device)
    reached = (
        filters.widened(current[None].float(), 1).repeat_interleave(block, 1).repeat_interleave(block, 2)
    )
    return (reached[:, : allowed.shape[1], : allowed.shape[2]] > 0.5) & allowed
