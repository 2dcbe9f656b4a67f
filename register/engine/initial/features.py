"""Where to start when the images look alike but stand far apart: features matched one by one, and a robust homography through them.

OpenCV does the work: SIFT (Lowe, IJCV 60, 2004) with square-root descriptors (Arandjelović & Zisserman, CVPR 2012), views of both images under simulated
tilts when plain features do not suffice (Morel & Yu, "ASIFT", SIAM J. Imaging Sci. 2, 2009), and MAGSAC++ (Barath et al., CVPR 2020).
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from register.compute import device
from register.geometry import affine, matches
from register.geometry import homography as homographies
from register.geometry.matches import Matches
from register.images import filters, pyramid
from register.images.pyramid import Level


class FeatureSearch(NamedTuple):
    """Longest side, in pixels, of the copies on which features are found, how many of an image, and whether in simulated views of it too."""

    side: int
    most: int
    tilted: bool = False


FEW, PLAIN, TILTED = (
    FeatureSearch(340, 1000),
    FeatureSearch(800, 4000),
    FeatureSearch(640, 10000, tilted=True),
)
"""Ways to look for features, the next one slower than the last one; simulated views take seconds."""
CLEAR, ENOUGH = 0.8, 60
"""Share of the matches of a few features that one map must explain, and how many, for no more to be asked for."""
RATIO = 0.85
"""Largest distance of a match in units of the second nearest one's (Lowe)."""
TOLERANCE = 3.0
"""Pixels that a match may lie off the homography."""
LEAST = 12
"""Matches on a homography below which it is not one."""
SURE = 30
"""Matches on a homography from which on no other evidence is asked for."""
STEEPEST = 8.0
"""Largest ratio of magnifications across the matched region; a homography beyond it has a horizon near."""
MOST_TILT = 10.0
"""Largest ratio of the two stretches of the affine map nearest to a homography."""
SAME = 1e-6
"""Pixels up to which a map is the identity."""
BENT = 1.5
"""How many times more matches than its homography holds a smooth map must explain for the pair to be bent."""


def count(matched: Matches | None) -> int:
    """How many features agree."""
    return len(matched.fixed) if matched else 0


def match(
    fixed: Level, moving: Level, *, model: str = "affine", look: FeatureSearch | None = None
) -> Matches | None:
    """The homography on which most features agree and the map of a global ``model`` nearest to it, or None.

    Features are looked for in one way, or a few of them and then many, unless the few are enough or none of them agree: where they do not, many hardly ever do.
    """
    if look:
        return _match(fixed, moving, look, model)[0]
    found, share = _match(fixed, moving, FEW, model)
    if found is None or (share >= CLEAR and len(found.fixed) >= ENOUGH):
        return found
    return _match(fixed, moving, PLAIN, model)[0]


def _match(fixed: Level, moving: Level, look: FeatureSearch, model: str) -> tuple[Matches | None, float]:
    """The same in one way, and the share of all matches that it explains; where few agree, with the moving negative."""
    filters.opencv()
    fixed, moving = (pyramid.shrink(level, max(level.size) / look.side) for level in (fixed, moving))
    with device.beside(lambda: _features(moving, look)) as those_of_moving:
        (at_fixed, described), (at_moving, others) = _features(fixed, look), those_of_moving()
    if min(len(described), len(others)) < LEAST:
        return None, 0.0
    tried = list[tuple[Matches | None, float]]()
    for these in (others, _of_negative(others)):
        near, far = _pairs(described, these)
        tried.append(_agreed(fixed, moving, at_fixed[near], at_moving[far], model))
        if count(tried[-1][0]) >= SURE:
            break
    return max(tried, key=lambda found: count(found[0]))


def _agreed(
    fixed: Level, moving: Level, source: NDArray[np.float64], target: NDArray[np.float64], model: str
) -> tuple[Matches | None, float]:
    """What most matches (n, 2), in pixels of the levels, agree on, and their share."""
    import cv2

    unique = np.unique(np.rint(np.concatenate([source, target], axis=1)), axis=0, return_index=True)[1]
    source, target = source[unique], target[unique]
    if len(source) < LEAST:
        return None, 0.0
    found, on = cv2.findHomography(
        source, target, cv2.USAC_MAGSAC, TOLERANCE, maxIters=20000, confidence=0.9999
    )
    if found is None or int(on.sum()) < LEAST:
        return None, 0.0
    pairs = torch.from_numpy(source), torch.from_numpy(target), torch.from_numpy(on[:, 0] > 0)
    held = _matched(fixed, moving, *pairs, torch.from_numpy(found), model)
    return held, len(held.fixed) / len(source) if held else 0.0


