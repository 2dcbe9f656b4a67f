"""Read FITS images with astropy: scaled values, compressed images, cubes by plane, the size of a pixel."""

import math
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


def read(path: Path, selection: Selection) -> Image:
    """The largest image extension, or the selected one, in the order of its array: row 0 is FITS's row 1.

    Values are physical ones: ``BZERO``, ``BSCALE`` and ``BLANK`` are applied. The pixel size is in seconds of
    arc where the header places the image on the sky. Raises ``FileError`` without astropy, for files without
    an image, and for a cube of which no plane is chosen.
    """
    with _open(path) as file:
        images = _images(file)
        number = checked_series(path, selection, [math.prod(image.shape) for image in images])
        checked_level(path, selection, 1)
        found = images[number]
        axes = AXES[-len(found.shape) :]
        chosen = selection.indices(path, axes, found.shape)
        first = np.asarray(found.section[tuple(slice(0, 1) for _ in axes)])
        blank = found.header.get("BLANK") if first.dtype.kind in "iu" else None
        size, unit = _pixel_size(found), file.index_of(found)
        shape, dtype = (1, *found.shape[-2:]), first.dtype.newbyteorder("=")
        everything = [slice(None) if axis in "YX" else chosen.get(axis, 0) for axis in axes]
        if path.suffix.lower() == ".gz":  # decompressed once
            pixels: Pixels = np.asarray(found.section[tuple(everything)]).astype(dtype)[None]
        else:
            pixels = Regions(shape, dtype, _Section(path, unit, axes, tuple(chosen.items())))
    shown = f"series {number} of {len(images)} was read, the largest"
    return Image(
        pixels,
        kind="other",
        nodata=None if blank is None else float(blank),
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
        key = tuple(window.get(axis, dict(self.chosen).get(axis, 0)) for axis in self.axes)
        with _open(self.path) as file:
            return np.array(file[self.unit].section[key])[None]


def describe(path: Path) -> FileDescription:
    """The axes of the largest image, and all images."""
    with _open(path) as file:
        images = _images(file)
        checked_series(path, Selection(), [math.prod(image.shape) for image in images])
        series = [SeriesDescription(AXES[-len(x.shape) :], tuple(x.shape), _type(x), 1) for x in images]
    largest = max(series, key=lambda each: math.prod(each.shape))
    return FileDescription(largest.axes, 1, tuple(series))


def _type(unit: Any) -> str:
    """The type of the physical values."""
    first = np.asarray(unit.section[tuple(slice(0, 1) for _ in unit.shape)])
    return str(first.dtype.newbyteorder("="))


READER = ImageReader("fits", matcher(FORMATS), read, suffixes(FORMATS), describe)


def _open(path: Path) -> Any:
    """An open file."""
    kind = of_file(FORMATS, path)
    fits = library("astropy.io.fits", path, kind, "astronomy")
    try:
        return fits.open(path, memmap=False)
    except (OSError, TypeError, ValueError) as error:
        raise FileError(path, f"is {kind.name} that is damaged ({error})", "copy it again") from None


def _images(file: Any) -> list[Any]:
    """The parts of a file that hold an image of two to four axes."""
    found = [unit for unit in file if getattr(unit, "is_image", False) and 2 <= len(unit.shape) <= len(AXES)]
    return [unit for unit in found if all(unit.shape)]


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
