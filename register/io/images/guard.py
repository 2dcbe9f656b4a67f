"""Any exception of a format's library becomes one line about the file, also where pixels are read later."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError, RegisterError, is_out_of_memory
from register.images.pixels import Key, Pixels
from register.io.images.model import Image


@contextmanager
def reading(path: object) -> Iterator[None]:
    """Raise ``FileError`` about a file for any exception of a decoder; what says that memory ran out, and
    errors of this program, are raised as they are."""
    try:
        yield
    except RegisterError:
        raise
    except Exception as error:  # decoders raise any exception on damaged files
        if is_out_of_memory(error):
            raise
        raise unreadable(path, error) from error


def unreadable(path: object, error: Exception) -> FileError:
    """The error about a file for an exception that a decoder raised."""
    if is_out_of_memory(error):
        return FileError(path, "is larger than the free memory", "read a coarser level of it")
    reason = " ".join(str(error).strip().partition("\n")[0].split()) or type(error).__name__
    return FileError(path, f"cannot be read as an image ({reason})", "check that the file is complete")


@dataclass(frozen=True)
class Guarded:
    """Pixels that stay in a file until a window of them is read, within ``reading``."""

    of: Pixels
    path: object

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, rows, columns."""
        return self.of.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a value."""
        return self.of.dtype

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """A window (c, h, w). Raises ``FileError`` where it cannot be read."""
        with reading(self.path):
            return self.of[key]


def guarded(image: Image, path: object) -> Image:
    """The image of a file, of which no window and no level raises an exception of a decoder."""
    levels = [x if isinstance(x, np.ndarray) else Guarded(x, path) for x in (image.pixels, *image.smaller)]
    return replace(image, pixels=levels[0], smaller=tuple(levels[1:]))
