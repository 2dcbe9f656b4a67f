"""The output grid of resampling: the fixed image, or the union of both images."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from register.errors import RegisterError
from register.geometry import affine
from register.geometry.arrays import Float64
from register.transforms.transform import Inverse, Transform, Units

OUTLINE = 65
"""Points along each edge of the moving image that are mapped to find the size of a union."""
EDGE = 0.01
"""Pixels by which an image may extend beyond a union, so that rounding errors do not add a row."""
LARGEST_CANVAS = 4
"""Largest ratio of the pixels of a union to those of both images."""


@dataclass(frozen=True)
class Canvas:
    """The output grid: ``left`` and ``top`` are the position of its first pixel on the fixed image."""

    left: int
    top: int
    width: int
    height: int

    @staticmethod
    def of(transform: Transform | Inverse) -> "Canvas":
        """The fixed image itself."""
        return Canvas(0, 0, transform.fixed.width, transform.fixed.height)

    @staticmethod
    def union(transform: Transform) -> "Canvas":
        """The smallest canvas that holds the fixed image and the moving image mapped onto it.

        Raises ``RegisterError`` when it would have more than ``LARGEST_CANVAS`` times the pixels of both
        images, as with a degenerate transform.
        """
        fixed, moving = transform.fixed, transform.moving
        found = transform.inverse().map(_outline(moving.width, moving.height))
        if not np.isfinite(found).all():
            raise RegisterError("the union of both images has no finite size; use --canvas fixed")
        left, top = np.minimum(np.floor(found.min(0) + 0.5 + EDGE), 0).tolist()
        right, bottom = np.maximum(np.ceil(found.max(0) + 0.5 - EDGE), (fixed.width, fixed.height)).tolist()
        width, height = int(right - left), int(bottom - top)
        enlarged = max(1.0, 1 / abs(float(affine.determinant(transform.matrix))))
        both = fixed.width * fixed.height + moving.width * moving.height * enlarged
        if width * height > LARGEST_CANVAS * both:
            raise RegisterError(
                f"the union of both images would be {width} × {height} pixels, because the transform maps"
                " them far from each other; use --canvas fixed"
            )
        return Canvas(int(left), int(top), width, height)

    def map(
        self, transform: Transform | Inverse, rows: range, columns: range, units: Units | None = None
    ) -> Tensor:
        """Moving points (h', w', 2) of a tile of the canvas, in other ``units`` if given."""
        x, y = _positions(columns, self.left), _positions(rows, self.top)
        return torch.from_numpy(transform.map_grid(x, y, units))

    def border(self, transform: Transform | Inverse, rows: range, columns: range) -> Tensor:
        """Moving points (n, 2) of the border of a tile of the canvas."""
        x, y = _positions(columns, self.left), _positions(rows, self.top)
        across = transform.map_grid(x, y[[0, -1]]).reshape(-1, 2)
        down = transform.map_grid(x[[0, -1]], y).reshape(-1, 2)
        return torch.from_numpy(np.concatenate([across, down]))


def _positions(span: range, first: int) -> Float64:
    return np.arange(span.start + first, span.stop + first, dtype=np.float64)


def _outline(width: int, height: int) -> Float64:
    """Points (n, 2) along the edges of an image."""
    x, y = (np.linspace(-0.5, side - 0.5, OUTLINE) for side in (width, height))
    sides = affine.points_at(x, y[[0, -1]]), affine.points_at(x[[0, -1]], y)
    return np.concatenate([side.reshape(-1, 2) for side in sides])
