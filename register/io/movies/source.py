"""What the frames of a movie are read from."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError


class FrameSource(Protocol):
    """Frames (c, h, w) of one size and data type, read one at a time. It can be sent to another process."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows, columns of a frame."""

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
    """A frame (c, h, w). Raises ``FileError`` when it is of another size or data type than the first one."""
    if pixels.shape != shape or pixels.dtype != dtype:
        raise FileError(
            path,
            f"frame {index} is {pixels.dtype} {pixels.shape}, the first one {dtype} {shape}",
            "all frames need the same size and data type",
        )
    return pixels
