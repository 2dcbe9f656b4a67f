"""Make start finders from functions that match points of two images, such as those of other packages."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from register.engine.fit import global_fit
from register.engine.initial import consensus
from register.engine.initial.finder import Proposal, StartFinder
from register.engine.initial.search_range import SearchRange
from register.errors import RegisterError
from register.images import pyramid
from register.images.pyramid import Level

SIDE = 1024
"""Longest side, in pixels, of the images that a matching function is given."""
MOST = 10000
"""Largest number of matches that are used: those with the highest scores."""

Image = NDArray[np.float32]
Match = Callable[..., Any]
"""``match(fixed, moving)`` on two grey images, float32 arrays (h, w) in [0, 1].

It returns the matched points of the fixed image (n, 2), their partners in the moving image (n, 2), both
``(x, y)`` in pixels of these arrays, and scores (n,), higher for better matches. A function with parameters
``fixed_mask`` and ``moving_mask`` is given the valid pixels too, as bool arrays (h, w).
"""


def finder_from_matches(name: str, match: Match) -> StartFinder:
    """A start finder from a function that matches points, with the signature of ``Match``.

    Its matches are treated as those of the built-in features: they are reduced to those that agree on one
    homography or smooth map, whose nearest map of the alignment's model is proposed. The finder raises
    ``RegisterError`` where the function returns arrays of other shapes.
    """

    def rounds(fixed: Level, moving: Level, within: SearchRange) -> Iterator[list[Proposal]]:
        model = global_fit.global_model(within.model)
        proposals = []
        for each in within.orientations(moving):
            one, other = (pyramid.shrink(level, max(level.size) / SIDE) for level in (fixed, each))
            source, target = _matched_points(name, match, one, other)
            found, _ = consensus.agree(one, other, source, target, model)
            if found:
                proposals.append(Proposal(found.matrix, consensus.count(found), found))
        yield proposals

    return StartFinder(name, rounds)


def _matched_points(
    name: str, match: Match, fixed: Level, moving: Level
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The finite matches (n, 2) of a function, those with the highest scores first."""
    result = match(_image(fixed), _image(moving), **_masks(match, fixed, moving))
    source, target, scores = _checked(name, result)
    finite = np.isfinite(source).all(1) & np.isfinite(target).all(1) & np.isfinite(scores)
    order = np.flatnonzero(finite)[np.argsort(-scores[finite], kind="stable")][:MOST]
    return source[order], target[order]


def _image(level: Level) -> Image:
    """The grey image (h, w) of a level, 0 where it is not valid."""
    image = torch.where(level.mask[0] > 0.5, level.image[0].clamp(0, 1), 0.0)
    return np.ascontiguousarray(image.cpu().numpy(), dtype=np.float32)


def _masks(match: Match, fixed: Level, moving: Level) -> dict[str, NDArray[np.bool_]]:
    """The masks (h, w) as keyword arguments, where a function has parameters for them."""
    try:
        parameters = inspect.signature(match).parameters
    except (TypeError, ValueError):
        return {}
    masks = {"fixed_mask": fixed, "moving_mask": moving}
    return {key: (level.mask[0] > 0.5).cpu().numpy() for key, level in masks.items() if key in parameters}


def _checked(name: str, result: Any) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Matched points (n, 2), their partners (n, 2) and scores (n,), as arrays on the CPU."""
    wanted = "points (n, 2) of the fixed image, points (n, 2) of the moving image and scores (n,)"
    try:
        source, target, scores = (_array(values) for values in result)
    except (TypeError, ValueError) as error:
        raise RegisterError(f"the matcher {name!r} must return {wanted}: {error}") from error
    if source.size == target.size == scores.size == 0:
        return np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0)
    n = len(scores) if scores.ndim else 0
    if (source.shape, target.shape, scores.shape) != ((n, 2), (n, 2), (n,)):
        shapes = ", ".join(str(array.shape) for array in (source, target, scores))
        raise RegisterError(f"the matcher {name!r} returned arrays of shapes {shapes}; expected {wanted}")
    return source, target, scores


def _array(values: Any) -> NDArray[np.float64]:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64)
