"""Read points from files: CSV, GeoJSON and ImageJ's regions of interest."""

from pathlib import Path

from register.errors import FileError
from register.io.images.map_files import refuse_map_file
from register.io.points import imagej
from register.io.points.geojson import read_geojson
from register.io.points.model import PointFile, Points
from register.io.points.table import read_table


def read_points(path: str | Path) -> Points:
    """The points (n, 2) float64 of a file, ``(x, y)`` in pixels with pixel centres at integers.

    Raises ``FileError`` naming the file and what is wrong.
    """
    file = read_point_file(path)
    return file.points - 0.5 if file.corner else file.points


def read_point_file(path: str | Path) -> PointFile:
    """The points of a file with everything else in it, to be written back.

    Raises ``FileError`` naming the file and the line that is wrong.
    """
    refuse_map_file(Path(path))
    if Path(path).suffix.lower() in imagej.SUFFIXES:
        return imagej.read_rois(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(path, f"cannot be read as a point file ({error})", "check the path") from None
    return read_geojson(path, text) if text.lstrip()[:1] in ("{", "[") else read_table(path, text)
