"""Pairs with a known map: a real texture under a smooth random warp, or two distant views of it.

The contrast of the moving image can be changed.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from register.geometry import affine, affine_tensors

Array = NDArray[np.float64]
SIDE = 360
"""Pixels along a side of the views that ``views`` makes."""


@dataclass(frozen=True)
class Pair:
    """A fixed and a moving image (h, w) in [0, 1] and the true map (h, w, 2) from fixed pixels to moving
    pixels."""

    fixed: Array
    moving: Array
    moving_from_fixed: Array


def smooth_field(height: int, width: int, amplitude: float, seed: int, *, cycles: int = 3) -> Array:
    """A displacement (h, w, 2) of random Fourier modes of up to ``cycles`` periods across, at most
    ``amplitude`` pixels long."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    field = np.zeros((height, width, 2))
    for ky in range(cycles + 1):
        for kx in range(-cycles, cycles + 1):
            radius = np.hypot(kx, ky)
            if 0 < radius <= cycles:
                phase = 2 * np.pi * (kx * x / width + ky * y / height)
                for axis in (0, 1):
                    field[..., axis] += rng.normal() / radius**2 * np.cos(phase + rng.uniform(0, 2 * np.pi))
    return field * (amplitude / np.linalg.norm(field, axis=2).max())


def warped_pair(
    texture: Array,
    amplitude: float,
    seed: int,
    *,
    contrast: str = "plain",
    noise: float = 0.0,
    margin: int = 0,
) -> Pair:
    """A pair from a texture (h, w) in [0, 1] under a smooth random warp.

    ``amplitude`` is the largest displacement as a share of the diagonal. ``contrast`` of the moving image is
    ``plain``, ``gamma`` (0.5 plus a tilt of brightness) or ``inverted``; ``noise`` is the standard deviation
    of white noise added to both. The fixed image is read by splines of order 5 with a ``margin`` cut off on
    every side, so that it does not contain the border.
    """
    rng = np.random.default_rng(seed + 1000)
    height, width = (n - 2 * margin for n in texture.shape)
    field = smooth_field(height, width, amplitude * np.hypot(height, width), seed)
    y, x = np.mgrid[:height, :width]
    target = field + np.stack([x, y], axis=2) + margin
    fixed = map_coordinates(texture, [target[..., 1], target[..., 0]], order=5, mode="reflect")
    moving = texture.copy()
    if contrast == "gamma":
        moving = np.clip(moving, 0, 1) ** 0.5 * (
            0.6 + 0.3 * np.mgrid[: texture.shape[0], : texture.shape[1]][1] / texture.shape[1]
        )
    elif contrast == "inverted":
        moving = 1 - moving
    fixed, moving = (image + rng.normal(0, noise, image.shape) for image in (fixed, moving))
    return Pair(np.clip(fixed, 0, 1), np.clip(moving, 0, 1), target)


def folded(image: Array) -> Array:
    """Grey values (h, w) folded at their median, from 0 to 1.

    Edges keep their directions; gradients change their sign in half of the image, so that features do not
    match.
    """
    away = np.abs(image - np.median(image))
    return np.clip(away / np.quantile(away, 0.99), 0, 1)


def textured(image: Array, *, sigma: float = 8.0, floor: float = 0.02) -> NDArray[np.bool_]:
    """Where a grey image (h, w) in [0, 1] has texture: local standard deviation above ``floor``."""
    mean = gaussian_filter(image, sigma)
    return np.sqrt(np.maximum(gaussian_filter(image * image, sigma) - mean * mean, 0)) > floor


def views(
    texture: np.ndarray, angle: float, scale: float, overlap: float, contrast: str, flip: bool, seed: int
):
    """A fixed and a moving view (SIDE, SIDE) and the true map (2, 3) from fixed to moving pixels.

    The texture is read with reflection beyond its border, at the resolution of the finer view. ``contrast``
    of the moving view is ``plain``, ``inverted`` or ``folded``.
    """
    rng = np.random.default_rng(seed)
    direction = rng.uniform(0, 2 * math.pi)
    smaller = SIDE * min(1.0, 1 / scale)  # side, in fixed pixels, of the smaller view
    away = (1 - overlap) * smaller + abs(
        SIDE - SIDE / scale
    ) / 2  # along an axis: the overlap of equal squares falls linearly
    shift = away * np.array([1.0, 0.0]) if math.cos(direction) > 0 else away * np.array([0.0, 1.0])
    half = torch.tensor([(SIDE - 1) / 2] * 2, dtype=torch.float64)
    truth = affine_tensors.similarity(math.radians(angle), scale, half + torch.from_numpy(shift), half)
    if flip:
        truth = affine.compose(
            torch.tensor([[-1.0, 0.0, SIDE - 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64), truth
        )
    centre = torch.tensor([texture.shape[1] / 2, texture.shape[0] / 2], dtype=torch.float64)
    zoom = min(1.0, 1 / scale)  # texture pixels per fixed pixel stay at least one per moving pixel
    world = affine_tensors.similarity(0.0, 1.0 / max(zoom, 0.5), half, centre - torch.from_numpy(shift) / 2)
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), axis=2).reshape(-1, 2).astype(float)

    def read(matrix: torch.Tensor) -> np.ndarray:
        at = affine.apply(matrix, torch.from_numpy(grid)).numpy()
        return map_coordinates(texture, at.T[::-1], order=3, mode="mirror").reshape(SIDE, SIDE)

    fixed, moving = read(world), read(affine.compose(world, affine.invert(truth)))
    moving = {"plain": lambda x: x, "inverted": lambda x: 1 - x, "folded": folded}[contrast](moving)
    fixed, moving = (np.clip(x + rng.normal(0, 0.02, x.shape), 0, 1) for x in (fixed, moving))
    return fixed, moving, truth
