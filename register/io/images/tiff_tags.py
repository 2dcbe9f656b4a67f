"""The tags of a TIFF that is written: layout, pixel size, colour profile, georeference, OME metadata."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from register._version import __version__
from register.geometry.pixel_size import PixelSize
from register.io.images.geotiff import GDAL_METADATA
from register.io.images.lookup_tables import ramp_colour
from register.io.images.model import Image
from register.io.images.tiff_metadata import GDAL_NODATA, MICROMETRES

CREATOR = f"register {__version__}"
"""The program, as OME metadata name it."""
TILE = 512
"""Side of a tile in pixels."""
PHOTOMETRIC = {
    "grey": "minisblack",
    "inverted": "miniswhite",
    "rgb": "rgb",
    "cmyk": "separated",
    "lab": "cielab",
    "palette": "palette",
}
"""The name that tifffile gives to each ``Image.colour``."""
OME_UNITS = ("µm", "nm", "pm", "mm", "cm", "m", "km", "in", "ft")
"""Units of length that OME metadata know (OME 2016-06, UnitsLength) and files here state."""
COLOURED = ("rgb", "cmyk", "lab")
"""Colours of several channels, which are stored interleaved or planar."""
AXES = {"": "YX", "contig": "YXS", "planar": "SYX", "pages": "CYX"}
"""The axes of each layout."""
Options = dict[str, Any]
"""Keyword arguments of ``tifffile.TiffWriter.write``, or attributes of OME-XML."""


def layout(image: Image) -> str:
    """How the channels are stored: ``contig``, ``planar``, ``pages``, or empty for a single channel."""
    interleaved = image.colour in COLOURED or image.alpha
    if image.channels == 1:
        return ""
    if image.layout == "pages" and interleaved:
        return "contig"
    if image.layout:
        return image.layout
    if interleaved:
        return "contig"
    return "pages" if image.kind == "ome" else "planar"


def layout_options(image: Image) -> Options:
    """The arguments that state how pixels are stored; the same for every level."""
    (height, width), count, lay = image.size, image.channels, layout(image)
    shapes = {"": (height, width), "contig": (height, width, count)}
    options: Options = {
        "shape": shapes.get(lay, (count, height, width)),
        "dtype": image.dtype,
        "photometric": PHOTOMETRIC[image.colour],
        "tile": (TILE, TILE),
    }
    if image.dtype == np.bool_:
        options |= {"tile": None, "rowsperstrip": TILE}
    if lay in ("contig", "planar"):
        options["planarconfig"] = "contig" if lay == "contig" else "separate"
    if image.extra and lay in ("contig", "planar"):
        options["extrasamples"] = list(image.extra)
    table = image.palette if image.palette is not None else _display(image)
    if table is not None:
        options |= {"photometric": "palette", "colormap": table}
    return options


def _display(image: Image) -> NDArray[Any] | None:
    """The lookup table that is written with a grey image.

    In a plain TIFF only a ramp is: any other table would make it an indexed picture.
    """
    entries = {"uint8": 256, "uint16": 65536}.get(str(image.dtype))
    if image.lut is None or image.channels > 1 or image.lut.shape[1] != entries:
        return None
    return image.lut if image.kind == "ome" or ramp_colour(image.lut) else None


def first_page_options(image: Image) -> Options:
    """The arguments for the finest level only: pixel size, profile, georeference, names."""
    options: Options = {"software": "register", **resolution_options(image.pixel_size)}
    if image.icc:
        options["iccprofile"] = image.icc
    tags: list[tuple[int, int, int, Any, bool]] = []
    tags += [(code, kind, count, value, True) for code, kind, count, value in image.geotags]
    if image.nodata is not None:  # of texts, tifffile counts the characters itself
        text = f"{image.nodata:.17g}"
        tags.append((GDAL_NODATA, 2, len(text), text, True))
    if image.gdal is not None:
        xml = image.gdal.encode()
        tags.append((GDAL_METADATA, 2, len(xml), xml, True))
    if tags:
        options["extratags"] = tags
    axes = AXES[layout(image)]
    if image.kind == "ome":
        options["metadata"] = _ome(image, axes)
    else:
        options["metadata"] = {"axes": axes} if axes == "CYX" else None
    return options


def resolution_options(size: PixelSize | None) -> Options:
    """The arguments for the size of a pixel; none when it is not known in a unit of length."""
    if not size or size.unit not in MICROMETRES:
        return {}
    resolution = tuple(1e4 / (side * MICROMETRES[size.unit]) for side in size.xy)
    return {"resolution": resolution, "resolutionunit": "CENTIMETER"}


def physical_size(size: PixelSize | None) -> Options:
    """OME's attributes of the size of a pixel; none when it is not known."""
    if not size or size.unit not in OME_UNITS:
        return {}
    return {
        "PhysicalSizeX": size.x,
        "PhysicalSizeXUnit": size.unit,
        "PhysicalSizeY": size.y,
        "PhysicalSizeYUnit": size.unit,
    }


def _ome(image: Image, axes: str) -> Options:
    """The OME metadata of an image."""
    attributes: Options = {"axes": axes, "Creator": CREATOR, **physical_size(image.pixel_size)}
    planes = image.channels if axes == "CYX" else 1
    if image.position:
        x, y, unit = image.position
        attributes["Plane"] = {
            "PositionX": [x] * planes,
            "PositionXUnit": [unit] * planes,
            "PositionY": [y] * planes,
            "PositionYUnit": [unit] * planes,
        }
    channel: Options = {}
    if len(image.channel_names) == planes:
        channel["Name"] = list(image.channel_names)
    if len(image.channel_colours) == planes:
        channel["Color"] = list(image.channel_colours)
    return attributes | ({"Channel": channel} if channel else {})
