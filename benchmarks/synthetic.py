"""Pairs with a known dense warp: a real texture is resampled along a smooth random map, then its contrast is changed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """A fixed and a moving image (h, w) in [0, 1] and the true map (h, w, 2) from fixed pixels to moving pixels."""

    fixed: Array
    moving: Array
    moving_from_fixed: Array


def smooth_field(height: int, width: int, amplitude: float, seed: int, *, cycles: int = 3) -> Array:
    """A displacement (h, w, 2) of random Fourier modes of up to ``cycles`` periods across, at most ``amplitude`` pixels long."""
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


def warped_pair(texture: Array, amplitude: float, seed: int, *, contrast: str = "plain", noise: float = 0.0, margin: int = 0) -> Pair:
    """A pair from a texture (h, w) in [0, 1]; ``amplitude`` is the largest displacement as a share of the diagonal.

    ``contrast`` of the moving image is ``plain``, ``gamma`` (0.5 plus a tilt of brightness) or ``inverted``; ``noise`` is the standard
    deviation of white noise added to both. The fixed image is read by splines of order 5 with a ``margin`` cut off on every side, so
    that it sees no border.
    """
    rng = np.random.default_rng(seed + 1000)
    height, width = (n - 2 * margin for n in texture.shape)
    field = smooth_field(height, width, amplitude * np.hypot(height, width), seed)
    y, x = np.mgrid[:height, :width]
    target = field + np.stack([x, y], axis=2) + margin
    fixed = map_coordinates(texture, [target[..., 1], target[..., 0]], order=5, mode="reflect")
    moving = texture.copy()
    if contrast == "gamma":
        moving = np.clip(moving, 0, 1) ** 0.5 * (0.6 + 0.3 * np.mgrid[: texture.shape[0], : texture.shape[1]][1] / texture.shape[1])
    elif contrast == "inverted":
        moving = 1 - moving
    fixed, moving = (image + rng.normal(0, noise, image.shape) for image in (fixed, moving))
    return Pair(np.clip(fixed, 0, 1), np.clip(moving, 0, 1), target)


def textured(image: Array, *, sigma: float = 8.0, floor: float = 0.02) -> NDArray[np.bool_]:
    """Where a grey image (h, w) in [0, 1] has texture: local standard deviation above ``floor``."""
    mean = gaussian_filter(image, sigma)
    return np.sqrt(np.maximum(gaussian_filter(image * image, sigma) - mean * mean, 0)) > floor
