"""Vector files in the coordinates of a map, which are not pixels: they are refused, with their system."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from register.errors import FileError

SUFFIXES = {
    ".gpkg": "a GeoPackage",
    ".shp": "a shapefile",
    ".kml": "KML",
    ".kmz": "KML",
    ".gml": "GML",
    ".fgb": "a FlatGeobuf",
}
"""Formats whose coordinates are those of a map, by the endings of their files."""
ADVICE = "give pixel coordinates: GDAL's gdaltransform -i converts them with the GeoTIFF"
LONGITUDE, LATITUDE = 180.0, 90.0
FEW, CLOSE = 3, 20.0
"""Points below this number, or further apart in degrees or pixels, are taken as pixels."""
SOME = 1000
"""Points that are compared with each other."""
DECIMALS = 1e-3
"""Coordinates that are no multiple of this are written with more decimals than pixels are."""


def refuse_map_file(path: Path) -> None:
    """Raise ``FileError`` for a file in a format of maps; the message names its coordinate system.

    A file that does not exist is left to its reader.
    """
    name = SUFFIXES.get(path.suffix.lower())
    if name is not None:
        raise FileError(path, f"is {name} in map coordinates ({_system(path)})", ADVICE)


def refuse_map_coordinates(path: object, tree: Any, points: Any) -> None:
    """Raise ``FileError`` for GeoJSON with a ``crs``, or whose points can only be longitudes and latitudes.

    Such points lie in the range of degrees, and are negative, or several within a distance that no pixels
    would have, with more than three decimals (RFC 7946 has no other system than WGS 84).
    """
    crs = tree.get("crs") if isinstance(tree, dict) else None
    if crs:
        raise FileError(path, f"has coordinates in {_crs_name(crs)}, not in pixels", ADVICE)
    if len(points) and _are_degrees(np.asarray(points, np.float64)):
        raise FileError(path, "has coordinates in longitude and latitude (WGS 84), not in pixels", ADVICE)


def _are_degrees(points: Any) -> bool:
    """Whether points (n, 2) can only be longitudes and latitudes."""
    if (np.abs(points) > (LONGITUDE, LATITUDE)).any():
        return False
    extent = float((points.max(0) - points.min(0)).max())
    outside = bool((points < -1).all(axis=0).any())
    if extent >= (CLOSE if outside else 1) or len(np.unique(points[:SOME], axis=0)) < FEW:
        return False
    fine = np.abs(points / DECIMALS - np.round(points / DECIMALS)) > 1e-6
    return bool(fine.mean() > 0.5)


def _crs_name(crs: Any) -> str:
    """The name in the member ``crs`` of GeoJSON (2008), or as much of it as there is."""
    properties = crs.get("properties") if isinstance(crs, dict) else None
    name = properties.get("name") or properties.get("href") if isinstance(properties, dict) else None
    return str(name or crs)[:100]


def _system(path: Path) -> str:
    """The coordinate system of a GeoPackage or a shapefile; ``unknown system`` where they do not tell."""
    try:
        if path.suffix.lower() == ".gpkg":
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                query = (
                    "SELECT organization, organization_coordsys_id FROM gpkg_spatial_ref_sys WHERE srs_id IN"
                    " (SELECT srs_id FROM gpkg_geometry_columns) ORDER BY srs_id DESC"
                )
                found = database.execute(query).fetchone()
                return f"{found[0]}:{found[1]}" if found else "unknown system"
        if path.suffix.lower() == ".shp":
            return path.with_suffix(".prj").read_text().split('"')[1]
    except (sqlite3.Error, OSError, IndexError, UnicodeDecodeError):
        return "unknown system"
    return "WGS 84" if path.suffix.lower() in (".kml", ".kmz") else "unknown system"
