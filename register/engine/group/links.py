"""Links between the images of a set: what a pair's transform says about the common frame."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from register.geometry.arrays import Float64
from register.transforms.quality import Verdict
from register.transforms.transform import Transform

TRUST = {Verdict.OK: 1.0, Verdict.SUSPECT: 0.1}
"""The weight of a link by its verdict; links of other verdicts have none."""
SIDE = 15
"""Points along each side of the fixed image at which a link is sampled for the global maps."""
LEAST_SIGMA, MOST_SIGMA = 0.03, 0.2
"""The smallest and the largest error, in pixels, that a link is believed to have where the global maps are
solved: which of two links that contradict each other is right, their expected errors cannot tell."""


@dataclass(frozen=True)
class Link:
    """The transform from image ``fixed`` to image ``moving``, which are indices, and its trust in [0, 1].

    ``unseen`` is an error in pixels besides the expected one: local deformation that its model cannot have.
    """

    fixed: int
    moving: int
    transform: Transform
    trust: float
    unseen: float = 0.0

    @property
    def is_local(self) -> bool:
        """Whether the map has patches that deviate from its global map."""
        found = self.transform.matrices
        return found is not None and not np.allclose(found, self.transform.matrix, rtol=0, atol=1e-9)

    @classmethod
    def of(cls, fixed: int, moving: int, transform: Transform) -> "Link":
        """The link of a transform, trusted by its verdict."""
        return cls(fixed, moving, transform, TRUST.get(transform.quality.verdict, 0.0))


@dataclass(frozen=True)
class Matched:
    """Points (n, 2) of two images that show the same, and their errors (n,) in pixels of the second."""

    fixed: int
    moving: int
    points: Float64
    mapped: Float64
    sigma: Float64
    trust: float


def sampled(link: Link, side: int = SIDE) -> Matched:
    """A link at a grid of points of its fixed image that lie on both images and whose error is known.

    If the error is known nowhere, all points that lie on both images are used.
    """
    points = link.transform.fixed.sample_points(side)
    mapped = link.transform.map(points)
    sigma = link.transform.expected_error(points)
    inside = link.transform.moving.contains(mapped)
    known = inside & np.isfinite(sigma)
    kept = known if known.sum() >= 3 else inside
    sigma = np.where(np.isfinite(sigma), sigma.clip(LEAST_SIGMA, MOST_SIGMA), 1.0)
    return Matched(link.fixed, link.moving, points[kept], mapped[kept], sigma[kept], link.trust)


def parts(count: int, links: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The connected parts of a graph of ``count`` images, the largest first, each in ascending order."""
    label: NDArray[np.int64] = np.arange(count)
    for one, other in links:
        label[label == label[other]] = label[one]
    found = [np.flatnonzero(label == value).tolist() for value in dict.fromkeys(label.tolist())]
    return sorted(found, key=lambda part: (-len(part), part[0]))
