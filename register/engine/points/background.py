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
PASSES = 3
"""Times that the background of what is left is subtracted: the medians of blocks and their neighbours, by
which no source counts, flatten an uneven one. After the first time it is no more than the noise."""
LEAST_SIGNAL = 5.0
"""Signal, in standard deviations of the noise of the filtered image, at least."""
LEAST_PLAIN = 0.3
"""Share of what varies in the background that neighbouring pixels do not share, at least, where it is
noise."""
LEAST_NOISE = 5e-4
"""The noise of an image without any, as a share of its range."""


@dataclass(frozen=True)
class Plane:
    """An image (h, w) with noise of standard deviation 1 around 0, and its valid pixels (h, w).

    ``cover`` is the share of these that is above the noise where less of the background is subtracted.
    """

    image: NDArray[np.float32]
    valid: NDArray[np.bool_]
    cover: float


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
    size, flat = (grey.shape[1], grey.shape[0]), grey
    for number in range(PASSES):
        middle, noise = _blocks(flat, valid, side, first=not number)
        flat = flat - _enlarged(middle, size, side)
        if not number:  # the texture of an image is no background
            rough = np.where(valid, flat / _enlarged(noise, size, side), 0)
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
    return Plane(flat, edge, float(above_noise(rough)[edge].mean()) if edge.any() else 0.0)


def above_noise(flat: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The pixels (h, w) that differ from the background by more than noise does."""
    smooth = filters.opencv().GaussianBlur(flat, (0, 0), 1.0) * np.float32(2 * np.sqrt(np.pi))
    return np.abs(smooth) > LEAST_SIGNAL


def of_pixels(flat: Plane) -> float:
    """The standard deviation of the noise that neighbouring pixels do not share, at most 1.

    Source: Immerkær, "Fast noise variance estimation", CVIU 64 (1996), with the median in place of the mean.
    """
    image = flat.image
    twice = image[:, :-2] - 2 * image[:, 1:-1] + image[:, 2:]
    four = twice[:-2] - 2 * twice[1:-1] + twice[2:]
    inner = flat.valid[1:-1, 1:-1]
    if not inner.any():
        return 0.0
    values = np.abs(four[inner])
    middle = float(np.median(values[:: max(len(values) // 100_000, 1)]))
    return min(1.4826 * middle / 6, 1.0)


def is_plain(flat: Plane) -> bool:
    """Whether what is left of the background is the noise of pixels, or nothing, and no texture."""
    values = np.abs(flat.image[flat.valid])
    left = 1.4826 * float(np.median(values[:: max(len(values) // 100_000, 1)])) if len(values) else 0.0
    return left < LEAST_PLAIN or of_pixels(flat) > LEAST_PLAIN * left


def halved(flat: Plane) -> Plane:
    """The same with pixels twice as large; the noise has standard deviation 1 again."""
    height, width = (n // 2 * 2 for n in flat.image.shape)
    corners = [flat.image[y:height:2, x:width:2] for y in (0, 1) for x in (0, 1)]
    valid = [flat.valid[y:height:2, x:width:2] for y in (0, 1) for x in (0, 1)]
    return Plane(sum(corners[1:], corners[0]) / np.float32(2), np.logical_and.reduce(valid), flat.cover)


def _blocks(
    grey: NDArray[np.float32], valid: NDArray[np.bool_], side: int, *, first: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The median (rows, columns) and the noise of the valid pixels of each block.

    The ``first`` time the median is also that over neighbouring blocks."""
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
    middles, noise = (
        np.where(np.isfinite(x), x, np.nanmedian(x)).astype(np.float32)
        for x in (middle.numpy(), spread.numpy())
    )
    many = min(noise.shape) >= 3
    if many:
        noise = np.asarray(cv2.medianBlur(noise, 3), np.float32)
    most = max(2 * float(np.median(noise)), least)  # blocks that sources fill have more noise
    noise = np.clip(noise, np.float32(least), np.float32(most))
    if first:
        return cv2.medianBlur(middles, 3) if many else middles, noise
    return np.clip(middles, -noise, noise), noise


def _enlarged(blocks: NDArray[np.float32], size: tuple[int, int], side: int) -> NDArray[np.float32]:
    """Values (h, w) of a size (width, height) between the centres of the blocks, and beyond them."""
    across, along = (_weights(n, count, side) for n, count in zip(size[::-1], blocks.shape, strict=True))
    return np.asarray(across @ blocks @ along.T, np.float32)


def _weights(n: int, count: int, side: int) -> NDArray[np.float32]:
    """The weights (n, count) of blocks in pixels along an axis: those of cubic convolution (Keys, IEEE Trans.
    ASSP 29, 1981). The slope goes on beyond the outer blocks."""
    at = (np.arange(n) + 0.5) / side - 0.5
    far = np.abs(at[:, None] - np.arange(-2, count + 2))
    near = 1 - 2.5 * far**2 + 1.5 * far**3
    weights = np.where(far < 1, near, np.where(far < 2, 2 - 4 * far + 2.5 * far**2 - 0.5 * far**3, 0))
    inner = weights[:, 2:-2].copy()
    for beyond, step in ((0, 1), (count + 3, -1)):
        edge = 0 if step > 0 else count - 1
        for k, column in ((2, beyond), (1, beyond + step)):
            if count > 1:
                inner[:, edge + step] -= k * weights[:, column]
            inner[:, edge] += (k + 1 if count > 1 else 1) * weights[:, column]
    return inner.astype(np.float32)


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
