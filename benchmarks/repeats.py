"""Content that repeats: whether a wrong alignment is called ok, and whether content decides where it can.

    python -m benchmarks.repeats                        # twenty draws of each kind
    python -m benchmarks.repeats --kinds lattice wells --draws 5 --json results.json
    python -m benchmarks.repeats --near                 # shifts within --shift-range, below half a repeat
    python -m benchmarks.repeats --light                # the same light, which stays, falls on both images

Every draw shows the same field of view twice, the moving image shifted by up to three pitches, with
noise of 0 to 10 grey levels. ``plain`` fields repeat without end, so that any shift by whole pitches
explains them and the verdict should be suspect; in ``decided`` ones a few defects or other contents tell
which shift is the true one. With ``--near``, the shift is below a quarter of the shortest repeat, and plain
fields are aligned with a ``--shift-range`` of 0.4 of it, which leaves one answer. With ``--light``, both
images are dimmed by the same vignette, or by an uneven light that varies over a quarter of the image, of 5 to
30 %; it does not move with the content. A result is right when its median error over the fixed image is below
one pixel.
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import register

SIDE = 400
"""Height and width, in pixels, of every image."""
Array = NDArray[np.float64]


HEAD = f"{'kind':10s} {'':8s} {'wrong, ok':>10s} {'right':>6s} {'right, ok':>10s} suspect  failed"
"""The head of the table of ``counts``."""


class Outcome(Protocol):
    """What the table needs of a draw."""

    @property
    def verdict(self) -> str:
        """What the alignment was called."""

    @property
    def right(self) -> bool:
        """Whether it is right."""


@dataclass(frozen=True)
class Draw:
    """A view (h, w) as a function of its corner (x, y) in an endless scene, the distance of its repeats, and
    the shortest of all shifts that repeat it (0 if nothing tells a shift in some direction)."""

    view: Callable[[float, float], Array]
    pitch: float
    shortest: float


@dataclass(frozen=True)
class Row:
    """One draw: what was drawn, what came out, and the true error in pixels."""

    kind: str
    decided: bool
    seed: int
    pitch: float
    shift: tuple[float, float]
    verdict: str
    error: float
    expected: float | None
    reasons: tuple[str, ...]

    @property
    def right(self) -> bool:
        """Whether the median error is below a pixel."""
        return self.error < 1.0


def grid(x: float, y: float) -> tuple[Array, Array]:
    """The scene's coordinates (h, w) of the pixels of a view with its corner at (x, y)."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(float)
    return columns + x, rows + y


def defects(rng: np.random.Generator, count: int, *, reach: float = 1.5) -> list[tuple[float, float, float]]:
    """Positions and radii, in scene pixels, of defects of which a few lie in the middle of every view."""
    places = rng.uniform(0.2 * SIDE, 0.8 * SIDE, (count, 2))
    return [
        (float(x), float(y), float(r)) for (x, y), r in zip(places, rng.uniform(7, 13, count), strict=True)
    ]


def dimmed(image: Array, x: Array, y: Array, places: list[tuple[float, float, float]]) -> Array:
    """An image with dark spots at scene positions."""
    for left, top, radius in places:
        image = image * (1 - 0.8 * np.exp(-((x - left) ** 2 + (y - top) ** 2) / (2 * radius**2)))
    return image


def lattice(rng: np.random.Generator, decided: bool) -> Draw:
    """Atoms on a square lattice at some angle."""
    pitch, angle = float(rng.uniform(12, 60)), float(rng.uniform(0, 0.5))
    spots = defects(rng, 4 if decided else 0)

    def view(left: float, top: float) -> Array:
        x, y = grid(left, top)
        u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        image = (0.5 + 0.5 * np.cos(2 * np.pi * u / pitch)) * (0.5 + 0.5 * np.cos(2 * np.pi * v / pitch))
        return dimmed(image, x, y, spots)

    return Draw(view, pitch, pitch)


def grating(rng: np.random.Generator, decided: bool) -> Draw:
    """Lines in one direction; nothing tells a shift along them."""
    pitch, angle = float(rng.uniform(12, 60)), float(rng.uniform(0, math.pi))
    spots = defects(rng, 5 if decided else 0)

    def view(left: float, top: float) -> Array:
        x, y = grid(left, top)
        image = 0.5 + 0.5 * np.cos(2 * np.pi * (x * math.cos(angle) + y * math.sin(angle)) / pitch)
        return dimmed(image, x, y, spots)

    return Draw(view, pitch, 0.0)


