"""Files of BigWarp, ``landmarks.csv``: pairs of points, without a header.

A row has the name, whether the pair is active, the moving and the fixed point, with two or three coordinates
each.
"""

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from register.errors import FileError
from register.files.atomic import write_text
from register.io.points.model import DIGITS, Change, Points

COLUMNS = 6, 8
"""Columns of a file for two and for three dimensions."""


@dataclass(frozen=True)
class BigWarp:
    """The rows of a file, and the points of its active pairs in one of the two images."""

    rows: tuple[tuple[str, ...], ...]
    points: Points
    moving: bool
    corner: bool = False
    unit: str = "px"
    suffixes: tuple[str, ...] = (".csv",)
    names: tuple[str, ...] = ()

    def write(self, path: str | Path, change: Change) -> None:
        """Write the pairs with the mapped points in the place of those of the other image.

        The format has no place for other columns; a height of a mapped point stays.
        """
        file, mapped = io.StringIO(), iter(change(self.points)[0].tolist())
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        for row in self.rows:
            cells = list(row)
            if is_active(row):
                at = 2 + (len(row) - 2) // 2 * self.moving
                cells[at : at + 2] = (f"{value:.{DIGITS}f}" for value in next(mapped))
            writer.writerow(cells)
        write_text(path, file.getvalue())


def is_bigwarp(text: str) -> bool:
    """Whether a text begins with a row of BigWarp."""
    try:
        row = next(csv.reader(io.StringIO(text[:1000])), [])
    except csv.Error:
        return False
    return len(row) in COLUMNS and row[1].strip().lower() in ("true", "false")


def is_active(row: tuple[str, ...]) -> bool:
    """Whether the pair of a row is used."""
    return row[1].strip().lower() == "true"


def read_side(path: str | Path, text: str, *, moving: bool) -> BigWarp:
    """The fixed or the ``moving`` points of the active pairs. Raises ``FileError``."""
    rows = rows_of(path, text)
    points = [
        side_of(path, number, row, moving=moving) for number, row in enumerate(rows, 1) if is_active(row)
    ]
    return BigWarp(tuple(rows), np.array(points, np.float64).reshape(-1, 2), moving)


def rows_of(path: str | Path, text: str) -> list[tuple[str, ...]]:
    """The rows of a file. Raises ``FileError`` for a line that is no pair."""
    try:
        rows = [tuple(row) for row in csv.reader(io.StringIO(text)) if row]
    except csv.Error as error:
        raise FileError(path, f"cannot be read ({error})", "check the file") from None
    for number, row in enumerate(rows, 1):
        if len(row) not in COLUMNS or row[1].strip().lower() not in ("true", "false"):
            raise FileError(
                path,
                f"line {number} is no landmark of BigWarp (name, active, moving and fixed point)",
                "give two files as FIXED.csv,MOVING.csv, or one that BigWarp exported",
            )
    return rows


def side_of(path: str | Path, line: int, row: tuple[str, ...], *, moving: bool) -> tuple[float, float]:
    """The point of a row in one image. Raises ``FileError`` for a point that is not set, ``Infinity``."""
    at = 2 if moving else 2 + (len(row) - 2) // 2
    return number(path, line, row[at]), number(path, line, row[at + 1])


def number(path: str | Path, line: int, cell: str) -> float:
    """A finite number of a cell; BigWarp writes Infinity for a point that is not set."""
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FileError(path, f"line {line} has no number where a coordinate is: {cell!r}", "remove the line")
    return value
