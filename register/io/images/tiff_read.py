"""Read TIFF, BigTIFF, OME-TIFF, ImageJ TIFF and GeoTIFF with tifffile."""

import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile

from register.errors import FileError
from register.images.pixels import EVERYTHING
from register.io.images import openslide_read
from register.io.images.levels import level_factors
from register.io.images.model import Image, Selection
from register.io.images.reader import FileDescription, SeriesDescription
from register.io.images.tiff_colours import colours_of
from register.io.images.tiff_extent import (
    UNNAMED,
    as_channels,
    check_planes,
    cut_off,
    description_is_lost,
    open_tiff,
)
from register.io.images.tiff_metadata import geotags, icc_profile, metadata, orientation
from register.io.images.tiff_pixels import open_pixels, upright
from register.io.images.tiff_vendors import is_trestle

logging.getLogger("tifffile").addHandler(logging.NullHandler())
logging.getLogger(
    "tifffile"
).propagate = False  # warnings about odd tags of readable files; errors are raised


def read(path: Path, selection: Selection) -> Image:
    """The largest series of a TIFF, or the selected one, with its pixels still in the file.

    Raises ``FileError`` for a stack of which no plane is chosen, for data types that cannot be read, and for
    a file that is cut off. With ``selection.allow_truncated`` the part that is left is read, and noted.
    """
    if not selection.allow_truncated:
        return _read(path, selection)
    try:
        return _read(path, replace(selection, allow_truncated=False))
    except FileError as error:
        image = _read(path, selection)
        why = str(error).removeprefix(f"{path}: ").partition(";")[0]
        left = f"{image.channels} × {image.size[1]} × {image.size[0]} (channels, width, height)"
        return replace(image, notes=(*image.notes, f"the file {why}; what is left was read: {left}"))


def _read(path: Path, selection: Selection) -> Image:
    """``read`` of a file that is whole, or with ``allow_truncated`` of the part that is left."""
    with open_tiff(path, allow_truncated=selection.allow_truncated) as tif:
        if is_trestle(tif):
            return openslide_read.read_trestle(path, selection)
        index, levels = _series(tif, path, selection)
        base, series, levels = levels[0], levels[selection.level], levels[selection.level :]
        page = series.keyframe
        lost = selection.allow_truncated and selection.plane is None and description_is_lost(path, tif)
        if lost and series.axes == UNNAMED:
            series = as_channels(series)
            levels = [series]
        if not selection.allow_truncated:
            check_planes(path, tif, series)
        finer = levels[:1] if selection.allow_truncated else levels
        pixels = [open_pixels(path, level, selection) for level in finer]
        display = colours_of(tif, series, pixels[0].shape[0])
        turn = orientation(page)
        if turn != 1 and pixels[0].shape[1] < _sides(series)[0]:
            raise cut_off(path, "its rows are stored rotated", "copy the file again")
        if turn != 1:
            pixels = [upright(path, pixels[0], turn)]
        if display.palette is not None and pixels[0].dtype == np.bool_:
            pixels = [x[EVERYTHING].astype(np.uint8) for x in pixels]
        factors = level_factors(_sides(base), _sides(series))
        known = metadata(tif, base.keyframe, index, pixels[0].shape[0]).at_level(factors)
        notes: tuple[str, ...] = ()
        if lost and series.axes == "CYX":
            notes = ("its description is lost, and its pages are taken for channels",)
        if len(tif.series) > 1 and selection.series is None:
            notes = (*notes, f"series {index} of {len(tif.series)} was read, the largest")
        image = Image(
            pixels[0],
            smaller=tuple(pixels[1:]),
            kind="ome" if tif.is_ome else "tiff",
            colour=display.colour,
            extra=display.extra,
            layout=_layout(series),
            palette=display.palette,
            lut=display.lut,
            channel_colours=display.channels,
            icc=icc_profile(page),
            geotags=geotags(base.keyframe, factors),
            notes=notes,
        )
        return known.added_to(image)


def describe(path: Path) -> FileDescription:
    """The axes of the largest series, all series, and the coordinate reference system of a GeoTIFF."""
    with open_tiff(path, allow_truncated=True) as tif:
        if is_trestle(tif):
            return openslide_read.describe_trestle(path)
        largest = max(tif.series, key=_area)
        series = [SeriesDescription(x.axes, x.shape, str(x.dtype), len(x.levels)) for x in tif.series]
        geo = tif.geotiff_metadata or {}
        keys = ("ProjectedCSTypeGeoKey", "GeographicTypeGeoKey")
        code = next((int(geo[key]) for key in keys if key in geo), None)
        crs = None if code is None else f"EPSG:{code}"
        return FileDescription(largest.axes, len(largest.levels), tuple(series), crs)


def _series(
    tif: tifffile.TiffFile, path: Path, selection: Selection
) -> tuple[int, list[tifffile.TiffPageSeries]]:
    """The number of the selected series, and its levels, finest first."""
    known = list(tif.series)
    if not known:
        raise FileError(path, "holds no image", "the file is damaged or holds metadata only")
    if selection.series is None:
        index = max(range(len(known)), key=lambda i: (not known[i].keyframe.is_mask, _area(known[i])))
    elif 0 <= selection.series < len(known):
        index = selection.series
    else:
        raise FileError(
            path,
            f"has no series {selection.series}; it has {len(known)}, from 0",
            "choose another --series",
        )
    levels = list(known[index].levels)
    if len(levels) == 1:
        levels += _overviews(known, known[index])
    if not 0 <= selection.level < len(levels):
        raise FileError(
            path, f"has no level {selection.level}; it has {len(levels)}, from 0", "choose another level"
        )
    return index, levels


def _overviews(
    known: list[tifffile.TiffPageSeries], series: tifffile.TiffPageSeries
) -> list[tifffile.TiffPageSeries]:
    """The series that are coarser levels of another one, as overviews of a GeoTIFF are, finest first."""
    found = [x for x in known if x is not series and _is_overview(x, series)]
    return sorted(found, key=_area, reverse=True)


def _is_overview(small: tifffile.TiffPageSeries, large: tifffile.TiffPageSeries) -> bool:
    """Whether a series is marked as a reduced copy and its shape is that of another one over an integer."""
    page = small.keyframe
    if not page.is_reduced or page.is_mask or small.dtype != large.dtype or small.axes != large.axes:
        return False
    x, y = level_factors(_sides(large), _sides(small))
    return x == y > 1 and x.is_integer()


def _layout(series: tifffile.TiffPageSeries) -> str:
    """How the channels are stored, as in ``Image.layout``."""
    if "S" in series.axes:
        return "planar" if series.keyframe.planarconfig == tifffile.PLANARCONFIG.SEPARATE else "contig"
    return "pages" if "C" in series.axes else ""


def _sides(series: tifffile.TiffPageSeries) -> tuple[int, int]:
    """The height and width of a series."""
    shape = dict(zip(series.axes, series.shape, strict=True))
    return int(shape.get("Y", 1)), int(shape.get("X", 1))


def _area(series: tifffile.TiffPageSeries) -> int:
    return math.prod(_sides(series))
