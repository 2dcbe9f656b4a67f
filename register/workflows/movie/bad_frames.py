"""The maps of frames that failed: the motion between their neighbours, or none."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from register.geometry.spline_map import SplineMap
from register.transforms.movie import FrameTransform, without_folds
from register.workflows.movie.job import BadFrames


def filled(found: Sequence[FrameTransform], how: BadFrames) -> list[FrameTransform]:
    """The transforms; those of bad frames have the motion between the nearest good ones, or, for ``keep`` and
    ``blank``, none."""
    good = np.array([index for index, one in enumerate(found) if not one.bad])
    result = list(found)
    for index, one in enumerate(found):
        if not one.bad:
            continue
        if how != "interpolate" or not len(good):
            made, why = SplineMap(one.map.height, one.map.width, np.eye(2, 3)), "the frame is not moved"
        else:
            place = int(np.searchsorted(good, index))
            before, after = (int(good[min(max(n, 0), len(good) - 1)]) for n in (place - 1, place))
            made, why = _between(found, index, before, after), _source(before, after)
        result[index] = without_folds(replace(one, map=made, reasons=(*one.reasons, why)))
    return result


def _source(before: int, after: int) -> str:
    """The sentence on where the motion comes from."""
    if before == after:
        return f"the motion of frame {before} is used"
    return f"the motion between frames {before} and {after} is used"


def _between(found: Sequence[FrameTransform], index: int, before: int, after: int) -> SplineMap:
    """The motion of two frames, interpolated linearly in time."""
    one, other = found[before].map, found[after].map
    share = 0.0 if before == after else (index - before) / (after - before)
    matrix = (1 - share) * one.matrix + share * other.matrix
    own = None
    if one.coefficients is not None or other.coefficients is not None:
        own = (1 - share) * _spline(one, other) + share * _spline(other, one)
    return SplineMap(one.height, one.width, matrix, own)


def _spline(of: SplineMap, other: SplineMap) -> np.ndarray:
    """The coefficients of a map, zero where it has none."""
    if of.coefficients is not None:
        return of.coefficients
    return np.zeros_like(other.coefficients)
