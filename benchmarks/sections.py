"""Serial sections with known truth, what accidents do to them, and other programs' maps of them."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from benchmarks.synthetic import smooth_field
from register.geometry import affine

DECORRELATION, WARP = 0.8, 0.004
"""Correlation of neighbouring sections, and the largest displacement that each adds, in sides of an image."""
TEAR = 12
"""Pixels by which the halves of a torn section are apart."""
Array = np.ndarray


@dataclass(frozen=True)
class Section:
    """An image (h, w) and the map from its pixels (n, 2) to points of the content."""

    image: Array
    content: Callable[[Array], Array]


def texture(side: int, rng: np.random.Generator) -> Array:
    layers = sum(s * gaussian_filter(rng.normal(size=(side, side)), s) for s in (1.5, 3, 8, 20))
    return layers / layers.std()


def sections(count: int, side: int, seed: int) -> list[Section]:
    """Serial sections of a round tissue."""
    rng, wide = np.random.default_rng(seed), side + side // 3
    content, warp, made = texture(wide, rng), np.zeros((wide, wide, 2)), []
    y, x = np.indices((wide, wide)) - wide / 2
    tissue = np.clip(1.5 - np.hypot(x / (0.44 * side), y / (0.4 * side)) ** 4, 0, 1)
    for number in range(count):
        if number:
            content = DECORRELATION * content + np.sqrt(1 - DECORRELATION**2) * texture(wide, rng)
            warp = warp + smooth_field(wide, wide, WARP * side, seed * 1000 + number)
        width, height = side + rng.integers(-side // 20, side // 20, 2)
        turn = affine.similarity(
            rng.uniform(-np.pi, np.pi),
            1.0,
            (width / 2, height / 2),
            wide / 2 + rng.uniform(-0.03, 0.03, 2) * side,
        )

        def place(points: Array, turn: Array = turn, warp: Array = warp) -> Array:
            here = affine.apply(turn, points)
            moved = [map_coordinates(warp[..., k], here.T[::-1], order=3, mode="nearest") for k in (0, 1)]
            return here + np.stack(moved, -1)

        at = place(
            affine.points_at(np.arange(width, dtype=float), np.arange(height, dtype=float)).reshape(-1, 2)
        )
        grey = 0.92 - tissue * (0.45 + 0.1 * content)
        values = map_coordinates(grey, at.T[::-1], order=3, mode="nearest").reshape(height, width)
        values = values + rng.normal(0, 0.01, values.shape)
        made.append(Section(np.rint(values.clip(0, 1) * 60000).astype(np.uint16), place))
    return made


def by_sift(made: list[Section], first: int, *, star: bool) -> dict[int, Callable[[Array], Array]]:
    """Affine maps from the reference by SIFT and RANSAC, between neighbours or all to the reference."""

    def affine_between(one: int, other: int) -> Array | None:
        sift = cv2.SIFT_create(4000)
        (a, da), (b, db) = (
            sift.detectAndCompute((made[n].image // 256).astype(np.uint8), None) for n in (one, other)
        )
        near = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(da, db)
        source, target = (
            np.float64([k[i].pt for k, i in pairs])
            for pairs in ([(a, m.queryIdx) for m in near], [(b, m.trainIdx) for m in near])
        )
        return cv2.estimateAffine2D(source, target, ransacReprojThreshold=3.0, maxIters=10000)[0]

    maps = {first: affine.identity()}
    for step in (1, -1):
        for n in range(first + step, len(made) if step > 0 else -1, step):
            before = first if star else n - step
            found = affine_between(before, n) if before in maps else None
            if found is not None:
                maps[n] = affine.compose(found, maps[before])
    return {n: (lambda points, matrix=matrix: affine.apply(matrix, points)) for n, matrix in maps.items()}


def by_stackreg(made: list[Section], first: int) -> dict[int, Callable[[Array], Array]]:
    """Affine maps by pystackreg between neighbours, on canvases padded to one size; empty without it."""
    try:
        from pystackreg import StackReg
    except ImportError:
        return {}
    size = np.max([x.image.shape for x in made], axis=0)
    padded = [
        np.pad(x.image, [(0, m - n) for m, n in zip(size, x.image.shape, strict=True)], mode="edge")
        for x in made
    ]
    engine, maps = StackReg(StackReg.AFFINE), {first: affine.identity()}
    for step in (1, -1):
        for n in range(first + step, len(made) if step > 0 else -1, step):
            matrix = engine.register(padded[n - step].astype(float), padded[n].astype(float))[:2]
            maps[n] = affine.compose(matrix, maps[n - step])
    return {n: (lambda points, matrix=matrix: affine.apply(matrix, points)) for n, matrix in maps.items()}
