"""Pixels that are read from their file by windows, so that memory does not grow with the image."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.images.pixels import Key, spans

CACHE_BYTES = 64 * 2**20
"""Decoded tiles or strips that one image keeps in memory."""
MANY = 16
"""The number of segments of a window from which on several threads decode them."""
THREADS = 2


@dataclass(frozen=True)
class Mapped:
    """Uncompressed, contiguous pixels; ``view`` turns the stored array into (c, h, w).

    The file is mapped anew for every window, so that no page of it stays in memory.
    """

    path: Path
    offset: int
    stored: tuple[int, ...]
    stored_dtype: np.dtype[Any]
    view: Callable[[NDArray[Any]], NDArray[Any]]

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Channels, rows, columns."""
        return self.view(np.broadcast_to(np.zeros((), self.stored_dtype), self.stored)).shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The data type of the pixels, in the machine's own byte order."""
        return self.stored_dtype.newbyteorder("=")

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """A window (c, h, w), copied from the file. Raises ``FileError`` where the file became shorter."""
        try:
            stored = np.memmap(self.path, self.stored_dtype, "r", self.offset, self.stored)
        except (OSError, ValueError) as error:
            raise FileError(
                self.path, f"cannot be read any more ({error})", "check that the file is complete"
            ) from None
        return np.ascontiguousarray(self.view(stored)[key], dtype=self.dtype)


@cache
def _pool() -> ThreadPoolExecutor:
    """The threads that decode. All images share them, because each thread keeps the memory it has used."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="decode")


if hasattr(os, "register_at_fork"):  # a forked process has none of these threads
    os.register_at_fork(after_in_child=_pool.cache_clear)

Segment = tuple[int, int, int]
"""One tile or strip: its first channel, and its row and column among the segments."""


@dataclass(frozen=True, eq=False)
class Segmented:
    """Pixels in tiles or strips, each decoded when a window first needs it, and cached.

    ``side`` is the number of rows and columns of a segment, which holds ``samples`` channels. A page holds
    ``planes`` sets of segments one after the other, each of which covers the image. ``stored`` are, for
    each page, the offsets and the lengths in bytes of its segments. ``decode`` returns the pixels (rows,
    columns, samples) of a segment of a page, or None where nothing is stored.
    """

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    side: tuple[int, int]
    planes: int
    samples: int
    stored: tuple[tuple[Sequence[int], Sequence[int]], ...]
    decode: Callable[[bytes | None, int], NDArray[Any] | None]
    _cache: "OrderedDict[Segment, NDArray[Any] | None]" = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """A window (c, h, w). Raises ``FileError`` where the file is damaged."""
        window = channels, rows, columns = spans(key, self.shape)
        out = np.zeros((len(channels), len(rows), len(columns)), self.dtype)
        if out.size == 0:
            return out
        needed = self._segments(window)
        if len(needed) < MANY:
            for segment in needed:
                self._paste(out, segment, self._read(segment), window)
            return out
        for first in range(
            0, len(needed), MANY
        ):  # in batches, so that few decoded segments wait to be pasted
            batch = needed[first : first + MANY]
            for segment, data in zip(batch, _pool().map(self._read, batch), strict=True):
                self._paste(out, segment, data, window)
        return out

    def _segments(self, window: list[range]) -> list[Segment]:
        """The segments that a window touches, row by row."""
        channels, rows, columns = window
        first = range(channels.start // self.samples * self.samples, channels.stop, self.samples)
        down = range(rows.start // self.side[0], (rows.stop - 1) // self.side[0] + 1)
        across = range(columns.start // self.side[1], (columns.stop - 1) // self.side[1] + 1)
        return [(c, y, x) for y in down for x in across for c in first]

    def _read(self, segment: Segment) -> NDArray[Any] | None:
        """The pixels (h, w, s) of a segment, from the cache or decoded."""
        with self._lock:
            if segment in self._cache:
                self._cache.move_to_end(segment)
                return self._cache[segment]
        try:
            data = self._decoded(segment)
        except MemoryError:
            raise
        except Exception as error:  # codecs raise any exception on damaged bytes
            row, column = (n * side for n, side in zip(segment[1:], self.side, strict=True))
            raise FileError(
                self.path,
                f"cannot be read at row {row}, column {column} ({error})",
                "check that the file is complete",
            ) from error
        with self._lock:
            self._cache[segment] = data
            room = CACHE_BYTES // (self.side[0] * self.side[1] * self.samples * self.dtype.itemsize)
            while len(self._cache) > max(room, 1):
                self._cache.popitem(last=False)
        return data

    def _decoded(self, segment: Segment) -> NDArray[Any] | None:
        """The pixels (h, w, s) of a segment, read from the file; None where nothing is stored."""
        page, plane = divmod(segment[0] // self.samples, self.planes)
        grid = [-(-n // side) for n, side in zip(self.shape[1:], self.side, strict=True)]
        index = (plane * grid[0] + segment[1]) * grid[1] + segment[2]
        offsets, lengths = self.stored[page]
        if not lengths[index]:
            return None
        with open(self.path, "rb") as file:
            file.seek(offsets[index])
            return self.decode(file.read(lengths[index]), index)

    def _paste(
        self, out: NDArray[Any], segment: Segment, data: NDArray[Any] | None, window: list[range]
    ) -> None:
        """Copy the part of a segment (h, w, s) that lies in the window into ``out`` (c, h, w)."""
        if data is None:
            return
        corner = segment[0], segment[1] * self.side[0], segment[2] * self.side[1]
        size = data.shape[2], *data.shape[:2]
        source, target = [], []
        for start, length, span in zip(corner, size, window, strict=True):
            low = max(start, span.start)
            high = max(min(start + length, span.stop), low)
            source.append(slice(low - start, high - start))
            target.append(slice(low - span.start, high - span.start))
        channels, rows, columns = source
        out[tuple(target)] = np.moveaxis(data[rows, columns, channels], 2, 0)
