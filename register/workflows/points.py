"""``register points``: the points of a file are mapped by a saved transform."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from register.errors import FileError
from register.files.atomic import refuse_existing, refuse_inputs
from register.geometry import affine
from register.geometry.arrays import Float64
from register.io.points.columns import MAP, PIXELS
from register.io.points.model import MAP_DIGITS, Columns, PointFile, free_name
from register.io.points.open import read_point_file
from register.io.points.table import Table
from register.transforms.transform import Inverse, Link, Transform
from register.workflows.point_units import from_pixels, side

COLUMNS = "inside", "expected_error"
"""The names of the new columns, unless the file has such columns."""
BLOCK = 50_000
"""Points that are mapped at a time: their arrays fit into a cache."""
TEXTS = ".csv", ".tsv", ".geojson", ".json"
ENDINGS = (*TEXTS, *(f"{ending}.gz" for ending in TEXTS), ".parquet", ".pq", ".roi", ".h5ad")
"""Endings that are a promise about the content."""


@dataclass(frozen=True)
class MappedPoints:
    """The number of points, how many lie on the other image, and the largest round-trip error.

    The round-trip error, in pixels, is known for the inverse only. ``columns`` are the names under which
    ``inside`` and ``expected_error`` were written.
    """

    count: int
    inside: int
    round_trip: float | None
    columns: tuple[str, ...] = COLUMNS


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
    it is unknown. Where the file has columns of these names, they stay, and the new ones are called
    ``inside_2`` and ``expected_error_2``. ``origin`` is ``corner`` or ``center``: the position of (0, 0) in
    pixel (0, 0).
    ``columns``, ``X,Y``, are those of a table. ``unit`` is ``px``, ``µm``, ``mm`` or ``map``; lengths are
    converted by the pixel sizes of the images, and written in the same unit, coordinates of a map by the
    georeference of each image, and written in the system of the other one. ``densify`` divides edges of lines
    and polygons that are longer, in pixels. Of a file of pairs, the mapped points replace those of the other
    image. Raises ``FileError``.
    """
    refuse_existing(output, overwrite)
    refuse_inputs(output, source)
    direction: Transform | Inverse = transform.inverse() if inverse else transform
    longest = densify
    if densify is not None and unit not in (None, PIXELS):
        longest = densify * side(from_pixels(transform, unit, source, moving=inverse, corner=False))
    file = read_point_file(source, columns, moving=inverse, densify=longest)
    _check_output(file, output)
    unit = unit or file.unit
    if not unit:
        advice = "name the unit of its numbers: --unit px, µm or mm"
        raise FileError(source, "states a transformation, so that its numbers may be no pixels", advice)
    if unit == MAP and origin is not None:
        raise FileError(source, "has coordinates of a map, which need no origin", "leave --origin out")
    corner = file.corner if origin is None else origin == "corner"
    before, after = (
        from_pixels(transform, unit, source, moving=moving, corner=corner)
        for moving in (inverse, not inverse)
    )
    if unit == MAP and isinstance(file, Table):
        file = replace(file, digits=MAP_DIGITS)
    taken = file.names
    names = tuple(free_name(name, taken) for name in COLUMNS)
    mapping = _Mapping(Link(transform, inverse), direction, affine.invert(before), after, names)
    file.write(output, mapping)
    round_trip = mapping.round_trip if inverse and mapping.count else None
    return MappedPoints(mapping.count, mapping.inside, round_trip, names)


@dataclass
class _Mapping:
    """Maps points of a file, in its coordinates, in as many calls as there are, and counts them.

    ``to_pixels`` (2, 3) leads from the file to pixels of the one image, ``from_pixels`` (2, 3) from those of
    the other image to the file.
    """

    link: Link
    direction: Transform | Inverse
    to_pixels: Float64
    from_pixels: Float64
    names: tuple[str, ...] = COLUMNS
    count: int = 0
    inside: int = 0
    round_trip: float = 0.0

    def __call__(self, given: Float64) -> tuple[Float64, Columns]:
        """The mapped points (n, 2), whether each is on the other image, and its expected error."""
        found = np.empty_like(given)
        inside, error = np.empty(len(found), np.bool_), np.empty(len(found))
        for first in range(0, len(found), BLOCK):
            rows = slice(first, first + BLOCK)
            points = affine.apply(self.to_pixels, given[rows])
            mapped = self.direction.map(points)
            if self.link.inverse:
                off = np.linalg.norm(self.link.transform.map(mapped) - points, axis=1).max()
                self.round_trip = max(self.round_trip, float(off))
            inside[rows] = self.direction.moving.contains(mapped)
            error[rows] = self.link.expected_error(points)
            found[rows] = affine.apply(self.from_pixels, mapped)
        self.count += len(found)
        self.inside += int(inside.sum())
        return found, dict(zip(self.names, (inside, error), strict=True))


def _check_output(file: PointFile, output: Path) -> None:
    """Raise ``FileError`` for a name that has not an ending of the kind of file.

    The folder of an element of SpatialData may have any name, but that of a file of points.
    """
    name, known = output.name.lower(), ", ".join(filter(None, file.suffixes))
    other = name.endswith(ENDINGS)
    if not name.endswith(file.suffixes) or ("" in file.suffixes and other):
        which = "another kind of file than the points" if other else "no file of this kind of points"
        raise FileError(output, f"has the ending of {which}", f"use {known}")
