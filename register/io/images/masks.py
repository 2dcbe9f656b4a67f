"""Read masks: images that are 0 where pixels are excluded, or GeoJSON polygons around the included pixels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError, RegisterError
from register.files.json_text import number, parse_json
from register.images.pixels import Key, Pixels, SelectedChannels, spans
from register.images.split_mask import Labels, read_labels
from register.io.images.map_files import refuse_map_coordinates, refuse_map_file
from register.io.images.open import open_image

LARGEST_COORDINATE = 1e9
"""The largest coordinate of a polygon, in pixels."""
Point = tuple[float, float]
Polygon = tuple[tuple[Point, ...], ...]
"""An outer ring, and the rings of the holes."""


@dataclass(frozen=True)
class Polygons:
    """A mask (1, h, w), 255 where a pixel's centre lies in a polygon, drawn window by window.

    Coordinates are pixels with (0, 0) at the corner of the image, as in GeoJSON of QuPath.
    """

    size: tuple[int, int]
    polygons: tuple[Polygon, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """One, rows, columns."""
        return (1, *self.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Unsigned 8-bit integers."""
        return np.dtype(np.uint8)

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """A window (1, h, w)."""
        _, rows, columns = spans(key, self.shape)
        out = np.zeros((len(rows), len(columns)), np.bool_)
        for outer, *holes in self.polygons:
            inside = _inside(outer, rows, columns)
            for hole in holes:
                inside &= ~_inside(hole, rows, columns)
            out |= inside
        return out[None].astype(np.uint8) * np.uint8(255)


def _inside(ring: Sequence[Point], rows: range, columns: range) -> NDArray[np.bool_]:
    """Which pixels (h, w) of a window have their centre in a ring, by the even-odd rule.

    A row crosses an edge from the end with the smaller y, included, to the other, excluded; pixels right of
    an odd number of crossings are inside.
    """
    begin = np.array(ring, np.float64)
    end = np.roll(begin, 1, axis=0)
    low, high = np.minimum(begin[:, 1], end[:, 1]), np.maximum(begin[:, 1], end[:, 1])
    first, last = (np.clip(np.ceil(y - 0.5), rows.start, rows.stop).astype(np.int64) for y in (low, high))
    count = last - first
    edge = np.repeat(np.arange(len(begin)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    (x, y), (dx, dy) = begin[edge].T, (end - begin)[edge].T
    crossing = x + (row + 0.5 - y) * dx / dy
    column = np.clip(np.ceil(crossing - 0.5), columns.start, columns.stop).astype(np.int64)
    crossed = np.zeros((len(rows), len(columns) + 1), np.int64)
    np.add.at(crossed, (row - rows.start, column - columns.start), 1)
    return np.cumsum(crossed, axis=1)[:, :-1] % 2 == 1


def read_mask(path: str, size: tuple[int, int]) -> Pixels:
    """The mask (1, h, w) of an image of ``size`` (height, width).

    Raises ``FileError`` when the file cannot be read as a mask or has another size.
    """
    refuse_map_file(Path(path))
    if Path(path).suffix.lower() in (".json", ".geojson"):
        return Polygons(size, _polygons(Path(path)))
    mask = open_image(path)
    if mask.size != size:
        sizes = [f"{width} × {height}" for height, width in (mask.size, size)]
        raise FileError(
            path, f"is {sizes[0]} pixels, the image it masks {sizes[1]}", "make them the same size"
        )
    return SelectedChannels(mask.pixels, (0,))


def read_split_mask(path: str, size: tuple[int, int]) -> Labels:
    """The sides that a mask of an image of ``size`` (height, width) separates, as ``read_labels``.

    Raises ``FileError`` when the file cannot be read as a mask, has another size, or separates nothing.
    """
    mask = read_mask(path, size)
    try:
        return read_labels(mask)
    except RegisterError as error:
        raise FileError(path, str(error), "draw the line, or give each side a value") from None


def _polygons(path: Path) -> tuple[Polygon, ...]:
    """The polygons of a GeoJSON file."""
    try:
        tree = parse_json(path.read_text(encoding="utf-8"))
        found = [rings for kind, coordinates in _geometries(tree) for rings in _rings(kind, coordinates)]
    except FileNotFoundError:
        raise FileError(path, "does not exist", "check the path") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FileError(path, f"cannot be read as GeoJSON ({error})", "check the file") from None
    try:
        polygons = tuple(tuple(_ring(ring) for ring in rings) for rings in found)
    except (TypeError, ValueError, LookupError) as error:
        raise FileError(path, f"holds a polygon with wrong coordinates ({error})", "check the file") from None
    vertices = [point for rings in polygons for ring in rings for point in ring]
    refuse_map_coordinates(path, tree, vertices)
    if not polygons or any(not rings or min(map(len, rings)) < 3 for rings in polygons):
        raise FileError(path, "holds no polygon", "a mask consists of Polygon or MultiPolygon geometries")
    return polygons


def _rings(kind: str, coordinates: Any) -> list[Any]:
    """The polygons of a geometry, each as its rings; none for points and lines."""
    if kind == "Polygon":
        return [coordinates]
    return list(coordinates) if kind == "MultiPolygon" else []


def _ring(ring: Any) -> tuple[Point, ...]:
    """The points of a ring."""
    return tuple((_coordinate(point[0]), _coordinate(point[1])) for point in ring)


def _coordinate(value: object) -> float:
    """A coordinate in pixels. Raises ``ValueError`` for one that no image has."""
    found = number(value, "a coordinate")
    if abs(found) > LARGEST_COORDINATE:
        raise ValueError(f"{found:g} is too large")
    return found


def _geometries(tree: Any) -> Iterator[tuple[str, Any]]:
    """The kind and coordinates of every geometry in a GeoJSON tree."""
    items = tree
    if not isinstance(tree, list):
        items = tree.get("features") or tree.get("geometries") or []
        if not items and tree.get("geometry"):
            items = [tree["geometry"]]
    for item in items:
        yield from _geometries(item)
    if isinstance(tree, dict) and "coordinates" in tree:
        yield tree["type"], tree["coordinates"]
