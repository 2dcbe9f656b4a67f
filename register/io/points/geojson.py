"""Points in GeoJSON files of any nesting; everything but the coordinates is kept."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from register.errors import FileError
from register.files import fast_json
from register.files.compressed import write_bytes
from register.files.json_text import number, parse_json
from register.io.images.map_files import refuse_map_coordinates
from register.io.points.model import DIGITS, LARGEST_COORDINATE, Change, Points, Value, worst_of

GEOMETRIES = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon")
MOST_VERTICES = 1e6
"""Parts into which a line can be divided."""
Line = list[Any]
"""A list of positions."""


@dataclass(frozen=True)
class Content:
    """A GeoJSON tree, its lists of positions, and its features, each with the range of its points.

    Edges of lines and polygons that are longer than ``densify`` are divided.
    """

    tree: Any
    lines: list[Line]
    features: list[tuple[Any, int, int]]
    densify: float | None = None


@dataclass(frozen=True)
class GeoJSON:
    """A GeoJSON file; ``points`` are all its positions in the order of the file."""

    content: Content
    points: Points
    corner: bool = True
    unit: str = "px"
    suffixes: tuple[str, ...] = (".geojson", ".json", ".geojson.gz", ".json.gz", ".zip")

    @property
    def names(self) -> set[str]:
        """The names of the properties of all features, and of the measurements of QuPath's objects."""
        found: set[str] = set()
        for feature, _, _ in self.content.features:
            properties = feature.get("properties") or {}
            found.update(properties)
            if _is_of_qupath(properties):
                found.update(name.replace(" ", "_") for name in _measured(properties.get("measurements")))
        return found

    def write(self, path: str | Path, change: Change) -> None:
        """Write the file with other positions, which replace those in ``content``.

        The properties of each feature get, per column, the worst value of its points: false, or the largest
        number; null where it is not known. Those of QuPath's objects get them as ``measurements`` too,
        because it drops other properties.
        """
        points, columns = change(self.points)
        with _without_collection():
            _move(self.content.lines, np.round(points, DIGITS))
            features = self.content.features
            starts, ends = (np.array([each[n] for each in features], np.int64) for n in (1, 2))
            worst = {name: worst_of(np.asarray(x), starts, ends).tolist() for name, x in columns.items()}
            for number, (feature, _, _) in enumerate(features):
                properties = feature["properties"] = feature.get("properties") or {}
                values = {name: of_features[number] for name, of_features in worst.items()}
                properties.update(values)
                if _is_of_qupath(properties):
                    _add_measurements(properties, values)
            write_bytes(path, fast_json.dumps(self.content.tree) + b"\n")


