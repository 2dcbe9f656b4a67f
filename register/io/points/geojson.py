"""Points in GeoJSON files of any nesting; everything but the coordinates is kept."""

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from register.errors import FileError
from register.files.atomic import write_text
from register.files.json_text import number, parse_json
from register.io.images.map_files import refuse_map_coordinates
from register.io.points.model import DIGITS, LARGEST_COORDINATE, Columns, Points, worst

GEOMETRIES = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon")


@dataclass(frozen=True)
class GeoJSON:
    """A GeoJSON tree; ``points`` are all its positions in the order of the file."""

    content: Any
    points: Points
    corner: bool = True

    def write(self, path: str | Path, points: Points, columns: Columns) -> None:
        """Write the tree with other positions.

        The properties of each feature get, per column, the worst value of its points: false, or the largest
        number.
        """
        content = copy.deepcopy(self.content)
        values = iter(points.tolist())
        for position in _positions(content):
            position[:2] = [round(v, DIGITS) for v in next(values)]
        offset = 0
        for feature in _features(content):
            end = offset + sum(1 for _ in _positions(feature))
            properties = feature["properties"] = feature.get("properties") or {}
            for name, column in columns.items():
                properties[name] = worst([v for v in column[offset:end] if v is not None])
            offset = end
        write_text(path, json.dumps(content, ensure_ascii=False) + "\n")


def read_geojson(path: str | Path, text: str) -> GeoJSON:
    """The positions in the text of a GeoJSON file.

    Raises ``FileError`` when there are none, or they are no numbers.
    """
    try:
        content = parse_json(text)
        found = [[_coordinate(v) for v in position[:2]] for position in _positions(content)]
        points = np.array(found, np.float64).reshape(-1, 2)
        _check_properties(content)
    except (ValueError, TypeError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise FileError(path, f"cannot be read as GeoJSON ({reason})", "check the file") from None
    if not found:
        raise FileError(
            path, "holds no geometry with coordinates", "GeoJSON points, lines or polygons are needed"
        )
    refuse_map_coordinates(path, content, found)
    return GeoJSON(content, points)


def _positions(node: Any) -> Iterator[list[Any]]:
    """Every position of every geometry in a tree, at any depth: QuPath adds one for the nucleus."""
    if isinstance(node, dict):
        if node.get("type") in GEOMETRIES and "coordinates" in node:
            yield from _leaves(node["coordinates"])
            return
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from _positions(value)


def _leaves(coordinates: Any) -> Iterator[list[Any]]:
    """Every position in nested lists of coordinates."""
    if not isinstance(coordinates, list):
        raise TypeError(f"coordinates hold {coordinates!r} where a list is expected")
    if not coordinates or isinstance(coordinates[0], list):
        for nested in coordinates:
            yield from _leaves(nested)
        return
    if len(coordinates) < 2:
        raise ValueError(f"the position {coordinates!r} has no x and y")
    yield coordinates


def _coordinate(value: object) -> float:
    """A coordinate in pixels. Raises ``ValueError`` for one that no image has."""
    found = number(value, "a coordinate")
    if abs(found) > LARGEST_COORDINATE:
        raise ValueError(f"the coordinate {found:g} is too large")
    return found


def _check_properties(content: Any) -> None:
    """Raise ``ValueError`` where the properties of a feature are neither an object nor missing."""
    for feature in _features(content):
        if not isinstance(feature.get("properties") or {}, dict):
            raise ValueError(f"the properties {str(feature['properties'])[:40]!r} are not an object")


def _features(node: Any) -> Iterator[Any]:
    """The features of a tree, in order."""
    if isinstance(node, dict):
        if node.get("type") == "Feature":
            yield node
            return
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from _features(value)
