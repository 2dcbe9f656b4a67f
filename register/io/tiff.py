"""TIFF and OME-TIFF through tifffile: which series, what its axes are, how large a pixel is."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from register.errors import FileError

if TYPE_CHECKING:
    from register.io.images import Image

GREY = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)
CODECS = {"none": None, "deflate": "zlib", "lzw": "lzw", "zstd": "zstd"}
MICROMETRES = {"µm": 1.0, "um": 1.0, "micron": 1.0, "\\u00B5m": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "inch": 25400.0}


def read(path: Path) -> dict[str, Any]:
    """The fields of an ``Image`` from the largest series of a TIFF file. Raises ``FileError`` for stacks and odd types."""
    with tifffile.TiffFile(path) as tif:
        if not tif.series:
            raise FileError(path, "holds no image", "the file is damaged or only has metadata")
        index = max(range(len(tif.series)), key=lambda i: _area(tif.series[i]))
        series = tif.series[index]
        page = series.keyframe
        pixels, axes = _planes(path, series.asarray(), series.axes)
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
            pixels, axes = (page.colormap[:, pixels[0]] >> 8).astype(np.uint8), "S"
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and pixels.dtype.kind in "bu":
            pixels = ~pixels
        size, unit, names = _ome(tif) if tif.is_ome else _resolution(tif, page)
        colour = axes == "S" and len(pixels) >= 3 and page.photometric not in GREY
        notes = (f"series {index} of {len(tif.series)} was read, the largest",) if len(tif.series) > 1 else ()
        return {
            "pixels": pixels,
            "kind": "ome" if tif.is_ome else "tiff",
            "colour": colour,
            "alpha": bool(page.extrasamples) and len(pixels) in (2, 4) and axes == "S",
            "pixel_size": size,
            "pixel_unit": unit,
            "channel_names": names,
            "notes": notes,
        }


def describe(path: Path) -> dict[str, Any]:
    """Axes of the largest series, every series with its shape and levels, and the coordinate reference system when the file names one."""
    with tifffile.TiffFile(path) as tif:
        largest = max(tif.series, key=_area)
        series = [{"axes": x.axes, "shape": list(x.shape), "dtype": str(x.dtype), "levels": len(x.levels)} for x in tif.series]
        geo = tif.geotiff_metadata or {}
        crs = next((geo[key] for key in ("ProjectedCSTypeGeoKey", "GeographicTypeGeoKey") if key in geo), None)
        return {"axes": largest.axes, "levels": len(largest.levels), "series": series, "crs": None if crs is None else f"EPSG:{int(crs)}"}


def describe_if_tiff(path: Path) -> dict[str, Any] | None:
    """The same for a file that may be none, or broken: then nothing."""
    try:
        return describe(path)
    except Exception:  # tifffile raises anything on damaged files; the caller knows what is wrong with this one
        return None


def write(path: Path, image: Image, compression: str) -> None:
    """Write an image (c, h, w) as TIFF, or as OME-TIFF when its kind is ``ome``; BigTIFF when it is needed."""
    pixels = image.pixels
    colour = image.colour and len(pixels) in (3, 4)
    single = len(pixels) == 1
    data = pixels[0] if single else np.moveaxis(pixels, 0, 2) if colour or image.alpha else pixels
    options: dict[str, Any] = {
        "photometric": "rgb" if colour else "minisblack",
        "compression": CODECS[compression],
        "bigtiff": pixels.nbytes > 2**32 - 2**25,
        "software": "register",
    }
    if image.alpha:
        options["extrasamples"] = ["unassalpha"]
    if not single:
        options["planarconfig"] = "contig" if colour or image.alpha else "separate"
    if image.pixel_size and image.pixel_unit in MICROMETRES:
        per_cm = [1e4 / (s * MICROMETRES[image.pixel_unit]) for s in image.pixel_size]
        options |= {"resolution": tuple(per_cm), "resolutionunit": "CENTIMETER"}
    if image.kind == "ome":
        options |= {"ome": True, "metadata": _ome_metadata(image, "YX" if single else "YXS" if colour or image.alpha else "CYX")}
        if not single and not (colour or image.alpha):
            del options["planarconfig"]
    else:
        options["metadata"] = None
    tifffile.imwrite(path, data, **options)


def _area(series: tifffile.TiffPageSeries) -> int:
    shape = dict(zip(series.axes, series.shape, strict=True))
    return int(shape.get("Y", 1)) * int(shape.get("X", 1))


def _planes(path: Path, array: NDArray[Any], axes: str) -> tuple[NDArray[Any], str]:
    """Pixels (c, h, w) and which axis the channels were (``S`` samples, ``C`` channels or nothing)."""
    keep = [i for i, (axis, n) in enumerate(zip(axes, array.shape, strict=True)) if n > 1 or axis in "YX"]
    array, axes = array.reshape([array.shape[i] for i in keep]), "".join(axes[i] for i in keep)
    if array.dtype.kind == "c":
        raise FileError(path, f"has complex pixels ({array.dtype})", "save its magnitude or its real part")
    others = axes.replace("Y", "").replace("X", "")
    if "Y" not in axes or "X" not in axes:
        raise FileError(path, f"has axes {axes} and is not an image")
    if others not in ("", "S", "C"):
        shape = " × ".join(map(str, array.shape))
        raise FileError(path, f"is a stack with axes {axes} ({shape})", "save the plane to be aligned as an image of its own")
    order = [axes.index(axis) for axis in others + "YX"]
    array = array.transpose(order)
    return np.ascontiguousarray(array if others else array[None]), others


def _ome(tif: tifffile.TiffFile) -> tuple[tuple[float, float] | None, str | None, tuple[str, ...]]:
    """Pixel size, unit and channel names from the OME-XML; a size that is missing stays unknown."""
    root = ElementTree.fromstring(tif.ome_metadata or "<OME/>")
    pixels = root.find(".//{*}Pixels")
    if pixels is None:
        return None, None, ()
    x, y = pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeY")
    names = tuple(channel.get("Name", "") for channel in pixels.findall("{*}Channel"))
    size = (float(x), float(y or x)) if x else None
    return size, pixels.get("PhysicalSizeXUnit", "µm") if size else None, names if any(names) else ()


def _resolution(tif: tifffile.TiffFile, page: Any) -> tuple[tuple[float, float] | None, str | None, tuple[str, ...]]:
    """Pixel size from the resolution tags: in ImageJ's own unit, otherwise in µm. Dots without a unit say nothing."""
    x, y = page.tags.get("XResolution"), page.tags.get("YResolution")
    if x is None or y is None or 0 in (x.value[0], y.value[0]):
        return None, None, ()
    size = (x.value[1] / x.value[0], y.value[1] / y.value[0])
    if tif.is_imagej:
        unit = (tif.imagej_metadata or {}).get("unit")
        if unit in MICROMETRES:
            factor = MICROMETRES[unit]
            return (size[0] * factor, size[1] * factor), "µm", ()
        return None, None, ()
    factor = {2: 25400.0, 3: 1e4}.get(int(page.resolutionunit), 0.0)
    pixel = size[0] * factor, size[1] * factor
    printed = not 1e-4 < pixel[0] < 1e6 or (int(page.resolutionunit) == 2 and pixel[0] > 50)  # dots per inch of a screen or a printer
    return (None, None, ()) if not factor or printed else (pixel, "µm", ())


def _ome_metadata(image: Image, axes: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": axes}
    if image.pixel_size and image.pixel_unit:
        metadata |= {
            "PhysicalSizeX": image.pixel_size[0],
            "PhysicalSizeXUnit": image.pixel_unit,
            "PhysicalSizeY": image.pixel_size[1],
            "PhysicalSizeYUnit": image.pixel_unit,
        }
    if image.channel_names and axes == "CYX":
        metadata["Channel"] = {"Name": list(image.channel_names)}
    return metadata
