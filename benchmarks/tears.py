"""Accuracy where pieces of an image move apart: tears, cracks, folds of a section, shear bands.

    python -m benchmarks.tears [--draws 5] [--seed 0] [--kinds tear crack fold shear] [--masked]

Each draw has a real texture (``benchmarks/torn.py`` makes it), torn in the moving or in the fixed image in
turn: an opening or a missing strip of 2 to 10 % of the width, a shear of up to 4 %. Errors are those of
pixels with a counterpart within 8 px of the line, by side, and of all; ``below`` is the share of errors
within 16 px that are below the expected one, ``iou`` that of the occlusion mask with the pixels that have no
counterpart.
With ``--masked`` the sides are given as ``split_mask``, otherwise it is ``auto``.
"""

import argparse
import time
from dataclasses import asdict, dataclass

import numpy as np

import register
from benchmarks import results, torn
from benchmarks.accuracy import textures
from benchmarks.torn import Torn

TEXTURES = "tissue", "gravel", "retina"
NEAR, AROUND, LEAST_HIDDEN = 8, 16, 500
"""Distances from the line, in pixels, and the fewest pixels without counterpart whose overlap counts."""


@dataclass(frozen=True)
class Row:
    """The figures of a pair; errors in pixels, NaN where there is no pixel or nothing to overlap."""

    kind: str
    texture: str
    seed: int
    torn_fixed: bool
    model: str
    verdict: str
    first: float
    second: float
    overall: float
    below: float
    iou: float
    seconds: float


def measure(kind: str, seed: int, *, masked: bool) -> Row:
    """Draw a pair, align it and compare it with the truth."""
    texture, torn_fixed = TEXTURES[seed % 3], seed % 2 == 1
    pair = torn.make(textures()[texture], kind, seed, torn_fixed=torn_fixed)
    begin = time.perf_counter()
    mask = pair.side + 1 if masked else "auto"
    found = register.align(pair.fixed, pair.moving, split_mask=mask, preset="fast")
    seconds = time.perf_counter() - begin
    side = len(pair.fixed)
    points = np.stack(np.meshgrid(np.arange(side), np.arange(side)), 2).astype(float)
    errors = np.linalg.norm(found.transform.map(points) - pair.moving_from_fixed, axis=2)
    shown = ~pair.hidden & ((pair.moving_from_fixed > 4) & (pair.moving_from_fixed < side - 5)).all(2)
    near, around = (shown & (pair.distance <= limit) for limit in (NEAR, AROUND))
    below = errors < found.transform.expected_error(points)
    return Row(
        kind,
        texture,
        seed,
        torn_fixed,
        found.transform.model,
        str(found.quality.verdict),
        *(_median(errors[near & (pair.side == number)]) for number in (0, 1)),
        _median(errors[shown]),
        float(below[around].mean()),
        _overlap(found.transform, pair, points),
        seconds,
    )


def _overlap(transform: register.Transform, pair: Torn, points: np.ndarray) -> float:
    """The intersection of the pixels without counterpart, found and true, over their union."""
    if pair.hidden.sum() < LEAST_HIDDEN:
        return float("nan")
    if transform.sides is None:
        return 0.0
    hidden = transform.sides.at(points.reshape(-1, 2)).reshape(pair.hidden.shape) < 0
    return float((hidden & pair.hidden).sum() / (hidden | pair.hidden).sum())


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else float("nan")


def summary(rows: list[Row]) -> str:
    """Medians of a kind, and how many pairs are within 0.3 px on both sides."""
    worst = np.array([max(row.first, row.second) for row in rows])
    overlaps = [row.iou for row in rows if row.iou == row.iou]
    iou = f"{np.median(overlaps):.2f}" if overlaps else "none"
    return (
        f"{len(rows)} pairs, separated {sum(row.model == 'split' for row in rows)}, both sides within 0.3 px"
        f" {int((worst <= 0.3).sum())}, median of the worse side {np.nanmedian(worst):.2f} px,"
        f" below the expected error {np.mean([row.below for row in rows]):.0%}, overlap {iou}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=5, help="pairs of each kind")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--kinds", nargs="+", default=list(torn.KINDS), choices=torn.KINDS)
    parser.add_argument("--masked", action="store_true", help="give the sides")
    results.add_options(parser)
    options = parser.parse_args()
    rows = []
    for kind in options.kinds:
        for seed in range(options.seed, options.seed + options.draws):
            rows.append(row := measure(kind, seed, masked=options.masked))
            print(
                f"{row.kind:6s} {row.texture:7s} {row.seed:3d}"
                f" {'fixed ' if row.torn_fixed else 'moving'} torn"
                f" {row.model:6s} {row.verdict:8s} sides {row.first:6.2f} {row.second:6.2f} all"
                f" {row.overall:6.3f} below {row.below:4.0%} iou {row.iou:5.2f} {row.seconds:5.1f} s",
                flush=True,
            )
        print(summary([row for row in rows if row.kind == kind]), flush=True)
    results.keep(options, [asdict(row) for row in rows])


if __name__ == "__main__":
    main()
