"""``register points``: the points of a file are mapped by a saved transform."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from register.errors import FileError
from register.files.atomic import refuse_existing, refuse_inputs
from register.geometry.arrays import Float64
from register.io.points.columns import PIXELS
from register.io.points.model import Columns, PointFile
from register.io.points.open import read_point_file
from register.transforms.frame import Frame
from register.transforms.transform import Inverse, Link, Transform

HALF_PIXEL = 0.5
MICROMETRES = {"nm": 1e-3, "µm": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6}
"""Units of length in micrometres."""
BLOCK = 50_000
"""Points that are mapped at a time: their arrays fit into a cache."""
TEXTS = ".csv", ".tsv", ".geojson", ".json"
ENDINGS = (*TEXTS, *(f"{ending}.gz" for ending in TEXTS), ".parquet", ".pq", ".roi", ".h5ad")
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
    densify: float | None = None,
    overwrite: bool = False,
) -> MappedPoints:
    """Map the points of a file and write the same kind of file with two more columns.

    ``inside`` is true for a point that lies on the image it is mapped to. ``expected_error`` is the expected
    error in pixels of that image, within which two of three points lie; it is ``inf`` (null in GeoJSON) where
    it is unknown. ``origin`` is ``corner`` or ``center``: the position of (0, 0) in pixel (0, 0).
    ``columns``, ``X,Y``, are those of a table. ``unit`` is ``px``, ``µm`` or ``mm``; lengths are converted by
    the pixel sizes of the images, and written in the same unit. ``densify`` divides edges of lines and
    polygons that are longer, in pixels. Of a file of pairs, the mapped points replace those of the other
    image. Raises ``FileError``.
    """
    refuse_existing(output, overwrite)
    refuse_inputs(output, source)
    direction: Transform | Inverse = transform.inverse() if inverse else transform
    longest = densify
    if densify is not None and unit not in (None, PIXELS):
        longest = densify * float(_pixel(direction.fixed, unit, source).min())
    file = read_point_file(source, columns, moving=inverse, densify=longest)
    _check_output(file, output)
    corner = file.corner if origin is None else origin == "corner"
    shift = HALF_PIXEL if corner else 0.0
    unit = unit or file.unit
    if not unit:
        advice = "name the unit of its numbers: --unit px, µm or mm"
        raise FileError(source, "states a transformation, so that its numbers may be no pixels", advice)
    before, after = (_pixel(frame, unit, source) for frame in (direction.fixed, direction.moving))
    mapping = _Mapping(Link(transform, inverse), direction, before, after, shift)
    file.write(output, mapping)
    round_trip = mapping.round_trip if inverse and mapping.count else None
    return MappedPoints(mapping.count, mapping.inside, round_trip)


@dataclass
class _Mapping:
    """Maps points of a file, in its coordinates, in as many calls as there are, and counts them.

    ``before`` and ``after`` are the sizes (2,) of a pixel of both images in the unit of the file, ``shift``
    is the position of the centre of the first pixel.
    """

    link: Link
    direction: Transform | Inverse
    before: Float64
    after: Float64
    shift: float
    count: int = 0
    inside: int = 0
    round_trip: float = 0.0

    def __call__(self, given: Float64) -> tuple[Float64, Columns]:
        """The mapped points (n, 2), whether each is on the other image, and its expected error."""
        found = np.empty_like(given)
        inside, error = np.empty(len(found), np.bool_), np.empty(len(found))
        for first in range(0, len(found), BLOCK):
            rows = slice(first, first + BLOCK)
            points = given[rows] / self.before - self.shift
            mapped = self.direction.map(points)
            if self.link.inverse:
                off = np.linalg.norm(self.link.transform.map(mapped) - points, axis=1).max()
                self.round_trip = max(self.round_trip, float(off))
            inside[rows] = self.direction.moving.contains(mapped)
            error[rows] = self.link.expected_error(points)
            found[rows] = (mapped + self.shift) * self.after
        self.count += len(found)
        self.inside += int(inside.sum())
        return found, {"inside": inside, "expected_error": error}


def _check_output(file: PointFile, output: Path) -> None:
    """Raise ``FileError`` for a name with the ending of another kind of file."""
    name = output.name.lower()
    if any(name.endswith(suffix) for suffix in ENDINGS) and not name.endswith(file.suffixes):
        known = ", ".join(file.suffixes)
        raise FileError(output, "has the ending of another kind of file than the points", f"use {known}")


def _pixel(frame: Frame, unit: str, source: Path) -> Float64:
    """The size (2,) of a pixel of an image in a unit. Raises ``FileError`` where it is not known."""
    if unit == PIXELS:
        return np.ones(2)
    size = frame.pixel_size
    if size is None or size.unit not in MICROMETRES:
        name = frame.path or f"image of {frame.width} × {frame.height} pixels"
        problem = f"has coordinates in {unit}, and the pixel size of {name} is not known"
        raise FileError(source, problem, "give pixel coordinates with --unit px")
    return np.array(size.xy) * (MICROMETRES[size.unit] / MICROMETRES[unit])
