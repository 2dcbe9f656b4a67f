"""TIFF, OME-TIFF, ImageJ and GeoTIFF through tifffile: which series, what its axes are, what the numbers mean, how large a pixel is."""

from __future__ import annotations

import logging
import math
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from register.errors import FileError
from register.images.pixels import EVERYTHING, Pixels
from register.io.images.windows import Mapped, Segmented

if TYPE_CHECKING:
    from register.io.images.open import Selection

logging.getLogger("tifffile").addHandler(logging.NullHandler())
logging.getLogger(
    "tifffile"
).propagate = False  # what it says about odd tags of readable files helps nobody; errors are raised

MICROMETRES = {
    "µm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "\\u00B5m": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "inch": 25400.0,
}
COLOURS: dict[int | None, str] = {
    tifffile.PHOTOMETRIC.RGB: "rgb", tifffile.PHOTOMETRIC.YCBCR: "rgb", tifffile.PHOTOMETRIC.PALETTE: "palette", tifffile.PHOTOMETRIC.SEPARATED: "cmyk",
    tifffile.PHOTOMETRIC.CIELAB: "lab", tifffile.PHOTOMETRIC.ICCLAB: "lab", tifffile.PHOTOMETRIC.MINISWHITE: "inverted",
}  # fmt: skip
SAMPLES = {"rgb": 3, "cmyk": 4, "lab": 3}
"""Channels that carry the colour of each kind."""
GEOTAGS = 33550, 33922, 34264, 34735, 34736, 34737
"""ModelPixelScale, ModelTiepoint, ModelTransformation, GeoKeyDirectory, GeoDoubleParams, GeoAsciiParams (OGC GeoTIFF 1.1, annex B)."""
GDAL_NODATA, ORIENTATION, ICC_PROFILE = 42113, 274, 34675
PAGE_AXES = ("YX", "YXS", "SYX")


def read(path: Path, part: Selection) -> dict[str, Any]:
    """The fields of an ``Image``, its pixels still in the file, from the largest series of a TIFF or the ``part`` of it that is asked for.

    Raises ``FileError`` for stacks of which no plane is chosen, and for odd types.
    """
    with tifffile.TiffFile(path) as tif:
        index, levels = _series(tif, path, part)
        base, series, levels = levels[0], levels[part.level], levels[part.level :]
        page = series.keyframe
        coarser = tuple(times(n, m) for n, m in zip(_sides(base)[::-1], _sides(series)[::-1], strict=True))
        colour = COLOURS.get(page.photometric, "grey")
        pixels = [_pixels(path, level, part) for level in levels]
        if colour in SAMPLES and ("S" not in series.axes or pixels[0].shape[0] < SAMPLES[colour]):
            colour = "grey"
        orientation = page.tags.valueof(ORIENTATION, 1)
        if orientation in range(2, 9):
            pixels = [_upright(pixels[0], int(orientation))]
        palette = _palette(page.colormap) if colour == "palette" and page.colormap is not None else None
        if palette is not None and pixels[0].dtype == np.bool_:
            pixels = [x[EVERYTHING].astype(np.uint8) for x in pixels]
        extra = (
            tuple(int(x) for x in page.extrasamples)
            if "S" in series.axes and (colour in SAMPLES or any(page.extrasamples))
            else ()
        )
        found = said(tif, base.keyframe, index, pixels[0].shape[0])
        if "pixel_size" in found:
            found["pixel_size"] = tuple(
                side * times for side, times in zip(found["pixel_size"], coarser, strict=True)
            )
        notes = (
            (f"series {index} of {len(tif.series)} was read, the largest",)
            if len(tif.series) > 1 and part.series is None
            else ()
        )
        return {
            "levels": tuple(pixels),
            "kind": "ome" if tif.is_ome else "tiff",
            "colour": colour,
            "extra": extra,
            "layout": _layout(series),
            "palette": palette,
            "icc": page.tags.valueof(ICC_PROFILE),
            "geotags": _geotags(base.keyframe, coarser),
            "notes": notes,
            **found,
        }


