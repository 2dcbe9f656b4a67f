"""TIFF, BigTIFF and OME-TIFF out through tifffile: tiles are computed while others are compressed and written, levels are made on the way."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from register.compute import device
from register.errors import FileError
from register.images.pixels import Pixels
from register.io.images.tiff import MICROMETRES, SAMPLES
from register.io.images.windows import Mapped

if TYPE_CHECKING:
    from register.io.images.open import Image

TILE, BLOCK = 512, 2048
"""Sides in pixels of a tile of the file, and columns of a block of them that is computed at once."""
AHEAD = 4
"""Blocks that are computed before they are asked for."""
BUFFER = 2**26
"""Bytes that are compressed at once."""
CODECS: dict[str, dict[str, Any]] = {
    "none": {"compression": None},
    "deflate": {"compression": "zlib"},
    "lzw": {"compression": "lzw"},
    "zstd": {"compression": "zstd"},
    "jpeg": {"compression": "jpeg", "compressionargs": {"level": 90}},
}
PHOTOMETRIC = {
    "grey": "minisblack",
    "inverted": "miniswhite",
    "rgb": "rgb",
    "cmyk": "separated",
    "lab": "cielab",
    "palette": "palette",
}
BIG = 2**32 - 2**25
"""Bytes from which on offsets need 64 bits."""
SMALLEST_LEVEL = 512
"""Longest side of the last level of a pyramid."""

Tick = Callable[[int], None]
"""Called with the number of values that were written since the last call."""


def write(
    path: Path,
    image: Image,
    *,
    compression: str = "deflate",
    pyramid: bool = False,
    nearest: bool = False,
    tick: Tick = lambda n: None,
) -> None:
    """Write an image, as OME-TIFF when its kind is ``ome``; its pixels are read window by window, so they may be computed as they are needed.

    ``pyramid`` adds half-size levels, by averages or, with ``nearest``, by every second pixel. Raises ``FileError`` for a
    compression that cannot hold the pixels.
    """
    if compression == "jpeg" and (
        image.dtype != np.uint8 or image.alpha or image.colour not in ("grey", "rgb")
    ):
        raise FileError(
            path,
            f"JPEG cannot hold {image.colour} pixels of {image.dtype}"
            + (" with opacity" if image.alpha else ""),
            "use deflate or zstd",
        )
    sizes = _level_sizes(*image.size) if pyramid else []
    total = sum(math.prod(size) for size in [image.size, *sizes]) * image.channels * image.dtype.itemsize
    with ExitStack() as stack:
        pool = stack.enter_context(device.worker_threads())
        file = stack.enter_context(tifffile.TiffWriter(path, bigtiff=total > BIG, ome=image.kind == "ome"))
        for number, size in enumerate([image.size, *sizes]):
            below = (
                _Reduced(path.with_name(f"{path.name}.level{number}"), image, _halved(size), nearest)
                if number < len(sizes)
                else None
            )
            if below:
                stack.callback(below.path.unlink, missing_ok=True)
            first = _first_tags(image) if number == 0 else {"subfiletype": 1, "metadata": None}
            if number == 0 and sizes:
                first["subifds"] = len(sizes)
            file.write(_stream(image, pool, below, tick), **_layout(image), **CODECS[compression], **first)
            if below:
                image = replace(image, pixels=below.pixels())


def _level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """The sizes of the coarser levels of a pyramid."""
    sizes = []
    size = height, width
    while max(size) > SMALLEST_LEVEL:
        size = _halved(size)
        sizes.append(size)
    return sizes


def _halved(size: tuple[int, int]) -> tuple[int, int]:
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def _lay(image: Image) -> str:
    """How the channels lie in the file: ``contig``, ``planar``, ``pages``, or nothing for a single one."""
    if image.channels == 1:
        return ""
    if image.layout:
        return (
            image.layout
            if image.layout != "pages" or not (image.colour in SAMPLES or image.alpha)
            else "contig"
        )
    return (
        "contig" if image.colour in SAMPLES or image.alpha else "pages" if image.kind == "ome" else "planar"
    )


def _layout(image: Image) -> dict[str, Any]:
    """How the values lie in the file; the same for every level."""
    height, width = image.size
    lay, count = _lay(image), image.channels
    shape = (
        (height, width) if not lay else (height, width, count) if lay == "contig" else (count, height, width)
    )
    options: dict[str, Any] = {
        "shape": shape,
        "dtype": image.dtype,
        "photometric": PHOTOMETRIC[image.colour],
        "tile": (TILE, TILE),
    }
    options |= {"maxworkers": device.threads(), "buffersize": BUFFER}
    if image.dtype == np.bool_:
        options |= {"tile": None, "rowsperstrip": TILE}
    if lay in ("contig", "planar"):
        options["planarconfig"] = "contig" if lay == "contig" else "separate"
    if image.extra and lay in ("contig", "planar"):
        options["extrasamples"] = list(image.extra)
    if image.palette is not None:
        options["colormap"] = image.palette
    return options


def _first_tags(image: Image) -> dict[str, Any]:
    """What is said once: pixel size, profile, place, names."""
    tags: dict[str, Any] = {"software": "register"}
    if image.icc:
        tags["iccprofile"] = image.icc
    extra = [(code, kind, count, value, True) for code, kind, count, value in image.geotags]
    if image.nodata is not None:
        text = f"{image.nodata:.17g}"
        extra.append((42113, 2, len(text) + 1, text, True))
    if extra:
        tags["extratags"] = extra
    tags |= resolution_tags(image.pixel_size, image.pixel_unit)
    axes = {"": "YX", "contig": "YXS", "planar": "SYX", "pages": "CYX"}[_lay(image)]
    return tags | {
        "metadata": _ome_metadata(image, axes)
        if image.kind == "ome"
        else {"axes": axes}
        if axes == "CYX"
        else None
    }


def resolution_tags(size: tuple[float, float] | None, unit: str | None) -> dict[str, Any]:
    """What tifffile writes as the resolution of pixels of a ``size`` (x, y) in a unit of length; nothing when it is not known."""
    if not size or unit not in MICROMETRES:
        return {}
    return {
        "resolution": tuple(1e4 / (side * MICROMETRES[unit]) for side in size),
        "resolutionunit": "CENTIMETER",
    }


def physical_size(size: tuple[float, float] | None, unit: str | None) -> dict[str, Any]:
    """OME's attributes of a pixel's size; nothing when it is not known."""
    return (
        {
            "PhysicalSizeX": size[0],
            "PhysicalSizeXUnit": unit,
            "PhysicalSizeY": size[1],
            "PhysicalSizeYUnit": unit,
        }
        if size and unit
        else {}
    )


def _ome_metadata(image: Image, axes: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": axes}
    metadata |= physical_size(image.pixel_size, image.pixel_unit)
    planes = image.channels if axes == "CYX" else 1
    if image.position:
        x, y, unit = image.position
        metadata["Plane"] = {
            "PositionX": [x] * planes,
            "PositionXUnit": [unit] * planes,
            "PositionY": [y] * planes,
            "PositionYUnit": [unit] * planes,
        }
    described: dict[str, Any] = {}
    if len(image.channel_names) == planes:
        described["Name"] = list(image.channel_names)
    if len(image.channel_colours) == planes:
        described["Color"] = list(image.channel_colours)
    return metadata | ({"Channel": described} if described else {})


def _stream(
    image: Image, pool: ThreadPoolExecutor, below: _Reduced | None, tick: Tick
) -> Iterator[NDArray[Any]]:
    """The tiles (or, of bits, whole planes) of one level in the order of the file, blocks of them computed ahead in threads."""
    lay = _lay(image)
    together = lay in ("", "contig")
    groups = [slice(0, image.channels)] if together else [slice(c, c + 1) for c in range(image.channels)]
    if image.dtype == np.bool_:
        for group in groups:
            plane = image.pixels[group, slice(None), slice(None)]
            if below:
                below.keep(plane, group, 0, 0)
            tick(plane.size)
            yield plane[0]
        return
    height, width = image.size
    for group in groups:
        bands = (
            [
                (slice(y, min(y + TILE, height)), slice(x, min(x + BLOCK, width)))
                for x in range(0, width, BLOCK)
            ]
            for y in range(0, height, TILE)
        )
        blocks = (block for band in bands for block in band)
        for (rows, columns), block in _ahead(pool, image.pixels, group, blocks):
            if below:
                below.keep(block, group, rows.start, columns.start)
            tick(block.size)
            yield from _tiles(block, lay == "contig")


def _ahead(
    pool: ThreadPoolExecutor, pixels: Pixels, channels: slice, blocks: Iterator[tuple[slice, slice]]
) -> Iterator[tuple[tuple[slice, slice], NDArray[Any]]]:
    """Each block with its pixels, in order, a few being computed ahead."""
    waiting: deque[tuple[tuple[slice, slice], Future[NDArray[Any]]]] = deque()
    for block in blocks:
        waiting.append((block, pool.submit(pixels.__getitem__, (channels, *block))))
        if len(waiting) > AHEAD:
            where, future = waiting.popleft()
            yield where, future.result()
    while waiting:
        where, future = waiting.popleft()
        yield where, future.result()


def _tiles(block: NDArray[Any], interleaved: bool) -> Iterator[NDArray[Any]]:
    """The tiles of a block (c, h, w) of one row of them, the last ones filled up with their own last values, which compress well."""
    height, width = block.shape[1:]
    full = (
        np.pad(block, ((0, 0), (0, -height % TILE), (0, -width % TILE)), mode="edge")
        if height % TILE or width % TILE
        else block
    )
    for left in range(0, full.shape[2], TILE):
        tile = full[:, :, left : left + TILE]
        yield np.ascontiguousarray(np.moveaxis(tile, 0, 2)) if interleaved else np.ascontiguousarray(tile[0])


class _Reduced:
    """The next level of a pyramid, kept in a file of its own while the level above it is written."""

    def __init__(self, path: Path, image: Image, size: tuple[int, int], nearest: bool) -> None:
        self.path, self.shape, self.dtype = path, (image.channels, *size), image.dtype
        self.nearest = nearest or image.palette is not None or image.dtype == np.bool_
        np.memmap(path, self.dtype, "w+", 0, self.shape)

    def keep(self, block: NDArray[Any], channels: slice, top: int, left: int) -> None:
        """Reduce a block (c, h, w), which begins at an even row and column, by two."""
        small = block[:, ::2, ::2] if self.nearest else _mean_of_four(block)
        whole = np.memmap(self.path, self.dtype, "r+", 0, self.shape)
        whole[channels, top // 2 : top // 2 + small.shape[1], left // 2 : left // 2 + small.shape[2]] = small

    def pixels(self) -> Mapped:
        """What was kept."""
        return Mapped(self.path, 0, self.shape, self.dtype, _as_it_is)


def _as_it_is(array: NDArray[Any]) -> NDArray[Any]:
    return array


def _mean_of_four(block: NDArray[Any]) -> NDArray[Any]:
    """The means of 2 × 2 values of (c, h, w), of what there is of them at the border; integers are rounded."""
    even = np.pad(block, ((0, 0), (0, block.shape[1] % 2), (0, block.shape[2] % 2)), mode="edge")
    kind = np.float32 if block.dtype.itemsize == 1 else np.float64
    mean = (
        even[:, ::2, ::2].astype(kind) + even[:, 1::2, ::2] + even[:, ::2, 1::2] + even[:, 1::2, 1::2]
    ) / 4
    return (np.rint(mean) if block.dtype.kind in "iu" else mean).astype(block.dtype)
