"""The pixels of a TIFF in the order of the file: blocks are computed in threads, and cut into tiles."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.images.pixels import Pixels
from register.io.images.model import Image
from register.io.images.tiff_tags import TILE, layout
from register.io.images.windows import Mapped

BLOCK = 2048
"""Columns of a block: the pixels that are computed at once."""
AHEAD = 4
"""The number of blocks that are computed before they are needed."""

Tick = Callable[[int], None]
"""Called with the number of values that were written since its last call."""
Window = tuple[slice, slice]
"""Rows and columns."""


class NextLevel:
    """The next coarser level of a pyramid, stored in a temporary file while the finer level is written."""

    def __init__(self, path: Path, image: Image, size: tuple[int, int], nearest: bool) -> None:
        self.path, self.shape, self.dtype = path, (image.channels, *size), image.dtype
        self.nearest = nearest or image.palette is not None or image.dtype == np.bool_
        np.memmap(path, self.dtype, "w+", shape=self.shape)

    def add(self, block: NDArray[Any], channels: slice, top: int, left: int) -> None:
        """Store a block (c, h, w) of the finer level, from an even row and column on, at half size."""
        small = smaller_block(block, sampled=self.nearest)
        level = np.memmap(self.path, self.dtype, "r+", shape=self.shape)
        level[channels, top // 2 : top // 2 + small.shape[1], left // 2 : left // 2 + small.shape[2]] = small

    def pixels(self) -> Mapped:
        """The stored pixels."""
        return Mapped(self.path, 0, self.shape, self.dtype, _unchanged)


def smaller_block(block: NDArray[Any], *, sampled: bool) -> NDArray[Any]:
    """A block (c, h, w) at half size: ``sampled``, every second pixel, else means of 2 × 2 pixels."""
    return block[:, ::2, ::2] if sampled else _mean_of_four(block)


def halved(size: tuple[int, int]) -> tuple[int, int]:
    """Half a size ``(height, width)``, rounded up."""
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def stream(
    image: Image, pool: ThreadPoolExecutor, coarser: NextLevel | None, tick: Tick
) -> Iterator[NDArray[Any]]:
    """The tiles of one level in the order of the file; of 1-bit images, entire planes."""
    groups = [slice(0, image.channels)]
    if layout(image) not in ("", "contig"):
        groups = [slice(c, c + 1) for c in range(image.channels)]
    bits = image.dtype == np.bool_
    for group in groups:
        windows = iter([(slice(0, image.size[0]), slice(0, image.size[1]))]) if bits else _windows(image.size)
        for (rows, columns), block in computed(pool, image.pixels, group, windows):
            if coarser:
                coarser.add(block, group, rows.start, columns.start)
            tick(block.size)
            if bits:
                yield block[0]
            else:
                yield from _tiles(block, layout(image) == "contig")


def _windows(size: tuple[int, int]) -> Iterator[Window]:
    """The windows of the blocks of an image, each one row of tiles high."""
    height, width = size
    for y in range(0, height, TILE):
        for x in range(0, width, BLOCK):
            yield slice(y, min(y + TILE, height)), slice(x, min(x + BLOCK, width))


def computed(
    pool: ThreadPoolExecutor, pixels: Pixels, channels: slice, windows: Iterator[Window]
) -> Iterator[tuple[Window, NDArray[Any]]]:
    """Each window and its pixels, in order; a few are computed ahead."""
    waiting: deque[tuple[Window, Future[NDArray[Any]]]] = deque()
    for window in windows:
        waiting.append((window, pool.submit(pixels.__getitem__, (channels, *window))))
        if len(waiting) > AHEAD:
            first, future = waiting.popleft()
            yield first, future.result()
    while waiting:
        first, future = waiting.popleft()
        yield first, future.result()


def _tiles(block: NDArray[Any], interleaved: bool) -> Iterator[NDArray[Any]]:
    """The tiles of a block (c, h, w) one row of tiles high; the last ones are padded with border values."""
    height, width = block.shape[1:]
    if height % TILE or width % TILE:
        block = np.pad(block, ((0, 0), (0, -height % TILE), (0, -width % TILE)), mode="edge")
    for left in range(0, block.shape[2], TILE):
        tile = block[:, :, left : left + TILE]
        yield np.ascontiguousarray(np.moveaxis(tile, 0, 2) if interleaved else tile[0])


def _unchanged(array: NDArray[Any]) -> NDArray[Any]:
    return array


def _mean_of_four(block: NDArray[Any]) -> NDArray[Any]:
    """The means of 2 × 2 values of (c, h, w), at the border of the ones that exist; integers are rounded."""
    even = np.pad(block, ((0, 0), (0, block.shape[1] % 2), (0, block.shape[2] % 2)), mode="edge")
    kind = np.float32 if block.dtype.itemsize == 1 else np.float64
    top = even[:, ::2, ::2].astype(kind) + even[:, 1::2, ::2]
    mean = (top + even[:, ::2, 1::2] + even[:, 1::2, 1::2]) / 4
    return (np.rint(mean) if block.dtype.kind in "iu" else mean).astype(block.dtype)