def describe(path: Path) -> dict[str, Any]:
    """Axes of the largest series, every series with its shape and levels, and the coordinate reference system when the file names one."""
    with tifffile.TiffFile(path) as tif:
        largest = max(tif.series, key=_area)
        series = [
            {"axes": x.axes, "shape": list(x.shape), "dtype": str(x.dtype), "levels": len(x.levels)}
            for x in tif.series
        ]
        geo = tif.geotiff_metadata or {}
        crs = next(
            (geo[key] for key in ("ProjectedCSTypeGeoKey", "GeographicTypeGeoKey") if key in geo), None
        )
        return {
            "axes": largest.axes,
            "levels": len(largest.levels),
            "series": series,
            "crs": None if crs is None else f"EPSG:{int(crs)}",
        }


def describe_if_tiff(path: Path) -> dict[str, Any] | None:
    """The same for a file that may be none, or broken: then nothing."""
    try:
        return describe(path)
    except (
        Exception
    ):  # tifffile raises anything on damaged files; the caller knows what is wrong with this one
        return None


def _series(tif: tifffile.TiffFile, path: Path, part: Selection) -> tuple[int, list[tifffile.TiffPageSeries]]:
    """The number of the series that is read, and its levels."""
    known = list(tif.series)
    if not known:
        raise FileError(path, "holds no image", "the file is damaged or only has metadata")
    if part.series is None:
        index = max(range(len(known)), key=lambda i: (not known[i].keyframe.is_mask, _area(known[i])))
    elif 0 <= part.series < len(known):
        index = part.series
    else:
        raise FileError(
            path, f"has no series {part.series}; it has {len(known)}, from 0", "choose another --series"
        )
    series = known[index]
    levels = list(series.levels)
    if len(levels) == 1:  # overviews of a GeoTIFF are series of their own
        smaller = [
            x
            for x in known
            if x is not series
            and x.keyframe.is_reduced
            and not x.keyframe.is_mask
            and x.dtype == series.dtype
            and x.axes == series.axes
        ]
        levels += sorted((x for x in smaller if _is_level_of(x, series)), key=_area, reverse=True)
    if not 0 <= part.level < len(levels):
        raise FileError(
            path, f"has no level {part.level}; it has {len(levels)}, from 0", "choose another level"
        )
    return index, levels


def _layout(series: tifffile.TiffPageSeries) -> str:
    """How the channels lie in the file."""
    if "S" in series.axes:
        return "planar" if series.keyframe.planarconfig == tifffile.PLANARCONFIG.SEPARATE else "contig"
    return "pages" if "C" in series.axes else ""


def _is_level_of(small: tifffile.TiffPageSeries, large: tifffile.TiffPageSeries) -> bool:
    """Whether a series has the shape of another one, some times halved."""
    times = [times(n, m) for n, m in zip(_sides(large), _sides(small), strict=True)]
    return times[0] == times[1] > 1 and times[0].is_integer()


def times(large: int, small: int) -> float:
    """How many pixels of the finer level one of a coarser one spans: a power of two where the sizes allow it."""
    power = 2.0 ** round(math.log2(max(large, 1) / max(small, 1)))
    return power if small in (math.floor(large / power), math.ceil(large / power)) else large / max(small, 1)


def _sides(series: tifffile.TiffPageSeries) -> tuple[int, int]:
    shape = dict(zip(series.axes, series.shape, strict=True))
    return int(shape.get("Y", 1)), int(shape.get("X", 1))


def _area(series: tifffile.TiffPageSeries) -> int:
    return math.prod(_sides(series))


