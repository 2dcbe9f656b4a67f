"""The sides of a discontinuity: which side each point of the fixed image is on, and the map of each side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from register.errors import TransformError
from register.geometry.arrays import Float64
from register.transforms.frame import Frame

MOST_SIDES = 16
"""Most sides of a transform."""
LARGEST_RASTER = 4096
"""Most rows and columns of the raster of sides."""
FURTHEST = 12
"""Times that the distance doubles in which the region of a side is looked for, from a cell of the raster
on."""
NEVER = 2.0**FURTHEST


class Map(Protocol):
    """The map of one side, which is continuous."""

    def expand(self, points: Float64) -> tuple[Float64, Float64]:
        """Mapped points (n, 2) and the Jacobian (n, 2, 2)."""


Side = TypeVar("Side", bound=Map)


@dataclass(frozen=True, eq=False)
class Sides(Generic[Side]):
    """The side of every point of an image of ``size`` (width, height), and the ``maps`` of the sides.

    ``labels`` (rows, columns) int8 divide the image into equal cells: k is a cell of the side k, counted from
    1, and -k one of the side k that has no counterpart in the moving image. A point outside of the image is
    on the side of the nearest cell.
    """

    labels: NDArray[np.int8]
    size: tuple[int, int]
    maps: tuple[Side, ...]

    def at(self, points: Float64) -> NDArray[np.int8]:
        """The labels (n,) of points (n, 2)."""
        rows, columns = self.labels.shape
        place = (np.nan_to_num(points) + 0.5) * (columns / self.size[0], rows / self.size[1])
        x, y = np.clip(np.floor(place), 0, (columns - 1, rows - 1)).astype(np.int64).T
        found: NDArray[np.int8] = self.labels[y, x]
        return found

    def expand(self, points: Float64) -> tuple[Float64, Float64]:
        """Mapped points (n, 2) and the Jacobian (n, 2, 2), each by the map of its side."""
        mapped, jacobian = np.empty((len(points), 2)), np.empty((len(points), 2, 2))
        for mine, side in self.divided(points):
            mapped[mine], jacobian[mine] = side.expand(points[mine])
        return mapped, jacobian

    def divided(self, points: Float64) -> list[tuple[NDArray[np.bool_], Side]]:
        """Which points (n,) are on each side that has any, and its map."""
        number = np.abs(self.at(points))
        every = ((number == k, side) for k, side in enumerate(self.maps, 1))
        return [(mine, side) for mine, side in every if mine.any()]

    def inverse(self, target: Float64, invert: Callable[[Side, Float64], Float64]) -> Float64:
        """The points (n, 2) that are mapped to ``target`` (n, 2); ``invert`` inverts the map of one side.

        Where two sides reach a target, the one that has a counterpart is taken, then the first; where none
        does, as in the gap of a torn moving image, the one whose region is nearest.
        """
        best, distance = np.full((len(target), 2), np.nan), np.full(len(target), np.inf)
        for k, side in enumerate(self.maps, 1):
            found = invert(side, target)
            away = self._away(found, k)
            nearer = away < distance
            best[nearer], distance[nearer] = found[nearer], away[nearer]
        return best

    def _away(self, points: Float64, side: int) -> Float64:
        """About how far points (n, 2) are from the region of a side; 0 in it, a little more where that has no
        counterpart."""
        label = self.at(points)
        away = np.where(label == side, 0.0, np.where(label == -side, 1e-3, NEVER))
        unit = max(self.size[0] / self.labels.shape[1], self.size[1] / self.labels.shape[0])
        angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        around = unit * np.stack([np.cos(angles), np.sin(angles)], 1)
        for step in range(FURTHEST):
            far = away == NEVER
            if not far.any():
                break
            tried = points[far][:, None] + 2.0**step * around
            near = (np.abs(self.at(tried.reshape(-1, 2))) == side).reshape(-1, len(angles)).any(1)
            away[far] = np.where(near, 2.0**step, NEVER)
        return away

    def changed(self, frame: Frame, change: Callable[[Side], Side]) -> "Sides[Side]":
        """The sides with every map changed, on an image of another size."""
        return Sides(self.labels, (frame.width, frame.height), tuple(map(change, self.maps)))

    def values(self, written: Callable[[Side], Any]) -> dict[str, Any]:
        """The values in the file; ``written`` gives those of a map."""
        flat = self.labels.ravel()
        starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
        lengths = np.diff(np.append(starts, flat.size))
        runs = np.stack([flat[starts].astype(np.int64), lengths], 1).ravel().tolist()
        rows, columns = self.labels.shape
        return {
            "columns": columns,
            "rows": rows,
            "runs": runs,
            "transforms": [written(side) for side in self.maps],
        }


def labels_of(columns: int, rows: int, runs: Sequence[int], sides: int) -> NDArray[np.int8]:
    """The labels (rows, columns) from their runs in a file: label, length, label, length …

    Raises ``TransformError`` for runs that do not fill the raster, or name a side that is not there.
    """
    if not 2 <= sides <= MOST_SIDES or max(columns, rows) > LARGEST_RASTER:
        raise TransformError(
            f"sides: {sides} transforms on a raster of {columns} × {rows}; 2 to {MOST_SIDES} and at most"
            f" {LARGEST_RASTER} × {LARGEST_RASTER} are allowed"
        )
    label, length = np.array(runs[::2], np.int64), np.array(runs[1::2], np.int64)
    if len(label) != len(length) or (length < 1).any() or length.sum() != columns * rows:
        raise TransformError(f"sides.runs do not fill a raster of {columns} × {rows}")
    if (label == 0).any() or (np.abs(label) > sides).any():
        raise TransformError(f"sides.runs name a side that is not one of the {sides} transforms")
    return np.repeat(label.astype(np.int8), length).reshape(rows, columns)
