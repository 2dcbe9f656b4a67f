"""The physical size of a pixel."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PixelSize:
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


def ratio(one: PixelSize | None, other: PixelSize | None) -> float | None:
    """The width of one pixel over that of another; None where a size is unknown or the units differ."""
    return one.x / other.x if one and other and one.unit == other.unit else None
