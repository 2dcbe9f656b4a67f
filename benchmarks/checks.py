"""Two checks without landmarks: ``python -m benchmarks.checks [--real FOLDER]``.

Sub-pixel bias: the mean of the recovered shift minus the true one, under 2 % noise. Chance: by how many
standard deviations the similarity of unrelated images exceeds that of random alignments, and their verdicts;
each texture against every other, and with ``--real`` each fixed image against the moving image of another
pair.
"""

import argparse
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates

import register
from benchmarks.accuracy import manifest, pictures, textures


def bias(texture: np.ndarray, shift: float, seed: int, noise: float = 0.02) -> tuple[float, float]:
    """Mean error (x, y) in pixels over 300 x 330 px, for a shift along x."""
    y, x = np.mgrid[100:400, 120:450].astype(float)
    rng = np.random.default_rng(seed)
    fixed = map_coordinates(texture, [y, x + shift], order=5, mode="reflect") + rng.normal(0, noise, x.shape)
    moving = texture[100:400, 120:450] + rng.normal(0, noise, x.shape)
    field = register.align(fixed, moving).transform.field().numpy()
    return float(field[..., 0].mean() - shift), float(field[..., 1].mean())


def unrelated(folder: Path | None) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Pairs of images of different objects."""
    known = textures()
    for one, other in permutations(known, 2):
        yield f"{one} / {other}", known[one], known[other]
    if folder:
        entries = manifest(folder)
        for one, other in zip(entries, entries[7:] + entries[:7], strict=True):  # seven on: of another kind
            yield f"{one['id']} / {other['id']}", *pictures(folder, one, other)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="folder with MANIFEST.csv and pairs")
    options = parser.parse_args()
    for name in ("tissue", "gravel"):
        for shift in (0.0, 0.25, 0.5, 0.75):
            errors = np.array([bias(textures()[name], shift, seed) for seed in range(2)])
            x, y = errors.mean(axis=0)
            print(f"bias  {name:8s} shift {shift:4.2f} px: x {x:+.4f}, y {y:+.4f} px", flush=True)
    found = []
    for name, fixed, moving in unrelated(options.real):
        quality = register.align(fixed, moving).quality
        found.append((quality["above_chance"], quality["verdict"]))
        print(f"chance {name:48s} {quality['above_chance']:6.2f} {quality['verdict']}", flush=True)
    failed = sum(verdict == "failed" for _, verdict in found)
    print(f"{failed} of {len(found)} unrelated pairs called failed; at most {max(found)[0]:.2f} deviations")


if __name__ == "__main__":
    main()
