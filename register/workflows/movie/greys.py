"""Grey frames: what the engine compares of the pixels of a movie."""

import numpy as np
import torch
from torch import Tensor

from register.images.arrays import grey_level
from register.images.pixels import EVERYTHING
from register.io.images.masks import read_mask
from register.io.images.open import open_image
from register.io.movies.stack import Stack
from register.settings import Settings

Grey = tuple[Tensor, Tensor | None]
"""A grey frame (h, w) float32 and its mask (h, w), None where all pixels are valid."""


def grey(stack: Stack, index: int, settings: Settings, mask: str | None) -> Grey:
    """The grey values of a frame; pixels with the no-data value or outside a mask file are invalid."""
    pixels = stack.frame(index)
    nodata = stack.nodata if settings.nodata is None else settings.nodata
    if len(pixels) == 1 and pixels.dtype.kind in "ui" and mask is None and nodata is None:
        return torch.from_numpy(pixels[0].astype(np.float32)), None
    valid = read_mask(mask, stack.shape[1:])[EVERYTHING][0] if mask else None
    level = grey_level(np.moveaxis(pixels, 0, 2), valid, channel=settings.fixed_channel, nodata=nodata).level
    return level.image[0], None if bool((level.mask > 0).all()) else level.mask[0]


def of_file(path: str, settings: Settings) -> Tensor:
    """The grey values (h, w) of an image file, NaN where invalid."""
    image = open_image(path)
    valid = read_mask(settings.fixed_mask, image.size)[EVERYTHING][0] if settings.fixed_mask else None
    nodata = image.nodata if settings.nodata is None else settings.nodata
    level = grey_level(image.picture(), valid, channel=settings.fixed_channel, nodata=nodata).level
    return with_nan((level.image[0], level.mask[0]))


def with_nan(of: Grey) -> Tensor:
    """The grey values (h, w), NaN where invalid."""
    image, mask = of
    return image if mask is None else torch.where(mask > 0, image, torch.nan)
