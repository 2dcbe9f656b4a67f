"""Movies drawn at random, with bad frames anywhere: is any frame ``ok`` and off by more than 3 px?

    python -m benchmarks.movie_draws --draws 1000 --save movie-draws
    python -m benchmarks.movie_draws --first 417 --draws 1 -v

A draw is a movie of 6 to 10 frames of 128 to 224 pixels a side: cells, texture or filaments, little to
much light, drift, jumps, deformation, and frames that are blank, dark, noise, of something else, half black,
turned or lit from outside, in any number and at any place, the first one included. The reference is the
mean, the first, the middle or the frame before; model and settings vary. ``--draws`` counts movies.
"""

import argparse
import tempfile
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter, map_coordinates

from benchmarks import results
from benchmarks.synthetic import smooth_field
from register import settings
from register.errors import RegisterError
from register.transforms.movie import load_movie
from register.workflows.movie import job, run

LIMIT = 3.0
"""Error in pixels from which a frame that is ``ok`` counts as wrong."""
MARGIN = 60
SHOWN = "good", "jump", "half", "turned", "light"
"""Kinds of frames that show the scene."""
BAD = "blank", "dark", "noise", "other"
CHANCES = {
    "good": 9,
    "jump": 2,
    "half": 1,
    "turned": 1,
    "light": 1,
    "blank": 2,
    "dark": 1,
    "noise": 2,
    "other": 2,
}
"""How often each kind is drawn."""


@dataclass(frozen=True)
class Draw:
    """A movie: frames (n, h, w) uint16, the kind of each, the places (n, h, w, 2) of their pixels in the
    scene, and how it is aligned."""

    frames: np.ndarray
    kinds: list[str]
    places: np.ndarray
    to: str
    model: str
    rotation: float


@dataclass(frozen=True)
class Outcome:
    """A frame: its kind, verdict, and median error in pixels, infinite where it shows nothing."""

    frame: int
    kind: str
    verdict: str
    error: float


def scene(rng: np.random.Generator, side: int) -> np.ndarray:
    """A picture (side, side) in about [0, 1]."""
    kind = rng.integers(3)
    if kind == 0:  # cells on a ground
        dots = np.zeros((side, side))
        count = int(side * side / rng.uniform(500, 2000))
        dots[tuple(rng.integers(0, side, (2, count)))] = rng.uniform(0.5, 1.5, count)
        ground = gaussian_filter(rng.normal(size=(side, side)), 3)
        cells = gaussian_filter(dots, rng.uniform(2, 4))
        made = cells / np.percentile(cells, 99.5) + 0.08 * ground / ground.std() + 0.2
    elif kind == 1:  # texture of several scales
        made = sum(s * gaussian_filter(rng.normal(size=(side, side)), s) for s in (1.5, 3, 8))
        made = (made - made.min()) / (made.max() - made.min())
    else:  # filaments
        field = gaussian_filter(rng.normal(size=(side, side)), rng.uniform(3, 6))
        made = np.exp(-((field / field.std() / 0.25) ** 2)) + 0.1
    return np.clip(made, 0, 1.5)


