"""What the frames of a movie are read from, and how they lie there."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError, RegisterError


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


@dataclass(frozen=True)
class Layout:
    """How frames lie in a file whose axes are not all named.

    ``planes`` and ``channels`` are the numbers of planes and channels that alternate along the pages of a
    file, the channel fastest. ``plane`` is the plane that is read, counted from 0. ``dataset`` is the path
    of the array in an HDF5, NWB or Zarr file. With ``allow_truncated`` the whole frames that are left of a
    file that is cut off are enough.
    """

    planes: int = 1
    channels: int = 1
    plane: int | None = None
    dataset: str | None = None
    allow_truncated: bool = False

    def of_pages(self, name: str, count: int) -> tuple[tuple[int, ...], ...]:
        """The pages of every frame, one per channel, of a file with ``count`` pages; a rest is left out.

        Raises ``RegisterError`` unless the plane is one of several.
        """
        whole = self.planes * self.channels
        if self.planes > 1 and self.plane is None:
            raise RegisterError(f"{name}: {self.planes} planes alternate in it; name one by --plane")
        plane = self.plane or 0
        if plane >= self.planes:
            raise RegisterError(f"{name}: has no plane {plane}; it has {self.planes}, counted from 0")
        first = plane * self.channels
        return tuple(
            tuple(range(start + first, start + first + self.channels))
            for start in range(0, count - whole + 1, whole)
        )


AS_STORED = Layout()


def plane_number(text: str | None) -> int | None:
    """The number of a plane from ``3`` or ``Z=3``. Raises ``RegisterError`` for another text."""
    if text is None:
        return None
    match = re.fullmatch(r"(?:[zZ]=)?(\d+)", text)
    if not match:
        raise RegisterError(f"--plane {text!r}: a number counted from 0, such as 3 or Z=3")
    return int(match[1])


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
