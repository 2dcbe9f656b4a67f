"""What the frames of a movie are read from."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError


class FrameSource(Protocol):
    """Frames (c, h, w) of one data type, read one at a time. It can be sent to another process."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows, columns of the largest frames; others may have fewer rows and columns."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a value."""

    def __len__(self) -> int:
        """The number of frames."""

    def read(self, index: int) -> NDArray[Any]:
        """One frame (c, h, w). Raises ``FileError`` where it cannot be read."""

    def close(self) -> None:
        """Close what was opened to read frames."""


def cut_note(path: Path, whole: int, count: int) -> str:
    """The note on a file that is cut short."""
    return f"{path.name} is cut short: {whole} of its {count} frames are whole and are used"


def checked(
    path: Path, index: int, pixels: NDArray[Any], shape: tuple[int, int, int], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """A frame (c, h, w). Raises ``FileError`` when it is larger than the others or of another type."""
    larger = any(mine > others for mine, others in zip(pixels.shape[1:], shape[1:], strict=True))
    if pixels.shape[0] != shape[0] or larger or pixels.dtype != dtype:
        raise FileError(
            path,
            f"frame {index} is {pixels.dtype} {pixels.shape}, the others {dtype} {shape}",
            "all frames need the same channels and data type",
        )
    return pixels


def largest(shapes: Iterable[tuple[int, int, int]]) -> tuple[int, int, int]:
    """The most channels, rows and columns of frames."""
    channels, rows, columns = (max(sizes) for sizes in zip(*shapes, strict=True))
    return channels, rows, columns
