"""Movies whose motion is known: cells, photon noise, drift, deformation, jumps, and bad frames."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from benchmarks.synthetic import smooth_field

SIDE, MARGIN, PERIODS = 512, 64, (37, 53, 91)
PHOTONS = {"easy": 100.0, "mid": 12.0, "hard": 2.0}
"""Photons of a bright pixel."""
DRIFT, MODE = 10.0, 2.0
"""Largest drift and size of each of three modes of deformation, in pixels."""
KINDS = "good", "jump", "blank", "dark", "stimulation", "half"


@dataclass(frozen=True)
class Scene:
    """A picture larger than a frame, the drift (n, 2) of every frame, the modes (h, w, 2) of deformation, and
    the kind of each frame."""

    picture: np.ndarray
    drift: np.ndarray
    modes: list[np.ndarray]
    kinds: list[str]
    level: str
    seed: int

    def moved(self, index: int) -> np.ndarray:
        """The displacement (h, w, 2) from the pixels of a frame to the picture, without the margin."""
        shares = (np.sin(2 * np.pi * index / period) for period in PERIODS)
        return self.drift[index] + MODE * sum(s * mode for s, mode in zip(shares, self.modes, strict=True))

    def frame(self, index: int) -> np.ndarray:
        """One frame uint16."""
        rng, kind = np.random.default_rng([self.seed, index]), self.kinds[index]
        if kind == "blank":
            return np.full((SIDE, SIDE), 100, np.uint16)
        y, x = np.mgrid[:SIDE, :SIDE]
        move = self.moved(index)
        at = [y + MARGIN + move[..., 1], x + MARGIN + move[..., 0]]
        light = map_coordinates(self.picture, at, order=3, mode="reflect").clip(0)
        if kind == "dark":
            light = 0 * light
        if kind == "stimulation":
            light = light + 3 * np.exp(-(((x - 200) / 150) ** 2) - ((y - 300) / 150) ** 2)
        photons = rng.poisson(light * PHOTONS[self.level])
        if kind == "half":
            photons[: SIDE // 2] = 0
        gain = 20000 / PHOTONS[self.level] / 1.6
        return np.clip(photons * gain + 100 + rng.normal(0, 20, x.shape), 0, 65535).astype(np.uint16)


def scene(frames: int, level: str, seed: int = 0, bad_every: int | None = 20) -> Scene:
    """A scene of a number of frames at a level of light; every ``bad_every``-th frame is special."""
    rng, side = np.random.default_rng(seed), SIDE + 2 * MARGIN
    cells = np.zeros((side, side))
    for _ in range(450):
        row, column, radius = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(3, 7)
        cells[int(row), int(column)] += rng.uniform(0.5, 1.5) * radius**2
    cells, ground = gaussian_filter(cells, 4), gaussian_filter(rng.normal(size=(side, side)), 3)
    picture = np.clip(cells / np.percentile(cells, 99.5) + 0.075 * ground / ground.std() + 0.2, 0, 1.5)
    walk = np.cumsum(rng.normal(0, 0.25, (frames, 2)), axis=0)
    drift = DRIFT * np.tanh(walk / DRIFT) + rng.normal(0, 0.7, (frames, 2))
    kinds = ["good"] * frames
    for number, index in enumerate(range(bad_every or frames, frames, bad_every or frames)):
        kinds[index] = KINDS[1 + number % (len(KINDS) - 1)]
        if kinds[index] == "jump":
            angle = rng.uniform(0, 2 * np.pi)
            drift[index] += rng.uniform(20, 38) * np.array([np.cos(angle), np.sin(angle)])
    modes = [smooth_field(SIDE, SIDE, 1.0, seed + s, cycles=2) for s in (1, 2, 3)]
    return Scene(picture, drift, modes, kinds, level, seed)


def errors(of: Scene, maps: list) -> np.ndarray:
    """Errors (n, points) of maps of points (n, 2) from the reference to frames, NaN for those without a map.

    The reference may lie anywhere: the place of a point in the picture is the median over the good frames.
    """
    y, x = (v.ravel() for v in np.mgrid[40:473:16, 40:473:16])
    points, places = np.stack([x, y], 1).astype(float), []
    for index, transform in enumerate(maps):
        if transform is None or of.kinds[index] in ("blank", "dark"):
            places.append(np.full((len(points), 2), np.nan))
            continue
        mapped = transform(points)
        move = of.moved(index)
        at = [mapped[:, 1], mapped[:, 0]]
        places.append(
            mapped + np.stack([map_coordinates(move[..., k], at, order=1, mode="nearest") for k in (0, 1)], 1)
        )
    all_places = np.array(places)
    good = [n for n, kind in enumerate(of.kinds) if kind == "good"]
    return np.linalg.norm(all_places - np.nanmedian(all_places[good], axis=0), axis=2)
