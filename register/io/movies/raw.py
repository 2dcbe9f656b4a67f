"""Frames that lie one after the other in a file, without compression."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError


@dataclass(frozen=True)
class RawFrames:
    """``count`` frames (c, h, w) from byte ``offset`` on, in the byte order of ``stored``."""

    path: Path
    offset: int
    stored: np.dtype[Any]
    shape: tuple[int, int, int]
    count: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """See ``FrameSource``."""
        return self.stored.newbyteorder("=")

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> NDArray[Any]:
        """See ``FrameSource``."""
        size = int(np.prod(self.shape))
        try:
            found = np.fromfile(
                self.path, self.stored, size, offset=self.offset + index * size * self.stored.itemsize
            )
        except OSError as error:
            raise FileError(self.path, f"frame {index} cannot be read ({error})", "check the file") from None
        if len(found) != size:
            raise FileError(self.path, f"frame {index} is incomplete", "check the file")
        return found.reshape(self.shape).astype(self.dtype, copy=False)

    def close(self) -> None:
        """Nothing is left open."""


def whole_frames(path: Path, offset: int, stored: np.dtype[Any], shape: tuple[int, int, int]) -> int:
    """The number of whole frames between a byte and the end of a file."""
    return max((path.stat().st_size - offset) // (int(np.prod(shape)) * stored.itemsize), 0)
