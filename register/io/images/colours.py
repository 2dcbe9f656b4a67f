"""The colours of an image at a bounded size: RGB as it is, channels in their colours."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from register.images.pixels import bands
from register.io.images.levels import level_factors
from register.io.images.model import Image

SIDE = 1200
"""The longest side of a picture is at most twice this, in pixels."""
MOST_CHANNELS = 6
"""Channels of a composite, the first ones."""
DEFAULTS = (0x2040FFFF, 0x20E020FF, 0xFF3020FF, 0xFF20E0FF, 0xF0E020FF, 0x20E0E0FF)
"""Colours of channels whose file names none, as red, green, blue and opacity: blue, green, red, magenta,
yellow, cyan."""
RANGE = (1.0, 99.8)
"""Percentiles of a channel that are drawn black and in its full colour."""


class ColourPicture(NamedTuple):
    """Colours (h, w, 3) in [0, 1], and how many pixels of the image one of its pixels is wide and high."""

    rgb: NDArray[np.float32]
    factors: tuple[float, float]


def colour_picture(image: Image, size: int = SIDE) -> ColourPicture | None:
    """The picture of an image of several channels; None for an image of one grey channel.

    It is read from the coarsest level of the file that is large enough, every n-th pixel of it.
    """
    image = image.coloured()
    count = image.channels - int(image.alpha)
    if count == 1 or image.colour not in ("rgb", "grey"):
        return None
    levels = [image.pixels, *image.smaller]
    pixels = next((x for x in reversed(levels) if max(x.shape[1:]) >= size), levels[0])
    step = max(max(pixels.shape[1:]) // size, 1)
    channels = 3 if image.colour == "rgb" else min(count, MOST_CHANNELS)
    height, width = pixels.shape[1] // step, pixels.shape[2] // step
    planes = np.zeros((channels, height, width), np.float32)
    for top, bottom in bands(height, math.prod(pixels.shape[::2]) * step):
        rows = slice(top * step, bottom * step)
        window = pixels[slice(None), rows, slice(0, width * step)][:channels].astype(np.float32)
        blocks = window.reshape(channels, bottom - top, step, width, step)
        planes[:, top:bottom] = np.nan_to_num(blocks).mean((2, 4))
    x, y = level_factors(image.size, (pixels.shape[1], pixels.shape[2]))
    return ColourPicture(_drawn(planes, image), (x * step, y * step))


def _drawn(planes: NDArray[np.float32], image: Image) -> NDArray[np.float32]:
    """Colours (h, w, 3) of planes (c, h, w)."""
    if image.colour == "rgb":
        top = image.white or float(np.percentile(planes, RANGE[1]))
        if image.dtype.itemsize > 1:  # of 16 bits often only some are used
            top = min(top, float(planes.max()))
        return np.moveaxis((planes / (top or 1.0)).clip(0, 1), 0, 2)
    stated = image.channel_colours
    colours = stated if len(stated) == image.channels else DEFAULTS
    total = np.zeros((*planes.shape[1:], 3), np.float32)
    for plane, colour in zip(planes, colours, strict=False):
        low, high = np.percentile(plane, RANGE)
        share = ((plane - low) / max(float(high - low), 1e-12)).clip(0, 1)
        rgb = [(colour >> shift) & 255 for shift in (24, 16, 8)]
        total += share[..., None] * (np.array(rgb, np.float32) / 255)
    return total.clip(0, 1)
