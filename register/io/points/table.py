"""Points in tables of text, separated by commas, semicolons, tabs, bars or spaces; other columns are kept.

Rows are read and written in blocks, so that memory does not grow with the file.
"""

import csv
import io
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.files.compressed import lines, text_writer
from register.io.points.columns import SHOWN, Place, place
from register.io.points.model import DIGITS, LARGEST_COORDINATE, Change, Points, Value, worst

DELIMITERS = "\t", ";", ",", "|"
"""What separates cells; a space does where the first line has none of these."""
SUFFIXES = (".csv", ".tsv", ".txt")
BLOCK = 50_000
"""Rows that are mapped at a time."""
VISIUM = ["barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"]
"""The columns of Space Ranger's ``tissue_positions_list.csv``, which has no header."""
FAILURES = OSError, UnicodeDecodeError, EOFError, zlib.error, csv.Error
"""What reading a damaged text raises."""
Rows = list[list[str]]
"""Rows of cells."""


@dataclass(frozen=True)
class Table:
    """A table: its header and where the coordinates are. A row has one point, or the four of a box.

    ``decimal`` is the mark between the whole part of a number and its decimals, a point or a comma.
    """

    source: Path
    header: list[str]
    place: Place
    unit: str
    corner: bool
    delimiter: str
    headed: bool
    decimal: str = "."
    digits: int = DIGITS
    suffixes: tuple[str, ...] = (*SUFFIXES, *(f"{suffix}.gz" for suffix in SUFFIXES))

    @property
    def points(self) -> Points:
        """The points of all rows. Raises ``FileError`` naming the line that is wrong."""
        return np.concatenate([np.empty((0, 2)), *(points for _, points in self._blocks())])

    @property
    def names(self) -> list[str]:
        """The names of the columns, without the spaces around them."""
        return [name.strip() for name in self.header]

    def write(self, path: str | Path, change: Change) -> None:
        """Write the table with other points (n, 2); columns of the same name are replaced, others added.

        A box becomes the smallest one around its mapped corners, with the worst of their values. Raises
        ``FileError`` naming the line that is wrong.
        """
        _, new = change(np.empty((0, 2)))
        names = [*self.header, *(name for name in new if name not in self.header)]
        with text_writer(path) as file:
            written = _written(self.delimiter)
            if self.headed:
                file.write(written([names]))
            for rows, points in self._blocks():
                found, columns = change(points)
                for row in rows:
                    row += [""] * (len(names) - len(row))
                for index, cells in self._coordinates(found):
                    _fill(rows, index, cells)
                for name, values in columns.items():
                    _fill(rows, names.index(name), self._values(np.asarray(values)))
                file.write(written(rows))

    def _blocks(self) -> Iterator[tuple[Rows, Points]]:
        """The rows that are not empty and their points, some at a time."""
        first = 2 if self.headed else 1
        try:
            reader = _cells(lines(self.source), self.delimiter)
            if self.headed:
                next(reader, None)
            while rows := list(islice(reader, BLOCK)):
                yield self._block(rows, first)
                first += len(rows)
        except FAILURES as error:
            raise _unreadable(self.source, error) from None

    def _block(self, rows: Rows, first: int) -> tuple[Rows, Points]:
        """The rows that are not empty, and their points; ``first`` is the line of the first row."""
        kept = [row for row in rows if row]
        axes = self.place.x, self.place.y
        try:
            values = {
                index: np.array(list(map(NUMBER[self.decimal], map(itemgetter(index), kept))))
                for axis in axes
                for index in axis
            }
            corners = [np.stack([values[x], values[y]], axis=1) for x, y in self.place.corners]
            points = np.stack(corners, axis=1).reshape(-1, 2)
            if not len(points) or np.abs(points).max() <= LARGEST_COORDINATE:
                return kept, points
        except (ValueError, IndexError):
            pass
        return self._row_by_row(rows, first)

    def _row_by_row(self, rows: Rows, first: int) -> tuple[Rows, Points]:
        """``_block`` of rows one of which is wrong, or has only blank cells."""
        kept, points = [], []
        for number, row in enumerate(rows, first):
            if any(cell.strip() for cell in row):
                kept.append(row)
                points += [self._point(number, row, x, y) for x, y in self.place.corners]
        return kept, np.array(points, np.float64).reshape(-1, 2)

    def _point(self, number: int, row: list[str], x: int, y: int) -> tuple[float, float]:
        """The point of a row, which is line ``number`` of the file."""
        line = self.delimiter.join(row)[:SHOWN]
        try:
            point = NUMBER[self.decimal](row[x]), NUMBER[self.decimal](row[y])
        except (ValueError, IndexError):
            problem = f"line {number} has no number under x or y: {line!r}"
            raise FileError(self.source, problem, "correct it") from None
        if not all(map(math.isfinite, point)):
            problem = f"line {number} has a coordinate that is not finite: {line!r}"
            raise FileError(self.source, problem, "remove it")
        if max(map(abs, point)) > LARGEST_COORDINATE:
            problem = f"line {number} has a coordinate that is too large: {line!r}"
            raise FileError(self.source, problem, "correct it")
        return point

    def _coordinates(self, points: Points) -> Iterator[tuple[int, list[str]]]:
        """The columns of the coordinates, and their cells."""
        each = points.reshape(-1, len(self.place.corners), 2)
        ends = each.min(axis=1), each.max(axis=1)
        for axis, indices in enumerate((self.place.x, self.place.y)):
            for index, end in zip(indices, ends, strict=False):
                yield index, self._marked(_decimals(end[:, axis].tolist(), self.digits))

    def _values(self, values: NDArray[Any]) -> list[str]:
        """The cells of a column of values, one for each point."""
        count, each = len(self.place.corners), values.tolist()
        if count > 1:
            each = [worst(each[n : n + count]) for n in range(0, len(each), count)]
        plain = count == 1 and values.dtype.kind == "f"
        return self._marked(_decimals(each) if plain else [_cell(value) for value in each])

    def _marked(self, cells: list[str]) -> list[str]:
        """Numbers with the mark of the file."""
        return cells if self.decimal == "." else [cell.replace(".", self.decimal) for cell in cells]


