"""Small copies of some frames before and after alignment, from which the quality of a movie is measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.engine.movie import session
from register.engine.movie.session import Session
from register.transforms.movie import FrameTransform

SIDE, MOST, WORST = 256, 160, 4
"""Longest side of a copy in pixels, copies of good frames, and frames that are shown as the worst."""


@dataclass(frozen=True, eq=False)
class Sample:
    """The number of a frame, and its small copies (h, w) before and after, on the canvas."""

    frame: int
    before: NDArray[np.float32]
    after: NDArray[np.float32]


def step_of(size: tuple[int, int]) -> int:
    """Pixels of the movie per pixel of a copy."""
    return max(math.ceil(max(size) / SIDE), 1)


def small(image: NDArray[Any], step: int) -> NDArray[np.float32]:
    """The means of squares of ``step`` pixels of an image (h, w)."""
    height, width = (side // step for side in image.shape)
    total = np.zeros((height, width))
    for down in range(step):
        for across in range(step):
            total += image[down : height * step : step, across : width * step : step]
    return (total / step**2).astype(np.float32)


def worst_of(found: Sequence[FrameTransform]) -> list[int]:
    """The frames to look at: those that failed, then the others by their similarity, worst first."""
    order = sorted(range(len(found)), key=lambda n: (not found[n].bad, found[n].similarity, n))
    return [n for n in order[:WORST] if found[n].verdict != "ok" or found[n].similarity < 1]


def chosen(found: Sequence[FrameTransform]) -> frozenset[int]:
    """The frames that are kept: good ones spread over the movie, and the worst."""
    good = [index for index, one in enumerate(found) if not one.bad]
    places = np.linspace(0, len(good) - 1, min(MOST, len(good))).round().astype(int).tolist()
    return frozenset([*(good[place] for place in places), *worst_of(found)])


def measured(
    found: Sequence[FrameTransform],
    means: tuple[NDArray[np.float64], NDArray[np.float64]],
    samples: Sequence[Sample],
    step: int,
) -> Session:
    """The figures of a movie from its transforms, the means (h, w) of good frames before and after, and small
    copies of frames."""
    good = [one for one in samples if not found[one.frame].bad]
    either = np.stack([one.before for one in good]), np.stack([one.after for one in good])
    inside = (either[1] != 0).mean(0) > 0.9
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if len(rows) and len(columns):
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        either = either[0][:, box[0], box[1]], either[1][:, box[0], box[1]]
    several = len(good) > 2
    return Session(
        (session.crispness(means[0]), session.crispness(means[1])),
        (session.correlation(either[0]), session.correlation(either[1])) if several else None,
        session.residual(either[1], step),
        session.slow_change([one.similarity for one in found if not one.bad]),
    )