def _pixels(path: Path, series: tifffile.TiffPageSeries, part: Selection) -> Pixels:
    """The pixels (c, h, w) of one level: mapped when they lie in the file as they are, decoded by segments otherwise, whole when they are neither."""
    page = series.keyframe
    dtype = series.dtype
    if dtype is None or dtype.kind not in "biufc":
        raise FileError(
            path,
            f"has pixels of a type that cannot be read ({page.bitspersample} bits, sample format {page.sampleformat})",
        )
    if dtype.kind == "c":
        raise FileError(path, f"has complex pixels ({dtype})", "save its magnitude or its real part")
    axes, shape = series.axes, series.shape
    if "Y" not in axes or "X" not in axes or len(axes) != len(shape):
        raise FileError(path, f"has axes {axes} and is not an image")
    picked = part.pick(path, axes, shape)
    view = _View(axes, tuple(picked.items()))
    if series.dataoffset is not None and not page.is_subsampled:
        stored = np.dtype(str(tif_byteorder(series)) + dtype.char)
        return Mapped(path, series.dataoffset, shape, stored, view)
    plain = (
        page.axes in PAGE_AXES
        and page.imagedepth == 1
        and axes.endswith(page.axes)
        and math.prod(shape) == len(series.pages) * math.prod(page.shape)
    )
    if not plain or 0 in page.shape:
        return view(series.asarray())
    others = len(axes) - len(page.axes)
    chosen = np.arange(len(series.pages)).reshape(shape[:others])[
        tuple(picked.get(axis, slice(None)) for axis in axes[:others])
    ]
    pages = [series.pages[int(i)] for i in np.atleast_1d(chosen).ravel()]
    samples = page.samplesperpixel if page.axes == "YXS" else 1
    planes = page.samplesperpixel if page.axes == "SYX" else 1
    decode, tables = page.decode, {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}

    def decoded(data: bytes | None, index: int) -> NDArray[Any] | None:
        pixels = decode(data, index, **tables)[0]
        return None if pixels is None else pixels[0]

    side = (
        (page.tilelength, page.tilewidth)
        if page.is_tiled
        else (min(page.rowsperstrip, page.imagelength), page.imagewidth)
    )
    stored_at = tuple(
        (tuple(x.dataoffsets), tuple(x.databytecounts)) if x is not None else ((0,), (0,)) for x in pages
    )
    if any(
        x is not None
        and x.parent.filehandle.path != str(path.absolute())
        and x.parent.filehandle.name != path.name
        for x in pages
    ):
        return view(series.asarray())  # the pages of this OME-TIFF lie in several files
    return Segmented(
        path,
        (len(pages) * samples * planes, page.imagelength, page.imagewidth),
        dtype.newbyteorder("="),
        side,
        planes,
        samples,
        stored_at,
        decoded,
    )


def tif_byteorder(series: tifffile.TiffPageSeries) -> str:
    """The byte order of a series' file, as numpy writes it."""
    return str(series.keyframe.parent.byteorder)


@dataclass(frozen=True)
class _View:
    """Pixels (c, h, w) of an array with named ``axes``, of which some are ``picked`` at an index."""

    axes: str
    picked: tuple[tuple[str, int], ...]

    def __call__(self, array: NDArray[Any]) -> NDArray[Any]:
        picked = dict(self.picked)
        array = array[tuple(picked.get(axis, slice(None)) for axis in self.axes)]
        left = [axis for axis in self.axes if axis not in picked]
        channels = [axis for axis in left if axis not in "YX"]
        array = array.transpose([left.index(axis) for axis in [*channels, "Y", "X"]])
        return array if channels else array[None]


def _upright(pixels: Pixels, orientation: int) -> NDArray[Any]:
    """The pixels as they are meant to be seen (TIFF 6.0, tag Orientation)."""
    array = pixels[slice(None), slice(None), slice(None)]
    if orientation >= 5:
        array = array.transpose(0, 2, 1)
    rows, columns = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}[
        orientation
    ]
    return np.ascontiguousarray(array[:, ::rows, ::columns])


def _palette(named: NDArray[Any]) -> NDArray[np.uint16]:
    """The colours (3, 256) or (3, 65536) of a map that may name fewer; those it does not name are black."""
    full = np.zeros((3, 256 if named.shape[1] <= 256 else 65536), np.uint16)
    full[:, : named.shape[1]] = named
    return full


def _nodata(page: tifffile.TiffPage) -> float | None:
    """The value that GDAL calls no data."""
    try:
        return float(str(page.tags.valueof(GDAL_NODATA, "")).strip("\0 "))
    except ValueError:
        return None


