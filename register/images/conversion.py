"""Convert the channels of an image to the grey values that are aligned: one plane, scaled, without debris."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from register.compute import sums
from register.images import debris, grayscale, hot_pixels
from register.images.debris import Bounds
from register.images.grayscale import Grey
from register.images.value_scale import ValueScale


@dataclass(frozen=True)
class Conversion:
    """A conversion of planes to grey values, the scale of these, the range of those that are no debris, and
    the threshold of hot pixels.

    ``name`` says which grey it is, and the share of debris and hot pixels.
    """

    name: str
    grey: Grey
    scale: ValueScale
    bounds: Bounds
    hot_from: float

    @classmethod
    def of(cls, sample: Tensor, valid: Tensor, **kind: Any) -> "Conversion":
        """The conversion for a ``sample`` (c, h, w) of an image and its ``valid`` pixels (1, h, w).

        The other arguments are those of ``grayscale.choose``, which may raise ``RegisterError``.
        """
        grey = grayscale.choose(sample, valid, **kind)
        plane = grey(sample)
        scale = ValueScale.of(plane, valid)
        values = torch.where(valid > 0.5, scale(plane), 0.0)
        found = cls(grey.name, grey, scale, debris.bounds(values, valid), hot_pixels.threshold(values, valid))
        if found.keeps_all:
            return found
        known = (valid > 0.5).float()
        share = float(1 - sums.total(known * found.clean(values, valid > 0.5)) / sums.total(known))
        return replace(found, name=f"{grey.name}, without {share:.1%} of saturated or hot pixels")

    @property
    def keeps_all(self) -> bool:
        """Whether there are no debris and no hot pixels."""
        return self.bounds.is_open and self.hot_from == math.inf

    def __call__(self, planes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Grey values (1, h, w) of planes (c, h, w), 0 where not ``valid`` (1, h, w), and which are clean."""
        values = torch.where(valid, self.scale(self.grey(planes)), 0.0)
        return values, self.clean(values, valid)

    def clean(self, values: Tensor, valid: Tensor) -> Tensor:
        """Which of the ``valid`` grey values (1, h, w) are neither debris nor hot pixels."""
        if not self.bounds.is_open:
            valid = valid & self.bounds.contain(values)
        return valid & ~hot_pixels.hot(values, self.hot_from) if self.hot_from < math.inf else valid


def working_dtype(dtype: np.dtype[Any]) -> type[np.float32] | type[np.float64]:
    """The type in which pixels of a type are converted to grey: float64 where float32 would round them."""
    exact = dtype.kind == "b" or dtype.itemsize <= 2 or (dtype.kind == "f" and dtype.itemsize <= 4)
    return np.float32 if exact else np.float64
