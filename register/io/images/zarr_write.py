"""Write OME-Zarr 0.5: one sharded zarr array per level of a pyramid, and their meaning in attributes.

Source: the OME-NGFF specification 0.5 (ngff.openmicroscopy.org); sharding: Zarr core 3, sharding codec.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from register.compute import device
from register.io.images import zarr_metadata
from register.io.images.model import Image
from register.io.images.storable import check_zarr
from register.io.images.tiff_blocks import NextLevel, Tick, Window, computed, halved
from register.io.images.zarr_metadata import Depth

CHUNK = 512
"""Default side of a chunk in pixels."""
PER_SHARD = 4
"""Chunks along a side of a shard."""
SMALLEST_LEVEL = 512
"""The longest side, in pixels, of the coarsest level of a pyramid."""
Group = Any
"""A zarr group, of a library that is imported when it is needed."""


@dataclass(frozen=True)
class ChunkLayout:
    """Side of a chunk and compression of the chunks."""

    side: int = CHUNK
    compression: str = "zstd"

    @property
    def shard(self) -> int:
        """The side of a shard in pixels."""
        return self.side * PER_SHARD


def write(
    folder: Path,
    image: Image,
    layout: ChunkLayout,
    *,
    name: str = "",
    pyramid: bool = True,
    nearest: bool = False,
    tick: Tick = lambda n: None,
) -> None:
    """Write an image as OME-Zarr 0.5 into a folder that does not exist yet.

    The pixels are read shard by shard, so they may be computed while they are written. ``pyramid`` adds
    levels of half the size down to 512 pixels, of means of 2 × 2 pixels or, with ``nearest``, of every second
    pixel. ``name`` is that of the image in the metadata. ``tick`` is called with the number of values written
    since its last call. Raises ``FileError`` for colours and compressions that the format does not have.
    """
    image = checked(folder, image, layout)
    sizes = level_sizes(image.size) if pyramid else [image.size]
    group = arrays(folder, image, sizes, layout)
    group.attrs.update(zarr_metadata.attributes(image, sizes, name, nearest=nearest))
    _write_levels(folder, group, image, sizes, layout, (), nearest=nearest, tick=tick)
    zarr_metadata.state_contrast(group, image.colour)


def write_planes(
    folder: Path,
    planes: Sequence[Image | None],
    layout: ChunkLayout,
    *,
    step: float | None = None,
    name: str = "",
    pyramid: bool = True,
    nearest: bool = False,
    tick: Tick = lambda n: None,
) -> None:
    """Write images of one size and type as the planes of a volume (c, z, y, x); None is a plane of zeros.

    ``step`` is the distance of the planes in the unit of the pixel size. Coarser levels have as many planes.
    The other arguments, and errors, are those of ``write``.
    """
    like = checked(folder, next(plane for plane in planes if plane is not None), layout)
    sizes, depth = level_sizes(like.size) if pyramid else [like.size], Depth(len(planes), step)
    group = arrays(folder, like, sizes, layout, depth)
    group.attrs.update(zarr_metadata.attributes(like, sizes, name, nearest=nearest, depth=depth))
    for z, plane in enumerate(planes):
        if plane is not None:
            _write_levels(folder, group, plane.coloured(), sizes, layout, (z,), nearest=nearest, tick=tick)
    zarr_metadata.state_contrast(group, like.colour)


def _write_levels(
    folder: Path,
    group: Group,
    image: Image,
    sizes: list[tuple[int, int]],
    layout: ChunkLayout,
    at: tuple[int, ...],
    *,
    nearest: bool,
    tick: Tick,
) -> None:
    """Write an image to all levels of a group, or to the plane ``at`` of a volume."""
    with ExitStack() as stack:
        pool = stack.enter_context(device.worker_threads())
        for number, size in enumerate(sizes):
            array, coarser = group[str(number)], None
            if number + 1 < len(sizes):
                beside = folder.with_name(f"{folder.name}.level{number}")
                coarser = NextLevel(beside, image, sizes[number + 1], nearest)
                stack.callback(beside.unlink, missing_ok=True)
            for channels in groups(image):
                windows = shards(size, layout.shard)
                for (rows, columns), block in computed(pool, image.pixels, channels, windows):
                    if coarser:
                        coarser.add(block, channels, rows.start, columns.start)
                    array[(channels, *at, rows, columns)] = block
                    tick(block.size)
            if coarser:
                image = replace(image, pixels=coarser.pixels(), smaller=())


def checked(path: Path, image: Image, layout: ChunkLayout) -> Image:
    """The image with the colours of its palette. Raises ``FileError`` for what OME-Zarr cannot hold."""
    check_zarr(path, image, layout.compression)
    return image.coloured()


def arrays(
    place: Path | str,
    image: Image,
    sizes: list[tuple[int, int]],
    layout: ChunkLayout,
    depth: Depth | None = None,
) -> Group:
    """A group at a path or an address, with an array of zeros, or of the no-data value, per level.

    With ``depth`` they are volumes (c, z, y, x).
    """
    import zarr

    group = zarr.create_group(place, zarr_format=3)
    planes, one = ([depth.planes], [1]) if depth else ([], [])
    whole = image.nodata is not None and image.dtype.kind in "iu" and image.nodata.is_integer()
    for number, size in enumerate(sizes):
        sides = [min(layout.side, max(side, 1)) for side in size]
        shard = [min(layout.shard, math.ceil(n / s) * s) for n, s in zip(size, sides, strict=True)]
        group.create_array(
            str(number),
            shape=(image.channels, *planes, *size),
            dtype=image.dtype,
            chunks=(1, *one, *sides),
            shards=(1, *one, *shard),
            compressors=codec(layout.compression),
            fill_value=int(image.nodata) if whole and image.nodata is not None else 0,
            dimension_names=["c", *("z" for _ in planes), "y", "x"],
        )
    return group


def level_sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """The sizes ``(height, width)`` of all levels of a pyramid, finest first."""
    sizes = [size]
    while max(sizes[-1]) > SMALLEST_LEVEL:
        sizes.append(halved(sizes[-1]))
    return sizes


def groups(image: Image) -> list[slice]:
    """The channels that are read together: all of a colour picture, whose file holds them together."""
    if image.colour == "rgb" or image.alpha:
        return [slice(0, image.channels)]
    return [slice(n, n + 1) for n in range(image.channels)]


def shards(size: tuple[int, int], side: int) -> Iterator[Window]:
    """The windows of the shards of a level."""
    for y in range(0, size[0], side):
        for x in range(0, size[1], side):
            yield slice(y, min(y + side, size[0])), slice(x, min(x + side, size[1]))


def codec(compression: str) -> Any:
    """The compressor of the chunks."""
    from zarr.codecs import GzipCodec, ZstdCodec

    if compression == "none":
        return None
    return ZstdCodec(level=3) if compression == "zstd" else GzipCodec(level=5)
