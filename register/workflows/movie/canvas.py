"""The canvas that holds all frames of a movie."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import RegisterError
from register.geometry import affine
from register.transforms.canvas import EDGE, LARGEST_CANVAS, Canvas
from register.transforms.movie import FrameTransform


def union(found: Sequence[FrameTransform], size: tuple[int, int]) -> Canvas:
    """The smallest canvas that surely holds the reference and all good frames of a size (height, width).

    The displacement of a spline is at most its largest coefficient. Raises ``RegisterError`` where it would
    have more than four times the pixels of a frame.
    """
    height, width = size
    corners = affine.points_at(np.array([-0.5, width - 0.5]), np.array([-0.5, height - 0.5])).reshape(-1, 2)
    low, high = corners.min(0), corners.max(0)
    for one in found:
        if one.bad:
            continue
        places = affine.apply(affine.invert(one.map.matrix), corners)
        own = one.map.coefficients
        most = np.zeros(2) if own is None else np.abs(own).max((1, 2))
        low, high = np.minimum(low, places.min(0) - most), np.maximum(high, places.max(0) + most)
    left, top = (int(x) for x in np.floor(low + 0.5 + EDGE))
    right, bottom = (int(x) for x in np.ceil(high + 0.5 - EDGE))
    if (right - left) * (bottom - top) > LARGEST_CANVAS * width * height:
        raise RegisterError(
            f"the union of all frames would be {right - left} × {bottom - top} pixels; use --canvas fixed"
        )
    return Canvas(left, top, right - left, bottom - top)


def placed(frame: NDArray[Any], canvas: Canvas) -> NDArray[Any]:
    """A frame (h, w) on a canvas, where the reference lies; 0 around it."""
    rows, columns = frame.shape
    if canvas == Canvas(0, 0, columns, rows):
        return frame
    out = np.zeros((canvas.height, canvas.width), frame.dtype)
    out[-canvas.top : rows - canvas.top, -canvas.left : columns - canvas.left] = frame
    return out
