"""Open, read and write image files of any format."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from register.compute.free_memory import check_memory
from register.errors import FileError, RegisterError
from register.files.atomic import as_path, atomic_folder, atomic_write
from register.io.images import raster, storable
from register.io.images.guard import guarded, unreadable
from register.io.images.lookup_tables import ramp_colour
from register.io.images.model import LARGEST_SERIES, Image, Selection
from register.io.images.reader import FileDescription, ImageReader, first_bytes, reader_of

if TYPE_CHECKING:
    from register.io.images.zarr_write import ChunkLayout

LONGEST = 2**24
"""Pixels along a side beyond which an image is damaged."""
DAMAGED = re.compile("cut off|damaged|truncated|corrupt|cannot be read as an image", re.IGNORECASE)
"""What messages about files say that may be cut off."""
Read = Callable[[Path, Selection], Image]
ZARR = (".ome.zarr", ".zarr")
OME, PLAIN = (".ome.tif", ".ome.tiff"), (".tif", ".tiff", ".btf")
WRITTEN = (*OME, *PLAIN, ".png", *ZARR)
"""The endings of names under which an image is written; each is one format."""


ENDINGS = {"tiff": ".tif", "ome-tiff": ".ome.tif", "ome-zarr": ".ome.zarr", "png": ".png"}
"""The ending of a file in each format that can be asked for."""


def open_image(path: str | PathLike[str], selection: Selection = LARGEST_SERIES) -> Image:
    """Open an image file; the pixels of large files are not loaded until a window of them is read.

    TIFF, OME-TIFF, OME-Zarr, PNG, JPEG and all formats that Pillow or a reader of another package reads.
    Raises ``FileError`` when the file is missing, empty, damaged, not an image, or a stack without a chosen
    plane.
    """
    if not isinstance(path, str | Path | PathLike):
        raise RegisterError(f"an image file is named by a path, not by a {type(path).__name__}")
    return _opened(Path(path), selection, lambda reader: reader.read)


def open_header(path: str | PathLike[str], selection: Selection = LARGEST_SERIES) -> Image:
    """The image of a file for its size, type and metadata; formats that are decoded at once are not decoded.

    Raises ``FileError`` as ``open_image`` does.
    """
    return _opened(Path(path), selection, lambda reader: reader.header or reader.read)


def _opened(path: Path, selection: Selection, way: Callable[[ImageReader], Read]) -> Image:
    """The image of a file by a function of its reader."""
    reader = None
    try:
        reader = reader_for(path)
        image = guarded(replace(way(reader)(path, selection), path=str(path)), path)
        if 0 in image.pixels.shape:
            raise FileError(
                path,
                f"holds an image without pixels ({image.size[1]} × {image.size[0]})",
                "check that the file is complete",
            )
        if max(image.size) > LONGEST:
            height, width = image.size
            raise FileError(
                path, f"states a size of {width} × {height} pixels", "check that it is not damaged"
            )
        return image
    except Exception as error:  # decoders raise any exception on damaged files
        found = error if isinstance(error, RegisterError) else unreadable(path, error)
        useless = selection.allow_truncated and reader is not None and not reader.reads_part
        if useless and DAMAGED.search(str(found)):
            problem = str(found).removeprefix(f"{path}: ")
            raise FileError(path, problem, "--allow-truncated works for TIFF and OME-Zarr only") from error
        raise found from error


def read_image(path: str | PathLike[str], selection: Selection = LARGEST_SERIES) -> Image:
    """Read an image file with all its pixels into memory. Raises ``FileError`` as ``open_image`` does."""
    try:
        image = open_image(path, selection)
        check_memory(path, image.nbytes, "read a coarser level, or give its path, which is read in parts")
        return image.in_memory()
    except RegisterError:
        raise
    except Exception as error:  # decoders raise any exception on damaged files
        raise unreadable(path, error) from error


@dataclass(frozen=True)
class Storage:
    """How an image is stored: its compression, the quality of JPEG, the side of a chunk, coarser levels.

    With ``pages`` the coarser levels of a TIFF are pages.

    ``auto`` is deflate for TIFF and zstd for OME-Zarr. Without ``pyramid``, OME-Zarr has coarser levels and
    the other formats have none. ``nearest`` takes every second pixel for them, not means. None is the default
    of the format.
    """

    compression: str = "auto"
    jpeg_quality: int | None = None
    chunks: int | None = None
    pyramid: bool | None = None
    nearest: bool = False
    pages: bool = False


def write_image(
    path: str | Path,
    image: Image,
    *,
    compression: str = "auto",
    jpeg_quality: int | None = None,
    chunks: int | None = None,
    pyramid: bool | None = None,
    nearest: bool = False,
    pages: bool = False,
    tick: Callable[[int], None] = lambda n: None,
) -> None:
    """Write an image as PNG, OME-Zarr, OME-TIFF (``.ome.tif`` or ``kind="ome"``) or TIFF, by its name.

    It is written beside ``path`` and renamed when it is complete. ``compression`` ``auto`` is deflate for
    TIFF and zstd for OME-Zarr; ``jpeg_quality`` (1 to 100) belongs to ``jpeg``, ``chunks`` (pixels) to
    OME-Zarr. ``pyramid`` adds coarser levels, which OME-Zarr has unless it is False, of means or, with
    ``nearest``, of every second pixel. With ``pages`` they are pages of a plain TIFF, for viewers that use
    OpenSlide. ``tick`` is called with the number of values that were written since its last call. Raises
    ``FileError`` for a name with another ending, when the file cannot be written, or when the format cannot
    hold the pixels.
    """
    if not isinstance(image, Image):
        raise RegisterError(
            f"write_image takes a register.Image, not a {type(image).__name__}; for an array (c, h, w) write"
            " register.Image(array)"
        )
    as_path(path)
    storage = Storage(compression, jpeg_quality, chunks, pyramid, nearest, pages)
    name = str(path).lower()
    check_written(path)
    advice = 'write a .ome.tif, or state the colours: register.Image(array, colour="rgb")'
    storable.check(path, image, name, compression, advice)
    if pages and (not name.endswith(PLAIN) or name.endswith(OME)):
        raise FileError(path, "is no plain TIFF, which has its levels as pages", "name a .tif")
    if name.endswith(ZARR):
        _write_zarr(Path(path), image, storage, tick)
        return
    with atomic_write(path) as beside:
        if name.endswith(".png"):
            raster.write_png(beside, image)
            return
        from register.io.images import tiff_write  # needs PyTorch's threads, which reading does not

        image = replace(image, kind="ome") if name.endswith(OME) else image
        tiff_write.write(
            beside,
            image,
            compression=storage.compression,
            jpeg_quality=storage.jpeg_quality,
            pyramid=bool(storage.pyramid),
            pages=storage.pages,
            nearest=storage.nearest,
            tick=tick,
        )


def _write_zarr(path: Path, image: Image, storage: Storage, tick: Callable[[int], None]) -> None:
    """Write an OME-Zarr folder, which replaces an existing one when it is complete."""
    from register.io.images import zarr_write

    layout = _layout(storage)
    zarr_write.checked(path, image, layout)
    with atomic_folder(path) as beside:
        zarr_write.write(
            beside,
            image,
            layout,
            name=_own_name(path),
            pyramid=storage.pyramid is not False,
            nearest=storage.nearest,
            tick=tick,
        )


def write_zarr_volume(
    path: Path,
    planes: Sequence[Image | None],
    storage: Storage,
    *,
    step: float | None = None,
    tick: Callable[[int], None] = lambda n: None,
) -> None:
    """Write images of one size and type as the z planes of one OME-Zarr, which replaces an existing one.

    None is a plane of zeros; ``step`` is the distance of the planes in the unit of the pixel size. Raises
    ``FileError`` as ``write_image`` does.
    """
    from register.io.images import zarr_write

    with atomic_folder(path) as beside:
        zarr_write.write_planes(
            beside,
            planes,
            _layout(storage),
            step=step,
            name=_own_name(path),
            pyramid=storage.pyramid is not False,
            nearest=storage.nearest,
            tick=tick,
        )


def _layout(storage: Storage) -> "ChunkLayout":
    """The chunks of an OME-Zarr."""
    from register.io.images import zarr_write

    compression = "zstd" if storage.compression == "auto" else storage.compression
    return zarr_write.ChunkLayout(storage.chunks or zarr_write.CHUNK, compression)


def _own_name(path: Path) -> str:
    """The name of an image in its metadata."""
    return path.name.removesuffix(".zarr").removesuffix(".ome")


def is_written(path: str | Path) -> bool:
    """Whether the ending of a name is that of a format in which images are written."""
    return str(path).lower().endswith(WRITTEN)


def check_written(path: str | Path) -> None:
    """Raise ``FileError`` unless the ending of a name is that of a format in which images are written."""
    if not is_written(path):
        known = f"{', '.join(WRITTEN[:-1])} or {WRITTEN[-1]}"
        raise FileError(path, "has not the ending of a format that register writes", f"use {known}")
    if str(path).lower().endswith(".ome.png"):
        raise FileError(
            path, "has the ending .ome.png, and PNG holds no OME metadata", "name a .ome.tif or .png"
        )


def describe_file(path: str | Path) -> FileDescription | None:
    """The axes and series of a file; None for a format without them and for a file that cannot be read."""
    try:
        reader = reader_for(Path(path))
        return reader.describe(Path(path)) if reader.describe else None
    except Exception:  # decoders raise any exception on damaged files; open_image reports what is wrong
        return None


def stored(form: str, compression: str, pyramid: bool | None) -> str:
    """A format; for ``auto`` with options that PNG does not have, ``tiled``."""
    return "tiled" if form == "auto" and (compression != "auto" or pyramid) else form


def aligned_name(moving: Image, form: str = "auto") -> str:
    """The file name of the aligned image in a format, as ``--format`` names it.

    ``auto`` is PNG for PNG, OME-TIFF or TIFF for all others; ``tiled`` is the same
    without PNG. OME-TIFF holds what TIFF does not: pyramids that
    every viewer reads, names and colours of channels, and lookup tables of several hues.
    """
    if form in ENDINGS:
        return f"aligned{ENDINGS[form]}"
    plain = moving.dtype in (np.uint8, np.uint16) and moving.channels <= 4
    if moving.kind == "png" and plain and form != "tiled":
        return "aligned.png"
    of_channels = moving.channel_names or (moving.channel_colours and moving.channels > 1)
    hues = moving.lut is not None and ramp_colour(moving.lut) is None
    ome = moving.kind == "ome" or moving.smaller or (of_channels and moving.gdal is None) or hues
    return "aligned.ome.tif" if ome else "aligned.tif"


def reader_for(path: Path) -> ImageReader:
    """The reader that matches a file or folder. Raises ``FileError`` when it cannot be opened or is empty."""
    if not path.is_dir():
        return reader_of(path, _head(path))
    reader = reader_of(path, b"")
    if not reader.matches(path, b""):
        raise FileError(path, "is a folder", "name an image file in it")
    return reader


def _head(path: Path) -> bytes:
    """The first bytes of a file. Raises ``FileError`` when it cannot be opened or is empty."""
    try:
        head = first_bytes(path)
    except FileNotFoundError:
        raise FileError(path, "does not exist", "check the path") from None
    except OSError as error:
        raise FileError(path, f"cannot be opened ({error.strerror})") from None
    if not head:
        raise FileError(path, "is empty", "the copy is probably incomplete")
    return head
