"""The frames of a movie with what their files state about them; frames of several files or sources."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.geometry.pixel_size import PixelSize
from register.images.pixels import EVERYTHING
from register.io.images.open import open_image
from register.io.movies.source import FrameSource, checked, largest


@dataclass(frozen=True)
class Stack:
    """Frames (c, h, w) of one data type, and what their files state about them.

    ``axis`` is the axis along which the frames lie, T or Z. With ``planes`` the frames along T are those of
    volumes: all planes of one time, then those of the next. ``step`` is the time between frames in seconds,
    or their distance along Z in the unit of the pixel size, and ``pixel_size`` is the size of a pixel; both
    are None where the file does not state them. ``channel_names`` are empty where they are not known.
    ``notes`` say what was left out.
    """

    name: str
    files: tuple[Path, ...]
    source: FrameSource
    rgb: bool = False
    axis: str = "T"
    step: float | None = None
    pixel_size: PixelSize | None = None
    nodata: float | None = None
    notes: tuple[str, ...] = ()
    planes: int | None = None
    channel_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.source)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows, columns of the largest frames: the size of the reference."""
        return self.source.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a value."""
        return self.source.dtype

    def frame(self, index: int) -> NDArray[Any]:
        """One frame (c, h, w). Raises ``FileError`` when it is unreadable or of another data type."""
        return self.source.read(index)

    def close(self) -> None:
        """Close the files from which frames were read."""
        self.source.close()


def image_pixels(path: Path) -> NDArray[Any]:
    """The values (c, h, w) of an image file."""
    return np.asarray(open_image(path).pixels[EVERYTHING])


@dataclass(frozen=True)
class ImageFiles:
    """Frames that are a file each, of which ``pixels`` reads the values (c, h, w)."""

    files: tuple[Path, ...]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    pixels: Callable[[Path], NDArray[Any]] = image_pixels

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> NDArray[Any]:
        """See ``FrameSource``."""
        path = self.files[index]
        return checked(path, index, self.pixels(path), self.shape, self.dtype)

    def close(self) -> None:
        """Nothing is left open."""


@dataclass(frozen=True)
class Joined:
    """Frames of several sources, one after the other."""

    parts: tuple[FrameSource, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """See ``FrameSource``."""
        return largest(part.shape for part in self.parts)

    @property
    def dtype(self) -> np.dtype[Any]:
        """See ``FrameSource``."""
        return self.parts[0].dtype

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def read(self, index: int) -> NDArray[Any]:
        """See ``FrameSource``."""
        for part in self.parts:
            if index < len(part):
                return part.read(index)
            index -= len(part)
        raise IndexError(index)

    def close(self) -> None:
        """Close all sources."""
        for part in self.parts:
            part.close()
