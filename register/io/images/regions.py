"""Pixels that a library reads region by region from a file."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.images.pixels import Key, spans
from register.io.images.instrument_format import Format
from register.io.images.model import Selection

Read = Callable[[range, range, range], NDArray[Any]]
"""Reads channels, rows and columns as an array (c, h, w)."""


@dataclass(frozen=True, eq=False)
class Regions:
    """Pixels (c, h, w) of which a function reads a window; one window is read at a time."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Read
    lock: Any = field(default_factory=threading.Lock, repr=False)

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """A window (c, h, w)."""
        channels, rows, columns = spans(key, self.shape)
        if not (len(channels) and len(rows) and len(columns)):
            return np.empty((len(channels), len(rows), len(columns)), self.dtype)
        with self.lock:
            return np.ascontiguousarray(self.read(channels, rows, columns), dtype=self.dtype)


def library(name: str, path: Path, kind: Format, extra: str) -> Any:
    """The module of an optional package. Raises ``FileError`` that names the file's format and the extra."""
    try:
        return import_module(name)
    except ImportError:
        advice = f"pip install 'register-cli[{extra}]', or {kind.advice}"
        raise FileError(path, f"is {kind.name}", advice) from None


def why(error: Exception) -> str:
    """What a library says of a damaged file, in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def checked_level(path: Path, selection: Selection, levels: int) -> int:
    """The selected level. Raises ``FileError`` for one that the file does not have."""
    if selection.level >= levels:
        raise FileError(
            path, f"has no level {selection.level}; it has {levels}, from 0", "choose another level"
        )
    return selection.level


def checked_series(path: Path, selection: Selection, areas: list[int]) -> int:
    """The selected series, or the largest one. Raises ``FileError`` for one that the file does not have."""
    if not areas:
        raise FileError(path, "holds no image", "check that the file is complete")
    if selection.series is None:
        return max(range(len(areas)), key=areas.__getitem__)
    if selection.series >= len(areas):
        raise FileError(
            path, f"has no series {selection.series}; it has {len(areas)}, from 0", "choose another --series"
        )
    return selection.series
