"""The axes of a chart: positions along them, and the round numbers of their tick labels."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


class Tick(NamedTuple):
    """A tick: its position as a share of the axis, and its label."""

    share: float
    label: str


class Axis(NamedTuple):
    """One axis of a chart: the values at its two ends, its label, and whether it is logarithmic."""

    first: float
    last: float
    label: str = ""
    log: bool = False

    def share(self, values: Values) -> Values:
        """The positions of values along the axis: 0 at the first end, 1 at the last."""
        if self.log:
            first, last = math.log(self.first), math.log(self.last)
            return (np.log(values) - first) / (last - first)
        return (values - self.first) / (self.last - self.first)

    def ticks(self, most: int = 5) -> list[Tick]:
        """Ticks at about ``most`` round numbers; on a logarithmic axis at 1, 2 and 5 times powers of ten."""
        low, high = sorted((self.first, self.last))
        numbers = _round_numbers(low, high) if self.log else _equal_steps(low, high, most)
        return [Tick(float(self.share(np.array(number))), f"{number:.6g}") for number in numbers]


def _round_numbers(low: float, high: float) -> list[float]:
    """The numbers 1, 2 and 5 times a power of ten from ``low`` to ``high``."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    numbers = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    return [number for number in numbers if low <= number <= high]


def _equal_steps(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from ``low`` to ``high``.

    Source: after Heckbert, "Nice numbers for graph labels", Graphics Gems (1990).
    """
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]
