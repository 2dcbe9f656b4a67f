"""The initial map from landmarks that hold, where the images alone do not give one that agrees with them."""

import math

from torch import Tensor

from register.engine.fit.held import Landmarks
from register.engine.initial import start
from register.engine.initial.start import Start
from register.geometry import affine
from register.images import pyramid
from register.images.pyramid import Level

AGREES = 0.05
"""Median distance of the landmarks from a map, as a share of the fixed image's diagonal, up to which the map
agrees with them."""
LEAST = 3
"""Landmarks that determine an initial map."""
WIDE = 0.15
"""Extent of the landmarks, as a share of the diagonal, from which their map is used for the entire image."""


def better(fixed: Level, moving: Level, found: Start, landmarks: Landmarks) -> Start:
    """The start that was ``found`` in the images, or that of the landmarks.

    The landmarks' map is taken where at least ``LEAST`` of them, spread over a part of the image, agree on
    it, and the images' map either is not significant or is far from them.
    """
    diagonal = math.hypot(*fixed.size) * pyramid.pixel(fixed)
    matrix, agrees = landmarks.agreed()
    used = landmarks.fixed[agrees]
    if len(used) < LEAST or float((used.amax(0) - used.amin(0)).norm()) < WIDE * diagonal:
        return found
    if found.is_significant and _distance(found.matrix, landmarks) < AGREES * diagonal:
        return found
    own = start.at(fixed, moving, matrix)
    if _distance(found.matrix, landmarks) < AGREES * diagonal and found.significance > own.significance:
        return found
    return Start(matrix, own.similarity, own.significance, landmarks=len(used))


def _distance(matrix: Tensor, landmarks: Landmarks) -> float:
    """The median distance of landmarks from a map (2, 3), in fixed pixels."""
    matrix = matrix.double().cpu()
    away = (affine.apply(matrix, landmarks.fixed) - landmarks.moving).norm(dim=1)
    return float(away.median()) / affine.scale(matrix)
