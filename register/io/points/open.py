"""Read points from files: tables, GeoJSON, ImageJ's regions, AnnData, SpatialData, pairs of BigWarp."""

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from register.errors import FileError, OptionError
from register.files.compressed import beginning, is_archive_of_text, read_text
from register.io.images.map_files import refuse_map_file
from register.io.points import anndata, bigwarp, geoparquet, imagej, parquet, spatialdata
from register.io.points.columns import PIXELS
from register.io.points.geojson import read_geojson
from register.io.points.model import PointFile, Points
from register.io.points.table import read_table

BINARY = (*parquet.SUFFIXES, *anndata.SUFFIXES, *imagej.SUFFIXES)
"""Endings of files that are no text."""


def read_points(path: str | Path) -> Points:
    """The points (n, 2) float64 of a file, ``(x, y)`` in pixels with pixel centres at integers.

    Raises ``FileError`` naming the file and what is wrong, also where its unit is not the pixel.
    """
    file = read_point_file(path)
    if file.unit != PIXELS:
        unit = file.unit or "an unknown unit"
        raise FileError(path, f"has coordinates in {unit}", "convert them to pixels")
    return file.points - 0.5 if file.corner else file.points


def read_point_file(
    path: str | Path, columns: str | None = None, *, moving: bool = False, densify: float | None = None
) -> PointFile:
    """The points of a file with everything else in it, to be written back.

    ``columns`` names the columns with x and y of a table, as ``X,Y``. Of a file of pairs the fixed points are
    read, or the ``moving`` ones. ``densify`` divides edges of lines and polygons that are longer, in the unit
    of the file. Raises ``FileError`` naming the file and the line that is wrong.
    """
    refuse_map_file(Path(path))
    suffix = Path(path).suffix.lower()
    if spatialdata.is_spatialdata(path):
        _refuse_columns(path, columns, "an element of SpatialData")
        return spatialdata.read_element(path, densify)
    if suffix in parquet.SUFFIXES and geoparquet.is_geoparquet(path):
        _refuse_columns(path, columns, "a GeoParquet")
        return geoparquet.read_geoparquet(path, densify)
    packed = suffix == ".zip" and is_archive_of_text(path)
    head = "" if suffix in BINARY and not packed else _text(path, read_text if packed else beginning)
    if head.lstrip()[:1] in ("{", "["):
        _refuse_columns(path, columns, "GeoJSON")
        return read_geojson(path, head if packed else _text(path, read_text), densify)
    if densify is not None:
        raise OptionError(path, "holds points, which have no edges", "leave out --densify")
    if suffix in parquet.SUFFIXES:
        return parquet.read_parquet(path, columns)
    if suffix in anndata.SUFFIXES:
        _refuse_columns(path, columns, "AnnData")
        return anndata.read_anndata(path)
    if suffix in imagej.SUFFIXES and not head:
        _refuse_columns(path, columns, "regions of ImageJ")
        return imagej.read_rois(path)
    if bigwarp.is_bigwarp(head):
        _refuse_columns(path, columns, "pairs of BigWarp")
        return bigwarp.read_side(path, _text(path, read_text), moving=moving)
    return read_table(path, head, columns)


def _refuse_columns(path: str | Path, columns: str | None, what: str) -> None:
    """Raise ``OptionError`` for columns of a file whose coordinates have a place of their own."""
    if columns is not None:
        raise OptionError(path, f"is {what}, where no columns are chosen", "leave out --columns")


def _text(path: str | Path, read: Callable[[str | Path], str]) -> str:
    """The text of a file, as far as it is read. Raises ``FileError``."""
    try:
        return read(path)
    except (OSError, UnicodeDecodeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise FileError(path, f"cannot be read as a point file ({error})", "check the path") from None
