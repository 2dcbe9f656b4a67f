"""Fit a smooth map to matched points by moving least squares."""

import torch
from torch import Tensor

BATCH = 4096
"""Points mapped at a time, which bounds the memory of the distances to all matches."""


def smooth(points: Tensor, fixed: Tensor, moving: Tensor, reach: float) -> Tensor:
    """Map fixed ``points`` (m, 2) to moving points (m, 2), each by the affine map that fits the matches near
    it.

    ``fixed`` and ``moving`` (n, 2) are the matched points. A match has the weight 1 / (distance² + reach²)²,
    with the distance and ``reach`` in pixels: noise is averaged over ``reach``, and far from all matches the
    map is nearly the affine map that fits all of them. Source: Schaefer, McPhail & Warren, "Image deformation
    using moving least squares", SIGGRAPH 2006, eq. 5.
    """
    fixed_mean, moving_mean = fixed.mean(0), moving.mean(0)
    fixed = fixed - fixed_mean
    both = torch.cat([fixed, moving - moving_mean], 1)
    products = (fixed[:, :, None] * both[:, None]).flatten(1)  # (n, 8): fixed coordinates times all four
    regular = 1e-9 * reach**2 * torch.eye(2, dtype=torch.float64)
    mapped = []
    for some in torch.split(points.double() - fixed_mean, BATCH):
        weight = (torch.cdist(some, fixed).square() + reach**2).square().reciprocal()
        weight = weight / weight.sum(1, keepdim=True)
        means = weight @ both
        centre, target = means[:, :2], means[:, 2:]
        moments = (weight @ products).reshape(-1, 2, 4) - centre[:, :, None] * means[:, None]
        linear = torch.linalg.solve(moments[..., :2] + regular, moments[..., 2:])
        mapped.append(target + ((some - centre)[:, None] @ linear)[:, 0])
    return torch.cat(mapped) + moving_mean
