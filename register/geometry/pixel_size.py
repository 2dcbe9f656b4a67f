"""The physical size of a pixel."""

from typing import NamedTuple


class PixelSize(NamedTuple):
    """Width ``x`` and height ``y`` of a pixel, in ``unit`` (None where the unit is not known).

    An image whose pixel size is not known has None instead.
    """

    x: float
    y: float
    unit: str | None = None

    def times(self, across: float, down: float) -> "PixelSize":
        """The size of a pixel that is ``across`` times as wide and ``down`` times as high."""
        return PixelSize(self.x * across, self.y * down, self.unit)

    @property
    def xy(self) -> tuple[float, float]:
        """Width and height."""
        return self.x, self.y


def measured(x: object, y: object, unit: str | None) -> PixelSize | None:
    """The pixel size that a file states; None where it states no positive numbers."""
    try:
        across, down = float(str(x)), float(str(y))
    except ValueError:
        return None
    if not all(SMALLEST < side < 1 / SMALLEST for side in (across, down)):
        return None
    return PixelSize(across, down, unit)


SMALLEST = 1e-30
"""Sides of pixels that are smaller, or larger than its inverse, are damage in any unit."""
Sizes = tuple[PixelSize | None, PixelSize | None]
"""The pixel sizes of the fixed and of the moving image."""


def comparable(sizes: Sizes) -> tuple[PixelSize, PixelSize] | None:
    """The pixel sizes of two images in one unit; None where a size is unknown or the units differ."""
    fixed, moving = sizes
    return (fixed, moving) if fixed and moving and fixed.unit == moving.unit else None


def ratio(sizes: Sizes) -> float | None:
    """The width of a fixed pixel over that of a moving one; None where it is not known."""
    known = comparable(sizes)
    return known[0].x / known[1].x if known else None
