"""The colours of a TIFF: what its channels mean, palettes of indexed pictures, and lookup tables."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from register.io.images.lookup_tables import Table, channel_colours, is_grey, ramp_colour, resized

COLOURS: dict[int | None, str] = {
    tifffile.PHOTOMETRIC.RGB: "rgb",
    tifffile.PHOTOMETRIC.YCBCR: "rgb",
    tifffile.PHOTOMETRIC.PALETTE: "palette",
    tifffile.PHOTOMETRIC.SEPARATED: "cmyk",
    tifffile.PHOTOMETRIC.CIELAB: "lab",
    tifffile.PHOTOMETRIC.ICCLAB: "lab",
    tifffile.PHOTOMETRIC.MINISWHITE: "inverted",
}
SAMPLES = {"rgb": 3, "cmyk": 4, "lab": 3}
"""The number of channels that hold the colour."""


@dataclass(frozen=True)
class Colours:
    """The fields of ``Image`` that concern colour; ``channels`` are the colours of the channels."""

    colour: str
    extra: tuple[int, ...] = ()
    palette: NDArray[Any] | None = None
    lut: NDArray[Any] | None = None
    channels: tuple[int, ...] = ()


def colours_of(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, channels: int) -> Colours:
    """The colours of a series of which ``channels`` channels are read.

    A colour map makes an indexed picture only where there is one channel, no metadata of OME or ImageJ, and
    the map is no ramp of one colour. Elsewhere values are measurements, and the map says how to show them.
    """
    colour = COLOURS.get(series.keyframe.photometric, "grey")
    if colour in SAMPLES and ("S" not in series.axes or channels < SAMPLES[colour]):
        colour = "grey"
    tables = _tables(tif, series, channels, palette=colour == "palette")
    if colour == "palette":
        named = tif.is_ome or tif.is_imagej
        if channels == 1 and tables and not named and ramp_colour(tables[0]) is None:
            return Colours("palette", palette=_full(tables[0]))
        colour = "inverted" if tables and not named and is_grey(tables[0][:, ::-1]) else "grey"
    lut = tables[0] if channels == len(tables) == 1 and _is_display(tables[0], series.dtype) else None
    of_channels = channel_colours(tables) if len(tables) == channels else ()
    return Colours(colour, _extra_channels(series, colour), lut=lut, channels=of_channels)


def _is_display(table: Table, dtype: np.dtype[Any] | None) -> bool:
    """Whether a table names a colour for each value of a type, and not only its own grey."""
    entries = {"uint8": 256, "uint16": 65536}.get(str(dtype))
    return table.shape[1] == entries and not is_grey(table) and not is_grey(table[:, ::-1])


def _tables(
    tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, channels: int, *, palette: bool
) -> list[Table]:
    """The lookup tables of the channels: ImageJ's, or the colour maps of the pages; none where unknown."""
    named = (tif.imagej_metadata or {}).get("LUTs") if tif.is_imagej else None
    if named is not None:
        entries = 65536 if series.dtype == np.uint16 else 256
        several = np.asarray(named, np.uint16).reshape(-1, 3, np.shape(named)[-1])
        return [resized(table * 257, entries) for table in several]
    if not palette:
        return []
    maps = [series.keyframe.colormap]
    if len(series.pages) == channels:
        pages = [page for page in series.pages if page is not None]
        maps = [page.aspage().colormap for page in pages]
    return [table for table in maps if table is not None]


def _full(table: Table) -> Table:
    """A table with 256 or 65536 entries; missing ones are black."""
    full = np.zeros((3, 256 if table.shape[1] <= 256 else 65536), np.uint16)
    full[:, : table.shape[1]] = table
    return full


def _extra_channels(series: tifffile.TiffPageSeries, colour: str) -> tuple[int, ...]:
    """The codes of the channels after the colour."""
    codes = series.keyframe.extrasamples
    if "S" not in series.axes or not (colour in SAMPLES or any(codes)):
        return ()
    return tuple(int(x) for x in codes)
