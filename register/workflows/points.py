"""``register points``: the points of a file are mapped by a saved transform."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.files.atomic import refuse_existing, refuse_inputs
from register.io.points.columns import PIXELS
from register.io.points.model import PointFile
from register.io.points.open import read_point_file
from register.transforms.frame import Frame
from register.transforms.transform import Inverse, Link, Transform

HALF_PIXEL = 0.5
MICROMETRES = {"nm": 1e-3, "µm": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6}
"""Units of length in micrometres."""
ENDINGS = (".csv", ".tsv", ".geojson", ".json", ".geojson.gz", ".json.gz", ".parquet", ".pq", ".roi")
"""Endings that are a promise about the content."""


@dataclass(frozen=True)
class MappedPoints:
    """The number of points, how many lie on the other image, and the largest round-trip error.

    The round-trip error, in pixels, is known for the inverse only.
    """

    count: int
    inside: int
    round_trip: float | None


def map_points(
    transform: Transform,
    source: Path,
    output: Path,
    *,
    inverse: bool = False,
    origin: str | None = None,
    columns: str | None = None,
    unit: str | None = None,
    overwrite: bool = False,
) -> MappedPoints:
    """Map the points of a file and write the same kind of file with two more columns.

    ``inside`` is true for a point that lies on the image it is mapped to. ``expected_error`` is the expected
    error in pixels of that image, within which two of three points lie; it is ``inf`` (null in GeoJSON) where
    it is unknown. ``origin`` is ``corner`` or ``center``: the position of (0, 0) in pixel (0, 0).
    ``columns``, ``X,Y``, are those of a table. ``unit`` is ``px``, ``µm`` or ``mm``; lengths are converted by
    the pixel sizes of the images, and written in the same unit. Raises ``FileError``.
    """
    refuse_existing(output, overwrite)
    refuse_inputs(output, source)
    file = read_point_file(source, columns)
    _check_output(file, output)
    corner = file.corner if origin is None else origin == "corner"
    shift = HALF_PIXEL if corner else 0.0
    direction: Transform | Inverse = transform.inverse() if inverse else transform
    unit = unit or file.unit
    before, after = (_pixel(frame, unit, source) for frame in (direction.fixed, direction.moving))
    points = file.points / before - shift
    mapped = direction.map(points)
    round_trip = None
    if inverse and len(points):
        round_trip = float(np.linalg.norm(transform.map(mapped) - points, axis=1).max())
    inside = direction.moving.contains(mapped)
    error = Link(transform, inverse).expected_error(points)
    file.write(output, (mapped + shift) * after, {"inside": inside, "expected_error": error})
    return MappedPoints(len(points), int(inside.sum()), round_trip)


def _check_output(file: PointFile, output: Path) -> None:
    """Raise ``FileError`` for a name with the ending of another kind of file."""
    name = output.name.lower()
    if any(name.endswith(suffix) for suffix in ENDINGS) and not name.endswith(file.suffixes):
        known = ", ".join(file.suffixes)
        raise FileError(output, "has the ending of another kind of file than the points", f"use {known}")


def _pixel(frame: Frame, unit: str, source: Path) -> NDArray[np.float64]:
    """The size (2,) of a pixel of an image in a unit. Raises ``FileError`` where it is not known."""
    if unit == PIXELS:
        return np.ones(2)
    size = frame.pixel_size
    if size is None or size.unit not in MICROMETRES:
        name = frame.path or f"image of {frame.width} × {frame.height} pixels"
        problem = f"has coordinates in {unit}, and the pixel size of {name} is not known"
        raise FileError(source, problem, "give pixel coordinates with --unit px")
    return np.array(size.xy) * (MICROMETRES[size.unit] / MICROMETRES[unit])
