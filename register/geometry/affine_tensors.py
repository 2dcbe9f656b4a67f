"""Affine matrices from angles, scales and shifts, as float64 tensors on the CPU."""

import torch
from torch import Tensor

from register.geometry import affine


def identity() -> Tensor:
    """The matrix (2, 3) of the identity."""
    return torch.from_numpy(affine.identity())


def translation(x: float, y: float) -> Tensor:
    """The matrix (2, 3) that adds ``(x, y)``."""
    return torch.from_numpy(affine.translation(x, y))


def translations(shifts: Tensor) -> Tensor:
    """The matrices (..., 2, 3) that add shifts (..., 2)."""
    linear = torch.eye(2, dtype=torch.float64).expand(*shifts.shape[:-1], 2, 2)
    return torch.cat([linear, shifts.double()[..., None]], dim=-1)


def scaling(x: float, y: float) -> Tensor:
    """The matrix (2, 3) that maps a coarse pixel grid to a fine one, as ``affine.scaling``."""
    return torch.from_numpy(affine.scaling(x, y))


def similarity(angle: float, scale: float, centre_from: Tensor, centre_to: Tensor) -> Tensor:
    """The matrix (2, 3) that rotates by ``angle`` radians, scales, and maps one centre (2,) to another."""
    return torch.from_numpy(affine.similarity(angle, scale, centre_from, centre_to))
