"""Figures that are neither real pairs nor warps: ``python -m benchmarks.checks [--real FOLDER]``.

Sub-pixel bias: the mean of the recovered shift minus the true one, 2 % noise. Chance: how many standard deviations above chance
unrelated pictures reach (each texture against every other, and with ``--real`` each fixed image against the next pair's moving one) and what they
are called.
"""

import argparse
import csv
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates

import register
from benchmarks.accuracy import textures


def bias(texture: np.ndarray, shift: float, seed: int, noise: float = 0.02) -> tuple[float, float]:
    """Mean error (x, y) in pixels over 300 x 330 px, for a shift along x."""
    y, x = np.mgrid[100:400, 120:450].astype(float)
    rng = np.random.default_rng(seed)
    fixed = map_coordinates(texture, [y, x + shift], order=5, mode="reflect") + rng.normal(0, noise, x.shape)
    moving = texture[100:400, 120:450] + rng.normal(0, noise, x.shape)
    field = register.align(fixed, moving).transform.field().numpy()
    return float(field[..., 0].mean() - shift), float(field[..., 1].mean())


def unrelated(folder: Path | None) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Pairs of pictures that show different things."""
    known = textures()
    for one, other in permutations(known, 2):
        yield f"{one} / {other}", known[one], known[other]
    if folder:
        with open(folder / "MANIFEST.csv", newline="", encoding="utf-8") as file:
            entries = list(csv.DictReader(file))
        for one, other in zip(
            entries, entries[7:] + entries[:7], strict=True
        ):  # far enough down the list to be of another kind
            pictures = [
                register.read_image(folder / path).picture() for path in (one["fixed"], other["moving"])
            ]
            yield f"{one['id']} / {other['id']}", pictures[0], pictures[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="folder with MANIFEST.csv and pairs")
    options = parser.parse_args()
    for name in ("tissue", "gravel"):
        for shift in (0.0, 0.25, 0.5, 0.75):
            errors = np.array([bias(textures()[name], shift, seed) for seed in range(2)])
            print(
                f"bias  {name:8s} shift {shift:4.2f} px: x {errors[:, 0].mean():+.4f}, y {errors[:, 1].mean():+.4f} px",
                flush=True,
            )
    found = []
    for name, fixed, moving in unrelated(options.real):
        quality = register.align(fixed, moving).quality
        found.append((quality["above_chance"], quality["verdict"]))
        print(f"chance {name:48s} {quality['above_chance']:6.2f} {quality['verdict']}", flush=True)
    failed = sum(verdict == "failed" for _, verdict in found)
    print(
        f"{failed} of {len(found)} unrelated pairs called failed; {max(found)[0]:.2f} standard deviations at most"
    )


if __name__ == "__main__":
    main()
