"""The side of a chart: where values lie along it, and the round numbers that label it."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


class Tick(NamedTuple):
    """A labelled place along a side: its share of the side, and its number."""

    share: float
    label: str


class Axis(NamedTuple):
    """One side of a chart: the values at its first and its last end, what they are, and whether equal steps are equal factors."""

    first: float
    last: float
    label: str = ""
    log: bool = False

    def share(self, values: Values) -> Values:
        """Where values lie: 0 at the first end, 1 at the last."""
        first, last = (math.log(self.first), math.log(self.last)) if self.log else (self.first, self.last)
        return ((np.log(values) if self.log else values) - first) / (last - first)

    def ticks(self, most: int = 5) -> list[Tick]:
        """Round numbers along the side, about ``most`` of them; along a logarithm 1, 2 and 5 times the powers of ten."""
        low, high = sorted((self.first, self.last))
        numbers = _round_numbers(low, high) if self.log else _equal_steps(low, high, most)
        return [Tick(float(self.share(np.array(number))), f"{number:.6g}") for number in numbers]


def _round_numbers(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [
        digit * 10.0**power for power in powers for digit in (1, 2, 5) if low <= digit * 10.0**power <= high
    ]


def _equal_steps(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between two numbers (after Heckbert, "Nice numbers for graph labels", Graphics Gems 1990)."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough * (1 - 1e-9))
    return [
        round(number * step, 12)
        for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]
