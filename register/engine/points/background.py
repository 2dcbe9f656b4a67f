"""An image minus its background, in units of its noise, without cosmic rays and hot pixels."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from register.images import filters
from register.images.pyramid import Level

LEAST_BLOCK, MOST_BLOCK, BLOCKS = 24, 64, 8
"""Side in pixels of the blocks of which the background is the median, and blocks along the shorter side of a
small image."""
SHARP, OUTLIER = 0.25, 7.0
"""Mean of two opposite neighbours of a pixel, in units of that, below which no optical system made it; and
its height, in standard deviations of the noise."""
ROUNDS = 2
LEAST_NOISE = 5e-4
"""The noise of an image without any, as a share of its range."""


@dataclass(frozen=True)
class Plane:
    """An image (h, w) with noise of standard deviation 1 around 0, and its valid pixels (h, w)."""

    image: NDArray[np.float32]
    valid: NDArray[np.bool_]


def flattened(level: Level) -> Plane:
    """A grey level (1, h, w) of any range, minus its background, in units of its noise.

    It is the negative where what differs from the background is darker. Invalid pixels, cosmic rays and hot
    pixels are at the background.
    """
    cv2 = filters.opencv()
    image = level.image[0].float().cpu().numpy()
    valid = (level.mask[0] > 0.5).cpu().numpy() & np.isfinite(image)
    grey = np.where(valid, image, 0).astype(np.float32)
    grey -= np.float32(np.median(grey[valid][:: max(grey.size // 100_000, 1)])) if valid.any() else 0
    grey[~valid] = 0
    side = int(np.clip(min(grey.shape) // BLOCKS, LEAST_BLOCK, MOST_BLOCK))
    middle, noise = _blocks(grey, valid, side)
    size = grey.shape[1], grey.shape[0]
    flat = grey - _enlarged(middle, size, side)
    flat /= _enlarged(noise, size, side)
    flat[~valid] = 0
    if float(np.sum(np.sign(flat) * np.minimum(np.abs(flat), 100.0) ** 2)) < 0:
        flat = -flat
    for _ in range(ROUNDS):
        flat, sharp = _mended(flat)
        if not sharp:
            break
    edge = cv2.erode(valid.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1) > 0
    flat[~edge] = 0
    return Plane(flat, edge)


def halved(flat: Plane) -> Plane:
    """The same with pixels twice as large; the noise has standard deviation 1 again."""
    height, width = (n // 2 * 2 for n in flat.image.shape)
    corners = [flat.image[y:height:2, x:width:2] for y in (0, 1) for x in (0, 1)]
    valid = [flat.valid[y:height:2, x:width:2] for y in (0, 1) for x in (0, 1)]
    return Plane(sum(corners[1:], corners[0]) / np.float32(2), np.logical_and.reduce(valid))


def _blocks(
    grey: NDArray[np.float32], valid: NDArray[np.bool_], side: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The median (rows, columns) and the noise of the valid pixels of each block."""
    cv2 = filters.opencv()
    rows, columns = (-(-n // side) for n in grey.shape)
    known = np.full((rows * side, columns * side), np.nan, np.float32)
    known[: grey.shape[0], : grey.shape[1]] = np.where(valid, grey, np.nan)
    step = 2 if side >= 2 * LEAST_BLOCK else 1
    values = known.reshape(rows, side, columns, side)[:, ::step, :, ::step].transpose(0, 2, 1, 3)
    block = torch.from_numpy(np.ascontiguousarray(values.reshape(rows, columns, -1)))
    middle = block.nanmedian(-1).values
    spread = 1.4826 * (block - middle[..., None]).abs().nanmedian(-1).values
    low, high = np.quantile(grey[valid][:: max(grey.size // 100_000, 1)], (0.001, 0.999))
    least = max(float(LEAST_NOISE * (high - low)), 1e-12)
    planes = []
    for plane, minimum in ((middle, None), (spread, least)):
        found = plane.numpy()
        found = np.where(np.isfinite(found), found, np.nanmedian(found)).astype(np.float32)
        if min(found.shape) >= 3:
            found = cv2.medianBlur(found, 3)
        if minimum is not None:  # blocks that sources fill have more noise
            found = np.minimum(found, 2 * np.median(found)).clip(minimum)
        planes.append(found)
    return planes[0], planes[1]


def _enlarged(blocks: NDArray[np.float32], size: tuple[int, int], side: int) -> NDArray[np.float32]:
    """Values (h, w) of a size (width, height) between the centres of the blocks."""
    cv2 = filters.opencv()
    scale = np.array([[1 / side, 0, 0.5 / side - 0.5], [0, 1 / side, 0.5 / side - 0.5]])
    found: NDArray[np.float32] = cv2.warpAffine(
        blocks, scale, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    return found


def _mended(flat: NDArray[np.float32]) -> tuple[NDArray[np.float32], bool]:
    """The image with the median of its neighbourhood at pixels that no optical system made, and whether there
    are any."""
    cv2 = filters.opencv()
    wide = np.pad(flat, 1, mode="reflect")
    height, width = flat.shape

    def at(y: int, x: int) -> NDArray[np.float32]:
        return wide[1 + y : 1 + y + height, 1 + x : 1 + x + width]

    least = np.minimum(at(0, -1) + at(0, 1), at(-1, 0) + at(1, 0)) / 2
    sharp = (flat > OUTLIER) & (least < SHARP * flat - 0.7)
    if not sharp.any():
        return flat, False
    return np.where(sharp, np.minimum(cv2.medianBlur(flat, 3), flat), flat), True
