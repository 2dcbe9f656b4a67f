"""Remove only the fast part of the motion: in a depth stack the slow part may be the shape of the object."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from register.geometry import affine
from register.geometry.arrays import Float64
from register.geometry.spline_map import SplineMap
from register.transforms.movie import FrameTransform, without_folds

HALF = 10
"""Frames on either side of a frame from which its slow motion is computed."""


def slow(matrices: Float64) -> Float64:
    """The slow part (n, 2, 3) of maps (n, 2, 3): a straight line fitted to each number around each frame.

    The weights fall to zero as Tukey's cube does (Cleveland, "Robust locally weighted regression", JASA
    1979).
    """
    count = len(matrices)
    found = np.empty_like(matrices)
    for index in range(count):
        near = np.arange(max(index - HALF, 0), min(index + HALF + 1, count))
        far = np.abs(near - index) / (HALF + 1)
        weight = np.sqrt((1 - far**3) ** 3)
        basis = np.stack([np.ones(len(near)), near - index], 1)
        fit = np.linalg.lstsq(basis * weight[:, None], matrices[near].reshape(len(near), 6) * weight[:, None])
        found[index] = fit[0][0].reshape(2, 3)
    return found


def kept(found: Sequence[FrameTransform]) -> list[FrameTransform]:
    """The transforms without their slow part, which stays in the aligned frames."""
    trends = slow(np.stack([one.map.matrix for one in found]))
    return [
        without_folds(
            replace(one, map=SplineMap(one.map.height, one.map.width, affine.invert(trend)).then(one.map))
        )
        for one, trend in zip(found, trends, strict=True)
    ]
