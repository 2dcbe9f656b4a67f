"""Grey frames: what the engine compares of the pixels of a movie."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from register.errors import FileError, RegisterError
from register.images.arrays import grey_level
from register.images.pixels import EVERYTHING
from register.io.images.masks import read_mask
from register.io.images.model import PlaneError
from register.io.images.open import open_image
from register.io.movies.stack import Stack
from register.settings import Settings

Grey = tuple[Tensor, Tensor | None]
"""A grey frame (h, w) float32 and its mask (h, w), None where all pixels are valid."""


def grey(stack: Stack, index: int, settings: Settings, mask: str | None) -> Grey:
    """The grey values of a frame; pixels with the no-data value, outside a mask file or, of a frame that is
    smaller than others, outside it are invalid."""
    pixels, size = stack.frame(index), stack.shape[1:]
    rows, columns = pixels.shape[1:]
    nodata = stack.nodata if settings.nodata is None else settings.nodata
    plain = pixels.dtype.kind in "ui" and not mask and nodata is None
    if plain and pixels.shape == (1, *size):
        return torch.from_numpy(pixels[0].astype(np.float32)), None
    valid = read_mask(mask, size)[EVERYTHING][0, :rows, :columns] if mask else None
    level = grey_level(np.moveaxis(pixels, 0, 2), valid, channel=settings.fixed_channel, nodata=nodata).level
    image, inside = level.image[0], level.mask[0]
    if (rows, columns) != size:
        more = (0, size[1] - columns, 0, size[0] - rows)
        image, inside = pad(image, more), pad(inside, more)
    return image, None if bool((inside > 0).all()) else inside


def of_file(path: str, settings: Settings) -> Tensor:
    """The grey values (h, w) of an image file, NaN where invalid. Raises ``FileError``."""
    try:
        image = open_image(path)
    except PlaneError:
        raise FileError(path, "is a stack", "--to needs an image of one plane, or a frame's number") from None
    valid = read_mask(settings.fixed_mask, image.size)[EVERYTHING][0] if settings.fixed_mask else None
    nodata = image.nodata if settings.nodata is None else settings.nodata
    try:
        level = grey_level(image.picture(), valid, channel=settings.fixed_channel, nodata=nodata).level
    except RegisterError as error:
        raise FileError(path, str(error)) from None
    return with_nan((level.image[0], level.mask[0]))


def with_nan(of: Grey) -> Tensor:
    """The grey values (h, w), NaN where invalid."""
    image, mask = of
    return image if mask is None else torch.where(mask > 0, image, torch.nan)
