"""Write TIFF, BigTIFF and OME-TIFF with tifffile, tile by tile, with the coarser levels of a pyramid."""

import math
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile

from register.compute import device
from register.errors import FileError
from register.io.images.model import Image
from register.io.images.storable import check_jpeg
from register.io.images.tiff_blocks import NextLevel, Tick, halved, stream
from register.io.images.tiff_tags import Options, first_page_options, layout, layout_options

BUFFER = 67_108_864
"""Bytes that are compressed at once."""
JPEG_QUALITY = 90
CODECS: dict[str, Options] = {
    "auto": {"compression": "zlib"},
    "none": {"compression": None},
    "deflate": {"compression": "zlib"},
    "lzw": {"compression": "lzw"},
    "zstd": {"compression": "zstd"},
    "jpeg": {"compression": "jpeg"},
}
BIG = 2**32 - 2**25
"""Bytes of pixels above which a file is written as BigTIFF."""
SMALLEST_LEVEL = 512
"""The longest side, in pixels, of the coarsest level of a pyramid."""


def write(
    path: Path,
    image: Image,
    *,
    compression: str = "auto",
    jpeg_quality: int | None = None,
    pyramid: bool = False,
    nearest: bool = False,
    pages: bool = False,
    tick: Tick = lambda n: None,
) -> None:
    """Write an image, as OME-TIFF when its kind is ``ome``.

    The pixels are read window by window, so they may be computed while they are written. ``pyramid`` adds
    levels of half the size, of means of 2 × 2 pixels or, with ``nearest``, of every second pixel; they are
    SubIFDs of the image, or with ``pages`` reduced pages of a plain TIFF, each with all channels. ``tick`` is
    called with the number of values written since its last call. Raises ``FileError`` for a compression that
    cannot hold the pixels, and for pages of bits, which have no tiles.
    """
    if compression == "jpeg":
        check_jpeg(path, image)
    if pages:
        image = _in_pages(path, image)
    sizes = _level_sizes(image.size) if pyramid else []
    total = sum(math.prod(size) for size in [image.size, *sizes]) * image.channels * image.dtype.itemsize
    packing = CODECS[compression] | {"maxworkers": device.threads(), "buffersize": BUFFER}
    if compression == "jpeg":  # a dictionary of its own, to which tifffile adds the colours of an image
        packing["compressionargs"] = {"level": JPEG_QUALITY if jpeg_quality is None else jpeg_quality}
    with ExitStack() as stack:
        pool = stack.enter_context(device.worker_threads())
        file = stack.enter_context(tifffile.TiffWriter(path, bigtiff=total > BIG, ome=image.kind == "ome"))
        for number in range(len(sizes) + 1):
            coarser = None
            if number < len(sizes):
                beside = path.with_name(f"{path.name}.level{number}")
                coarser = NextLevel(beside, image, sizes[number], nearest)
                stack.callback(beside.unlink, missing_ok=True)
            options = _level_options(image, number, 0 if pages else len(sizes))
            file.write(stream(image, pool, coarser, tick), **layout_options(image), **packing, **options)
            if coarser:
                image = replace(image, pixels=coarser.pixels())


def _in_pages(path: Path, image: Image) -> Image:
    """The image as a plain TIFF of one page. Raises ``FileError`` for an image of bits."""
    if image.dtype == np.bool_:
        raise FileError(path, "would hold bits, which have no tiles", "leave out --pyramid pages")
    image = replace(image, kind="tiff")
    return replace(image, layout="planar") if layout(image) == "pages" else image


def _level_options(image: Image, number: int, coarser: int) -> Options:
    """The arguments of one level only; ``coarser`` is the number of SubIFDs of the finest."""
    if number:
        return {"subfiletype": 1, "metadata": None}
    return first_page_options(image) | ({"subifds": coarser} if coarser else {})


def _level_sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """The sizes ``(height, width)`` of the coarser levels of a pyramid."""
    sizes = []
    while max(size) > SMALLEST_LEVEL:
        size = halved(size)
        sizes.append(size)
    return sizes
