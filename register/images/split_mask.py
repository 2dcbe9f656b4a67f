"""The sides of a discontinuity from a mask: a line that separates them, or regions of different values."""

import math

import numpy as np
from numpy.typing import NDArray

from register.errors import RegisterError
from register.images.pixels import Pixels

LARGEST = 2048
"""Longest side, in cells, of the raster of sides that is made of a mask."""
MOST = 16
"""Most values of a mask."""
LEAST_SHARE = 0.001
"""Share of the image that a side has at least; smaller pieces belong to the nearest side."""
THICK, ELONGATED = 0.12, 4.0
"""Thickness of a line, at most, as a share of the longer side; and its area, at least, in units of the square
of its thickness."""
HIDDEN = 4.0
"""Thickness, in cells, from which the line itself is a region without counterpart."""
END = 0.15
"""Share of the length of a line by which the direction of its end is determined."""
BAND = 2**24
"""Pixels of a mask that are read at once."""

Labels = NDArray[np.int8]
"""The sides (rows, columns) by number from 1, negative where there is no counterpart."""
Plane = NDArray[np.uint8]


def read_labels(mask: Pixels) -> Labels:
    """The sides of a mask (1, h, w), on a raster of at most ``LARGEST`` cells a side.

    Of two values, the rarer is a line if it is thin: it separates what lies beside it, extended to the border
    where it ends before. A thick line has no counterpart itself. Otherwise each value is a side. Raises
    ``RegisterError`` for a mask that separates nothing, or has too many values.
    """
    values, counts = _values(mask)
    if not 2 <= len(values) <= MOST:
        raise RegisterError(f"has {len(values)} different values; a mask that separates has 2 to {MOST}")
    order = np.argsort(counts)
    plane = _reduced(mask, values, rarest=int(order[0]) if len(values) == 2 else None)
    if len(values) == 2 and (sides := separated(plane == order[0])) is not None:
        return sides
    return _filled(plane.astype(np.int32) + 1)


def separated(line: NDArray[np.bool_]) -> Labels | None:
    """The sides of a line (rows, columns), extended at its ends where it ends before the border.

    None if it is not thin, or separates nothing: then it is a region.
    """
    import cv2

    inside = cv2.distanceTransform(np.pad(line, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    thickness = max(2 * float(inside.max()) - 1, 1.0)
    if thickness > THICK * max(line.shape) or line.sum() < ELONGATED * thickness**2:
        return None
    found = _parts(line)
    if found.max() < 2:
        found = _parts(_extended(line))
    if not 2 <= found.max() <= MOST:
        return None
    sides = _filled(found)
    return np.where(line, -sides, sides).astype(np.int8) if thickness > HIDDEN else sides


def _values(mask: Pixels) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The different values of a mask, at most one more than are allowed, and how many pixels have each."""
    found: dict[float, int] = {}
    height, width = mask.shape[1:]
    for top in range(0, height, step := max(BAND // width, 1)):
        band = mask[slice(0, 1), slice(top, min(top + step, height)), slice(0, width)]
        for value, count in zip(*np.unique(band, return_counts=True), strict=True):
            found[float(value)] = found.get(float(value), 0) + int(count)
        if len(found) > MOST:
            break
    values = sorted(found)
    return np.array(values), np.array([found[value] for value in values])


def _reduced(mask: Pixels, values: NDArray[np.float64], rarest: int | None) -> Plane:
    """The number of the value in each cell of the raster (rows, columns); a cell that holds the ``rarest``
    value anywhere has it, so that thin lines stay closed."""
    height, width = mask.shape[1:]
    block = math.ceil(max(height, width) / LARGEST)
    rows = []
    for top in range(0, height, block):
        band = mask[slice(0, 1), slice(top, min(top + block, height)), slice(0, width)][0]
        number = np.searchsorted(values, band).astype(np.uint8)
        cells = number[0, ::block].copy()
        if rarest is not None and block > 1:
            any_below = (number == rarest).any(0)
            cells[np.logical_or.reduceat(any_below, np.arange(0, width, block))] = rarest
        rows.append(cells)
    return np.stack(rows)


def _parts(line: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The parts (rows, columns) into which a line divides an image, numbered from 1; 0 on the line, and in
    parts that are too small."""
    import cv2

    count, parts, figures, _ = cv2.connectedComponentsWithStats((~line).astype(np.uint8), connectivity=4)
    large = [k for k in range(1, count) if figures[k, cv2.CC_STAT_AREA] >= LEAST_SHARE * line.size]
    number = np.zeros(count, np.int32)
    number[large] = np.arange(1, len(large) + 1)
    found: NDArray[np.int32] = number[parts]
    return found


def _extended(line: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A line with both ends extended straight to the border."""
    import cv2

    y, x = np.nonzero(line)
    points = np.stack([x, y], 1).astype(np.float64)
    first = points[np.linalg.norm(points - points.mean(0), axis=1).argmax()]
    last = points[np.linalg.norm(points - first, axis=1).argmax()]
    length, drawn = float(np.linalg.norm(last - first)), line.astype(np.uint8)
    for end in (first, last):
        near = points[np.linalg.norm(points - end, axis=1) < max(END * length, 3.0)]
        heading = end - near.mean(0)
        heading /= max(float(np.linalg.norm(heading)), 1e-9)
        beyond = end + heading * sum(line.shape)
        cv2.line(drawn, tuple(end.astype(int).tolist()), tuple(beyond.astype(int).tolist()), 1, 2)
    return drawn > 0


def _filled(parts: NDArray[np.int32]) -> Labels:
    """Parts (rows, columns) in which cells that are 0, and parts that are too small, have the number of the
    nearest large part."""
    import cv2

    number, counts = np.unique(parts, return_counts=True)
    large = [int(k) for k, n in zip(number, counts, strict=True) if k > 0 and n >= LEAST_SHARE * parts.size]
    if len(large) < 2:
        raise RegisterError("separates nothing: there is only one side that is not tiny")
    known = np.zeros_like(parts)
    for new, old in enumerate(large, 1):
        known[parts == old] = new
    if (known > 0).all():
        return known.astype(np.int8)
    _, nearest = cv2.distanceTransformWithLabels(
        (known == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_pixel = np.zeros(int(nearest.max()) + 1, np.int32)
    of_pixel[nearest[known > 0]] = known[known > 0]
    return of_pixel[nearest].astype(np.int8)
