"""Find initial maps by matching SIFT features.

OpenCV computes the features: SIFT (Lowe, IJCV 60, 2004), here with square-root descriptors (Arandjelović &
Zisserman, CVPR 2012), and in views of both images under simulated tilts where plain features do not suffice
(Morel & Yu, "ASIFT", SIAM J. Imaging Sci. 2, 2009).
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from register.compute import device
from register.engine.fit import global_fit
from register.engine.initial import consensus
from register.engine.initial.consensus import LEAST
from register.engine.initial.finder import CERTAIN, Proposal, StartFinder
from register.engine.initial.search_range import SearchRange
from register.geometry.matches import Matches
from register.images import filters, pyramid
from register.images.pyramid import Level


class Detection(NamedTuple):
    """The options of the detection of features.

    ``side`` is the longest side, in pixels, of the copies on which they are detected, ``most`` their
    largest number in an image; with ``tilted`` they are detected in simulated views of it too, which takes
    seconds.
    """

    side: int
    most: int
    tilted: bool = False


FEW, PLAIN, TILTED = Detection(340, 1000), Detection(800, 4000), Detection(640, 10000, tilted=True)
"""Detections, each slower than the one before."""
CLEAR, ENOUGH = 0.8, 60
"""Share and number of the matches of a few features that one map must explain for no more features to be
detected."""
VIEW, LARGEST, MOST = 2.0, 2200, 30000
"""Ratio of the longer sides in the scene from which one image is a small view of the other; then the longest
side of the copy of the large one, in pixels, and the largest number of its features."""
TILE, AROUND = 1100, 40
"""Side, in pixels, of the tiles of a large copy, and by how much they overlap on each side."""
RATIO = 0.85
"""Largest distance of a match in units of the second nearest one's (Lowe)."""
BATCH = 2**24
"""Pairs of descriptors that are compared at once."""


def rounds(fixed: Level, moving: Level, within: SearchRange) -> Iterator[list[Proposal]]:
    """Proposals from a few features, then from many, then from those of simulated views; at most one each.

    Simulated views are used for affine and local models only. Their map may lie outside the search range.
    """
    model, scale = global_fit.global_model(within.model), within.middle
    each = (match(fixed, x, model=model, scale=scale) for x in within.orientations(moving))
    found = max(each, key=consensus.count)
    yield _proposals(found, within)
    yield _proposals(_detected(fixed, moving, within, PLAIN), within)
    if within.model in ("affine", "local"):
        yield _proposals(_detected(fixed, moving, within, TILTED))


def _detected(fixed: Level, moving: Level, within: SearchRange, detection: Detection) -> Matches | None:
    """The matches of one detection, for the orientation of the moving image in which most agree."""
    model, scale = global_fit.global_model(within.model), within.middle
    each = (
        match(fixed, x, model=model, scale=scale, detection=detection) for x in within.orientations(moving)
    )
    return max(each, key=consensus.count)


def _proposals(found: Matches | None, within: SearchRange | None = None) -> list[Proposal]:
    """The proposal of some matches, if there are any and their map lies within a range."""
    if found is None or (within is not None and not within.contains(found.matrix)):
        return []
    return [Proposal(found.matrix, consensus.count(found), found)]


def match(
    fixed: Level,
    moving: Level,
    *,
    model: str = "affine",
    scale: float = 1.0,
    detection: Detection | None = None,
) -> Matches | None:
    """Matched features that agree on a homography, with the map of a global ``model`` nearest to it, or None.

    Without a ``detection``, a few features are detected. Many are detected only where the few agree but are
    not enough: where the few do not agree, many hardly ever do. ``scale``, in moving pixels per fixed pixel,
    is that at which a small view is compared with a large image.
    """
    if detection:
        return _match(fixed, moving, detection, model, scale)[0]
    found, share = _match(fixed, moving, FEW, model, scale)
    if found is None or (share >= CLEAR and len(found.fixed) >= ENOUGH):
        return found
    return _match(fixed, moving, PLAIN, model, scale)[0]


def _match(
    fixed: Level, moving: Level, detection: Detection, model: str, scale: float = 1.0
) -> tuple[Matches | None, float]:
    """Matched features that agree, and their share of all matches, by one detection.

    Where few agree, they are matched with the features of the negative of the moving image too.
    """
    filters.opencv()
    (fixed, one), (moving, other) = _copies(fixed, moving, detection, scale)
    with device.concurrently(lambda: _known_features(moving, other)) as features_of_moving:
        (at_fixed, described), (at_moving, others) = _known_features(fixed, one), features_of_moving()
    if min(len(described), len(others)) < LEAST:
        return None, 0.0
    tried: list[tuple[Matches | None, float]] = []
    for descriptors in (others, _of_negative(others)):
        near, far = _mutual_matches(described, descriptors)
        tried.append(consensus.agree(fixed, moving, at_fixed[near], at_moving[far], model))
        if consensus.count(tried[-1][0]) >= CERTAIN:
            break
    return max(tried, key=lambda found: consensus.count(found[0]))