def draw(seed: int) -> Draw:
    """The movie of a seed."""
    rng = np.random.default_rng([seed, 29])
    height, width = (int(n) for n in rng.integers(128, 225, 2))
    count, side = int(rng.integers(6, 11)), max(height, width) + 2 * MARGIN
    picture, other = scene(rng, side), scene(rng, side)
    names, weights = list(CHANCES), np.array(list(CHANCES.values()), float)
    kinds = [str(kind) for kind in rng.choice(names, count, p=weights / weights.sum())]
    to = str(rng.choice(["mean", "mean", "first", "middle", "previous"]))
    middle = count // 2 if to == "middle" else 0
    for n in sorted(range(count), key=lambda n: (abs(n - middle), n)) if to != "mean" else ():
        if kinds[n] in SHOWN:
            break
        kinds[n] = "blank" if kinds[n] == "other" else kinds[n]  # what the reference shows is right
    shown = sum(kind in SHOWN for kind in kinds)
    for n in [n for n, kind in enumerate(kinds) if kind == "other"][max(shown - 1, 0) // 2 :]:
        kinds[n] = "blank"  # the mean is of what most frames show
    photons = 10 ** rng.uniform(0.7, 2.3)
    drift = np.cumsum(rng.normal(0, rng.uniform(0.2, 2), (count, 2)), 0).clip(-15, 15)
    mode = smooth_field(height, width, rng.uniform(0, 2), int(rng.integers(1 << 30)), cycles=2)
    y, x = np.mgrid[:height, :width].astype(float)
    frames, places = [], []
    for n, kind in enumerate(kinds):
        move = drift[n] + (rng.uniform(-25, 25, 2) if kind == "jump" else 0)
        angle = np.radians(rng.choice([180.0, 90.0, *rng.uniform(5, 170, 2)])) if kind == "turned" else 0.0
        dx, dy = x - width / 2, y - height / 2
        at = np.stack([np.cos(angle) * dx - np.sin(angle) * dy, np.sin(angle) * dx + np.cos(angle) * dy], 2)
        at = at + side / 2 + move + np.sin(2 * np.pi * n / 7) * mode
        source = other if kind == "other" else picture
        light = map_coordinates(source, [at[..., 1], at[..., 0]], order=3, mode="reflect").clip(0)
        frames.append(_recorded(light, kind, photons, rng))
        places.append(at)
    model = str(rng.choice(["local", "local", "rigid", "affine", "translation"]))
    return Draw(np.array(frames), kinds, np.array(places), to, model, float(rng.choice([10.0, 30.0, 180.0])))


def _recorded(light: np.ndarray, kind: str, photons: float, rng: np.random.Generator) -> np.ndarray:
    """A frame uint16 of the light that reaches it."""
    height, width = light.shape
    if kind == "blank":
        return np.full(light.shape, 100, np.uint16)
    if kind in ("dark", "noise"):
        light = 0 * light
    if kind == "light":
        y, x = np.mgrid[:height, :width]
        centre = rng.uniform(0, 1, 2) * (height, width)
        light = light + 3 * np.exp(-(((y - centre[0]) / 50) ** 2) - ((x - centre[1]) / 50) ** 2)
    counts = rng.poisson(light * photons).astype(float)
    if kind == "noise":
        counts = rng.uniform(0, photons, light.shape)
    if kind == "half":
        counts[: int(height * rng.uniform(0.2, 0.7))] = 0
    return np.clip(counts * 20000 / photons + 100 + rng.normal(0, 20, light.shape), 0, 65535).astype(
        np.uint16
    )


def outcomes(of: Draw, folder: Path) -> list[Outcome]:
    """The outcome of every frame; none where the movie is refused as a whole."""
    path = folder / "movie.tif"
    tifffile.imwrite(path, of.frames, photometric="minisblack")
    chosen = settings.check(
        preset="fast", model=of.model, rotation_range=of.rotation, report=False, threads=1
    )
    try:
        rows = run.run(job.Movie((str(path),), of.to, folder / "out", chosen), count=1, redo=True)
    except RegisterError:
        return []
    movie = load_movie(folder / "out" / "transforms.npz")
    height, width = of.frames.shape[1:]
    y, x = (v.ravel() for v in np.mgrid[20 : height - 20 : 8, 20 : width - 20 : 8].astype(float))
    points, found = np.stack([x, y], 1), list[np.ndarray]()
    for n, kind in enumerate(of.kinds):
        mapped = movie[n].map(points)
        inside = ((mapped >= 0) & (mapped <= (width - 1, height - 1))).all(1)
        at = [mapped[:, 1], mapped[:, 0]]
        place = np.stack(
            [map_coordinates(of.places[n, ..., k], at, order=1, mode="nearest") for k in (0, 1)], 1
        )
        found.append(np.where(inside[:, None] & (kind in SHOWN), place, np.nan))
    true = _reference(of, rows, np.array(found))
    errors = [np.linalg.norm(place - true, axis=1) for place in found]
    medians = [float(np.nanmedian(e)) if np.isfinite(e).any() else np.inf for e in errors]
    return [Outcome(n, of.kinds[n], rows[n].verdict, medians[n]) for n in range(len(rows))]


def _reference(of: Draw, rows: list[Any], found: np.ndarray) -> np.ndarray:
    """The places (points, 2) in the scene of the points of the reference: the median over frames that are
    ``ok``, about the one on which most of them agree."""
    ok = [n for n, row in enumerate(rows) if row.verdict == "ok" and of.kinds[n] in SHOWN]
    ok = ok or list(range(len(rows)))
    apart = np.array([[_apart(found[a], found[b]) for b in ok] for a in ok])
    near = [[ok[k] for k in np.flatnonzero(row < LIMIT)] for row in apart]
    chosen = found[max(near, key=len) or ok]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # points that no frame covers
        return np.nanmedian(chosen, axis=0)


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """The median distance of places (points, 2) that are known for both; infinite without any."""
    far = np.linalg.norm(one - other, axis=1)
    return float(np.nanmedian(far)) if np.isfinite(far).any() else np.inf


def wrong(found: list[Outcome]) -> list[Outcome]:
    """The frames that are ``ok`` and show nothing of the scene, or are off by more than ``LIMIT``."""
    return [one for one in found if one.verdict == "ok" and not one.error <= LIMIT]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the seed of the first draw")
    parser.add_argument("-v", action="store_true", help="print every frame")
    results.add_options(parser)
    options = parser.parse_args()
    counts, refused, faults = Counter[tuple[str, str]](), 0, list[dict[str, Any]]()
    for seed in range(options.first, options.first + options.draws):
        of = draw(seed)
        with tempfile.TemporaryDirectory() as folder:
            found = outcomes(of, Path(folder))
        refused += not found
        counts.update((one.kind, one.verdict) for one in found)
        for one in found if options.v else wrong(found):
            how = f"--to {of.to} --model {of.model} --rotation-range {of.rotation:g}"
            print(
                f"draw {seed} {how}: frame {one.frame} {one.kind} {one.verdict} {one.error:.2f} px",
                flush=True,
            )
        faults += [
            {"draw": seed, "frame": one.frame, "kind": one.kind, "error": one.error} for one in wrong(found)
        ]
    table = {kind: {v: counts[kind, v] for v in ("ok", "suspect", "failed")} for kind in CHANCES}
    for kind, verdicts in table.items():
        print(f"{kind:8s}", *(f"{verdict} {number:5d}" for verdict, number in verdicts.items()))
    total = sum(counts.values())
    print(f"{options.draws} movies, {refused} refused, {total} frames; ok and wrong: {len(faults)}")
    rows = {"movies": options.draws, "refused": refused, "frames": total, "wrong": faults, "kinds": table}
    results.keep(options, [rows])


if __name__ == "__main__":
    main()
