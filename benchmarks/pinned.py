"""What stays in place while the content moves: time stamps, scale bars and data bars burnt into both images.

    python -m benchmarks.pinned [--draws 20] [--seed 0] [--turn 30] [--contrasts 0.7 0.25 0.1]
    python -m benchmarks.pinned --pattern sensor        # or dust, stripes: a pattern over all of the image

The content of both images is a piece of a real texture of the given contrast, with noise, moved by up to 60
px and turned by up to ``--turn`` degrees. A time stamp, a scale bar and a data bar are drawn at the same
place of both. A pair is right if the median error outside of them is below 1 px. Prints a line per pair and
the counts: right, wrong and ``ok``, right and ``ok``.
"""

import argparse
import math
from dataclasses import asdict, dataclass

import cv2
import numpy as np

import register
from benchmarks import results
from benchmarks.accuracy import textures
from register.geometry import affine

SIDE, SOURCE = 360, 500
"""Sides, in pixels, of the images and of the piece of texture that they show."""
LARGEST = 1.0
"""Largest median error, in pixels, of a pair that is right."""


@dataclass(frozen=True)
class Row:
    """The figures of a pair; errors in pixels."""

    seed: int
    contrast: float
    turn: float
    shift: float
    verdict: str
    median: float
    p90: float
    expected: float | None
    reasons: str


def burnt(rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """Where an overlay is drawn, bool (h, w), and two overlays (h, w) whose time stamps differ by minutes."""
    white = int(rng.choice([255, 255, 230]))
    top, bar = int(rng.integers(24, 50)), int(rng.integers(40, 200))
    size, place = rng.uniform(0.5, 0.8), (int(rng.integers(80, 240)), int(rng.integers(270, 320)))
    data_bar, found = rng.random() < 0.6, []
    for minute in rng.choice(60, 2, replace=False):
        ink = np.zeros((SIDE, SIDE), np.uint8)
        cv2.putText(ink, f"2026-11-27 10:{minute:02d}", (12, top), 0, size, 255, 2)
        cv2.rectangle(ink, place, (place[0] + bar // 2, place[1] + 9), 255, -1)
        cv2.putText(ink, "100 um", (place[0], place[1] - 8), 0, 0.7, 255, 2)
        drawn = np.where(ink > 127, white, -1)
        if data_bar:
            line = np.zeros((22, SIDE), np.uint8)
            cv2.putText(line, "HV 5.00 kV  mag 2500x  WD 4.1mm", (8, 16), 0, 0.45, 255, 1)
            drawn[-22:] = line
        found.append(drawn)
    return (found[0] >= 0) | (found[1] >= 0), found


def pattern(rng: np.random.Generator, kind: str) -> np.ndarray:
    """Factors (h, w) of brightness that stay in place."""
    if kind == "sensor":
        return 1 + 0.12 * rng.normal(size=(1, SIDE)) + 0.06 * rng.normal(size=(SIDE, SIDE))
    if kind == "stripes":
        lines = cv2.GaussianBlur(rng.normal(size=(SIDE, 1)), (1, 9), 1.0)
        return np.broadcast_to(1 + 0.4 * lines, (SIDE, SIDE))
    specks = np.zeros((SIDE, SIDE))
    for x, y in rng.integers(0, SIDE, (int(rng.integers(20, 80)), 2)).tolist():
        cv2.circle(specks, (x, y), int(rng.integers(2, 6)), 1.0, -1)
    return 1 - 0.7 * cv2.GaussianBlur(specks, (0, 0), 1.0)


def measure(seed: int, contrast: float, turn: float, kind: str | None = None) -> Row:
    """Draw a pair, with burnt-in text or a pattern of some kind, align it and compare with the truth."""
    rng = np.random.default_rng([seed, int(1000 * contrast)])
    known = textures()
    whole = 255 * known[rng.choice(["tissue", "retina", "gravel"])]
    y, x = (int(rng.integers(0, n - SOURCE)) for n in whole.shape)
    source = cv2.GaussianBlur(whole[y : y + SOURCE, x : x + SOURCE], (0, 0), rng.uniform(0.5, 2.5))
    source = np.clip((source - source.mean()) / source.std() * 50 + 120, 0, 255)
    angle = 0.0 if kind else float(rng.uniform(-turn, turn))
    distance, heading = rng.uniform(12, 60), rng.uniform(0, 2 * math.pi)
    shift = distance * np.array([math.cos(heading), math.sin(heading)])
    centre = np.array([(SIDE - 1) / 2] * 2)
    truth = affine.similarity(math.radians(angle), 1.0, centre, centre + shift)
    corner = affine.translation(*[-(SOURCE - SIDE) / 2] * 2)
    pair, (drawn, overlays) = [], burnt(rng)
    stays = pattern(rng, kind) if kind else 1.0
    if kind:
        drawn, overlays = np.zeros_like(drawn), [np.full_like(one, -1) for one in overlays]
    for matrix, overlay in zip((corner, affine.compose(truth, corner)), overlays, strict=True):
        view = cv2.warpAffine(
            source, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        grey = np.clip((view * contrast + 60) * stays + rng.normal(0, rng.uniform(3, 8), view.shape), 0, 255)
        pair.append(np.where(overlay >= 0, overlay, grey).astype(np.uint8))
    found = register.align(*pair)
    identity = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), axis=2).astype(float)
    target = affine.apply(truth, identity)
    judged = ~drawn & ((target > 8) & (target < SIDE - 30)).all(axis=2)
    errors = np.linalg.norm(found.transform.map(identity[judged]) - target[judged], axis=1)
    return Row(
        seed=seed,
        contrast=contrast,
        turn=angle,
        shift=distance,
        verdict=str(found.quality.verdict),
        median=float(np.median(errors)),
        p90=float(np.percentile(errors, 90)),
        expected=found.quality.expected_error,
        reasons="; ".join([*found.quality.reasons, *found.quality.notes][:2]),
    )


def summary(rows: list[Row]) -> str:
    """The counts of right and wrong pairs by their verdicts."""
    right = [row for row in rows if row.median < LARGEST]
    wrong = [row for row in rows if row.median >= LARGEST]
    return (
        f"right {len(right)} of {len(rows)}, right and ok {sum(row.verdict == 'ok' for row in right)},"
        f" wrong and ok {sum(row.verdict == 'ok' for row in wrong)},"
        f" wrong and suspect {sum(row.verdict == 'suspect' for row in wrong)},"
        f" wrong and failed {sum(row.verdict == 'failed' for row in wrong)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=20, help="pairs per contrast")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--turn", type=float, default=30.0, help="largest turn, in degrees")
    parser.add_argument("--contrasts", type=float, nargs="+", default=[0.7, 0.25, 0.1])
    parser.add_argument("--pattern", choices=["sensor", "dust", "stripes"], help="instead of text")
    results.add_options(parser)
    options = parser.parse_args()
    rows = []
    for contrast in options.contrasts:
        for seed in range(options.seed, options.seed + options.draws):
            rows.append(row := measure(seed, contrast, options.turn, options.pattern))
            print(
                f"contrast {row.contrast:4g} turn {row.turn:6.1f} shift {row.shift:5.1f} {row.verdict:8s}"
                f" median {row.median:8.3f} p90 {row.p90:8.3f} expected {row.expected} {row.reasons[:90]}",
                flush=True,
            )
        print(summary([row for row in rows if row.contrast == contrast]))
    print(summary(rows))
    results.keep(options, [asdict(row) for row in rows])


if __name__ == "__main__":
    main()
