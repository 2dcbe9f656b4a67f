"""The metadata of a TIFF: pixel size, no-data value, position, channels, georeference."""

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, replace
from typing import Any

import tifffile

from register.geometry.pixel_size import PixelSize, measured
from register.io.images import geotiff
from register.io.images.geotiff import GEOTAGS, MODEL_TRANSFORMATION, PIXEL_SCALE, TIE_POINT
from register.io.images.model import Image
from register.io.images.tiff_vendors import stated

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
GDAL_NODATA, ORIENTATION, ICC_PROFILE = 42113, 274, 34675
PLAUSIBLE = 1e-4, 1e6
"""Smallest and largest plausible size of a pixel, in micrometres."""
PRINTED = 50.0
"""Pixels given in dots per inch that are larger than this, in micrometres, state how to print the image."""


@dataclass(frozen=True)
class TiffMetadata:
    """Fields of ``Image`` that a TIFF states; the default values mean that it does not."""

    nodata: float | None = None
    pixel_size: PixelSize | None = None
    position: tuple[float, float, str] | None = None
    gdal: str | None = None
    channel_names: tuple[str, ...] = ()
    channel_colours: tuple[int, ...] = ()

    def at_level(self, factors: tuple[float, float]) -> "TiffMetadata":
        """The same for a level whose pixels are larger by two factors, x and y."""
        if self.pixel_size is None:
            return self
        return replace(self, pixel_size=self.pixel_size.times(*factors))

    def added_to(self, image: Image) -> Image:
        """An image with these values."""
        return replace(
            image,
            nodata=self.nodata,
            pixel_size=self.pixel_size,
            position=self.position,
            gdal=self.gdal,
            channel_names=self.channel_names,
            channel_colours=self.channel_colours or image.channel_colours,
        )


def metadata(tif: tifffile.TiffFile, page: Any, index: int, channels: int) -> TiffMetadata:
    """The metadata of the series ``index``: OME-XML, or what the maker states, or the tags of its page."""
    if tif.is_ome:
        found = _ome(tif, index, channels)
    else:
        maker, found = stated(tif, tif.series[index]), _resolution(tif, page)
        of_channels, gdal = len(maker.names) == channels, geotiff.gdal_metadata(page)
        found = replace(
            found,
            gdal=gdal,
            pixel_size=maker.pixel_size or geotiff.pixel_size(tif, page) or found.pixel_size,
            channel_names=maker.names if of_channels else geotiff.band_names(gdal, channels),
            channel_colours=maker.colours if of_channels and len(maker.colours) == channels else (),
        )
    return replace(found, nodata=_nodata(page))


def orientation(page: tifffile.TiffPage) -> int:
    """The tag Orientation, 1 to 8; 1, upright, where it is missing or wrong."""
    code = page.tags.valueof(ORIENTATION, 1)
    return int(code) if code in range(1, 9) else 1


def icc_profile(page: tifffile.TiffPage) -> bytes | None:
    """The colour profile."""
    profile: bytes | None = page.tags.valueof(ICC_PROFILE)
    return profile


def geotags(page: tifffile.TiffPage, factors: tuple[float, float]) -> tuple[tuple[int, int, int, Any], ...]:
    """The georeference tags (code, type, count, value) for pixels that are larger by two factors, x and y."""
    found = []
    for tag in (page.tags[code] for code in GEOTAGS if code in page.tags):
        value = tag.value
        if tag.code == PIXEL_SCALE:
            value = tuple(v * f for v, f in zip(value, (*factors, 1.0), strict=False))
        elif tag.code == TIE_POINT:
            value = tuple(v / factors[i % 6] if i % 6 < 2 else v for i, v in enumerate(value))
        elif tag.code == MODEL_TRANSFORMATION:
            value = tuple(v * (*factors, 1.0, 1.0)[i % 4] for i, v in enumerate(value))
        found.append((tag.code, int(tag.dtype), tag.count, value))
    return tuple(found)


def _nodata(page: tifffile.TiffPage) -> float | None:
    """The value that GDAL marks as no data."""
    try:
        return float(str(page.tags.valueof(GDAL_NODATA, "")).strip("\0 "))
    except ValueError:
        return None


def _ome(tif: tifffile.TiffFile, index: int, channels: int) -> TiffMetadata:
    """Pixel size, position, and channel names and colours from the OME-XML."""
    root = ElementTree.fromstring(tif.ome_metadata or "<OME/>")
    images = root.findall("{*}Image")
    pixels = (images[index] if index < len(images) else root).find(".//{*}Pixels")
    if pixels is None:
        return TiffMetadata()
    described = pixels.findall("{*}Channel")
    names = tuple(channel.get("Name", "") for channel in described)
    colours = tuple(int(channel.get("Color", "-1")) for channel in described)
    stated = any(c != -1 for c in colours) and len(colours) == channels
    found = TiffMetadata(
        position=_ome_position(pixels.find("{*}Plane")),
        channel_names=names if any(names) else (),
        channel_colours=colours if stated else (),
    )
    x, y = pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeY")
    if not x:
        return found
    unit = pixels.get("PhysicalSizeXUnit", "µm")
    return replace(found, pixel_size=measured(x, y or x, unit))


def _ome_position(plane: ElementTree.Element | None) -> tuple[float, float, str] | None:
    """The position of a plane and its unit."""
    if plane is None:
        return None
    x, y = plane.get("PositionX"), plane.get("PositionY")
    return (float(x), float(y), plane.get("PositionXUnit", "reference frame")) if x and y else None


def _resolution(tif: tifffile.TiffFile, page: Any) -> TiffMetadata:
    """The pixel size from the resolution tags, in micrometres; unknown where they name no unit of length."""
    size = _size_in_unit(page)
    if size is None:
        return TiffMetadata()
    if tif.is_imagej:
        unit = (tif.imagej_metadata or {}).get("unit")
        return _in_micrometres(size, MICROMETRES.get(str(unit), 0.0))
    if size[0] == 1.0:  # written by programs that do not know the resolution
        return TiffMetadata()
    unit = int(page.resolutionunit)
    factor = {2: 25400.0, 3: 1e4}.get(unit, 0.0)
    width = size[0] * factor
    if not PLAUSIBLE[0] < width < PLAUSIBLE[1] or (unit == 2 and width > PRINTED):
        return TiffMetadata()
    return _in_micrometres(size, factor)


def _size_in_unit(page: Any) -> tuple[float, float] | None:
    """The size ``(x, y)`` of a pixel in the unit of the resolution tags; None where they are no fractions."""
    tags = [page.tags.get("XResolution"), page.tags.get("YResolution")]
    fractions = [tag.value for tag in tags if tag is not None]
    if len(fractions) != 2:
        return None
    for fraction in fractions:
        if not isinstance(fraction, tuple) or len(fraction) != 2 or not all(fraction):
            return None
    x, y = (bottom / top for top, bottom in fractions)
    return x, y


def _in_micrometres(size: tuple[float, float], factor: float) -> TiffMetadata:
    """A pixel size in micrometres from one in a unit of ``factor`` micrometres, which is 0 if unknown."""
    if not factor:
        return TiffMetadata()
    return TiffMetadata(pixel_size=PixelSize(size[0] * factor, size[1] * factor, "µm"))
