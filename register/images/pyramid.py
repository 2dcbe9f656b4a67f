"""Levels of an image pyramid, and the scale and half-pixel shift between them."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from register.geometry import affine, affine_tensors
from register.images import filters

Value = TypeVar("Value")
LEAST = 16
"""Fewest pixels along the shorter side of a level."""


@dataclass(frozen=True, eq=False)
class Level:
    """An image at some resolution.

    ``original_from_level`` (2, 3) float64 maps its pixels to those of the original image.
    """

    image: Tensor  # (c, h, w) float32
    mask: Tensor  # (1, h, w) float32, the share of each pixel that is valid
    original_from_level: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` in pixels of this level."""
        return self.image.shape[-2], self.image.shape[-1]


_LOCK = Lock()
_CACHE: WeakKeyDictionary[Level, dict[Hashable, Any]] = WeakKeyDictionary()


def cached(level: Level, name: Hashable, make: Callable[[], Value]) -> Value:
    """The value of ``make()``, computed once per level and name; it is freed together with the level."""
    with _LOCK:
        values = _CACHE.setdefault(level, {})
    if name not in values:
        values.setdefault(name, make())
    return values[name]


def base(image: Tensor, mask: Tensor | None = None) -> Level:
    """The finest level: the image (c, h, w) itself with its mask (1, h, w); all pixels are valid without
    one."""
    return Level(image, torch.ones_like(image[:1]) if mask is None else mask, affine_tensors.identity())


def pixel(level: Level) -> float:
    """The side of a level's pixel in original pixels."""
    return affine.scale(level.original_from_level)


def shrink(level: Level, factor: float, least: int = LEAST) -> Level:
    """The level with pixels ``factor`` times as large, antialiased; unchanged for ``factor`` <= 1.

    Invalid pixels have no weight. Pixels remain square: a remainder at the last row or column that is smaller
    than a pixel is left out. The shorter side has at least ``least`` pixels.
    """
    factor = min(factor, min(level.size) / least)
    return level if factor <= 1 else cached(level, ("shrunk", factor), lambda: _shrunk(level, factor))


def _shrunk(level: Level, factor: float) -> Level:
    up = affine.compose(level.original_from_level, affine_tensors.scaling(factor, factor))
    if float(level.mask.amin()) == 1.0:
        image = resize(level.image, factor)
        return Level(image, torch.ones_like(image[:1]), up)
    mask = filters.shares(resize(level.mask, factor))
    image = resize(level.image * level.mask, factor) / mask.clamp(min=1e-6)
    return Level(image * (mask > 0), mask, up)


def resize(image: Tensor, factor: float) -> Tensor:
    """An image (c, h, w) with pixels ``factor`` times as large, by a triangle filter two of these
    pixels wide."""
    return interpolate(
        image[None],
        scale_factor=1 / factor,
        mode="bilinear",
        antialias=True,
        align_corners=False,
        recompute_scale_factor=False,
    )[0]