def weave(rng: np.random.Generator, decided: bool) -> Draw:
    """A plain weave: threads that go over and under each other."""
    pitch = float(rng.uniform(16, 60))
    spots = defects(rng, 4 if decided else 0)

    def view(left: float, top: float) -> Array:
        x, y = grid(left, top)
        across, down = np.cos(np.pi * x / pitch), np.cos(np.pi * y / pitch)
        over = 0.5 + 0.5 * np.tanh(8 * np.sin(np.pi * x / pitch) * np.sin(np.pi * y / pitch))
        return dimmed(over * across**2 + 0.7 * (1 - over) * down**2, x, y, spots)

    return Draw(view, pitch * 2, pitch * math.sqrt(2))


def dies(rng: np.random.Generator, decided: bool) -> Draw:
    """Identical dies on a wafer, between streets; ten are damaged where content decides."""
    pitch = int(rng.integers(40, 90))
    pattern = gaussian_filter(rng.normal(size=(pitch, pitch)), 1.2, mode="wrap")
    pattern = (pattern - pattern.min()) / np.ptp(pattern)
    pattern[:4], pattern[:, :4] = 0.05, 0.05
    spots = defects(rng, 10 if decided else 0)

    def view(left: float, top: float) -> Array:
        x, y = grid(left, top)
        image = cv2.remap(
            np.tile(pattern, (3, 3)).astype(np.float32),
            (x % pitch + pitch).astype(np.float32),
            (y % pitch + pitch).astype(np.float32),
            cv2.INTER_CUBIC,
        )
        return dimmed(image.astype(float), x, y, spots)

    return Draw(view, pitch, pitch)


def wells(rng: np.random.Generator, decided: bool) -> Draw:
    """A plate of wells with fills; where content decides the fills are the same in both images."""
    pitch = float(rng.uniform(30, 60))
    fill = rng.random((64, 64)) if decided else np.full((64, 64), 0.5)

    def view(left: float, top: float) -> Array:
        x, y = grid(left, top)
        column, row = np.floor(x / pitch).astype(int), np.floor(y / pitch).astype(int)
        far = np.hypot(x - (column + 0.5) * pitch, y - (row + 0.5) * pitch)
        inside = 1 / (1 + np.exp((far - 0.32 * pitch) / 0.7))
        rim = np.exp(-(((far - 0.36 * pitch) / 1.5) ** 2))
        return 0.2 + 0.5 * inside * fill[row % 64, column % 64] + 0.4 * rim

    return Draw(view, pitch, pitch)


def rows(rng: np.random.Generator, decided: bool) -> Draw:
    """Crop rows: plants of uneven size along lines; where nothing decides, the same plant again and again."""
    pitch, step = float(rng.uniform(20, 60)), float(rng.uniform(10, 24))
    sizes = rng.uniform(0.5, 1.0, (64, 64)) if decided else np.full((64, 64), 0.8)

    def view(left: float, top: float) -> Array:
        x, y = grid(left, top)
        row, plant = np.floor(y / pitch).astype(int), np.floor(x / step).astype(int)
        across, down = (x - (plant + 0.5) * step) / step, (y - (row + 0.5) * pitch) / pitch
        size = sizes[row % 64, plant % 64]
        return 0.2 + 0.6 * size * np.exp(-((across / 0.35) ** 2) - (down / 0.22) ** 2)

    return Draw(view, pitch, min(step, pitch))


def copies(rng: np.random.Generator, decided: bool) -> Draw:
    """Copies of one section on a slide; where content decides, sections of different texture."""
    pitch = float(rng.uniform(130, 180))
    texture = gaussian_filter(rng.normal(size=(3, 700, 700)), (0, 3, 3))
    texture /= texture.std()

    def view(left: float, top: float) -> Array:
        x, y = grid(left, top)
        number = np.clip(np.floor(x / pitch).astype(int), -1, 4)
        u, v = x - (number + 0.5) * pitch, y - SIDE / 2
        tissue = 1 / (1 + np.exp((np.hypot(u / 0.38, v / 0.9) - pitch) / 3))
        which = number % 3 if decided else np.zeros_like(number)
        sampled = np.stack([_sampled(plane, u + 350, v + 350) for plane in texture])
        return 0.9 - tissue * (0.4 + 0.12 * np.take_along_axis(sampled, which[None], 0)[0])

    return Draw(view, pitch, pitch)


