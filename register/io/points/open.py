"""Read points from files: tables, GeoJSON and ImageJ's regions of interest."""

import zipfile
import zlib
from pathlib import Path

from register.errors import FileError
from register.files.compressed import is_archive_of_text, read_text
from register.io.images.map_files import refuse_map_file
from register.io.points import imagej, parquet
from register.io.points.columns import PIXELS
from register.io.points.geojson import read_geojson
from register.io.points.model import PointFile, Points
from register.io.points.table import read_table


def read_points(path: str | Path) -> Points:
    """The points (n, 2) float64 of a file, ``(x, y)`` in pixels with pixel centres at integers.

    Raises ``FileError`` naming the file and what is wrong, also where its unit is not the pixel.
    """
    file = read_point_file(path)
    if file.unit != PIXELS:
        raise FileError(path, f"has coordinates in {file.unit}", "convert them to pixels")
    return file.points - 0.5 if file.corner else file.points


def read_point_file(path: str | Path, columns: str | None = None) -> PointFile:
    """The points of a file with everything else in it, to be written back.

    ``columns`` names the columns with x and y of a table, as ``X,Y``. Raises ``FileError`` naming the file
    and the line that is wrong.
    """
    refuse_map_file(Path(path))
    suffix = Path(path).suffix.lower()
    if suffix in parquet.SUFFIXES:
        return parquet.read_parquet(path, columns)
    if suffix in imagej.SUFFIXES and not is_archive_of_text(path):
        return imagej.read_rois(path)
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise FileError(path, f"cannot be read as a point file ({error})", "check the path") from None
    return read_geojson(path, text) if text.lstrip()[:1] in ("{", "[") else read_table(path, text, columns)
