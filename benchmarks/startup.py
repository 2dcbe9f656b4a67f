"""Seconds of whole processes: what a user waits for when a command has little to compute.

    python -m benchmarks.startup --runs 7
    python -m benchmarks.startup --runs 7 --against ../other-checkout     # both checkouts in turn

Every command runs in a process of its own, from the shell's view: interpreter, imports, work and exit. With
``--against``, the same commands run in another checkout with the same interpreter, alternately, so that other
work on the machine slows both alike. The pair is a texture of 1024 × 1024 pixels with a smooth warp of a few
pixels. ``import torch`` and an empty program are for comparison: what no program with PyTorch can avoid.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

from benchmarks import results

ROOT = Path(__file__).parent.parent
SIDE = 1024


def write_files(folder: Path) -> None:
    """A pair of images (``SIDE``, ``SIDE``) and a table of points."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(SIDE + 76, SIDE + 76))
    texture = sum(sigma * gaussian_filter(noise, sigma) for sigma in (1.5, 3, 8))
    texture = (texture - texture.min()) / np.ptp(texture) * 255
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    warped = map_coordinates(texture, [y + 20 + 4 * np.sin(x / 200), x + 15 + 3 * np.cos(y / 180)], order=3)
    for name, image in (("fixed", texture[:SIDE, :SIDE]), ("moving", warped)):
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{name}.png")
    (folder / "points.csv").write_text("x,y\n10,20\n30,40\n")


def commands(folder: Path) -> dict[str, list[str]]:
    """The commands by the names that the table has."""
    program, images = ["-m", "register"], [str(folder / "fixed.png"), str(folder / "moving.png")]
    transform, points = str(folder / "out" / "transform.json"), str(folder / "points.csv")
    again = ["--overwrite"]
    return {
        "python -c pass": ["-c", "pass"],
        "import torch": ["-c", "import torch"],
        "import register": ["-c", "import register"],
        "--help": [*program, "--help"],
        "align --help": [*program, "align", "--help"],
        "info transform.json": [*program, "info", transform],
        "info image.png": [*program, "info", images[0]],
        "points": [*program, "points", transform, points, "-o", str(folder / "mapped.csv"), *again],
        "invert": [*program, "invert", transform, "-o", str(folder / "inverse.json"), *again],
        "export --to itk": [
            *program,
            "export",
            transform,
            "--to",
            "itk",
            "-o",
            str(folder / "t.tfm"),
            *again,
        ],
        "align --dry-run": [*program, "align", *images, "-o", str(folder / "dry"), "--dry-run"],
        "align 1024 × 1024": [*program, "align", *images, "-o", str(folder / "out"), "-q", *again],
    }


def seconds(arguments: list[str], checkout: Path) -> float:
    """Wall seconds of one process of a checkout; raises ``SystemExit`` with its message when it fails."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=checkout, env=environment, capture_output=True, text=True
    )
    spent = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
    return spent


def measure(checkouts: dict[str, Path], runs: int) -> list[dict]:
    """One row per command: the median and the least seconds of each checkout."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder)
        everything = commands(folder)
        for checkout in checkouts.values():
            seconds(
                everything["align 1024 × 1024"], checkout
            )  # writes the transform, and fills the caches of files
        for title, arguments in everything.items():
            found: dict[str, list[float]] = {where: [] for where in checkouts}
            for _ in range(runs):
                for where, checkout in checkouts.items():
                    found[where].append(seconds(arguments, checkout))
            row = {"command": title}
            for where, times in found.items():
                row[where] = {"median": float(np.median(times)), "least": min(times)}
            rows.append(row)
            figures = "   ".join(
                f"{where} {row[where]['median']:.3f} ({row[where]['least']:.3f})" for where in checkouts
            )
            print(f"{title:20s} {figures}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5, help="processes per command and checkout")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another checkout to run in turn")
    results.add_options(parser)
    options = parser.parse_args()
    checkouts = {"this": ROOT} | ({"other": options.against.resolve()} if options.against else {})
    print("median (least) seconds of the whole process")
    results.keep(options, measure(checkouts, options.runs))


if __name__ == "__main__":
    main()
