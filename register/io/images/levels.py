"""The ratio of the pixel sizes of two levels of a pyramid."""

import math


def level_factor(large: int, small: int) -> float:
    """The size of a coarser level's pixel in pixels of a finer one; a power of two where the sizes allow it.

    ``large`` and ``small`` are the numbers of pixels of the two levels along one axis.
    """
    large, small = max(large, 1), max(small, 1)
    power = 2.0 ** round(math.log2(large / small))
    return power if small in (math.floor(large / power), math.ceil(large / power)) else large / small


def level_factors(base: tuple[int, int], level: tuple[int, int]) -> tuple[float, float]:
    """``level_factor`` along x and y for the sizes ``(height, width)`` of two levels."""
    return level_factor(base[1], level[1]), level_factor(base[0], level[0])
