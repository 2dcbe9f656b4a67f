"""Pixels that stay in their file: read by windows, so that an image larger than memory costs no more than what is looked at."""

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
"""Decoded tiles or strips that one image keeps at hand."""
MANY = 16
"""Segments of a window from which on they are decoded by several threads."""
THREADS = 2


@dataclass(frozen=True)
class Mapped:
    """Uncompressed pixels in one piece: ``view`` turns the mapped array into (c, h, w). Each window maps the file anew, so no page of it stays in memory."""

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
        """The type of a value, in the machine's own byte order."""
        return self.stored_dtype.newbyteorder("=")

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """A window, copied out of the file."""
        whole = np.memmap(self.path, self.stored_dtype, "r", self.offset, self.stored)
        return np.ascontiguousarray(self.view(whole)[key], dtype=self.dtype)


@cache
def _pool() -> ThreadPoolExecutor:
    """The threads that decode; the same ones for all images, because the memory that a thread has used stays with it."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="decode")


Segment = tuple[int, int, int]
"""One tile or strip: its first channel, and its row and column among the others."""


@dataclass(frozen=True, eq=False)
class Segmented:
    """Pixels in tiles or strips, each decoded when a window first needs it and kept while there is room.

    A page holds ``planes`` of segments one after the other, each as many as cover the image; a segment holds ``samples`` channels.
    """

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    side: tuple[int, int]  # rows and columns of a segment
    planes: int
    samples: int
    stored: tuple[
        tuple[Sequence[int], Sequence[int]], ...
    ]  # per page: where each segment's bytes begin, and how many they are
    decode: Callable[
        [bytes | None, int], NDArray[Any] | None
    ]  # (rows, columns, samples) of a page's segment, None where nothing is stored
    _kept: "OrderedDict[Segment, NDArray[Any] | None]" = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """A window; raises ``FileError`` where the file is damaged."""
        channels, rows, columns = spans(key, self.shape)
        out = np.zeros((len(channels), len(rows), len(columns)), self.dtype)
        if out.size == 0:
            return out
        first = range(channels.start // self.samples * self.samples, channels.stop, self.samples)
        down = range(rows.start // self.side[0], (rows.stop - 1) // self.side[0] + 1)
        across = range(columns.start // self.side[1], (columns.stop - 1) // self.side[1] + 1)
        wanted = [(c, y, x) for y in down for x in across for c in first]
        if len(wanted) < MANY:
            for segment in wanted:
                self._paste(out, segment, self._read(segment), (channels, rows, columns))
            return out
        for begin in range(0, len(wanted), MANY):  # in parts, so that no more is decoded than is pasted soon
            part = wanted[begin : begin + MANY]
            for segment, data in zip(part, _pool().map(self._read, part), strict=True):
                self._paste(out, segment, data, (channels, rows, columns))
        return out

    def _read(self, segment: Segment) -> NDArray[Any] | None:
        """The pixels (h, w, s) of a segment, decoded or kept."""
        with self._lock:
            if segment in self._kept:
                self._kept.move_to_end(segment)
                return self._kept[segment]
        try:
            data = self._decoded(segment)
        except MemoryError:
            raise
        except Exception as error:  # codecs raise anything on damaged bytes
            row, column = (n * side for n, side in zip(segment[1:], self.side, strict=True))
            raise FileError(
                self.path,
                f"cannot be read at row {row}, column {column} ({error})",
                "check that the file is whole",
            ) from error
        with self._lock:
            self._kept[segment] = data
            room = CACHE_BYTES // max(self.side[0] * self.side[1] * self.samples * self.dtype.itemsize, 1)
            while len(self._kept) > max(room, 1):
                self._kept.popitem(last=False)
        return data

    def _decoded(self, segment: Segment) -> NDArray[Any] | None:
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
        self,
        out: NDArray[Any],
        segment: Segment,
        data: NDArray[Any] | None,
        window: tuple[range, range, range],
    ) -> None:
        """Copy what a segment's pixels (h, w, s) show of the window into it."""
        if data is None:
            return
        corner = segment[0], segment[1] * self.side[0], segment[2] * self.side[1]
        size = data.shape[2], *data.shape[:2]
        low = [max(c, span.start) for c, span in zip(corner, window, strict=True)]
        high = [min(c + n, span.stop) for c, n, span in zip(corner, size, window, strict=True)]
        channels, rows, columns = (
            slice(a - c, max(b, a) - c) for a, b, c in zip(low, high, corner, strict=True)
        )
        into = tuple(
            slice(a - span.start, max(b, a) - span.start)
            for a, b, span in zip(low, high, window, strict=True)
        )
        out[into] = np.moveaxis(data[rows, columns, channels], 2, 0)
