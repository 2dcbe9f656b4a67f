"""Fields of points with known truth: stars and beads, turned and scaled, and unrelated fields.

    python -m benchmarks.points                               # twenty draws of each kind
    python -m benchmarks.points --kinds stars50 beads12 --draws 5 --json results.json
    python -m benchmarks.points --astroalign                  # beside it, if it is installed

Stars have any rotation and a scale of 0.7 to 1.4; the moving image has a seeing of 6 pixels instead of 3,
30 % of the stars are missing in it, and both have 150 cosmic rays and a border of NaN. Beads have a chromatic
magnification of 1.004, a small turn and other brightness. The number of a kind is that of sources in an
image; because of rotation, missing and faint ones, fewer can match, at least five. A result is right when its
median error over the overlap (of beads, at the beads) is below a pixel. Seconds are those of the processor,
for the entire alignment.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import register

Array = NDArray[np.float64]
STARS = {10: 400, 20: 400, 50: 512, 200: 700, 2000: 1400}
"""Numbers of stars in an image, and the side of the image."""
BEADS = 6, 12, 25, 60, 150
RAYS, LEAST_COMMON = 150, 5
"""Cosmic rays in an image of stars, and stars that both images show, at least: others are drawn again."""


@dataclass(frozen=True)
class Draw:
    """Two images (h, w), the true map of fixed points (n, 2), and the points at which errors are measured."""

    fixed: Array
    moving: Array
    truth: Callable[[Array], Array] | None
    points: Array


@dataclass(frozen=True)
class Row:
    """One draw: what came out, the true errors in pixels, sources, and seconds of the processor."""

    kind: str
    seed: int
    verdict: str
    median: float
    largest: float
    expected: float | None
    matched: int
    possible: int
    seconds: float
    reasons: tuple[str, ...]
    astroalign: float | None = None
    astroalign_seconds: float | None = None


def spots(side: int, places: Array, heights: Array, fwhm: float) -> Array:
    """Gaussians at places (n, 2) in an image of a side."""
    image, sigma = np.zeros((side, side)), fwhm / 2.355
    radius = int(np.ceil(5 * sigma))
    for (x, y), height in zip(places, heights, strict=True):
        rows = np.arange(max(round(y) - radius, 0), min(round(y) + radius + 1, side))
        columns = np.arange(max(round(x) - radius, 0), min(round(x) + radius + 1, side))
        if len(rows) and len(columns):
            distance = (columns - x) ** 2 + (rows[:, None] - y) ** 2
            image[np.ix_(rows, columns)] += height * np.exp(-distance / (2 * sigma**2))
    return image


def grid(side: int, truth: Callable[[Array], Array]) -> Array:
    """Points (n, 2) of the fixed image that lie in the moving one."""
    points = np.stack(np.meshgrid(*[np.linspace(10, side - 11, 12)] * 2), -1).reshape(-1, 2)
    there = truth(points)
    return points[((there >= 0) & (there < side)).all(1)]


def similarity(side: int, angle: float, scale: float, shift: Array) -> Callable[[Array], Array]:
    """A turn and scaling about the middle, and a shift."""
    middle = (side - 1) / 2
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return lambda points: (points - middle) @ linear.T + middle + shift


def within(points: Array, side: int) -> NDArray[np.bool_]:
    """Which points (n, 2) are seen in an image of a side, away from its border of NaN."""
    return ((points >= side / 30 + 2) & (points < side - side / 30 - 2)).all(1)


def stars(count: int, rng: np.random.Generator) -> Draw:
    """A field of stars at another seeing, turned and scaled, with stars missing."""
    side = STARS[count]
    scale = float(np.exp(rng.uniform(np.log(0.7), np.log(1.4))))
    truth = similarity(side, rng.uniform(-np.pi, np.pi), scale, rng.uniform(-0.08, 0.08, 2) * side)
    places = rng.uniform(-side, 2 * side, (9 * count, 2))
    flux = np.minimum(60 * (1 + rng.pareto(1.2, len(places))), 3e4)
    seen = rng.random(len(places)) > 0.3
    if np.sum(within(places, side) & within(truth(places), side) & seen) < LEAST_COMMON:
        return stars(count, rng)
    images = [
        spots(side, places, flux, 3.0),
        spots(side, truth(places)[seen], 0.3 * flux[seen], 6.0),
    ]
    for image in images:
        image += 100 + 4 * rng.standard_normal(image.shape)
        image[rng.integers(0, side, RAYS), rng.integers(0, side, RAYS)] += rng.uniform(300, 4000, RAYS)
    images[0][: side // 40], images[1][:, -side // 30 :] = np.nan, np.nan
    return Draw(images[0], images[1], truth, grid(side, truth))


def beads(count: int, rng: np.random.Generator) -> Draw:
    """Beads in two colours."""
    side = 512
    places = rng.uniform(20, 490, (count, 2))
    truth = similarity(side, 0.01, 1.004, np.array([11.3, -6.8]))
    images = [
        rng.poisson(100 + spots(side, at, rng.uniform(300, 2000, count), 3.8)).astype(float)
        for at in (places, truth(places))
    ]
    return Draw(images[0], images[1], truth, places)


def unrelated(count: int, rng: np.random.Generator) -> Draw:
    """Two fields that have nothing in common."""
    one, other = stars(count, rng), stars(count, rng)
    return Draw(one.fixed, other.moving, None, one.points)


def kinds() -> dict[str, Callable[[np.random.Generator], Draw]]:
    """The kinds of draws by name."""
    made: dict[str, Callable[[np.random.Generator], Draw]] = {}
    for name, make, counts in (
        ("stars", stars, STARS),
        ("beads", beads, BEADS),
        ("unrelated", unrelated, (50,)),
    ):
        for count in counts:
            made[f"{name}{count}"] = lambda rng, make=make, count=count: make(count, rng)
    return made


def run(kind: str, seed: int, *, astroalign: bool, model: str) -> Row:
    """Draw one pair, align it, and measure the error."""
    drawn = kinds()[kind](np.random.default_rng([seed, *kind.encode()]))
    begin = time.process_time()
    found = register.align(drawn.fixed.astype(np.float32), drawn.moving.astype(np.float32), model=model)
    seconds = time.process_time() - begin
    error = np.array([np.nan])
    if drawn.truth:
        mapped = np.asarray(found.transform.map(drawn.points))
        error = np.linalg.norm(mapped - drawn.truth(drawn.points), axis=1)
    points = found.quality.points
    other = beside(drawn) if astroalign else (None, None)
    return Row(
        kind,
        seed,
        str(found.quality.verdict),
        round(float(np.median(error)), 4),
        round(float(error.max()), 4),
        found.quality.expected_error,
        (points.matched or 0) if points else 0,
        (points.possible or 0) if points else 0,
        round(seconds, 2),
        tuple(found.quality.reasons),
        *other,
    )


def beside(drawn: Draw) -> tuple[float | None, float | None]:
    """The median error of astroalign and its seconds; no error where it finds nothing."""
    import astroalign

    fixed, moving = (np.nan_to_num(x, nan=100.0).astype(np.float32) for x in (drawn.fixed, drawn.moving))
    begin = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            transform, _ = astroalign.find_transform(fixed, moving)
    except (astroalign.MaxIterError, ValueError, TypeError):
        return None, round(time.process_time() - begin, 2)
    seconds = round(time.process_time() - begin, 2)
    if drawn.truth is None:
        return 0.0, seconds
    error = np.linalg.norm(transform(drawn.points) - drawn.truth(drawn.points), axis=1)
    return round(float(np.median(error)), 4), seconds


def line(kind: str, rows: list[Row]) -> str:
    """The figures of one kind."""
    n = len(rows)
    ok = sum(row.verdict == "ok" for row in rows)
    failed = sum(row.verdict == "failed" for row in rows)
    right = sum(row.median < 1 for row in rows)
    wrong = sum(row.verdict == "ok" and not row.median < 1 for row in rows)
    error = np.median([row.median for row in rows])
    seconds, matched = np.median([row.seconds for row in rows]), np.median([row.matched for row in rows])
    text = f"{kind:12s} {right:3d}/{n:<3d} {ok:4d} {wrong:9d} {failed:7d} {error:8.3f} {matched:8.0f}"
    text += f" {seconds:6.2f}"
    if any(row.astroalign_seconds is not None for row in rows):
        found = sum(row.astroalign is not None and (row.astroalign < 1) for row in rows)
        each = [row.astroalign for row in rows if row.astroalign is not None]
        middle = float(np.median(each)) if each else float("nan")
        text += f" | {found:3d}/{n:<3d} {middle:8.3f}"
    return text


def main() -> None:
    """Run the draws and print a table by kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", choices=list(kinds()), default=list(kinds()))
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--model", default="local")
    parser.add_argument("--astroalign", action="store_true", help="run astroalign on the same draws")
    parser.add_argument("--verbose", action="store_true", help="print every draw")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the draws as JSON too")
    asked = parser.parse_args()
    print(
        "kind          right    ok wrong, ok  failed    error  matched  CPU s"
        + " | astroalign" * asked.astroalign
    )
    found = list[Row]()
    for kind in asked.kinds:
        rows = [
            run(kind, seed, astroalign=asked.astroalign, model=asked.model) for seed in range(asked.draws)
        ]
        found += rows
        print(line(kind, rows), flush=True)
        for row in rows if asked.verbose else ():
            print("   ", asdict(row), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in found], indent=1))


if __name__ == "__main__":
    main()
