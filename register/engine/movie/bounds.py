"""Whether the map of a frame lies within the ranges of rotations, scales and shifts that were asked for."""

import math

from torch import Tensor

from register.engine.initial.search_range import SearchRange, ranges_of
from register.geometry import affine, pixel_size
from register.settings import PRESETS, Settings


def within(settings: Settings, size: tuple[int, int]) -> SearchRange:
    """The range that settings name for frames of a ``size`` (height, width).

    Raises ``RegisterError`` for a ``shift_range`` with a unit: here only pixels are known.
    """
    near = pixel_size.in_pixels(settings.shift_range, None) if settings.shift_range else None
    return ranges_of(settings, PRESETS[settings.preset].candidates, None, shift=near, size=size)[-1]


def beyond(of: SearchRange, matrix: Tensor) -> str | None:
    """Why a map (2, 3) lies outside a range, as a sentence; None where it lies inside."""
    if not of.flip and float(affine.determinant(matrix)) < 0:
        return "the frame is mirrored, without --allow-flip"
    if not of.is_near(matrix):
        return "the frame is shifted by more than --shift-range"
    if of.contains(matrix):
        return None
    parts = affine.decompose(matrix)
    if abs(math.log(parts.scale / of.middle)) > math.log(of.scale):
        return f"the frame is scaled by {parts.scale:.2f}, by more than --scale-range"
    return f"the frame is turned by {abs(parts.rotation):.0f}°, by more than --rotation-range"
