"""``register points``: the points of a file are mapped by a saved transform."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from register.files.atomic import refuse_existing, refuse_inputs
from register.io.points.open import read_point_file
from register.transforms.transform import Inverse, Link, Transform

HALF_PIXEL = 0.5


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
    overwrite: bool = False,
) -> MappedPoints:
    """Map the points of a CSV, GeoJSON or ImageJ file and write the same kind of file with two more columns.

    ``inside`` is true for a point that lies on the image it is mapped to. ``expected_error`` is the expected
    error in pixels of that image, within which two of three points lie; it is ``inf`` (null in GeoJSON) where
    it is unknown. ``origin`` is ``corner`` or ``center``: the position of (0, 0) in pixel (0, 0). Raises
    ``FileError``.
    """
    refuse_inputs(output, source)
    refuse_existing(output, overwrite)
    file = read_point_file(source)
    corner = file.corner if origin is None else origin == "corner"
    shift = HALF_PIXEL if corner else 0.0
    points = file.points - shift
    direction: Transform | Inverse = transform.inverse() if inverse else transform
    mapped = direction.map(points)
    round_trip = None
    if inverse and len(points):
        round_trip = float(np.linalg.norm(transform.map(mapped) - points, axis=1).max())
    inside = direction.moving.contains(mapped)
    error = Link(transform, inverse).expected_error(points)
    file.write(output, mapped + shift, {"inside": inside.tolist(), "expected_error": error.tolist()})
    return MappedPoints(len(points), int(inside.sum()), round_trip)
