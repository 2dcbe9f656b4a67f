"""The points of a file with everything that is written back unchanged."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

LARGEST_COORDINATE = 1e9
"""The largest coordinate that a point of an image can have, in pixels: more is a damaged file."""
DIGITS, MAP_DIGITS = 6, 9
"""Decimals written: a millionth of a pixel; of a map, a tenth of a millimetre in degrees."""

Points = NDArray[np.float64]
"""Points (n, 2), ``(x, y)`` in pixels."""
Value = bool | int | float | str | None
Columns = Mapping[str, Sequence[Value] | NDArray[Any]]
"""One value per point, by the name of the column or property it is written to."""
Change = Callable[[Points], tuple[Points, Columns]]
"""What becomes of points (n, 2), in the file's own coordinates: other points (n, 2), and values for each."""


def as_lists(columns: Columns) -> dict[str, list[Value]]:
    """The columns as lists of Python's own values."""
    return {name: np.asarray(values).tolist() for name, values in columns.items()}


class PointFile(Protocol):
    """A file that holds points."""

    @property
    def points(self) -> Points:
        """The points (n, 2) in the order of the file, in the file's own coordinates."""

    @property
    def corner(self) -> bool:
        """Whether (0, 0) is the corner of pixel (0, 0) in this kind of file, and not its centre."""

    @property
    def unit(self) -> str:
        """The unit of the coordinates: ``px``, ``µm`` or ``mm``; empty where the file leaves it open."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The endings of names under which this kind of file is written."""

    @property
    def names(self) -> Collection[str]:
        """The names of the columns or properties that the file has; new ones need others."""

    def write(self, path: str | Path, change: Change) -> None:
        """Write the file with other points and additional values. A table is changed block by block."""


def free_name(name: str, taken: Collection[str]) -> str:
    """A name for a new column: the name itself, or where it is taken with the first number that is free."""
    names = chain([name], (f"{name}_{number}" for number in count(2)))
    return next(each for each in names if each not in taken)


def worst(values: Sequence[Value]) -> Value:
    """One value for several points: false if any is false, or the largest number.

    None where there is no value, or the largest one is infinite.
    """
    if not values or isinstance(values[0], bool):
        return all(values) if values else None
    largest = max((float(x) for x in values if x is not None), default=math.inf)
    return round(largest, DIGITS) if math.isfinite(largest) else None


def worst_of(values: NDArray[Any], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[Any]:
    """``worst`` of the values from each start to its end, in one pass: objects, None where there is none."""
    found = np.full(len(starts), None, object)
    kept = np.flatnonzero(ends > starts)
    if not kept.size:
        return found
    ranges = np.stack([starts[kept], ends[kept]], axis=1).ravel()
    padded = np.append(values, values[-1:])  # an end may be the number of values
    if values.dtype == np.bool_:
        found[kept] = np.logical_and.reduceat(padded, ranges)[::2].tolist()
        return found
    largest = np.fmax.reduceat(padded.astype(np.float64), ranges)[::2].tolist()
    found[kept] = [round(x, DIGITS) if math.isfinite(x) else None for x in largest]
    return found
