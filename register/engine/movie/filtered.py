"""The images that are compared: smoothed, without their background, and without regions that are covered."""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from register.compute import sums
from register.images import filters

FINE, COARSE = 1.0, 2.0
"""Standard deviation in pixels by which frames are smoothed, the second where noise exceeds the signal."""
BACKGROUND = 12.0
"""Standard deviation in pixels of the background that is subtracted."""
BLOCK, REACH, FLAT = 16, 3, 0.05
"""Side of the blocks in which a frame may be dark, blocks around each in which the reference may be dark as
well, and the share of the reference's energy from which a block counts as dark."""
FILLED = 0.6
"""Share of the weights of a smoothed pixel that valid ones have, from which it is known although it is
invalid itself: single invalid pixels, not those in or beside a region of them."""
MEASURED = 15
"""Frames of whose noise the median is taken."""
WHITE = 0.28
"""Standard deviation of white noise after smoothing by one pixel, relative to that before."""


def filtered(image: Tensor, mask: Tensor | None, sigma: float) -> Tensor:
    """A grey image (h, w) float32 smoothed by ``sigma`` pixels, minus its background; NaN outside a mask, but
    for single pixels between valid ones."""
    if mask is None:
        smoothed = filters.smooth(image[None, None], sigma)
        return (smoothed - filters.smooth_widely(smoothed, BACKGROUND))[0, 0]
    image, mask = torch.where(mask > 0, image, 0.0)[None, None], mask[None, None].float()
    share = filters.smooth(mask, sigma)
    near = filters.smooth(image, sigma) / share.clamp(min=1e-3)
    wide = filters.smooth_widely(image, BACKGROUND) / filters.smooth_widely(mask, BACKGROUND).clamp(min=1e-3)
    return torch.where((mask > 0) | (share > FILLED), near - wide, torch.nan)[0, 0]


def filtered_with_nan(image: Tensor, sigma: float) -> Tensor:
    """``filtered`` of a grey image (h, w), NaN where invalid, with 0 there."""
    if sums.all_finite(image):
        return filtered(image, None, sigma)
    return filtered(image.nan_to_num(), torch.isfinite(image), sigma).nan_to_num()


def energy(image: Tensor) -> Tensor:
    """The mean square (h / 16, w / 16) of blocks of a filtered image (h, w)."""
    block = min(BLOCK, *image.shape)
    return filters.block_means(image.nan_to_num().square()[None, None], block, cut=True)


def least_energy(image: Tensor) -> Tensor:
    """The smallest energy of a reference (h, w) within ``REACH`` blocks of each."""
    return -max_pool2d(-energy(image), 2 * REACH + 1, stride=1, padding=REACH)


def uncovered(image: Tensor, least: Tensor) -> Tensor:
    """A filtered frame (h, w), NaN in and beside blocks with far less energy than the reference has there.

    Such is the dark half of a frame.
    """
    flat = (energy(image) < FLAT * least).float()
    if not bool(flat.any()):
        return image
    wider = max_pool2d(flat, 3, stride=1, padding=1)
    block = min(BLOCK, *image.shape)
    covered = wider.repeat_interleave(block, 2).repeat_interleave(block, 3)[0, 0]
    return torch.where(covered[: image.shape[0], : image.shape[1]] > 0, torch.nan, image)


def noise_of(image: Tensor) -> float:
    """The standard deviation of white noise in an image (h, w).

    Source: Immerkær, "Fast noise variance estimation", Computer Vision and Image Understanding 64 (1996).
    """
    x = image[:, 2:] - 2 * image[:, 1:-1] + image[:, :-2]
    second = (x[2:] - 2 * x[1:-1] + x[:-2]).abs()
    second = second[torch.isfinite(second)]
    return float(sums.mean(second)) * (torch.pi / 2) ** 0.5 / 6 if len(second) else 0.0


def sigma_of(images: list[Tensor]) -> float:
    """The smoothing, in pixels, that suits the noise of frames (h, w), of which some are looked at."""
    ratios = sorted(map(structure_of, images[:: max(len(images) // MEASURED, 1)]))
    return COARSE if ratios[len(ratios) // 2] < 1.0 else FINE


def structure_of(image: Tensor) -> float:
    """The standard deviation of what an image (h, w) shows, relative to that of its noise after smoothing."""
    noise = WHITE * noise_of(image)
    seen = filtered_with_nan(image, FINE)
    signal = max(float(seen.square().mean()) - noise**2, 0.0) ** 0.5
    return signal / max(noise, 1e-12)


def is_constant(image: Tensor) -> bool:
    """Whether an image (h, w) has no two different finite values."""
    low, high = (float(x) for x in torch.aminmax(image))
    if low == low and abs(low) + abs(high) < torch.inf:
        return low == high
    finite = image[torch.isfinite(image)]
    return not len(finite) or bool(finite.amax() == finite.amin())
