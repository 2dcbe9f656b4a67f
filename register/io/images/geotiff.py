"""What a GeoTIFF says about its pixels: their size in units of the map, and GDAL's metadata of its bands."""

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import Any

import numpy as np
import tifffile

from register.geometry import affine
from register.geometry.arrays import Float64
from register.geometry.pixel_size import PixelSize

PIXEL_SCALE, TIE_POINT, MODEL_TRANSFORMATION = 33550, 33922, 34264
KEY_DIRECTORY, RASTER_TYPE, POINT = 34735, 1025, 2
"""The tag that lists the GeoKeys, the key GTRasterType, and its value PixelIsPoint."""
GEO_KEYS = KEY_DIRECTORY, 34736, 34737
GEOTAGS = PIXEL_SCALE, TIE_POINT, MODEL_TRANSFORMATION, *GEO_KEYS
"""The tags that place pixels on the earth; the last three are GeoKeys (OGC GeoTIFF 1.1, annex B)."""
GDAL_METADATA = 42112
PROJECTED, GEOGRAPHIC = 1, 2
"""Values of the key GTModelType."""
LINEAR = {9001: "m", 9002: "ft", 9003: "US survey ft", 9036: "km"}
ANGULAR = {9101: "rad", 9102: "°", 9122: "°"}
"""Units by their EPSG codes, of the keys ProjLinearUnits and GeogAngularUnits."""
METRIC = (range(32601, 32661), range(32701, 32761), range(25828, 25839), range(3857, 3858))
"""EPSG codes of projections in metres that files name without the unit: UTM zones and Web Mercator."""
STATISTICS = "STATISTICS_"
"""Start of the names of items that describe the values of one image, and are wrong for a resampled one."""


def pixel_size(tif: tifffile.TiffFile, page: Any) -> PixelSize | None:
    """The size of a pixel in the unit of the map; the unit is None where the file does not tell it.

    None without georeference, and where the sides of a pixel have no size.
    """
    sides = _sides(page)
    if sides is None or not all(math.isfinite(side) and side > 0 for side in sides):
        return None
    keys: Any = tif.geotiff_metadata or {}
    return PixelSize(*sides, _unit(keys))


def map_from_pixel(geotags: Sequence[tuple[int, int, int, Any]]) -> Float64 | None:
    """The matrix (2, 3) from pixels, by their centres, to the map; None where the tags do not hold one.

    Source: OGC GeoTIFF 1.1: ModelTiepoint, ModelPixelScale, ModelTransformation, and the raster types
    PixelIsArea and PixelIsPoint.
    """
    values = {code: value for code, _, _, value in geotags}
    matrix, scale, tie = (values.get(code) for code in (MODEL_TRANSFORMATION, PIXEL_SCALE, TIE_POINT))
    if matrix is not None and len(matrix) == 16:
        found = np.array(matrix, np.float64).reshape(4, 4)[:2, [0, 1, 3]]
    elif scale is not None and tie is not None and len(tie) == 6:
        across, down = float(scale[0]), -float(scale[1])
        column, row, _, x, y, _ = map(float, tie)
        found = np.array([[across, 0.0, x - across * column], [0.0, down, y - down * row]])
    else:
        return None
    keys = values.get(KEY_DIRECTORY, ())
    kinds = [keys[n + 3] for n in range(4, len(keys) - 3, 4) if keys[n] == RASTER_TYPE]
    return found if POINT in kinds else affine.compose(found, affine.translation(0.5, 0.5))


def gdal_metadata(page: Any) -> str | None:
    """GDAL's metadata as XML, without statistics of the values; None where there is none or it is damaged."""
    text = page.tags.valueof(GDAL_METADATA)
    if not isinstance(text, str):
        return None
    try:
        root = ElementTree.fromstring(text.strip("\0"))
    except ElementTree.ParseError:
        return None
    for item in list(root):
        if (item.get("name") or "").startswith(STATISTICS):
            root.remove(item)
    return ElementTree.tostring(root, encoding="unicode") if len(root) else None


def band_names(gdal: str | None, channels: int) -> tuple[str, ...]:
    """The descriptions of the bands; none unless one of them has one."""
    if gdal is None:
        return ()
    names = [""] * channels
    for item in ElementTree.fromstring(gdal):
        band = int(item.get("sample") or 0)
        if item.get("role") == "description" and 0 <= band < channels:
            names[band] = item.text or ""
    return tuple(names) if any(names) else ()


def _sides(page: Any) -> tuple[float, float] | None:
    """Width and height of a pixel in the unit of the map (OGC GeoTIFF 1.1, 7.5.3)."""
    scale = page.tags.valueof(PIXEL_SCALE)
    if scale is not None and len(scale) >= 2:
        return abs(float(scale[0])), abs(float(scale[1]))
    matrix = page.tags.valueof(MODEL_TRANSFORMATION)
    if matrix is None or len(matrix) != 16:
        return None
    a, b, d, e = (float(matrix[n]) for n in (0, 1, 4, 5))
    return math.hypot(a, d), math.hypot(b, e)


def _unit(keys: Any) -> str | None:
    """The unit of the coordinates; None where the keys do not tell it."""
    model = int(keys.get("GTModelTypeGeoKey", 0))
    if model == GEOGRAPHIC:
        return ANGULAR.get(int(keys.get("GeogAngularUnitsGeoKey", 9102)))
    if model != PROJECTED:
        return None
    code = int(keys.get("ProjLinearUnitsGeoKey", 0))
    if code:
        return LINEAR.get(code)
    system = int(keys.get("ProjectedCSTypeGeoKey", 0))
    return "m" if any(system in codes for codes in METRIC) else None
