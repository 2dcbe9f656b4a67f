"""The working image of an alignment: grey, of bounded size, with the share of valid pixels."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from register.errors import FileError, RegisterError
from register.geometry import affine, affine_tensors
from register.images import debris
from register.images.conversion import Conversion, working_dtype
from register.images.pixels import Key, Pixels, bands, spans
from register.images.pyramid import Level
from register.io.images.levels import level_factors
from register.io.images.model import Image

SAMPLES, SAMPLE = 4, 256
"""The windows along each side, and their side in pixels, from which the grey of a large image is chosen."""


@dataclass(frozen=True)
class Validity:
    """Which pixels are valid.

    Invalid are NaN, transparent pixels, the no-data value of the file, the given ``nodata``, and pixels
    where the ``mask`` (1, h, w), which has the size of the image, is 0.
    """

    image: Image
    nodata: float | None = None
    mask: Pixels | None = None

    @property
    def everywhere(self) -> bool:
        """Whether all pixels are certainly valid."""
        image = self.image
        return not image.alpha and image.dtype.kind != "f" and not self._values() and self.mask is None

    def of(
        self, window: NDArray[Any], rows: slice, columns: slice, factors: tuple[float, float] = (1.0, 1.0)
    ) -> NDArray[np.bool_]:
        """Which pixels (1, h, w) of a window (c, h, w) are valid.

        ``rows`` and ``columns`` place the window in a level whose pixels are larger by two ``factors``, y
        and x.
        """
        colours = without_alpha(self.image, window)
        valid: NDArray[np.bool_] = np.ones((1, *window.shape[1:]), np.bool_)
        if self.image.alpha:
            valid &= window[-1:] > 0
        if window.dtype.kind == "f":
            valid &= np.isfinite(colours).all(axis=0, keepdims=True)
        for value in self._values():
            valid &= ~(colours == value).all(axis=0, keepdims=True)
        if self.mask is not None:
            valid &= _nearest(self.mask, rows, columns, factors) > 0
        return valid

    def pixels(self) -> Pixels:
        """The same as an image (1, h, w): 255 where pixels are valid, else 0."""
        return _ValidPixels(self)

    def _values(self) -> list[float]:
        """The values that mark invalid pixels."""
        return [x for x in {self.image.nodata, self.nodata} if x is not None and x == x]


@dataclass(frozen=True)
class _ValidPixels:
    """A validity as pixels."""

    validity: Validity

    @property
    def shape(self) -> tuple[int, ...]:
        """One, rows, columns."""
        return (1, *self.validity.image.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Unsigned 8-bit integers."""
        return np.dtype(np.uint8)

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """A window (1, h, w)."""
        rows, columns = (slice(span.start, span.stop) for span in spans(key, self.shape)[1:])
        window = self.validity.image.pixels[slice(None), rows, columns]
        return self.validity.of(window, rows, columns).astype(np.uint8) * np.uint8(255)


def without_alpha(image: Image, window: NDArray[Any]) -> NDArray[Any]:
    """A window (c, h, w) of an image without its opacity."""
    return window[:-1] if image.alpha else window


def working_level(
    image: Image, validity: Validity, size: int, *, channel: str | None = None
) -> tuple[Level, str]:
    """A grey level of an image, its longest side at most twice ``size`` pixels, and the name of the grey.

    It is read band by band from the coarsest level of the file that is large enough, and averaged over
    blocks of pixels, so that memory does not grow with the image. Raises ``FileError`` for a channel that
    does not exist.
    """
    chosen = _conversion(image.coloured(), validity, channel)
    height, width = image.size
    return _level(image, validity, size, chosen, (slice(0, height), slice(0, width))), chosen.name


def working_part(
    image: Image, validity: Validity, size: int, rows: slice, columns: slice, *, channel: str | None = None
) -> Level:
    """The grey level of some ``rows`` and ``columns`` of an image, in the same grey as all of it.

    Its longest side is at most twice ``size`` pixels, and it may begin and end a pixel of a coarser level
    earlier and later.
    """
    return _level(image, validity, size, _conversion(image.coloured(), validity, channel), (rows, columns))


