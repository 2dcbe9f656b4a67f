"""Forms that a rotation by an n-th of a turn repeats: whether a wrong rotation is called ok.

    python -m benchmarks.folds                        # twenty draws of each kind
    python -m benchmarks.folds --kinds gear --draws 5 --json results.json

Every draw shows one form of 3 to 30 equal parts twice, rotated by any angle, a little shifted, with noise of
0 to 8 grey levels. ``plain`` forms repeat exactly, so that the verdict should be suspect; in ``decided`` ones
two marks of different sizes tell the rotation. A result is right when its median error over the form is below
two pixels.
"""

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import register
from benchmarks.repeats import HEAD, counts

SIDE, RADIUS = 420, 160
"""Height and width of every image, and the radius of the forms, in pixels."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One draw: what was drawn, what came out, and the true error in pixels."""

    kind: str
    decided: bool
    seed: int
    parts: int
    rotation: float
    verdict: str
    error: float
    expected: float
    reasons: tuple[str, ...]

    @property
    def right(self) -> bool:
        """Whether the median error is below two pixels."""
        return self.error < 2.0


def gear(x: Array, y: Array, parts: int) -> Array:
    """A wheel with teeth, and a hole in its middle."""
    far, angle = np.hypot(x, y), np.arctan2(y, x)
    edge = RADIUS - 12 + 12 * np.tanh(4 * np.cos(parts * angle))
    return np.where((far < edge) & (far > 30), 0.7, 0.1)


def flower(x: Array, y: Array, parts: int) -> Array:
    """Petals with rings."""
    far, angle = np.hypot(x, y), np.arctan2(y, x)
    return np.where(far < 90 + 70 * np.abs(np.cos(parts * angle / 2)), 0.5 + 0.3 * np.cos(far / 7), 0.1)


def wheel(x: Array, y: Array, parts: int) -> Array:
    """A rim with spokes."""
    far, angle = np.hypot(x, y), np.arctan2(y, x)
    within = ((angle * parts / 2 / np.pi + 0.5) % 1 - 0.5) * 2 * np.pi / parts
    spoke = (np.abs(far * np.sin(within)) < 5) & (far < RADIUS)
    return np.where(spoke | ((far > RADIUS - 25) & (far < RADIUS)), 0.7, 0.15)


def flange(x: Array, y: Array, parts: int) -> Array:
    """A disc with holes along a circle."""
    form = np.where(np.hypot(x, y) < RADIUS, 0.7, 0.1)
    for angle in 2 * np.pi * np.arange(parts) / parts:
        form = np.where(np.hypot(x - 115 * np.cos(angle), y - 115 * np.sin(angle)) < 10, 0.25, form)
    return form


def stem(x: Array, y: Array, parts: int) -> Array:
    """A round section with bundles of vessels that are less and less dense towards the middle."""
    far, angle = np.hypot(x, y), np.arctan2(y, x)
    bundles = np.cos(parts * angle) * np.exp(-(((far - 110) / 25) ** 2))
    return np.where(far < RADIUS, 0.45 + 0.25 * bundles + 0.1 * np.cos(far / 11), 0.9)


KINDS: dict[str, Callable[[Array, Array, int], Array]] = {
    one.__name__: one for one in (gear, flower, wheel, flange, stem)
}


def marked(form: Array, x: Array, y: Array, places: list[tuple[float, float, float]]) -> Array:
    """A form with bright discs at places x, y of some radius."""
    for left, top, radius in places:
        form = np.where(np.hypot(x - left, y - top) < radius, 0.95, form)
    return form


def run(kind: str, decided: bool, seed: int) -> Row:
    """Draw one pair, align it, and measure the error."""
    rng = np.random.default_rng([seed, decided, *kind.encode()])
    parts, rotation, noise = int(rng.integers(3, 31)), float(rng.uniform(-180, 180)), rng.uniform(0, 8)
    angles = rng.uniform(-math.pi, math.pi, 2)
    places = [
        (float(r * math.cos(a)), float(r * math.sin(a)), size)
        for r, a, size in zip(rng.uniform(60, 120, 2), angles, (9.0, 14.0), strict=True)
    ]
    centres = SIDE / 2 + rng.uniform(-15, 15, (2, 2))
    turn = math.radians(rotation)
    matrix = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(float)
    images = []
    for centre, back in zip(centres, (np.eye(2), matrix), strict=True):
        x, y = np.moveaxis((np.stack([columns, rows], -1) - centre) @ back, -1, 0)
        form = marked(KINDS[kind](x, y, parts), x, y, places if decided else [])
        seen = 255 * gaussian_filter(form, 1.0) + rng.normal(0, noise, form.shape)
        images.append(seen.clip(0, 255).astype(np.uint8))
    alignment = register.align(*images)
    around = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = np.stack([np.cos(around), np.sin(around)], -1)
    points = np.concatenate([centres[0] + radius * circle for radius in (40, 90, 140)])
    truth = (points - centres[0]) @ matrix.T + centres[1]
    error = np.linalg.norm(np.asarray(alignment.transform.map(points)) - truth, axis=1)
    quality = alignment.transform.quality
    return Row(
        kind,
        decided,
        seed,
        parts,
        round(rotation, 1),
        str(quality.verdict),
        round(float(np.median(error)), 3),
        round(float(np.median(alignment.transform.expected_error(points))), 3),
        tuple(quality.reasons),
    )


def main() -> None:
    """Run the draws and print a table by kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--verbose", action="store_true", help="print every draw")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the draws as JSON too")
    asked = parser.parse_args()
    found = list[Row]()
    print(HEAD)
    for kind in asked.kinds:
        for decided in (False, True):
            made = [run(kind, decided, seed) for seed in range(asked.draws)]
            found += made
            print(f"{kind:10s} {'decided' if decided else 'plain':8s} {counts(made)}", flush=True)
            for row in made if asked.verbose else ():
                print("   ", asdict(row), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in found], indent=1))


if __name__ == "__main__":
    main()
