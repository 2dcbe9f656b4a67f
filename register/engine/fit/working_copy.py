"""Make working copies: grey levels in [0, 1] of limited size on which an alignment is computed."""

import math

import torch
from torch import Tensor

from register.compute import sums
from register.errors import AlignmentError
from register.images import preprocess, pyramid
from register.images.pyramid import Level

COARSEST = 96
"""Shortest side, in pixels, that a level may have."""
LEAST_SIDE, LEAST_PIXELS = 8, 64
"""Fewest pixels along a side, and fewest valid pixels, of an image that can be aligned."""
LEAST_VALID = 0.02
"""Share of the image that must remain valid for a constant border to be masked."""


def working_copy(level: Level, max_size: int, name: str) -> Level:
    """A grey level of at most ``max_size`` pixels in [0, 1], from one of any size and range (1, h, w).

    Pixels that are invalid, or belong to a constant border, have no weight. Raises ``AlignmentError``
    naming the image when it is too small, has no valid pixels or is constant.
    """
    if min(level.size) < LEAST_SIDE:
        size = f"{level.size[1]} × {level.size[0]}"
        raise AlignmentError(f"is {size} pixels; at least {LEAST_SIDE} × {LEAST_SIDE} are needed", name)
    if not math.isfinite(float(level.image.sum())):  # one pixel that is not finite makes the sum so
        finite = torch.isfinite(level.image)
        level = Level(torch.where(finite, level.image, 0.0), level.mask * finite, level.original_from_level)
    if int((level.mask > 0.5).count_nonzero()) < LEAST_PIXELS:
        raise AlignmentError("has no valid pixels (all are NaN, transparent or masked); check the file", name)
    level = pyramid.shrink(level, max(level.size) / max_size)
    mask = (level.mask > 0.5).to(level.image)
    low, high = preprocess.extent(level.image, mask)
    if not high > low:
        raise AlignmentError(
            f"is constant ({low:g} everywhere) and cannot be aligned; check the file and its channel", name
        )
    grey = preprocess.normalise(level.image, mask)
    inner = mask * ~preprocess.constant_border(grey, mask)
    weight = inner if float(sums.mean(inner)) > LEAST_VALID else mask
    return Level(grey, weight, level.original_from_level)


def valid_pixels(level: Level, copy: Level) -> Tensor:
    """The pixels (1, h, w) of the working copy of a level that are not masked; a constant border is valid."""
    known = level.mask * torch.isfinite(level.image)
    if copy.size == level.size:
        return known > 0.5
    return pyramid.resize(known, pyramid.pixel(copy) / pyramid.pixel(level)) > 0.5


def levels_of(finest: Level) -> list[Level]:
    """The levels of an image, coarse to fine, each half the next, while the shorter side has ``COARSEST``
    pixels."""
    levels = [finest]
    while min(levels[0].size) >= 2 * COARSEST:
        levels.insert(0, pyramid.shrink(levels[0], 2))
    return levels
