"""From a file's pixels to what an alignment works on: a grey level of bounded size, read by windows, with where it is valid."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from register.errors import FileError, RegisterError
from register.geometry import affine
from register.images import grayscale
from register.images.grayscale import Grey
from register.images.pixels import Key, Pixels, spans
from register.images.pyramid import Level
from register.io.images.open import Image
from register.io.images.tiff import times

BAND = 2**21
"""Values that are read at once."""
SAMPLES, SAMPLE = 4, 256
"""Windows per side, and their side in pixels, in which a large image is looked at before its grey is chosen."""


@dataclass(frozen=True)
class Validity:
    """Where pixels count: not NaN, not transparent, not the file's or the given ``nodata``, and not 0 in a ``mask`` (1, h, w) of the same size."""

    image: Image
    nodata: float | None = None
    mask: Pixels | None = None

    @property
    def everywhere(self) -> bool:
        """Whether nothing can make a pixel invalid."""
        return (
            not self.image.alpha and self.image.dtype.kind != "f" and not self._values() and self.mask is None
        )

    def of(
        self, window: NDArray[Any], rows: slice, columns: slice, factor: tuple[float, float] = (1.0, 1.0)
    ) -> NDArray[np.bool_]:
        """Which pixels (1, h, w) of a window (c, h, w) count; rows and columns are those of a level ``factor`` times coarser than the mask."""
        shown = window[:-1] if self.image.alpha else window
        valid: NDArray[np.bool_] = np.ones((1, *window.shape[1:]), np.bool_)
        if self.image.alpha:
            valid &= window[-1:] > 0
        if window.dtype.kind == "f":
            valid &= np.isfinite(shown).all(axis=0, keepdims=True)
        for value in self._values():
            valid &= ~(shown == value).all(axis=0, keepdims=True)
        if self.mask is not None:
            valid &= _nearest(self.mask, rows, columns, factor) > 0
        return valid

    def pixels(self) -> Pixels:
        """The same as pixels (1, h, w), 255 where they count."""
        return _Valid(self)

    def _values(self) -> list[float]:
        return [x for x in {self.image.nodata, self.nodata} if x is not None and x == x]


@dataclass(frozen=True)
class _Valid:
    validity: Validity

    @property
    def shape(self) -> tuple[int, ...]:
        """One, rows, columns."""
        return (1, *self.validity.image.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Bytes."""
        return np.dtype(np.uint8)

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """A window."""
        rows, columns = (slice(span.start, span.stop) for span in spans(key, self.shape)[1:])
        return self.validity.of(self.validity.image.pixels[slice(None), rows, columns], rows, columns).astype(
            np.uint8
        ) * np.uint8(255)


def _nearest(mask: Pixels, rows: slice, columns: slice, factor: tuple[float, float]) -> NDArray[Any]:
    """The pixels of a mask nearest to those of a window of a coarser level."""
    if factor == (1.0, 1.0):
        return mask[slice(0, 1), rows, columns]
    places = [
        np.clip(((np.arange(span.start, span.stop) + 0.5) * f).astype(int), 0, size - 1)
        for span, f, size in zip((rows, columns), factor, mask.shape[1:], strict=True)
    ]
    window = mask[
        slice(0, 1),
        slice(int(places[0][0]), int(places[0][-1]) + 1),
        slice(int(places[1][0]), int(places[1][-1]) + 1),
    ]
    return window[:, places[0] - places[0][0]][:, :, places[1] - places[1][0]]


def working_level(
    image: Image, validity: Validity, size: int, *, channel: str | None = None
) -> tuple[Level, str]:
    """A grey level of an image, its longest side at most twice ``size`` pixels, and the name of the grey that was chosen.

    It is read band by band from the coarsest level of the file that is fine enough, and averaged over whole blocks of pixels, so that memory does not
    grow with the image. Raises ``FileError`` for a channel that is not there.
    """
    image = image.coloured()
    levels = [image.pixels, *image.smaller]
    pixels = next((x for x in reversed(levels) if max(x.shape[1:]) >= size), levels[0])
    chosen = _grey(image, validity, channel)
    steps = _step(image.pixels.shape, pixels.shape)
    block = max(max(pixels.shape[1:]) // size, 1)
    plane, share = _read(pixels, validity, chosen, block, steps)
    factor = steps[1] * block, steps[0] * block
    return Level(plane, share, affine.scaling(*factor)), chosen.name


def sample(image: Image, validity: Validity) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Some of the pixels (c, h, w) of an image, all of a small one, and which of them are valid (1, h, w)."""
    level = (
        image.smaller[-1]
        if image.smaller and max(image.smaller[-1].shape[1:]) >= SAMPLE * 2
        else image.pixels
    )
    steps = _step(image.pixels.shape, level.shape)
    parts = []
    for rows in _windows(level.shape[1]):
        band = []
        for columns in _windows(level.shape[2]):
            window = level[slice(None), rows, columns]
            band.append((window, validity.of(window, rows, columns, steps)))
        parts.append(tuple(np.concatenate(x, axis=2) for x in zip(*band, strict=True)))
    pixels, valid = (np.concatenate(x, axis=1) for x in zip(*parts, strict=True))
    return pixels, valid


def _windows(side: int) -> list[slice]:
    """The spans of one axis that are looked at."""
    if side <= SAMPLES * SAMPLE:
        return [slice(0, side)]
    starts = np.linspace(0, side - SAMPLE, SAMPLES).astype(int)
    return [slice(int(start), int(start) + SAMPLE) for start in starts]


def _grey(image: Image, validity: Validity, channel: str | None) -> Grey:
    """The grey to compare, chosen on a sample."""
    pixels, valid = sample(image, validity)
    shown = torch.from_numpy((pixels[:-1] if image.alpha else pixels).astype(np.float32))
    try:
        return grayscale.choose(
            shown,
            torch.from_numpy(valid),
            colour=image.colour,
            white=image.white,
            wanted=channel,
            names=image.channel_names,
        )
    except RegisterError as error:
        raise FileError(image.path or "the image", str(error)) from None


def _step(original: tuple[int, ...], level: tuple[int, ...]) -> tuple[float, float]:
    """How many original pixels a pixel of a level is high and wide: a power of two where the sizes allow it."""
    return times(original[1], level[1]), times(original[2], level[2])


def _read(
    pixels: Pixels, validity: Validity, chosen: Grey, block: int, steps: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """The grey (1, h, w) of a level averaged over blocks of its pixels, and the share of them that is valid; rests of blocks are left out."""
    count, height, width = pixels.shape
    high, wide = height // block, width // block
    plane, share = torch.zeros(1, high, wide), torch.zeros(1, high, wide)
    deep = max(BAND // (count * width * block), 1)
    for top in range(0, high, deep):
        bottom = min(top + deep, high)
        rows, columns = slice(top * block, bottom * block), slice(0, wide * block)
        window = pixels[slice(None), rows, columns]
        valid = torch.from_numpy(validity.of(window, rows, columns, steps))
        shown = torch.from_numpy((window[:-1] if validity.image.alpha else window).astype(np.float32))
        values = torch.where(valid, chosen(shown), 0.0)
        if block > 1:
            parts = [
                x.float().reshape(1, bottom - top, block, wide, block).sum((2, 4)) for x in (values, valid)
            ]
            values, valid = parts[0] / parts[1].clamp(min=1), parts[1] / block**2
        plane[:, top:bottom], share[:, top:bottom] = values, valid
    return plane, share
