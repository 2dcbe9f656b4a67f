"""Convert grey values of any magnitude to 32 bits without loss of what distinguishes them."""

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from register.images import preprocess

FAR = 1000.0
"""Distance of the values from 0, in units of their range, from which an offset is subtracted."""
COARSE = 64
"""The scale is a power of two to the power of this, so that images of one series have the same scale."""


@dataclass(frozen=True)
class ValueScale:
    """A scale of grey values: float32 ``(value - offset) * factor``. The factor is a power of two, so that
    it causes no rounding."""

    offset: float = 0.0
    factor: float = 1.0

    @classmethod
    def of(cls, plane: Tensor, valid: Tensor) -> "ValueScale":
        """The scale of the ``valid`` pixels (1, h, w) of a plane (1, h, w)."""
        values = preprocess.sampled(plane, valid).cpu().double().numpy()
        if len(values) == 0:
            return cls()
        low, middle, high = np.quantile(values, [0.005, 0.5, 0.995]).tolist()
        low, high = (low, high) if high > low else (float(values.min()), float(values.max()))
        spread = high - low
        if not (spread > 0 and math.isfinite(spread)):
            return cls()
        exponent = COARSE * round(math.log2(spread) / COARSE)
        factor = 2.0 ** -min(max(exponent, -1000), 1000)
        step = 64 * 2.0 ** math.ceil(math.log2(spread))
        offset = step * round(middle / step) if abs(middle) > FAR * spread else 0.0
        return cls(offset, factor)

    def __call__(self, values: Tensor) -> Tensor:
        """The values (...) as float32."""
        if self.offset:
            values = values - self.offset
        return (values * self.factor if self.factor != 1 else values).float()
