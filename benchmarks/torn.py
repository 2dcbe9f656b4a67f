"""Pairs with a known map that is not continuous: tears, cracks, folds of sections, shear bands.

A texture is cut along a line. Coordinates along and across the line are (xi, eta); each side moves by a map
that has a closed inverse, and a smooth warp is added. Either image of the pair can be the torn one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, map_coordinates

from benchmarks.synthetic import Array, smooth_field

KINDS = "tear", "crack", "fold", "shear"
SIDE = 480
"""Sides of the images, in pixels."""


@dataclass(frozen=True)
class Torn:
    """A pair: images (h, w), the true map (h, w, 2) from fixed to moving pixels, the side (0 or 1) of every
    fixed pixel, those without counterpart, and the distance of each pixel from the line; NaN far from a
    crack."""

    fixed: NDArray[np.uint8]
    moving: NDArray[np.uint8]
    moving_from_fixed: Array
    side: NDArray[np.int64]
    hidden: NDArray[np.bool_]
    distance: Array


@dataclass(frozen=True)
class Cut:
    """The line and the motion of its sides.

    ``normal`` points from side 0 to side 1. Side 1 moves by ``opening`` (xi) along the normal and ``slip``
    (eta) along the line; a strip of width ``strip`` is missing.
    """

    centre: Array
    normal: Array
    wave: Callable[[Array], Array]
    opening: Callable[[Array], Array]
    slip: Callable[[Array], Array]
    strip: float = 0.0

    def along(self, points: Array) -> tuple[Array, Array]:
        """The coordinates xi and eta (...) of points (..., 2)."""
        away = points - self.centre
        return away @ np.array([-self.normal[1], self.normal[0]]), away @ self.normal

    def points(self, xi: Array, eta: Array) -> Array:
        """The points (..., 2) of coordinates."""
        tangent = np.array([-self.normal[1], self.normal[0]])
        return self.centre + xi[..., None] * tangent + eta[..., None] * self.normal

    def torn(self, points: Array) -> tuple[Array, NDArray[np.int64], NDArray[np.bool_]]:
        """Points of the whole image in the torn one, their side, and whether they are missing there."""
        xi, eta = self.along(points)
        over = eta - self.wave(xi)
        side = (over > 0).astype(np.int64)
        missing = np.abs(over) < self.strip / 2
        half = np.where(side, 1.0, -1.0) * (self.opening(xi) - self.strip) / 2
        return self.points(xi + self.slip(eta), eta + half), side, missing

    def whole(self, points: Array) -> tuple[Array, NDArray[np.int64], NDArray[np.bool_]]:
        """Points of the torn image in the whole one, their side, and whether they are in the opening."""
        xi, eta = self.along(points)
        xi = xi - self.slip(eta)
        over = eta - self.wave(xi)
        side = (over > 0).astype(np.int64)
        half = np.where(side, 1.0, -1.0) * (self.opening(xi) - self.strip) / 2
        return self.points(xi, eta - half), side, np.abs(over) < self.opening(xi) / 2


def make(texture: Array, kind: str, seed: int, *, torn_fixed: bool, noise: float = 3.0) -> Torn:
    """A pair of a ``kind`` from a texture (h, w) in [0, 1]."""
    rng = np.random.default_rng([seed, KINDS.index(kind), int(torn_fixed)])
    cut = _cut(kind, rng)
    height, width = texture.shape
    corner = np.array([rng.uniform(0, width - SIDE), rng.uniform(0, height - SIDE)])
    x, y = np.meshgrid(np.arange(SIDE, dtype=float), np.arange(SIDE, dtype=float))
    pixels = np.stack([x, y], 2)
    ground = float(rng.choice([0.03, 0.95]))

    def texture_at(points: Array) -> Array:
        at = points + corner
        return map_coordinates(texture, [at[..., 1], at[..., 0]], order=3, mode="reflect")

    def torn_at(points: Array) -> tuple[Array, Array, NDArray[np.int64], NDArray[np.bool_]]:
        whole, side, opening = cut.whole(points)
        return np.where(opening, ground, texture_at(whole)), whole, side, opening

    warped = pixels + smooth_field(SIDE, SIDE, 0.008 * SIDE, seed + 17)
    if torn_fixed:
        fixed, target, side, hidden = torn_at(warped)
        moving = texture_at(pixels)
    else:
        fixed = texture_at(warped)
        target, side, hidden = cut.torn(warped)
        moving = torn_at(pixels)[0]
    images = [np.clip(255 * image + rng.normal(0, noise, image.shape), 0, 255) for image in (fixed, moving)]
    return Torn(
        np.rint(images[0]).astype(np.uint8),
        np.rint(images[1]).astype(np.uint8),
        target,
        side,
        hidden,
        _distance(cut, warped, side, hidden, torn_fixed=torn_fixed),
    )


def _distance(
    cut: Cut, points: Array, side: NDArray[np.int64], hidden: NDArray[np.bool_], *, torn_fixed: bool
) -> Array:
    """The distance of fixed pixels from the line, or from the opening; infinite beyond a tip."""
    jump = np.zeros(side.shape, bool)
    jump[:, :-1] |= side[:, 1:] != side[:, :-1]
    jump[:-1] |= side[1:] != side[:-1]
    xi, eta = cut.along(points)
    slip = cut.slip(eta + 8) - cut.slip(eta - 8)
    jump &= np.hypot(cut.opening(xi) - cut.strip, slip) > 1.0
    return distance_transform_edt(~(jump | hidden))


def _cut(kind: str, rng: np.random.Generator) -> Cut:
    """A random line through the middle of the image, and the motion of its sides."""
    angle = rng.uniform(0, 2 * np.pi)
    normal = np.array([np.cos(angle), np.sin(angle)])
    centre = np.full(2, (SIDE - 1) / 2) + rng.uniform(-0.15, 0.15, 2) * SIDE
    size, period, phase = rng.uniform(0.0, 0.03) * SIDE, rng.uniform(0.4, 1.0) * SIDE, rng.uniform(0, 6.28)
    amount = rng.uniform(0.02, 0.10) * SIDE
    tip = rng.uniform(-0.1, 0.25) * SIDE
    turn = rng.uniform(-0.5, 0.5) * amount / SIDE
    slide = rng.uniform(-0.4, 0.4) * amount
    steep = rng.uniform(0.3, 1.0)

    def wave(xi: Array) -> Array:
        return size * np.sin(2 * np.pi * xi / period + phase)

    def nothing(xi: Array) -> Array:
        return np.zeros_like(xi)

    if kind == "tear":
        return Cut(centre, normal, wave, lambda xi: amount + turn * xi, nothing)
    if kind == "crack":
        return Cut(centre, normal, wave, lambda xi: np.maximum(tip - xi, 0) * amount / (0.7 * SIDE), nothing)
    if kind == "fold":
        return Cut(centre, normal, wave, nothing, nothing, strip=amount)
    return Cut(
        centre,
        normal,
        nothing,
        nothing,
        lambda eta: (slide + np.sign(slide) * 3) * 0.5 * np.tanh(eta / steep),
    )
