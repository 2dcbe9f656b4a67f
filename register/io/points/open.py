"""Point files: CSV with x and y, napari's CSV with axis-0 and axis-1, GeoJSON, ImageJ's regions. What is not a coordinate passes through."""

import copy
import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from register.errors import FileError
from register.files.atomic import write_text
from register.io.points.imagej import DIGITS, SUFFIXES, Rois, read_rois, worst

GEOMETRIES = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon")


@dataclass(frozen=True)
class Table:
    """A CSV: header, rows, the columns that hold x and y, and which of its rows hold points."""

    header: list[str]
    rows: list[list[str]]
    x: int
    y: int
    points: Tensor
    corner: bool = False

    def write(self, path: str | Path, points: Tensor, columns: dict[str, list[Any]]) -> None:
        """Write the table with x and y replaced; columns of the same name are replaced, others added at the end."""
        names = [*self.header, *(name for name in columns if name not in self.header)]
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for number, (row, point) in enumerate(zip(self.rows, points.tolist(), strict=True)):
            cells = row + [""] * (len(names) - len(row))
            cells[self.x], cells[self.y] = _short(point[0]), _short(point[1])
            for name, values in columns.items():
                cells[names.index(name)] = _cell(values[number])
            writer.writerow(cells)
        write_text(path, file.getvalue())


@dataclass(frozen=True)
class GeoJSON:
    """GeoJSON of any nesting; ``points`` are all its positions in the order they stand."""

    content: Any
    points: Tensor
    corner: bool = True

    def write(self, path: str | Path, points: Tensor, columns: dict[str, list[Any]]) -> None:
        """Write the tree with every position replaced. A feature's properties get, per column, the list's worst: false, or the largest number."""
        content = copy.deepcopy(self.content)
        values = iter(points.tolist())
        for position in _positions(content):
            position[:2] = [round(v, DIGITS) for v in next(values)]
        offset = 0
        for feature in _features(content):
            count = sum(1 for _ in _positions(feature))
            properties = feature["properties"] = feature.get("properties") or {}
            for name, column in columns.items():
                part = column[offset : offset + count]
                known = [v for v in part if v is not None]
                properties[name] = worst(known)
            offset += count
        write_text(path, json.dumps(content, ensure_ascii=False) + "\n")


def read_points(path: str | Path) -> Tensor:
    """The points (n, 2) float64, ``(x, y)`` in pixels with centres at integers, of a CSV or GeoJSON file.

    Raises ``FileError`` naming the file and what is wrong.
    """
    file = read_point_file(path)
    return file.points - 0.5 if file.corner else file.points


def read_point_file(path: str | Path) -> Table | GeoJSON | Rois:
    """The points of a file with all that stands beside them. Raises ``FileError`` naming the file and the line that is wrong."""
    if Path(path).suffix.lower() in SUFFIXES:
        return read_rois(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(path, f"cannot be read as a point file ({error})") from None
    return _geojson(path, text) if text.lstrip()[:1] in ("{", "[") else _table(path, text)


def _table(path: str | Path, text: str) -> Table:
    try:
        rows = list(csv.reader(io.StringIO(text)))
    except csv.Error as error:
        raise FileError(path, f"cannot be read as a point file ({error})") from None
    header = [name.strip().lower() for name in rows[0]] if rows else []
    axes = sorted(
        name for name in header if name.startswith("axis-")
    )  # napari: the last two axes are row and column
    names = (
        ("x", "y") if "x" in header and "y" in header else (axes[-1], axes[-2]) if len(axes) >= 2 else None
    )
    if names is None:
        raise FileError(
            path,
            f"has no columns x and y (its first line is {','.join(header)[:60]!r})",
            "a header with x and y is needed",
        )
    x, y = header.index(names[0]), header.index(names[1])
    kept, points = [], []
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        try:
            point = float(row[x]), float(row[y])
        except (ValueError, IndexError):
            raise FileError(
                path, f"line {number} has no number under x or y: {','.join(row)[:60]!r}"
            ) from None
        if not all(map(math.isfinite, point)):
            raise FileError(path, f"line {number} is not finite: {','.join(row)[:60]!r}")
        kept.append(row)
        points.append(point)
    return Table(rows[0], kept, x, y, torch.tensor(points, dtype=torch.float64).reshape(-1, 2))


def _geojson(path: str | Path, text: str) -> GeoJSON:
    try:
        content = json.loads(text)
        found = [[float(v) for v in position[:2]] for position in _positions(content)]
        points = torch.tensor(found, dtype=torch.float64).reshape(-1, 2)
    except (ValueError, TypeError, RecursionError) as error:
        raise FileError(
            path, f"cannot be read as GeoJSON ({str(error).splitlines()[0]})", "check the file"
        ) from None
    if not bool(torch.isfinite(points).all()):
        raise FileError(path, "holds a coordinate that is not finite")
    if not found:
        raise FileError(
            path, "holds no geometry with coordinates", "GeoJSON points, lines or polygons are needed"
        )
    return GeoJSON(content, points)


def _positions(node: Any) -> Iterator[list[Any]]:
    """Every position of every geometry in a tree, wherever it stands (QuPath keeps a second one for the nucleus)."""
    if isinstance(node, dict):
        if node.get("type") in GEOMETRIES and "coordinates" in node:
            yield from _leaves(node["coordinates"])
            return
        for value in node.values():
            yield from _positions(value)
    elif isinstance(node, list):
        for value in node:
            yield from _positions(value)


def _leaves(coordinates: Any) -> Iterator[list[Any]]:
    if not isinstance(coordinates, list):
        raise TypeError(f"coordinates hold {coordinates!r} where a list is expected")
    if coordinates and not isinstance(coordinates[0], list):
        if len(coordinates) < 2:
            raise ValueError(f"the position {coordinates!r} has no x and y")
        yield coordinates
        return
    for part in coordinates:
        yield from _leaves(part)


def _features(node: Any) -> Iterator[dict[str, Any]]:
    """The features of a tree, in order."""
    if isinstance(node, dict):
        if node.get("type") == "Feature":
            yield node
            return
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from _features(value)


def _short(value: float) -> str:
    return f"{value:.{DIGITS}f}".rstrip("0").rstrip(".")


def _cell(value: Any) -> str:
    return (
        ""
        if value is None
        else str(value).lower()
        if isinstance(value, bool)
        else _short(value)
        if isinstance(value, float)
        else str(value)
    )
