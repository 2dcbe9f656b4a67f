"""Find the map that most matched points of two images agree on.

It is a homography fitted by MAGSAC++ (Barath et al., CVPR 2020) in OpenCV or, if that explains many more of
the matches, a smooth map.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from register.engine.initial.finder import CERTAIN
from register.geometry import affine, affine_tensors, matches, models
from register.geometry import homography as homographies
from register.geometry.matches import Matches
from register.images import filters, pyramid
from register.images.pyramid import Level

TOLERANCE = 3.0
"""Largest distance, in pixels of the level, between a match and the homography it agrees with."""
LEAST = 12
"""Fewest matches that determine a homography."""
STEEPEST = 8.0
"""Largest ratio of magnifications across the matched region; a larger one means that the horizon is near."""
MOST_TILT = 10.0
"""Largest ratio of the two singular values of the affine map nearest to a homography."""
IDENTITY = 1e-6
"""Largest displacement, in pixels, of a map that counts as the identity."""
DEFORMED = 1.5
"""Ratio of the matches that a smooth map explains to those of the homography from which the pair is
deformed."""


def count(found: Matches | None) -> int:
    """The number of matched points that agree."""
    return len(found.fixed) if found else 0


def agree(
    fixed: Level, moving: Level, source: NDArray[np.float64], target: NDArray[np.float64], model: str
) -> tuple[Matches | None, float]:
    """The matches (n, 2), in pixels of the levels, that agree on one map, and their share of all.

    The map is given as a homography and as the nearest map of a global ``model``, in pixels of the
    originals. None where fewer than ``LEAST`` matches agree, or where the homography is degenerate.
    """
    cv2 = filters.opencv()
    both = np.concatenate([source, target], axis=1)
    unique = np.unique(np.rint(both), axis=0, return_index=True)[1]
    source, target = source[unique], target[unique]
    if len(source) < LEAST:
        return None, 0.0
    homography, accepted = cv2.findHomography(
        source, target, cv2.USAC_MAGSAC, TOLERANCE, maxIters=20000, confidence=0.9999
    )
    if homography is None or int(accepted.sum()) < LEAST:
        return None, 0.0
    pairs = torch.from_numpy(source), torch.from_numpy(target), torch.from_numpy(accepted[:, 0] > 0)
    found = _in_originals(fixed, moving, *pairs, torch.from_numpy(homography), model)
    return found, len(found.fixed) / len(source) if found else 0.0


def _in_originals(
    fixed: Level,
    moving: Level,
    source: Tensor,
    target: Tensor,
    accepted: Tensor,
    homography: Tensor,
    model: str,
) -> Matches | None:
    """Matches in pixels of the originals from matches (n, 2) in pixels of the levels.

    ``accepted`` (n,) are those that agree with the ``homography`` (3, 3). None where the homography is
    degenerate.
    """
    ends = [affine.apply(level.original_from_level, x) for level, x in ((fixed, source), (moving, target))]
    points = [x[accepted] for x in ends]
    homography = (
        homographies.from_affine(moving.original_from_level)
        @ homography
        @ homographies.from_affine(affine.invert(fixed.original_from_level))
    )
    homography = homography / homographies.weights(homography, points[0]).median()
    mirrored = float(affine.determinant(moving.original_from_level)) < 0
    if not _is_sound(homography, *points, mirrored=mirrored):
        return None
    # the map of a mirrored image is fitted after the mirroring, in pixels of the size of the original
    size = pyramid.pixel(moving)
    mirroring = affine.compose(moving.original_from_level, affine_tensors.scaling(1 / size, 1 / size))
    back = affine.invert(mirroring)
    if int(accepted.sum()) >= CERTAIN:
        smooth = matches.grow(source, target, accepted, TOLERANCE)
        if int(smooth.sum()) > DEFORMED * int(accepted.sum()):
            points = [x[smooth] for x in ends]
            fitted = models.get(model).fit(points[0], affine.apply(back, points[1]))
            return Matches(None, affine.compose(mirroring, fitted), *points)
    mapped = homographies.apply(homographies.from_affine(back) @ homography, points[0])
    matrix = affine.compose(mirroring, models.get(model).fit(points[0], mapped))
    if float((affine.apply(matrix, points[0]) - points[0]).norm(dim=1).max()) < IDENTITY:
        homography, matrix = torch.eye(3, dtype=torch.float64), affine_tensors.identity()
    return Matches(homography, matrix, *points)


def _is_sound(homography: Tensor, fixed: Tensor, moving: Tensor, *, mirrored: bool) -> bool:
    """Whether a homography has the expected orientation, is not nearly singular, and is determined by a large
    enough region."""
    weights = homographies.weights(homography, fixed)
    steepness = float(weights.max() / weights.min())
    if float(weights.min()) <= 0 or steepness > STEEPEST:
        return False
    if (float(torch.linalg.det(homography)) <= 0) is not mirrored:
        return False
    if min(float(x.std(dim=0).min()) for x in (fixed, moving)) < TOLERANCE * 4:
        return False
    stretch = torch.linalg.svdvals(models.AFFINE.fit(fixed, homographies.apply(homography, fixed))[:, :2])
    return float(stretch[0]) <= MOST_TILT * float(stretch[1]) and 0.1 < float(stretch.prod().sqrt()) < 10
