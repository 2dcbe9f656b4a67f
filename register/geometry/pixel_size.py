"""The physical size of a pixel."""

import re
from typing import NamedTuple

from register.errors import RegisterError

METRES = {"nm": 1e-9, "µm": 1e-6, "um": 1e-6, "micron": 1e-6, "mm": 1e-3, "cm": 1e-2, "m": 1.0}
"""Units of length, in metres."""


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


def in_pixels(length: str, size: PixelSize | None) -> float:
    """A length in pixels from a number with an optional unit, as ``30``, ``30px`` or ``5µm``.

    Raises ``RegisterError`` where it has a unit of length and the pixel size is not known in one.
    """
    number, unit = re.match(r"([\d.]+)\s*(.*)", length.replace("μ", "µ")).groups()  # type: ignore[union-attr]
    if unit in ("", "px"):
        return float(number)
    if not size or size.unit not in METRES:
        raise RegisterError(
            f"{length} cannot be converted to pixels: the pixel size is not known; give pixels"
        )
    return float(number) * METRES[unit] / (size.x * METRES[size.unit])
