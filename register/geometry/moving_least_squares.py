"""Which matched points one smooth map explains, and that map: for images so bent that a homography holds in a part of them only."""

import torch
from torch import Tensor

from register.geometry import affine

NEIGHBOURS = 6
"""Accepted matches that say where a point near them should go."""
SLOPE = 0.2
"""How far a match may lie off its neighbours, per pixel of distance to them, beyond the tolerance."""
ROUNDS = 40
BATCH = 4096


def grow(fixed: Tensor, moving: Tensor, on: Tensor, tolerance: float) -> Tensor:
    """Which (n,) of the matches (n, 2) go the way of their accepted neighbours, beginning from those that are ``on`` a common map.

    A match is taken in when it lies within ``tolerance`` pixels, and a share of its distance, of where its nearest accepted neighbours
    say; one that its neighbours do not bear out is let go. The share is the largest slope of a smooth displacement, as in the smoothness
    constraint of Bian et al., "GMS: Grid-based Motion Statistics", CVPR 2017, here with distances in place of a grid.
    """
    fixed, moving, on = fixed.double(), moving.double(), on.clone()
    for _ in range(ROUNDS):
        before = on
        residual = moving - affine.apply(affine.fit(fixed[on], moving[on]), fixed)
        on = _borne_out(fixed, residual, on, tolerance)
        if int(on.sum()) <= NEIGHBOURS:
            return before
        if torch.equal(on, before):
            break
    return on


def _borne_out(fixed: Tensor, residual: Tensor, on: Tensor, tolerance: float) -> Tensor:
    """Which (n,) of the residuals (n, 2) agree with the median of those that are ``on``, their own left out, nearest to them."""
    accepted = torch.nonzero(on)[:, 0]
    good = []
    for part in torch.split(torch.arange(len(fixed)), BATCH):
        distance = torch.cdist(fixed[part], fixed[accepted])
        distance[part[:, None] == accepted] = torch.inf
        near, index = distance.topk(min(NEIGHBOURS, len(accepted) - 1), largest=False)
        expected = residual[accepted[index]].median(dim=1).values
        good.append((residual[part] - expected).norm(dim=1) <= tolerance + SLOPE * near.mean(dim=1))
    return torch.cat(good)


def smooth(points: Tensor, fixed: Tensor, moving: Tensor, reach: float) -> Tensor:
    """Moving points (m, 2) of ``points`` by the affine maps that fit matches (n, 2) best around each of them: moving least squares.

    Weights fall with the fourth power of the distance beyond ``reach`` pixels, so that noise is averaged and the map far from all matches
    is nearly that of all. Source: Schaefer, McPhail & Warren, "Image deformation using moving least squares", SIGGRAPH 2006, eq. 5.
    """
    mapped, (middle, goal) = [], (fixed.mean(0), moving.mean(0))
    fixed, both = fixed - middle, torch.cat([fixed - middle, moving - goal], 1)
    products = (fixed[:, :, None] * both[:, None]).flatten(
        1
    )  # (n, 8), of each coordinate of a fixed point with all four of a match
    for part in torch.split(points.double() - middle, BATCH):
        weight = (torch.cdist(part, fixed).square() + reach**2).square().reciprocal()
        weight = weight / weight.sum(1, keepdim=True)
        means = weight @ both
        centre, target = means[:, :2], means[:, 2:]
        spread = (weight @ products).reshape(-1, 2, 4) - centre[:, :, None] * means[:, None]
        normal = spread[..., :2] + 1e-9 * reach**2 * torch.eye(2, dtype=torch.float64)
        linear = torch.linalg.solve(normal, spread[..., 2:])
        mapped.append(target + ((part - centre)[:, None] @ linear)[:, 0])
    return torch.cat(mapped) + goal
