"""Images that Python code gives: arrays, tensors, nested lists, or the paths of files."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch

from register.errors import RegisterError
from register.files.hashes import sha256
from register.images.arrays import Array, grey_level, picture
from register.images.pixels import EVERYTHING
from register.images.pyramid import Level
from register.images.shared_channels import Common, common
from register.images.split_mask import Labels, read_labels
from register.io.images.masks import read_mask, read_split_mask
from register.io.images.model import Image, Selection
from register.io.images.open import open_image, read_image
from register.io.images.working import Validity, working_level, working_part
from register.settings import Settings, working_size
from register.transforms.frame import Frame

PathLike = str | os.PathLike[str]
ImageLike = Array | PathLike
"""An array, a tensor, or the path of a file."""


@dataclass(frozen=True)
class GivenImage:
    """The grey level of an image, the name of its conversion, and its frame: size, and for a file its pixel
    size and path. ``part`` reads a part (rows, columns) of a file; of an array, parts of the level are used.
    """

    level: Level
    grey: str
    frame: Frame
    part: Callable[[slice, slice], Level] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.frame.height, self.frame.width


def is_path(value: object) -> TypeGuard[PathLike]:
    """Whether a value is the path of a file."""
    return isinstance(value, str | os.PathLike)


def given_image(
    kind: str, image: ImageLike, mask: ImageLike | None, chosen: Settings, place: torch.device
) -> GivenImage:
    """The ``fixed`` or ``moving`` image of an alignment. Raises ``RegisterError`` that names which."""
    channel = chosen.fixed_channel if kind == "fixed" else chosen.moving_channel
    if is_path(image):
        return _of_file(kind, Path(image), mask, channel, chosen)
    try:
        given = picture(image)
        height, width = given.size
        if is_path(mask):
            mask = read_mask(str(mask), (height, width))[EVERYTHING][0]
        grey = grey_level(given, mask, channel=channel, nodata=chosen.nodata, place=place)
    except RegisterError as error:
        raise RegisterError(f"the {kind} image {error}") from None
    return GivenImage(grey.level, grey.name, Frame(width, height))


def in_common(fixed: ImageLike, moving: ImageLike, chosen: Settings) -> Common:
    """The channels of two images that are compared: those that the settings name, or else those that the
    names of the channels of two files have in common."""
    asked = Common(chosen.fixed_channel, chosen.moving_channel)
    if not (is_path(fixed) and is_path(moving)):
        return asked
    one, other = (_opened(kind, Path(x), chosen) for kind, x in (("fixed", fixed), ("moving", moving)))
    if "rgb" in (one.colour, other.colour):
        return asked
    found = common(one.channel_names, other.channel_names)
    return found if asked == Common(None, None) else replace(asked, shared=found.shared)


def given_labels(mask: ImageLike | None, size: tuple[int, int]) -> Labels | None:
    """The sides that a mask of a fixed image of ``size`` (height, width) separates; None without a mask, and
    for ``auto``.

    Raises ``RegisterError`` for a mask that separates nothing, or has another size.
    """
    if mask is None or (is_path(mask) and str(mask) == "auto"):
        return None
    if is_path(mask):
        return read_split_mask(str(mask), size)
    plane = np.asarray(mask.detach().cpu() if isinstance(mask, torch.Tensor) else mask)
    if plane.shape != size:
        raise RegisterError(f"split_mask has the shape {plane.shape}, the fixed image {size}")
    try:
        return read_labels(plane[None])
    except RegisterError as error:
        raise RegisterError(f"split_mask {error}") from None


def pixels_of(image: Any) -> Any:
    """The pixels of a file (h, w) or (h, w, c), as ``warp`` takes them; anything else unchanged."""
    if not is_path(image):
        return image
    read = read_image(image).coloured().pixels[EVERYTHING]
    return read[0] if len(read) == 1 else np.ascontiguousarray(np.moveaxis(read, 0, 2))


def _of_file(
    kind: str, path: Path, mask: ImageLike | None, channel: str | None, chosen: Settings
) -> GivenImage:
    """The image of a file."""
    image = _opened(kind, path, chosen)
    height, width = image.size
    valid = None
    if is_path(mask):
        valid = read_mask(str(mask), image.size)
    elif mask is not None:
        given = np.asarray(picture(mask).values)
        if given.shape != image.size:
            raise RegisterError(f"the {kind} mask has shape {given.shape}, the image {image.size}")
        valid = (given != 0)[None].astype(np.uint8)
    validity = Validity(image, chosen.nodata, valid)
    size = working_size(chosen)
    grey, name = working_level(image, validity, size, channel=channel)
    frame = Frame(width, height, image.pixel_size, str(path), sha256(path))
    return GivenImage(grey, name, frame, partial(working_part, image, validity, size, channel=channel))


def _opened(kind: str, path: Path, chosen: Settings) -> Image:
    """The part of a file that the settings name."""
    level, plane = (
        (chosen.fixed_level, chosen.fixed_plane)
        if kind == "fixed"
        else (chosen.moving_level, chosen.moving_plane)
    )
    return open_image(path, Selection(chosen.series, level, plane, chosen.allow_truncated))
