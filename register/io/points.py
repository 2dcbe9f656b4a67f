"""Landmark files: CSV with a header that holds x and y."""

import csv
import math
from pathlib import Path

import torch
from torch import Tensor

from register.errors import FileError


def read_points(path: str | Path) -> Tensor:
    """The points (n, 2) float64, ``(x, y)`` in pixels, of a CSV file with columns x and y in any case.

    Raises ``FileError`` naming the file and the line that is wrong.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileError(path, f"cannot be read as a landmark file ({error})") from None
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if "x" not in header or "y" not in header:
        raise FileError(path, f"has no columns x and y (its first line is {','.join(header)[:60]!r})", "a header with x and y is needed")
    x, y = header.index("x"), header.index("y")
    points = []
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        try:
            point = float(row[x]), float(row[y])
        except (ValueError, IndexError):
            raise FileError(path, f"line {number} has no number under x or y: {','.join(row)[:60]!r}") from None
        if not all(map(math.isfinite, point)):
            raise FileError(path, f"line {number} is not finite: {','.join(row)[:60]!r}")
        points.append(point)
    return torch.tensor(points, dtype=torch.float64).reshape(-1, 2)
