"""Matched points of two images, and the selection of matches that agree on a smooth map."""

from dataclasses import dataclass

import torch
from torch import Tensor

from register.geometry import affine, homography, models, moving_least_squares

NEIGHBOURS = 6
"""Number of nearest accepted matches whose median residual predicts that of a match."""
LARGEST_GRADIENT = 0.2
"""Largest difference of a match from its neighbours' prediction, per pixel of distance to them."""
ROUNDS = 40
BATCH = 4096
AVERAGED = 0.03
"""Distance over which a smooth map averages matches, as a share of the matched region."""


@dataclass(frozen=True)
class Matches:
    """Matched points (n, 2) of two images, float64, in pixels of the originals, and the maps they agree on.

    ``homography`` (3, 3) is the map that all matches lie on, or None where a smooth map explains many more
    matches than any homography; ``matrix`` (2, 3) is the affine map nearest to it. Both map fixed to moving
    points.
    """

    homography: Tensor | None
    matrix: Tensor
    fixed: Tensor
    moving: Tensor

    @property
    def extent(self) -> float:
        """The diagonal of the matched region of the moving image, in pixels."""
        return float((self.moving.amax(0) - self.moving.amin(0)).norm())

    def inverted(self) -> "Matches":
        """The matches from moving to fixed points."""
        back = None if self.homography is None else torch.linalg.inv(self.homography)
        return Matches(back, affine.invert(self.matrix), self.moving, self.fixed)

    def map(self, points: Tensor) -> Tensor:
        """Map fixed points (n, 2) to moving points (n, 2), by the homography or by moving least squares."""
        if self.homography is None:
            return moving_least_squares.smooth(points, self.fixed, self.moving, AVERAGED * self.extent)
        return homography.apply(self.homography, points)


def grow(fixed: Tensor, moving: Tensor, accepted: Tensor, tolerance: float) -> Tensor:
    """Select the matches (n, 2) that agree with one smooth map, starting from the ``accepted`` (n,) ones.

    The accepted matches agree with one map already. Returns bool (n,).

    A match is accepted when its residual from the affine map of all accepted matches lies within
    ``tolerance`` pixels, plus a share of the distance to its neighbours, of the median residual of its
    nearest accepted neighbours, and rejected when it does not. That share bounds the gradient of a smooth
    displacement, as the smoothness constraint of Bian et al., "GMS: Grid-based Motion Statistics", CVPR 2017,
    with distances instead of a grid. Returns the matches of the round before when too few are left.
    """
    fixed, moving, accepted = fixed.double(), moving.double(), accepted.clone()
    for _ in range(ROUNDS):
        before = accepted
        residual = moving - affine.apply(models.AFFINE.fit(fixed[accepted], moving[accepted]), fixed)
        accepted = _agrees_with_neighbours(fixed, residual, accepted, tolerance)
        if int(accepted.sum()) <= NEIGHBOURS:
            return before
        if torch.equal(accepted, before):
            break
    return accepted


def _agrees_with_neighbours(fixed: Tensor, residual: Tensor, accepted: Tensor, tolerance: float) -> Tensor:
    """Whether each residual (n, 2) is near the median of its nearest accepted neighbours: bool (n,)."""
    neighbours = torch.nonzero(accepted)[:, 0]
    agrees = []
    for some in torch.split(torch.arange(len(fixed)), BATCH):
        distance = torch.cdist(fixed[some], fixed[neighbours])
        distance[some[:, None] == neighbours] = torch.inf
        near, index = distance.topk(min(NEIGHBOURS, len(neighbours) - 1), largest=False)
        expected = residual[neighbours[index]].median(dim=1).values
        limit = tolerance + LARGEST_GRADIENT * near.mean(dim=1)
        agrees.append((residual[some] - expected).norm(dim=1) <= limit)
    return torch.cat(agrees)
