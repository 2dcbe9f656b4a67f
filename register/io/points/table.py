"""Points in CSV files: columns x and y, or napari's axis-0 and axis-1; all other columns are kept."""

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from register.errors import FileError
from register.files.atomic import write_text
from register.io.points.model import DIGITS, LARGEST_COORDINATE, Columns, Points, Value

SHOWN = 60
"""The number of characters of a line that a message quotes."""


@dataclass(frozen=True)
class Table:
    """A CSV: header, rows, the indices of the columns with x and y, and the points of the rows."""

    header: list[str]
    rows: list[list[str]]
    x: int
    y: int
    points: Points
    corner: bool = False

    def write(self, path: str | Path, points: Points, columns: Columns) -> None:
        """Write the table with other points (n, 2); columns of the same name are replaced, others added."""
        names = [*self.header, *(name for name in columns if name not in self.header)]
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for number, (row, (x, y)) in enumerate(zip(self.rows, points.tolist(), strict=True)):
            cells = row + [""] * (len(names) - len(row))
            cells[self.x], cells[self.y] = _decimal(x), _decimal(y)
            for name, values in columns.items():
                cells[names.index(name)] = _cell(values[number])
            writer.writerow(cells)
        write_text(path, file.getvalue())


def read_table(path: str | Path, text: str) -> Table:
    """The points of the text of a CSV file. Raises ``FileError`` naming the line that is wrong."""
    try:
        rows = list(csv.reader(io.StringIO(text)))
    except csv.Error as error:
        raise FileError(path, f"cannot be read as CSV ({error})", "check the file") from None
    header = [name.strip().lower() for name in rows[0]] if rows else []
    x, y = _coordinates(path, header)
    kept, points = [], []
    for number, row in enumerate(rows[1:], start=2):
        if any(cell.strip() for cell in row):
            kept.append(row)
            points.append(_point(path, number, row, x, y))
    return Table(rows[0], kept, x, y, np.array(points, np.float64).reshape(-1, 2))


def _coordinates(path: str | Path, header: list[str]) -> tuple[int, int]:
    """The indices of the columns with x and y; of napari's axes, the last two are row and column."""
    repeated = next((name for name in ("x", "y") if header.count(name) > 1), None)
    if repeated:
        raise FileError(path, f"has {header.count(repeated)} columns called {repeated}", "name one of them")
    if "x" in header and "y" in header:
        return header.index("x"), header.index("y")
    axes = sorted(name for name in header if name.startswith("axis-"))
    if len(axes) >= 2:
        return header.index(axes[-1]), header.index(axes[-2])
    raise FileError(
        path,
        f"has no columns x and y (its first line is {','.join(header)[:SHOWN]!r})",
        "add a header line with x and y",
    )


def _point(path: str | Path, number: int, row: list[str], x: int, y: int) -> tuple[float, float]:
    """The point of a row, which is line ``number`` of the file."""
    line = ",".join(row)[:SHOWN]
    try:
        point = float(row[x]), float(row[y])
    except (ValueError, IndexError):
        raise FileError(path, f"line {number} has no number under x or y: {line!r}", "correct it") from None
    if not all(map(math.isfinite, point)):
        raise FileError(path, f"line {number} has a coordinate that is not finite: {line!r}", "remove it")
    if max(map(abs, point)) > LARGEST_COORDINATE:
        raise FileError(path, f"line {number} has a coordinate that is too large: {line!r}", "correct it")
    return point


def _decimal(value: float) -> str:
    """A number with at most ``DIGITS`` decimals."""
    return f"{value:.{DIGITS}f}".rstrip("0").rstrip(".")


def _cell(value: Value) -> str:
    """A value as a cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return _decimal(value) if isinstance(value, float) else str(value)
