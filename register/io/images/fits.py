"""Read FITS images with astropy: scaled values, compressed images, cubes by plane, the size of a pixel."""

import gzip
import io
import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.geometry.pixel_size import PixelSize
from register.images.pixels import Pixels
from register.io.images.instrument_format import Format, matcher, of_file, suffixes
from register.io.images.model import Image, Selection
from register.io.images.reader import FileDescription, ImageReader, SeriesDescription
from register.io.images.regions import Regions, checked_level, checked_series, library

ENDINGS = (".fits", ".fit", ".fts", ".fits.gz", ".fit.gz", ".fz")
FORMATS = (Format("a FITS file", ENDINGS, b"SIMPLE  =", "convert it to TIFF"),)
AXES = "TZYX"
"""Names of the axes of an array, the last ones of these."""
ARCSECONDS = 3600.0
_ALONE = threading.RLock()
"""Filters of warnings belong to the whole process; one thread at a time changes them."""


def read(path: Path, selection: Selection) -> Image:
    """The largest image extension, or the selected one, in the order of its array: row 0 is FITS's row 1.

    Values are physical ones: ``BZERO``, ``BSCALE`` and ``BLANK`` are applied. The pixel size is in seconds of
    arc where the header places the image on the sky. Raises ``FileError`` without astropy, for files without
    an image or cut off, and for a cube of which no plane is chosen.
    """
    with _open(path) as file:
        images = _images(path, file)
        number = checked_series(path, selection, [math.prod(image.shape) for image in images])
        checked_level(path, selection, 1)
        found = images[number]
        _check_whole(path, images if selection.series is None else [found])
        axes = AXES[-len(found.shape) :]
        chosen = selection.indices(path, axes, found.shape)
        first = np.asarray(found.section[tuple(slice(0, 1) for _ in axes)])
        nodata = _nodata(found) if first.dtype.kind in "iu" else None
        size, unit = _pixel_size(found), file.index_of(found)
        shape, dtype = (1, *found.shape[-2:]), first.dtype.newbyteorder("=")
        everything = [slice(None) if axis in "YX" else chosen[axis] for axis in axes]
        if path.suffix.lower() == ".gz":  # decompressed once
            pixels: Pixels = np.asarray(found.section[tuple(everything)]).astype(dtype)[None]
        else:
            pixels = Regions(shape, dtype, _Section(path, unit, axes, tuple(chosen.items())))
    shown = f"series {number} of {len(images)} was read, the largest"
    return Image(
        pixels,
        kind="other",
        nodata=nodata,
        pixel_size=size,
        notes=(shown,) if len(images) > 1 and selection.series is None else (),
    )


@dataclass(frozen=True)
class _Section:
    """Reads windows of one image of a file, which is open only meanwhile."""

    path: Path
    unit: int
    axes: str
    chosen: tuple[tuple[str, int], ...]

    def __call__(self, channels: range, rows: range, columns: range) -> NDArray[Any]:
        window = {"Y": slice(rows.start, rows.stop), "X": slice(columns.start, columns.stop)}
        places = dict(self.chosen) | window
        key = tuple(places[axis] for axis in self.axes)
        with _open(self.path) as file:
            return np.array(file[self.unit].section[key])[None]


def describe(path: Path) -> FileDescription:
    """The axes of the largest image, and all images."""
    with _open(path) as file:
        images = _images(path, file)
        checked_series(path, Selection(), [math.prod(image.shape) for image in images])
        _check_whole(path, images)
        series = [SeriesDescription(AXES[-len(x.shape) :], tuple(x.shape), _type(x), 1) for x in images]
    largest = max(series, key=lambda each: math.prod(each.shape))
    return FileDescription(largest.axes, 1, tuple(series))


def _type(unit: Any) -> str:
    """The type of the physical values."""
    first = np.asarray(unit.section[tuple(slice(0, 1) for _ in unit.shape)])
    return str(first.dtype.newbyteorder("="))


READER = ImageReader("fits", matcher(FORMATS), read, suffixes(FORMATS), describe)


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """An open file. Astropy's warnings are not shown: what is wrong is said by ``FileError``."""
    kind = of_file(FORMATS, path)
    fits = library("astropy.io.fits", path, kind, "astronomy")
    with _ALONE, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            file = fits.open(path, memmap=False)
        except (OSError, TypeError, ValueError, EOFError) as error:
            if _is_cut_archive(path):
                raise _cut_off(path, "its compressed data end too early") from None
            raise FileError(path, f"is {kind.name} that is damaged ({error})", "copy it again") from None
        with file:
            try:
                yield file
            except EOFError:
                raise _cut_off(path, "its compressed data end too early") from None


def _is_cut_archive(path: Path) -> bool:
    """Whether a file is a gzip archive that ends too early."""
    if path.suffix.lower() != ".gz":
        return False
    try:
        with gzip.open(path) as file:
            while file.read(io.DEFAULT_BUFFER_SIZE):
                pass
    except EOFError:
        return True
    except Exception:  # another damage
        return False
    return False


def _check_whole(path: Path, images: list[Any]) -> None:
    """Raise ``FileError`` where an image continues beyond the end of its file.

    The last block of an image that is not compressed may be shorter than the standard asks.
    """
    if path.suffix.lower() == ".gz":  # decompressed as a whole, which fails where it is cut off
        return
    end = path.stat().st_size
    for image in images:
        place = image.fileinfo()
        compressed = type(image).__name__ == "CompImageHDU"
        last = place["datLoc"] + (place["datSpan"] if compressed else image.size)
        if last > end:
            raise _cut_off(path, f"its pixels need {last:,} bytes, and it has {end:,}")


def _cut_off(path: Path, why: str) -> FileError:
    return FileError(path, f"is a FITS file that is cut off: {why}", "copy it again")


def _images(path: Path, file: Any) -> list[Any]:
    """The parts of a file that hold an image of two to four axes.

    Raises ``FileError`` where a part of a negative size leads back to an earlier one.
    """
    found, last = [], -1
    for unit in file:
        known = unit.fileinfo()
        place = known["hdrLoc"] if known else last + 1
        if place <= last:
            raise FileError(
                path, "is a FITS file that is damaged: one of its parts has no end", "copy it again"
            )
        last = place
        if unit.is_image and 2 <= len(unit.shape) <= len(AXES) and all(unit.shape):
            found.append(unit)
    return found


def _nodata(unit: Any) -> float | None:
    """The physical value that marks no data in unsigned integers; astropy makes it NaN in all others."""
    blank = unit.header.get("BLANK")
    return None if blank is None else float(blank) + float(unit.header.get("BZERO", 0))


def _pixel_size(unit: Any) -> PixelSize | None:
    """The size of a pixel on the sky in seconds of arc; None where the header does not place the image."""
    from astropy import wcs

    try:
        system = wcs.WCS(unit.header, naxis=2)
        if not system.has_celestial:
            return None
        x, y = wcs.utils.proj_plane_pixel_scales(system)
    except Exception:  # a header that is wrong places nothing
        return None
    return PixelSize(float(x) * ARCSECONDS, float(y) * ARCSECONDS, "arcsec")
