"""The image to which the frames of a movie are aligned: one of them, their mean, or a file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from register.engine import frame
from register.errors import AlignmentError, FileError, RegisterError
from register.images.arrays import grey_level
from register.images.pixels import EVERYTHING
from register.images.pyramid import Level
from register.io.images.masks import read_mask
from register.io.images.open import open_image
from register.io.movies.stack import Stack
from register.settings import Settings
from register.transforms.quality import Verdict
from register.transforms.resample import warp_pixels
from register.workflows.movie.job import NAMED

AVERAGED = 40
"""Number of frames, spread over the movie, whose mean is the reference ``mean``."""


@dataclass(frozen=True)
class ReferenceImage:
    """A grey image (1, h, w), NaN where invalid; ``number`` is its frame, None where it is not one."""

    image: NDArray[np.float32]
    number: int | None = None


def choose(stack: Stack, to: str, settings: Settings) -> ReferenceImage:
    """The reference that ``to`` names. Raises ``RegisterError`` for another word, for a frame that does not
    exist or is constant, and where no frame can be used."""
    if to not in NAMED and not to.isdigit():
        if not Path(to).exists():
            raise RegisterError(
                f"--to {to!r}: first, previous, mean, middle, the number of a frame, counted from 0, or an"
                " image file"
            )
        return _of_file(stack, to, settings)
    if to.isdigit() and int(to) >= len(stack):
        raise RegisterError(f"--to {to}: there are {len(stack)} frames, counted from 0")
    if to.isdigit():
        return _of_frame(stack, int(to), settings)
    if to in ("first", "previous"):
        return _of_frame(stack, _usable(stack, range(len(stack)), settings), settings)
    middle = _usable(stack, _from_the_middle(len(stack)), settings)
    return _of_frame(stack, middle, settings) if to == "middle" else _mean(stack, middle, settings)


def level(stack: Stack, index: int, settings: Settings, mask: str | None) -> Level:
    """The grey level of a frame; pixels with the no-data value or outside the mask are invalid."""
    pixels = np.moveaxis(stack.frame(index), 0, 2)
    valid = read_mask(mask, stack.shape[1:])[EVERYTHING][0] if mask else None
    nodata = stack.nodata if settings.nodata is None else settings.nodata
    return grey_level(pixels, valid, channel=settings.fixed_channel, nodata=nodata).level


def _from_the_middle(count: int) -> list[int]:
    """The numbers of frames, the middle one first, then by their distance from it."""
    return sorted(range(count), key=lambda n: (abs(n - count // 2), n))


def _usable(stack: Stack, order: "range | list[int]", settings: Settings) -> int:
    """The first frame in an order that is not constant. Raises ``FileError`` where there is none."""
    for index in order:
        image = level(stack, index, settings, settings.fixed_mask)
        grey = image.image[image.mask > 0]
        if grey.numel() and bool(grey.amax() > grey.amin()):
            return index
    raise FileError(
        stack.files[0], "has no frame that can be a reference: all are constant", "check the file"
    )


def _of_frame(stack: Stack, number: int, settings: Settings) -> ReferenceImage:
    """A frame. Raises ``FileError`` where it is constant."""
    found = level(stack, number, settings, settings.fixed_mask)
    try:
        frame.prepare(found, settings)
    except AlignmentError as error:
        raise FileError(
            stack.files[0],
            f"frame {number} cannot be the reference: it {error.message}",
            "choose another --to",
        ) from None
    return ReferenceImage(_with_nan(found), number)


def _of_file(stack: Stack, path: str, settings: Settings) -> ReferenceImage:
    """An image file of the size of a frame."""
    image = open_image(path)
    if image.size != stack.shape[1:]:
        (height, width), (rows, columns) = image.size, stack.shape[1:]
        raise FileError(
            path, f"is {width} × {height} pixels, a frame {columns} × {rows}", "choose another --to"
        )
    valid = read_mask(settings.fixed_mask, image.size)[EVERYTHING][0] if settings.fixed_mask else None
    nodata = image.nodata if settings.nodata is None else settings.nodata
    found = grey_level(image.picture(), valid, channel=settings.fixed_channel, nodata=nodata).level
    return ReferenceImage(_with_nan(found))


def _mean(stack: Stack, middle: int, settings: Settings) -> ReferenceImage:
    """The mean of frames aligned to the middle one, without those that fail; NaN where none is valid."""
    ready = frame.prepare(level(stack, middle, settings, settings.fixed_mask), settings)
    chosen = sorted(
        {middle, *np.linspace(0, len(stack) - 1, min(AVERAGED, len(stack))).round().astype(int).tolist()}
    )
    total = weight = np.zeros((1, *stack.shape[1:]))
    for index in chosen:
        moving = level(stack, index, settings, settings.moving_mask)
        try:
            found = frame.align(ready, moving) if index != middle else frame.identity(ready)
        except AlignmentError:  # a blank frame
            continue
        if found.quality.verdict == Verdict.FAILED:
            continue
        moved = warp_pixels(_with_nan(moving), found, fill=float("nan"))
        total, weight = total + np.nan_to_num(moved), weight + np.isfinite(moved)
    mean = np.where(weight > 0, total / np.maximum(weight, 1), np.nan)
    return ReferenceImage(mean.astype(np.float32))


def _with_nan(of: Level) -> NDArray[np.float32]:
    """The image of a level, NaN where it is invalid."""
    grey: NDArray[np.float32] = torch.where(of.mask > 0, of.image, torch.nan).numpy()
    return grey