def _level(
    image: Image, validity: Validity, size: int, chosen: Conversion, area: tuple[slice, slice]
) -> Level:
    """The grey level of an area (rows, columns) of an image by a conversion that was chosen."""
    image = image.coloured()
    levels = [image.pixels, *image.smaller]
    share = max((x.stop - x.start) for x in area) / max(image.size)
    pixels = next((x for x in reversed(levels) if max(x.shape[1:]) * share >= size), levels[0])
    factors = _factors(image, pixels)
    rows, columns = (
        slice(int(span.start / factor), min(math.ceil(span.stop / factor), length))
        for span, factor, length in zip(area, factors, pixels.shape[1:], strict=True)
    )
    block = max(max(rows.stop - rows.start, columns.stop - columns.start) // size, 1)
    plane, clean, share_valid = _average(pixels, validity, chosen, block, factors, (rows, columns))
    if not chosen.keeps_all:
        plane, share_valid = debris.removed(plane, clean, share_valid)
    up = affine_tensors.scaling(factors[1], factors[0])
    up = affine.compose(up, affine_tensors.translation(columns.start, rows.start))
    return Level(plane, share_valid, affine.compose(up, affine_tensors.scaling(block, block)))


def sample(image: Image, validity: Validity) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Pixels (c, h, w) of an image, all of a small image, and which of them are valid (1, h, w)."""
    level = image.pixels
    if image.smaller and max(image.smaller[-1].shape[1:]) >= SAMPLE * 2:
        level = image.smaller[-1]
    factors = _factors(image, level)
    pixels, valid = [], []
    for rows in _windows(level.shape[1]):
        row_pixels, row_valid = [], []
        for columns in _windows(level.shape[2]):
            window = level[slice(None), rows, columns]
            row_pixels.append(window)
            row_valid.append(validity.of(window, rows, columns, factors))
        pixels.append(np.concatenate(row_pixels, axis=2))
        valid.append(np.concatenate(row_valid, axis=2))
    return np.concatenate(pixels, axis=1), np.concatenate(valid, axis=1)


def _nearest(mask: Pixels, rows: slice, columns: slice, factors: tuple[float, float]) -> NDArray[Any]:
    """The pixels of a mask nearest to those of a window of a coarser level."""
    if factors == (1.0, 1.0):
        return mask[slice(0, 1), rows, columns]
    y, x = (
        np.clip(((np.arange(span.start, span.stop) + 0.5) * factor).astype(int), 0, size - 1)
        for span, factor, size in zip((rows, columns), factors, mask.shape[1:], strict=True)
    )
    window = mask[slice(0, 1), slice(int(y[0]), int(y[-1]) + 1), slice(int(x[0]), int(x[-1]) + 1)]
    return window[:, y - y[0]][:, :, x - x[0]]


def _windows(side: int) -> list[slice]:
    """The spans of one axis that ``sample`` reads."""
    if side <= SAMPLES * SAMPLE:
        return [slice(0, side)]
    starts = np.linspace(0, side - SAMPLE, SAMPLES).astype(int)
    return [slice(int(start), int(start) + SAMPLE) for start in starts]


def _conversion(image: Image, validity: Validity, channel: str | None) -> Conversion:
    """The conversion to the grey that is compared, chosen on a sample."""
    pixels, valid = sample(image, validity)
    try:
        return Conversion.of(
            torch.from_numpy(without_alpha(image, pixels).astype(working_dtype(pixels.dtype))),
            torch.from_numpy(valid),
            colour=image.colour,
            white=image.white,
            wanted=channel,
            names=image.channel_names,
        )
    except RegisterError as error:
        raise FileError(image.path or "the image", str(error)) from None


def _factors(image: Image, level: Pixels) -> tuple[float, float]:
    """The height and width of a level's pixel in pixels of the image."""
    x, y = level_factors(image.size, (level.shape[1], level.shape[2]))
    return y, x


def _average(
    pixels: Pixels,
    validity: Validity,
    chosen: Conversion,
    block: int,
    factors: tuple[float, float],
    area: tuple[slice, slice],
) -> tuple[Tensor, Tensor, Tensor]:
    """The grey (1, h, w) of an area (rows, columns) of a level, averaged over blocks of its pixels.

    Also returns the share of them that is valid and no debris, and the share that is valid. Incomplete blocks
    at the right and lower border are left out.
    """
    count, (first, left) = pixels.shape[0], (span.start for span in area)
    height, width = (span.stop - span.start for span in area)
    high, wide = height // block, width // block
    plane, clean_share, share = (torch.zeros(1, high, wide) for _ in range(3))
    dtype = working_dtype(pixels.dtype)
    for top, bottom in bands(high, count * width * block):
        rows = slice(first + top * block, first + bottom * block)
        columns = slice(left, left + wide * block)
        window = pixels[slice(None), rows, columns]
        valid = torch.from_numpy(validity.of(window, rows, columns, factors))
        colours = torch.from_numpy(without_alpha(validity.image, window).astype(dtype))
        values, clean = chosen(colours, valid)
        if block > 1:
            count_clean, count_valid = _block_sums(clean, block), _block_sums(valid, block)
            values = _block_sums(values * clean, block) / count_clean.clamp(min=1)
            clean, valid = count_clean / block**2, count_valid / block**2
        plane[:, top:bottom], clean_share[:, top:bottom], share[:, top:bottom] = values, clean, valid
    return plane, clean_share, share


def _block_sums(values: Tensor, block: int) -> Tensor:
    """The sums (1, h, w) over blocks of values (1, h block, w block)."""
    _, height, width = values.shape
    return values.float().reshape(1, height // block, block, width // block, block).sum((2, 4))
