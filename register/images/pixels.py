"""Images (c, h, w) that are read window by window, from memory, from a file, or by computing the window."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from register.errors import RegisterError

Key = tuple[slice, slice, slice]
BAND = 2**21
"""Values that are read at once where an image is read band by band."""


class Pixels(Protocol):
    """Pixels (c, h, w) of which ``pixels[channels, rows, columns]`` reads a window, as of a NumPy array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, rows, columns."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a value."""

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """The window (c, h, w), three slices with step 1, as an array in memory."""


EVERYTHING = (slice(None), slice(None), slice(None))


def spans(key: Key, shape: Sequence[int]) -> list[range]:
    """The channels, rows and columns of a window."""
    return [range(*part.indices(size)) for part, size in zip(key, shape, strict=True)]


def bands(rows: int, values: int) -> Iterator[tuple[int, int]]:
    """The first row of each band of an image, and the row after its last, for a number of values per row."""
    deep = max(BAND // values, 1)
    for top in range(0, rows, deep):
        yield top, min(top + deep, rows)


@dataclass(frozen=True)
class SelectedChannels:
    """A selection of channels of an image."""

    of: Pixels
    channels: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, rows, columns."""
        return (len(self.channels), *self.of.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a value."""
        return self.of.dtype

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """A window of the chosen channels."""
        wanted = [self.channels[i] for i in range(*key[0].indices(len(self.channels)))]
        return np.concatenate([self.of[slice(c, c + 1), key[1], key[2]] for c in wanted])


@dataclass(frozen=True)
class Stacked:
    """Images of one size and one type, their channels one after the other."""

    images: tuple[Pixels, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """All channels, rows, columns."""
        return (sum(image.shape[0] for image in self.images), *self.images[0].shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a value."""
        return self.images[0].dtype

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """A window; of each image only the wanted channels are read."""
        wanted, first, found = range(*key[0].indices(self.shape[0])), 0, []
        for image in self.images:
            low, high = max(wanted.start - first, 0), min(wanted.stop - first, image.shape[0])
            if low < high:
                found.append(image[slice(low, high), key[1], key[2]])
            first += image.shape[0]
        return np.concatenate(found)


@dataclass(frozen=True)
class Converted:
    """An image with its values in another type, which can hold all of them."""

    of: Pixels
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, rows, columns."""
        return self.of.shape

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """A window."""
        return self.of[key].astype(self.dtype)


@dataclass(frozen=True)
class PaletteColours:
    """The colours (3, h, w) of an image of palette indices (1, h, w)."""

    indices: Pixels
    palette: NDArray[Any]  # (3, n)

    @property
    def shape(self) -> tuple[int, ...]:
        """Three, rows, columns."""
        return (3, *self.indices.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a value."""
        return self.palette.dtype

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """A window of colours."""
        return self.palette[key[0]][:, self.indices[slice(None), key[1], key[2]][0]]


def check_dtype(dtype: np.dtype[Any]) -> None:
    """Raise ``RegisterError`` unless values of this type can be interpolated without loss."""
    if dtype.kind not in "biuf" or (dtype.kind in "iu" and dtype.itemsize > 4):
        raise RegisterError(
            f"pixels of type {dtype} cannot be interpolated exactly;"
            " convert to a real type of at most 32 bits (64 for floats)"
        )