def _matched(
    fixed: Level, moving: Level, source: Tensor, target: Tensor, on: Tensor, found: Tensor, model: str
) -> Matches | None:
    """The answer in original pixels from matches (n, 2) in those of the levels, which of them (n,) are on a homography (3, 3), and it."""
    size = pyramid.pixel(moving)
    hand = affine.compose(
        moving.original_from_level, affine.scaling(1 / size, 1 / size)
    )  # turns over what was mirrored, in pixels of the original's size
    back = affine.invert(hand)
    ends = [affine.apply(level.original_from_level, x) for level, x in ((fixed, source), (moving, target))]
    points = [x[on] for x in ends]
    homography = (
        homographies.from_affine(moving.original_from_level)
        @ found
        @ homographies.from_affine(affine.invert(fixed.original_from_level))
    )
    homography = homography / homographies.weights(homography, points[0]).median()
    mirrored = float(affine.determinant(moving.original_from_level)) < 0
    if not _sound(homography, *points, mirrored=mirrored):
        return None
    if int(on.sum()) >= SURE:
        smooth = matches.grow(source, target, on, TOLERANCE)
        if int(smooth.sum()) > BENT * int(on.sum()):
            points = [x[smooth] for x in ends]
            matrix = affine.compose(hand, affine.fit(points[0], affine.apply(back, points[1]), model))
            return Matches(None, matrix, *points)
    matrix = affine.compose(
        hand,
        affine.fit(
            points[0], homographies.apply(homographies.from_affine(back) @ homography, points[0]), model
        ),
    )
    if float((affine.apply(matrix, points[0]) - points[0]).norm(dim=1).max()) < SAME:
        homography, matrix = torch.eye(3, dtype=torch.float64), affine.identity()
    return Matches(homography, matrix, *points)


def _sound(homography: Tensor, fixed: Tensor, moving: Tensor, *, mirrored: bool) -> bool:
    """Whether a homography neither turns the image over unasked, nor collapses it, nor rests on a corner of it."""
    weights = homographies.weights(homography, fixed)
    if (
        float(weights.min()) <= 0
        or float(weights.max() / weights.min()) > STEEPEST
        or (float(torch.linalg.det(homography)) <= 0) is not mirrored
    ):
        return False
    if min(float(x.std(dim=0).min()) for x in (fixed, moving)) < TOLERANCE * 4:
        return False
    stretch = torch.linalg.svdvals(affine.fit(fixed, homographies.apply(homography, fixed))[:, :2])
    return float(stretch[0]) <= MOST_TILT * float(stretch[1]) and 0.1 < float(stretch.prod().sqrt()) < 10


def _features(level: Level, look: FeatureSearch) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Positions (n, 2) in pixels and descriptors (n, 128) of the strongest features of a grey level."""
    import cv2

    picture = (level.image[0] * 255).round().byte().cpu().numpy()
    mask = (level.mask[0] > 0.5).byte().cpu().numpy() * np.uint8(255)
    sift = cv2.SIFT.create(0 if look.tilted else look.most, contrastThreshold=0.02)
    points, descriptors = (cv2.AffineFeature.create(sift, 5) if look.tilted else sift).detectAndCompute(
        picture, mask
    )
    if not points:
        return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
    if len(points) > look.most:
        strongest = np.argsort([-p.response for p in points])[: look.most]
        points, descriptors = [points[i] for i in strongest], descriptors[strongest]
    root = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-9))
    return np.array([p.pt for p in points], dtype=np.float64), root


def _of_negative(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Descriptors (n, 128) of the same features in the negative of their image.

    Every gradient is reversed, and with it the direction of a feature: seen from there its 4 x 4 cells are turned by half a circle, and what they say of
    directions stays. Source: Chen & Tian, "Real-time multi-modal rigid registration based on a novel symmetric-SIFT descriptor", Prog. Nat. Sci. 19 (2009).
    """
    return np.ascontiguousarray(descriptors.reshape(-1, 4, 4, 8)[:, ::-1, ::-1]).reshape(-1, 128)


def _pairs(
    one: NDArray[np.float32], other: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of descriptors that are each other's nearest and much nearer than the second."""
    a, b = torch.from_numpy(one), torch.from_numpy(other)
    nearest, ratios, back_best = [], [], torch.full((len(b),), -1.0)
    back = torch.zeros(len(b), dtype=torch.long)
    for begin in range(0, len(a), 2048):
        alike = a[begin : begin + 2048] @ b.T  # square-root descriptors have length one
        two = alike.topk(2, dim=1)
        distance = (2 - 2 * two.values).clamp(min=1e-12).sqrt()
        nearest.append(two.indices[:, 0])
        ratios.append(distance[:, 0] / distance[:, 1])
        best, index = alike.max(dim=0)
        better = best > back_best
        back_best, back = torch.where(better, best, back_best), torch.where(better, index + begin, back)
    to, ratio = torch.cat(nearest), torch.cat(ratios)
    kept = (ratio < RATIO) & (back[to] == torch.arange(len(a)))
    return torch.nonzero(kept)[:, 0].numpy(), to[kept].numpy()