def read_table(path: str | Path, head: str, named: str | None = None) -> Table:
    """The table that begins with the text ``head``; ``named`` are the columns with x and y, ``X,Y``.

    Raises ``FileError`` for a header without them.
    """
    delimiter = _delimiter(head)
    try:
        header = next(_cells(lines(path), delimiter), [])
    except FAILURES as error:
        raise _unreadable(path, error) from None
    headed = not _is_visium_list(path, header)
    names = header if headed else list(VISIUM)
    where = place(path, names, named, delimiter)
    try:
        decimal = _decimal(head, delimiter, where)
    except csv.Error as error:
        raise _unreadable(path, error) from None
    return Table(Path(path), names, where, where.unit, where.corner, delimiter, headed, decimal)


def _delimiter(head: str) -> str:
    """What separates the cells of the first line of a text, outside of quotes."""
    line = re.sub(r'"[^"]*"', "", head.partition("\n")[0]).strip("\r\n ")
    found = max(DELIMITERS, key=line.count)
    return " " if not line.count(found) and " " in line else found


def _cells(text: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    """The cells of each line; several spaces are one delimiter."""
    return csv.reader(text, delimiter=delimiter, skipinitialspace=delimiter == " ")


def _decimal(head: str, delimiter: str, where: Place) -> str:
    """The decimal mark of the coordinates in the beginning of a text: a comma where they have one."""
    if delimiter == ",":
        return "."
    found = False
    for row in islice(_cells(io.StringIO(head), delimiter), 1, None):
        cells = [row[index] for index in (*where.x, *where.y) if index < len(row)]
        if any("." in cell for cell in cells):
            return "."
        found |= any("," in cell for cell in cells)
    return "," if found else "."


def _with_comma(cell: str) -> float:
    """A number with a decimal comma. Raises ``ValueError`` for one with a point."""
    if "." in cell:
        raise ValueError(cell)
    return float(cell.replace(",", "."))


NUMBER: dict[str, Callable[[str], float]] = {".": float, ",": _with_comma}
"""How a cell is read, by the decimal mark."""


def _written(delimiter: str) -> Callable[[Rows], str]:
    """The function that makes the text of rows. Between spaces, an empty cell is quoted."""

    def written(rows: Rows) -> str:
        text = io.StringIO()
        csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
        return text.getvalue()

    def spaced(rows: Rows) -> str:
        return "".join(" ".join(map(_quoted, row)) + "\n" for row in rows)

    return spaced if delimiter == " " else written


def _quoted(cell: str) -> str:
    """A cell between spaces, in quotes where it is empty or holds a space, a quote or the end of a line."""
    doubled = cell.replace('"', '""')
    return f'"{doubled}"' if not cell or re.search(r'[\s"]', cell) else cell


def _is_visium_list(path: str | Path, row: list[str]) -> bool:
    """Whether a table is Space Ranger's list of spots, which has no header."""
    named = Path(path).name.startswith("tissue_positions_list")
    return named and len(row) == len(VISIUM) and row[1] in ("0", "1")


def _unreadable(path: str | Path, error: Exception) -> FileError:
    """The error about a table that cannot be read."""
    return FileError(path, f"cannot be read as CSV ({error})", "check the file")


def _fill(rows: Rows, index: int, cells: list[str]) -> None:
    """Replace a column of rows."""
    for row, cell in zip(rows, cells, strict=True):
        row[index] = cell


def _decimals(values: list[float], digits: int = DIGITS) -> list[str]:
    """Numbers with at most so many decimals."""
    cells = (f"%.{digits}f " * len(values) % tuple(values)).split()
    return [cell.rstrip("0").rstrip(".") if cell[-1] == "0" else cell for cell in cells]


def _cell(value: Value) -> str:
    """A value as a cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return _decimals([value])[0] if isinstance(value, float) else str(value)
