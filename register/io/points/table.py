"""Points in tables of text, separated by commas, tabs or semicolons; all other columns are kept."""

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from register.errors import FileError
from register.files.atomic import write_text
from register.io.points.columns import SHOWN, Place, place
from register.io.points.model import DIGITS, LARGEST_COORDINATE, Columns, Points, Value, as_lists, worst

DELIMITERS = "\t", ";", ","
VISIUM = ["barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"]
"""The columns of Space Ranger's ``tissue_positions_list.csv``, which has no header."""


@dataclass(frozen=True)
class Table:
    """A table: header, rows, where the coordinates are, and the points: one per row, or four of a box."""

    header: list[str]
    rows: list[list[str]]
    place: Place
    points: Points
    unit: str
    corner: bool
    delimiter: str = ","
    headed: bool = True
    suffixes: tuple[str, ...] = (".csv", ".tsv", ".txt")

    def write(self, path: str | Path, points: Points, columns: Columns) -> None:
        """Write the table with other points (n, 2); columns of the same name are replaced, others added.

        A box becomes the smallest one around its mapped corners, with the worst of their values.
        """
        lists = as_lists(columns)
        names = [*self.header, *(name for name in columns if name not in self.header)]
        file, count = io.StringIO(), len(self.place.corners)
        writer = csv.writer(file, delimiter=self.delimiter, lineterminator="\n")
        if self.headed:
            writer.writerow(names)
        low, high = (part(points.reshape(-1, count, 2), axis=1) for part in (np.min, np.max))
        for number, row in enumerate(self.rows):
            cells = row + [""] * (len(names) - len(row))
            for axis, indices in enumerate((self.place.x, self.place.y)):
                for index, end in zip(indices, (low, high), strict=False):
                    cells[index] = _decimal(end[number, axis])
            for name, values in lists.items():
                own = values[number * count : (number + 1) * count]
                cells[names.index(name)] = _cell(own[0] if count == 1 else worst(own))
            writer.writerow(cells)
        write_text(path, file.getvalue())


def read_table(path: str | Path, text: str, named: str | None = None) -> Table:
    """The points of the text of a table; ``named`` are the columns with x and y, ``X,Y``.

    Raises ``FileError`` naming the line that is wrong.
    """
    first = text[: text.find("\n") if "\n" in text else len(text)]
    delimiter = max(DELIMITERS, key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    except csv.Error as error:
        raise FileError(path, f"cannot be read as CSV ({error})", "check the file") from None
    headed = not _is_visium_list(path, rows)
    if not headed:
        rows.insert(0, list(VISIUM))
    where = place(path, rows[0] if rows else [], named)
    kept, points = [], []
    for number, row in enumerate(rows[1:], start=2 if headed else 1):
        if any(cell.strip() for cell in row):
            kept.append(row)
            points += [_point(path, number, row, x, y) for x, y in where.corners]
    found = np.array(points, np.float64).reshape(-1, 2)
    return Table(rows[0], kept, where, found, where.unit, where.corner, delimiter, headed)


def _is_visium_list(path: str | Path, rows: list[list[str]]) -> bool:
    """Whether a table is Space Ranger's list of spots, which has no header."""
    named = Path(path).name.startswith("tissue_positions_list")
    return named and bool(rows) and len(rows[0]) == len(VISIUM) and rows[0][1] in ("0", "1")


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