def _copies(fixed: Level, moving: Level, detection: Detection, scale: float) -> list[tuple[Level, Detection]]:
    """The copies on which features are detected, with the detections.

    A small view and a large image are brought to one pixel size, and in the large image so many more
    features are detected as it is larger.
    """
    levels, pixels = (fixed, moving), (pyramid.pixel(fixed), pyramid.pixel(moving) / scale)
    long = [max(level.size) * pixel for level, pixel in zip(levels, pixels, strict=True)]
    if detection.tilted or max(long) < VIEW * min(long):
        return [(pyramid.shrink(level, max(level.size) / detection.side), detection) for level in levels]
    size = max(min(long) / detection.side, max(long) / LARGEST, *pixels)
    copies = (pyramid.shrink(level, size / pixel) for level, pixel in zip(levels, pixels, strict=True))
    most = [min(round(detection.most * (x / min(long)) ** 2), MOST) for x in long]
    return [(level, detection._replace(most=n)) for level, n in zip(copies, most, strict=True)]


def _known_features(level: Level, detection: Detection) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """The features of a level, detected once."""
    return pyramid.cached(level, ("features", detection), lambda: _features(level, detection))


def _features(level: Level, detection: Detection) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Positions (n, 2) in pixels and descriptors (n, 128) of the strongest features of a grey level.

    A large level is taken in tiles, because the detector needs 250 bytes a pixel.
    """
    picture = (level.image[0] * 255).round().byte().cpu().numpy()
    mask = (level.mask[0] > 0.5).byte().cpu().numpy() * np.uint8(255)
    height, width = picture.shape
    rows, columns = (-(-n // TILE) for n in (height, width))
    fewer = detection._replace(most=-(-detection.most // (rows * columns)))
    found = list[tuple[NDArray[np.float64], NDArray[np.float32]]]()
    for top, bottom in pairwise(height * i // rows for i in range(rows + 1)):
        for left, right in pairwise(width * i // columns for i in range(columns + 1)):
            area = slice(max(top - AROUND, 0), bottom + AROUND), slice(max(left - AROUND, 0), right + AROUND)
            points, described = _features_of(picture[area], mask[area], fewer)
            points = np.add(points, [area[1].start, area[0].start])
            inside = ((points >= [left - 0.5, top - 0.5]) & (points < [right - 0.5, bottom - 0.5])).all(1)
            found.append((points[inside], described[inside]))
    points, described = (np.concatenate(each) for each in zip(*found, strict=True))
    return points, described


def _features_of(
    picture: NDArray[np.uint8], mask: NDArray[np.uint8], detection: Detection
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """The features of a picture (h, w)."""
    import cv2

    sift = cv2.SIFT.create(0 if detection.tilted else detection.most, contrastThreshold=0.02)
    detector = cv2.AffineFeature.create(sift, 5) if detection.tilted else sift
    points, descriptors = detector.detectAndCompute(picture, mask)
    if not points:
        return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
    if len(points) > detection.most:
        strongest = np.argsort([-p.response for p in points])[: detection.most]
        points, descriptors = [points[i] for i in strongest], descriptors[strongest]
    root = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-9))
    return np.array([p.pt for p in points], dtype=np.float64), root


def _of_negative(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Descriptors (n, 128) of the same features in the negative of their image.

    The negative reverses every gradient and with it the orientation of a feature: its 4 x 4 cells are
    rotated by 180 degrees, and the directions within a cell do not change relative to it. Source: Chen &
    Tian, "Real-time multi-modal rigid registration based on a novel symmetric-SIFT descriptor", Prog. Nat.
    Sci. 19 (2009).
    """
    return np.ascontiguousarray(descriptors.reshape(-1, 4, 4, 8)[:, ::-1, ::-1]).reshape(-1, 128)


def _mutual_matches(
    one: NDArray[np.float32], other: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of descriptors that are each other's nearest and much nearer than the second nearest."""
    a, b = torch.from_numpy(one), torch.from_numpy(other)
    nearest, ratios = list[Tensor](), list[Tensor]()
    back_best, back = torch.full((len(b),), -1.0), torch.zeros(len(b), dtype=torch.long)
    step = max(BATCH // len(b), 1)
    for start in range(0, len(a), step):
        cosine = a[start : start + step] @ b.T  # square-root descriptors have length one
        two = cosine.topk(2, dim=1)
        distance = (2 - 2 * two.values).clamp(min=1e-12).sqrt()
        nearest.append(two.indices[:, 0])
        ratios.append(distance[:, 0] / distance[:, 1])
        best, index = cosine.max(dim=0)
        better = best > back_best
        back_best, back = torch.where(better, best, back_best), torch.where(better, index + start, back)
    to, ratio = torch.cat(nearest), torch.cat(ratios)
    kept = (ratio < RATIO) & (back[to] == torch.arange(len(a)))
    return torch.nonzero(kept)[:, 0].numpy(), to[kept].numpy()


FINDER = StartFinder("features", rounds)
