"""Landmark files: the same points in the fixed and in the moving image, row by row."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from register.errors import FileError
from register.io.points.model import Points
from register.io.points.open import read_points

Landmarks = tuple[Points, Points]
"""Fixed and moving points (n, 2), ``(x, y)`` in pixels."""
BIGWARP_COLUMNS = 6, 8
"""Columns of a file of BigWarp for two and for three dimensions: name, active, moving and fixed point."""


@dataclass(frozen=True)
class LandmarkFiles:
    """The two files of the option values ``FIXED.csv,MOVING.csv``."""

    fixed: str
    moving: str

    @classmethod
    def parse(cls, text: str) -> "LandmarkFiles | None":
        """The files that a text names, with a comma between them; None for any other text."""
        parts = [part.strip() for part in text.split(",")]
        return cls(*parts) if len(parts) == 2 and all(parts) else None

    def __str__(self) -> str:
        return f"{self.fixed},{self.moving}"

    def read(self) -> Landmarks:
        """Fixed and moving points (n, 2), ``(x, y)`` in pixels. Raises ``FileError``."""
        return read_points(self.fixed), read_points(self.moving)


def read_pairs(text: str) -> Landmarks:
    """The fixed and moving points (n, 2) of an option's value: two files, or one file of BigWarp.

    Raises ``FileError`` for a file that cannot be read, for different numbers of points, for none, and for
    the same point twice.
    """
    files = LandmarkFiles.parse(text)
    fixed, moving = files.read() if files else read_bigwarp(text)
    named = files.moving if files else text
    if len(fixed) != len(moving):
        reason = f"holds {len(moving)} points and {files.fixed if files else text} holds {len(fixed)}"
        raise FileError(named, reason, "row i of both files must be the same landmark")
    if len(fixed) == 0:
        raise FileError(named, "holds no landmarks", "add at least one pair")
    for name, points in ((files.fixed if files else text, fixed), (named, moving)):
        if len(np.unique(points, axis=0)) < len(points):
            raise FileError(name, "holds the same point twice", "remove one of the two pairs")
    return fixed, moving


def read_bigwarp(path: str | Path) -> Landmarks:
    """The fixed and moving points (n, 2) of the active pairs of a file of BigWarp, in pixels.

    Its rows have no header: the name, whether it is active, the moving and the fixed point, with two or three
    coordinates each. Raises ``FileError`` for any other file.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileError(
            path, f"cannot be read ({error})", "two files FIXED.csv,MOVING.csv are needed"
        ) from None
    fixed, moving = [], []
    for number, row in enumerate(rows, 1):
        if len(row) not in BIGWARP_COLUMNS or row[1].strip().lower() not in ("true", "false"):
            raise FileError(
                path,
                f"line {number} is no landmark of BigWarp (name, active, moving and fixed point)",
                "give two files as FIXED.csv,MOVING.csv, or one that BigWarp exported",
            )
        if row[1].strip().lower() == "false":
            continue
        each = [_number(path, number, cell) for cell in row[2:]]
        half = len(each) // 2
        moving.append(each[:2])
        fixed.append(each[half : half + 2])
    points = (np.array(each, np.float64).reshape(-1, 2) for each in (fixed, moving))
    return tuple(points)  # type: ignore[return-value]


def _number(path: str | Path, line: int, cell: str) -> float:
    """A finite number of a cell; BigWarp writes Infinity for a point that is not set."""
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FileError(path, f"line {line} has no number where a coordinate is: {cell!r}", "remove the line")
    return value
