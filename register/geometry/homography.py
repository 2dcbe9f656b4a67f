"""Homographies: 3 x 3 matrices that map points ``(x, y)`` in homogeneous coordinates."""

import torch
from torch import Tensor


def from_affine(matrix: Tensor) -> Tensor:
    """The homography (3, 3) of an affine map (2, 3)."""
    return torch.cat([matrix, torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)])


def apply(homography: Tensor, points: Tensor) -> Tensor:
    """Map points (n, 2) by a homography (3, 3)."""
    mapped = points @ homography[:2, :2].T + homography[:2, 2]
    return mapped / weights(homography, points)[:, None]


def weights(homography: Tensor, points: Tensor) -> Tensor:
    """The third homogeneous coordinate (n,) of mapped points (n, 2); it is zero on the horizon."""
    return points @ homography[2, :2] + homography[2, 2]