def read_geojson(path: str | Path, text: str, densify: float | None = None) -> GeoJSON:
    """The positions in the text of a GeoJSON file; ``densify`` divides edges that are longer.

    Raises ``FileError`` when there are none, when they are no numbers, or not pixels.
    """
    try:
        with _without_collection():
            content = Content(parse_json(text), [], [], densify)
            _collect(content.tree, content, 0, in_feature=False)
            lines = [_array(line) for line in content.lines]
        points = np.concatenate(lines) if lines else np.empty((0, 2))
        if len(points) and not np.abs(points).max() <= LARGEST_COORDINATE:
            raise ValueError(f"a coordinate is not finite or larger than {LARGEST_COORDINATE:g}")
        _check_properties(content)
    except (ValueError, TypeError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise FileError(path, f"cannot be read as GeoJSON ({reason})", "check the file") from None
    if not len(points):
        raise FileError(
            path, "holds no geometry with coordinates", "GeoJSON points, lines or polygons are needed"
        )
    refuse_map_coordinates(path, content.tree, points)
    return GeoJSON(content, points)


def _collect(node: Any, content: Content, count: int, *, in_feature: bool) -> int:
    """Add the lists of positions below a node to ``content``, and its features; returns the number of points.

    ``count`` is the number of points before the node. QuPath adds a geometry for the nucleus of a cell.
    """
    first = count
    feature = False
    if isinstance(node, dict):
        if node.get("type") in GEOMETRIES and "coordinates" in node:
            for line in _of_coordinates(node["coordinates"]):
                if content.densify is not None and not node["type"].endswith("Point"):
                    line[:] = _divided(line, content.densify)
                content.lines.append(line)
                count += len(line)
            return count
        feature = not in_feature and node.get("type") == "Feature"
        children: Any = node.values()
    else:
        children = node if isinstance(node, list) else ()
    for child in children:
        if isinstance(child, dict | list):
            count = _collect(child, content, count, in_feature=in_feature or feature)
    if feature:
        content.features.append((node, first, count))
    return count


def _divided(line: Line, longest: float) -> Line:
    """A line whose edges longer than ``longest`` are divided into equal parts; its own positions stay."""
    points = _array(line)
    lengths = np.hypot(*np.diff(points, axis=0).T)
    if len(line) < 2 or not lengths.max() > longest:
        return line
    if not lengths.sum() / longest < MOST_VERTICES:
        raise ValueError(f"an edge would be divided into more than {MOST_VERTICES:g} parts")
    found = []
    for n, parts in enumerate(np.maximum(np.ceil(lengths / longest), 1).astype(int)):
        found.append(line[n])
        steps = np.arange(1, parts)[:, None] / parts
        found += (points[n] + steps * (points[n + 1] - points[n])).tolist()
    return [*found, line[-1]]


def _check_properties(content: Content) -> None:
    """Raise ``ValueError`` where the properties of a feature are neither an object nor missing, and where its
    measurements are neither an object nor a list."""
    for feature, _, _ in content.features:
        properties = feature.get("properties") or {}
        if not isinstance(properties, dict):
            raise ValueError(f"the properties {str(properties)[:40]!r} are not an object")
        known = properties.get("measurements")
        if _is_of_qupath(properties) and not isinstance(known, dict | list | None):
            raise ValueError(f"the measurements {str(known)[:40]!r} are neither an object nor a list")


def _is_of_qupath(properties: Any) -> bool:
    """Whether the properties of a feature are those of an object of QuPath."""
    return "objectType" in properties or "object_type" in properties


@contextmanager
def _without_collection() -> Iterator[None]:
    """Switch off the search for circles of references, which takes long with millions of lists."""
    active = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if active:
            gc.enable()


def _array(line: Line) -> Points:
    """The positions (n, 2) of a line. Raises ``ValueError`` for one without x and y."""
    kinds = set(map(type, chain.from_iterable(line)))
    if not kinds <= {int, float}:
        number(next(x for position in line for x in position if type(x) not in (int, float)), "a coordinate")
    found = np.array([position[:2] for position in line], np.float64)
    if found.shape != (len(line), 2):
        raise ValueError(f"the position {line[0]!r} has no x and y")
    return found


def _move(lines: list[Line], points: Points) -> None:
    """Replace the positions of lines by points, one after the other; heights stay."""
    at = 0
    for line in lines:
        new = points[at : at + len(line)].tolist()
        at += len(line)
        for position, xy in zip(line, new, strict=True):
            position[:2] = xy


def _measured(known: Any) -> list[str]:
    """The names of measurements, an object or a list of objects with a name and a value."""
    if isinstance(known, dict):
        return list(known)
    named = [each.get("name") for each in known or [] if isinstance(each, dict)]
    return [name for name in named if isinstance(name, str)]


def _add_measurements(properties: Any, values: dict[str, Value]) -> None:
    """Add values to QuPath's measurements, which are numbers: an object, or a list in older files."""
    numbers = {name.replace("_", " "): float(x) for name, x in values.items() if isinstance(x, bool | float)}
    known = properties.get("measurements")
    if isinstance(known, list):
        properties["measurements"] = known + [{"name": name, "value": x} for name, x in numbers.items()]
    else:
        properties["measurements"] = {**(known or {}), **numbers}


def _of_coordinates(coordinates: Any) -> Iterator[Line]:
    """Every list of positions in nested lists of coordinates; that of a point has one position."""
    if not isinstance(coordinates, list):
        raise TypeError(f"coordinates hold {coordinates!r} where a list is expected")
    if not coordinates:
        return
    first = coordinates[0]
    if not isinstance(first, list):
        yield [coordinates]
    elif first and not isinstance(first[0], list):
        yield coordinates
    else:
        for nested in coordinates:
            yield from _of_coordinates(nested)
