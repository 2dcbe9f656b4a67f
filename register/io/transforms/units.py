"""Physical units of an exported transform."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from register.geometry.pixel_size import METRES
from register.transforms.transform import Transform


@dataclass(frozen=True)
class Units:
    """The sizes ``(x, y)`` of a fixed and of a moving pixel in one unit; ones, without a name, for pixels."""

    fixed: tuple[float, float] = (1.0, 1.0)
    moving: tuple[float, float] = (1.0, 1.0)
    name: str | None = None

    @classmethod
    def of(cls, transform: Transform) -> "Units":
        """The units of a transform; pixels unless both pixel sizes are known in units of length."""
        fixed, moving = transform.fixed.pixel_size, transform.moving.pixel_size
        if not fixed or not moving or not fixed.unit or not moving.unit:
            return cls()
        if fixed.unit == moving.unit:
            factor = 1.0
        elif fixed.unit in METRES and moving.unit in METRES:
            factor = METRES[moving.unit] / METRES[fixed.unit]
        else:
            return cls()
        return cls(fixed.xy, moving.times(factor, factor).xy, fixed.unit)

    def times(self, factor: float) -> "Units":
        """The same sizes in a unit ``factor`` times smaller."""
        fixed, moving = ((x * factor, y * factor) for x, y in (self.fixed, self.moving))
        return Units(fixed, moving, self.name)

    def matrix(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """A pixel matrix (2, 3) in physical units."""
        moving, fixed = np.array(self.moving)[:, None], np.array(self.fixed)
        return np.hstack([moving * matrix[:, :2] / fixed, moving * matrix[:, 2:]])

    def description(self) -> str:
        """The unit in words."""
        if self.name:
            return f"{self.name}, from the pixel sizes of both images"
        return "pixels (spacing 1): the pixel sizes are not known"


PIXELS = Units()