def _sampled(plane: Array, x: Array, y: Array) -> Array:
    return cv2.remap(
        plane.astype(np.float32), x.astype(np.float32), y.astype(np.float32), cv2.INTER_CUBIC
    ).astype(float)


def light(rng: np.random.Generator) -> Array:
    """A vignette about some point, or an uneven light, as factors (h, w) of brightness."""
    strength = rng.uniform(0.05, 0.3)
    if rng.random() < 0.5:
        x, y = grid(*-rng.uniform(0.35 * SIDE, 0.65 * SIDE, 2))
        return 1 - strength * (x**2 + y**2) / (SIDE**2 / 2)
    uneven = gaussian_filter(rng.normal(size=(SIDE, SIDE)), SIDE / 4, mode="wrap")
    return 1 + strength * uneven / np.abs(uneven).max()


KINDS = {one.__name__: one for one in (lattice, grating, weave, dies, wells, rows, copies)}


def run(kind: str, decided: bool, seed: int, *, near: bool = False, lit: bool = False) -> Row:
    """Draw one pair, align it, and measure the error; ``near`` draws a shift within a range that is known,
    ``lit`` a light that stays."""
    rng = np.random.default_rng([seed, decided, *kind.encode()])
    drawn = KINDS[kind](rng, decided)
    reach = min(3 * drawn.pitch, 0.35 * SIDE) if not near else drawn.shortest / math.sqrt(2) / 4
    shift = rng.uniform(-reach, reach, 2)
    noise = rng.uniform(0, 10)
    views = [drawn.view(0.0, 0.0), drawn.view(-shift[0], -shift[1])]
    if lit:
        stays = light(rng)
        views = [view * stays for view in views]
    fixed, moving = (
        np.clip(20 + 200 * x + rng.normal(0, noise, x.shape), 0, 255).astype(np.uint8) for x in views
    )
    within = {"shift_range": f"{0.4 * drawn.shortest:.1f}"} if near else {}
    alignment = register.align(fixed, moving, model="translation", **within)
    points = np.stack(np.meshgrid(*[np.linspace(60, SIDE - 61, 8)] * 2), -1).reshape(-1, 2)
    error = np.linalg.norm(np.asarray(alignment.transform.map(points)) - points - shift, axis=1)
    quality = alignment.quality
    return Row(
        kind,
        decided,
        seed,
        round(drawn.pitch, 1),
        (round(float(shift[0]), 2), round(float(shift[1]), 2)),
        str(quality["verdict"]),
        round(float(np.median(error)), 3),
        quality.get("expected_error"),
        tuple(quality["reasons"]),
    )


def counts(made: Sequence[Outcome]) -> str:
    """How many draws of one kind were wrong and ok, right, right and ok, suspect, failed."""
    verdicts = [row.verdict for row in made]
    wrong = sum(row.verdict == "ok" and not row.right for row in made)
    right = sum(row.right for row in made)
    both = sum(row.verdict == "ok" and row.right for row in made)
    return f"{wrong:10d} {right:6d} {both:10d} {verdicts.count('suspect'):7d} {verdicts.count('failed'):7d}"


def main() -> None:
    """Run the draws and print a table by kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--near", action="store_true", help="plain fields, shifts within --shift-range")
    parser.add_argument("--light", action="store_true", help="an uneven light that stays")
    parser.add_argument("--verbose", action="store_true", help="print every draw")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the draws as JSON too")
    asked = parser.parse_args()
    found = list[Row]()
    print(HEAD)
    kinds = [kind for kind in asked.kinds if not (asked.near and kind == "grating")]
    for kind in kinds:
        for decided in (False,) if asked.near else (False, True):
            seeds = range(asked.draws)
            made = [run(kind, decided, seed, near=asked.near, lit=asked.light) for seed in seeds]
            found += made
            print(f"{kind:10s} {'decided' if decided else 'plain':8s} {counts(made)}", flush=True)
            for row in made if asked.verbose else ():
                print("   ", asdict(row), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in found], indent=1))


if __name__ == "__main__":
    main()
