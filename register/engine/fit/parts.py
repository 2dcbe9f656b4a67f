"""The parts of two images that show the same, where most of one of them shows nothing of the other.

A small view in a large image and neighbours that hardly overlap are aligned, and judged, on these parts
only: at the resolution of the originals where the working copies are coarser, with patches where both images
show something.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from register.engine.fit.working_copy import LEAST_SIDE, working_copy
from register.errors import AlignmentError
from register.geometry import affine, affine_tensors
from register.images import pyramid
from register.images.pyramid import Level

MOST_SEEN = 0.5
"""Share of the area of an image up to which only the part that the other image shows is aligned."""
MARGIN, LEAST_MARGIN = 0.06, 8.0
"""Margin around that part, as a share of its longer side, and at least in pixels of the copies."""
POINTS = 65
"""Points along each side of an image at which it is asked whether the other one shows them."""


class Box(NamedTuple):
    """A rectangle of entire pixels of an original, from ``left`` and ``top`` up to, and without, ``right``
    and ``bottom``."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def area(self) -> int:
        """Pixels."""
        return max(self.right - self.left, 0) * max(self.bottom - self.top, 0)


Read = Callable[[Box], Level]
"""A function from a box of an original to a level that holds at least the box, at any resolution."""


@dataclass(frozen=True)
class Side:
    """One image of a pair: its working copy, and a function that reads parts of its original."""

    copy: Level
    read: Read

    @classmethod
    def of(cls, copy: Level, source: Level | None = None) -> "Side":
        """The side of a working copy whose parts are read from the level ``source``, by default itself."""
        level = source or copy
        return cls(copy, lambda box: window(level, box))

    @property
    def box(self) -> Box:
        """The entire original."""
        height, width = self.copy.size
        corner = torch.tensor([[width - 0.5, height - 0.5]], dtype=torch.float64)
        x, y = (affine.apply(self.copy.original_from_level, corner)[0] + 0.5).round().int().tolist()
        return Box(0, 0, x, y)


@dataclass(frozen=True)
class Sides:
    """The two images of a pair, and the longest side of the working copies of their parts."""

    fixed: Side
    moving: Side
    max_size: int

    @classmethod
    def of(cls, fixed: Level, moving: Level) -> "Sides":
        """The sides of two working copies, whose parts are parts of the copies."""
        return cls(Side.of(fixed), Side.of(moving), max(*fixed.size, *moving.size))

    def swapped(self) -> "Sides":
        """The moving image as fixed image."""
        return Sides(self.moving, self.fixed, self.max_size)

    def under(self, matrix: Tensor) -> tuple[Level, Level] | None:
        """Working copies of the parts that show the same under a map (2, 3).

        None where both images show at least half of each other, or nothing.
        """
        boxes = common(self.fixed.box, self.moving.box, matrix)
        if boxes is None:
            return None
        shares = [box.area / side.box.area for box, side in zip(boxes, self._both, strict=True)]
        if min(shares) > MOST_SEEN:
            return None
        try:
            one, other = (
                side.copy if share > MOST_SEEN else working_copy(side.read(box), self.max_size, name)
                for side, box, share, name in zip(self._both, boxes, shares, ("fixed", "moving"), strict=True)
            )
        except AlignmentError:  # the part is constant
            return None
        return one, other

    @property
    def _both(self) -> tuple[Side, Side]:
        return self.fixed, self.moving


def window(level: Level, box: Box) -> Level:
    """The part of a level that holds a box of its original; it shares the memory of the level."""
    corners = torch.tensor([[box.left, box.top], [box.right, box.bottom]], dtype=torch.float64) - 0.5
    places = affine.apply(affine.invert(level.original_from_level), corners) + 0.5
    (left, top), (right, bottom) = places.tolist()
    height, width = level.size
    rows = slice(max(math.floor(top + 1e-6), 0), min(math.ceil(bottom - 1e-6), height))
    columns = slice(max(math.floor(left + 1e-6), 0), min(math.ceil(right - 1e-6), width))
    up = affine.compose(level.original_from_level, affine_tensors.translation(columns.start, rows.start))
    return Level(level.image[:, rows, columns], level.mask[:, rows, columns], up)


def common(fixed: Box, moving: Box, matrix: Tensor) -> tuple[Box, Box] | None:
    """The boxes of two images that show the same under a map (2, 3), with a margin; None where they are
    apart."""
    matrix = matrix.double().cpu()
    here, there = _points(fixed), affine.apply(affine.invert(matrix), _points(moving))
    seen = torch.cat([here[_inside(affine.apply(matrix, here), moving)], there[_inside(there, fixed)]])
    if len(seen) < 3:
        return None
    boxes = _around(seen, fixed), _around(affine.apply(matrix, seen), moving)
    if any(min(box.right - box.left, box.bottom - box.top) < LEAST_SIDE for box in boxes):
        return None
    return boxes


def _points(box: Box) -> Tensor:
    """A grid of points (n, 2) of a box, its border included."""
    x = torch.linspace(box.left, box.right - 1, POINTS, dtype=torch.float64)
    y = torch.linspace(box.top, box.bottom - 1, POINTS, dtype=torch.float64)
    return affine.points_at(x, y).reshape(-1, 2)


def _inside(points: Tensor, box: Box) -> Tensor:
    """Which points (n, 2) lie in a box."""
    low, high = torch.tensor([box.left, box.top]), torch.tensor([box.right - 1, box.bottom - 1])
    return ((points >= low - 1e-6) & (points <= high + 1e-6)).all(1)


def _around(points: Tensor, box: Box) -> Box:
    """The box around points (n, 2), with a margin, within another one."""
    low, high = points.amin(0), points.amax(0)
    margin = max(MARGIN * float((high - low).max()), LEAST_MARGIN)
    (left, top), (right, bottom) = (
        (low - margin).floor().int().tolist(),
        (high + margin).ceil().int().tolist(),
    )
    return Box(max(left, box.left), max(top, box.top), min(right + 1, box.right), min(bottom + 1, box.bottom))


def extent(level: Level) -> tuple[float, float]:
    """The height and the width of a level, in pixels of its original."""
    size = pyramid.pixel(level)
    return level.size[0] * size, level.size[1] * size