def _geotags(page: tifffile.TiffPage, coarser: tuple[float, ...]) -> tuple[tuple[int, int, int, Any], ...]:
    """The tags that place the pixel grid on the earth, for a grid whose pixels are ``coarser`` by two factors."""
    found = []
    for tag in (page.tags[code] for code in GEOTAGS if code in page.tags):
        value = tag.value
        if tag.code == 33550:
            value = tuple(v * f for v, f in zip(value, (*coarser, 1.0), strict=False))
        elif tag.code == 33922:
            value = tuple(v / coarser[i % 6] if i % 6 < 2 else v for i, v in enumerate(value))
        elif tag.code == 34264:
            value = tuple(v * (*coarser, 1.0, 1.0)[i % 4] for i, v in enumerate(value))
        found.append((tag.code, int(tag.dtype), tag.count, value))
    return tuple(found)


def said(tif: tifffile.TiffFile, page: Any, index: int, channels: int) -> dict[str, Any]:
    """What a file says about the pixels of its series ``index``, as fields of ``Image``: no data, size and unit, from OME also place, names and colours."""
    return {"nodata": _nodata(page)} | (_ome(tif, index, channels) if tif.is_ome else _resolution(tif, page))


def _ome(tif: tifffile.TiffFile, index: int, channels: int) -> dict[str, Any]:
    """Pixel size, unit, place, and the channels' names and colours from the OME-XML; what is missing stays unknown."""
    root = ElementTree.fromstring(tif.ome_metadata or "<OME/>")
    images = root.findall("{*}Image")
    pixels = (images[index] if index < len(images) else root).find(".//{*}Pixels")
    if pixels is None:
        return {}
    x, y = pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeY")
    described = pixels.findall("{*}Channel")
    names = tuple(channel.get("Name", "") for channel in described)
    colours = tuple(int(channel.get("Color", "-1")) for channel in described)
    plane = pixels.find("{*}Plane")
    found: dict[str, Any] = {
        "channel_names": names if any(names) else (),
        "channel_colours": colours if any(c != -1 for c in colours) and len(colours) == channels else (),
    }
    if plane is not None and plane.get("PositionX") and plane.get("PositionY"):
        unit = plane.get("PositionXUnit", "reference frame")
        found["position"] = (float(plane.get("PositionX", 0)), float(plane.get("PositionY", 0)), unit)
    if x:
        found |= {
            "pixel_size": (float(x), float(y or x)),
            "pixel_unit": pixels.get("PhysicalSizeXUnit", "µm"),
        }
    return found


def _resolution(tif: tifffile.TiffFile, page: Any) -> dict[str, Any]:
    """Pixel size from the resolution tags: in ImageJ's own unit, otherwise in µm. Dots without a unit say nothing."""
    x, y = page.tags.get("XResolution"), page.tags.get("YResolution")
    if (
        x is None
        or y is None
        or not all(isinstance(t.value, tuple) and len(t.value) == 2 and all(t.value) for t in (x, y))
    ):
        return {}
    if (
        x.value[0] == x.value[1] and not tif.is_imagej
    ):  # one dot per unit is what is written when nothing is known
        return {}
    size = (x.value[1] / x.value[0], y.value[1] / y.value[0])
    if tif.is_imagej:
        unit = (tif.imagej_metadata or {}).get("unit")
        factor = MICROMETRES.get(str(unit), 0.0)
        return {"pixel_size": (size[0] * factor, size[1] * factor), "pixel_unit": "µm"} if factor else {}
    factor = {2: 25400.0, 3: 1e4}.get(int(page.resolutionunit), 0.0)
    pixel = size[0] * factor, size[1] * factor
    printed = not 1e-4 < pixel[0] < 1e6 or (
        int(page.resolutionunit) == 2 and pixel[0] > 50
    )  # dots per inch of a screen or a printer
    return {"pixel_size": pixel, "pixel_unit": "µm"} if factor and not printed else {}
