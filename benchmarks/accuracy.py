"""Accuracy on real pairs and on synthetic pairs with a known dense warp, as one table.

    python -m benchmarks.accuracy --real FOLDER        # FOLDER holds MANIFEST.csv and pairs with landmarks
    python -m benchmarks.accuracy --synthetic          # textures from scikit-image and, with --real, none of FOLDER's
    python -m benchmarks.accuracy --real FOLDER --synthetic --json results.json

TRE: distance between the mapped fixed landmark (or every textured pixel) and the truth, in pixels of the moving image.
rTRE: TRE over the diagonal of the fixed image. A real pair passes with a median rTRE of at most 1 %, or a median TRE of at most
1.5 times the noise floor of its landmarks. Drawings and pairs that are identical but for noise are run and not counted.
"""

import argparse
import csv
import json
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from skimage import color, data

import register
from benchmarks.synthetic import textured, warped_pair
from register.io.points import read_points

NOT_COUNTED = ("birl_artificial", "iguazu")


@dataclass(frozen=True)
class Row:
    """One pair's figures; pixels of the moving image, seconds of the whole estimate."""

    pair: str
    metric: str
    verdict: str
    before: float
    median: float
    p90: float
    rtre: float
    folds: int
    seconds: float
    passed: bool
    counted: bool = True


def real(folder: Path, everything: bool) -> Iterator[Row]:
    """Every pair of a manifest with rotation under 30° and a scale of 0.8 to 1.25, or all of them."""
    with open(folder / "MANIFEST.csv", newline="", encoding="utf-8") as file:
        entries = list(csv.DictReader(file))
    for entry in entries:
        within = abs(float(entry["affine_rot_deg"])) < 30 and 0.8 <= float(entry["affine_scale"]) <= 1.25
        if not (within or everything):
            continue
        images = [register.read_image(folder / entry[kind]) for kind in ("fixed", "moving")]
        where = (folder / entry["fixed"]).parent
        points = [read_points(where / f"landmarks_{kind}.csv") for kind in ("fixed", "moving")]
        begin = time.perf_counter()
        alignment = register.align(*(image.picture() for image in images))
        seconds = time.perf_counter() - begin
        errors = (alignment.transform.map(points[0]) - points[1]).norm(dim=1).numpy()
        before = float(np.median((points[0] - points[1]).norm(dim=1)))
        floor = re.search(r"LOO-TPS landmark residual med ([\d.]+)", entry["gt_residual_note"])
        limit = max(0.01 * np.hypot(*images[0].size), 1.5 * float(floor[1]) if floor else 0.0)
        yield _row(entry["id"], alignment, errors, before, images[0].size, seconds, float(np.median(errors)) <= limit, not entry["id"].startswith(NOT_COUNTED))


def synthetic(seeds: int) -> Iterator[Row]:
    """Real textures under smooth warps of 1, 2 and 4 % of the diagonal, in plain, gamma, inverted and noisy contrast."""
    for name, texture in textures().items():
        for seed in range(1, seeds + 1):
            for amplitude in (0.01, 0.02, 0.04):
                for contrast, noise in (("plain", 0.0), ("plain", 0.02), ("gamma", 0.02), ("inverted", 0.02)):
                    pair = warped_pair(texture, amplitude, seed, contrast=contrast, noise=noise)
                    begin = time.perf_counter()
                    alignment = register.align(pair.fixed, pair.moving)
                    seconds = time.perf_counter() - begin
                    truth = pair.moving_from_fixed
                    still = np.stack(np.meshgrid(np.arange(truth.shape[1]), np.arange(truth.shape[0])), axis=2)
                    shown = ((truth >= 0) & (truth <= np.array(texture.shape[::-1]) - 1)).all(axis=2) & textured(warped_pair(texture, amplitude, seed).fixed)
                    errors = np.linalg.norm(alignment.transform.field().numpy() + still - truth, axis=2)[shown]
                    before = float(np.median(np.linalg.norm(truth - still, axis=2)[shown]))
                    limit = 0.10 if (contrast, noise) == ("plain", 0.0) else 0.25
                    title = f"{name} {amplitude:.0%} {contrast}{' noise' if noise else ''} #{seed}"
                    yield _row(title, alignment, errors, before, truth.shape[:2], seconds, float(np.median(errors)) <= limit)


def textures() -> dict[str, np.ndarray]:
    """Grey pictures (about 1000, 1000) in [0, 1] that come with scikit-image."""
    ihc = color.rgb2gray(data.immunohistochemistry())
    return {
        "retina": color.rgb2gray(data.retina())[200:1200, 200:1200],
        "hubble": color.rgb2gray(data.hubble_deep_field())[:, :1000],
        "tissue": np.clip(ihc, 0, 1),
        "gravel": data.gravel() / 255.0,
    }


def _row(name, alignment, errors, before, size, seconds, passed, counted=True) -> Row:
    quality = alignment.quality
    median = float(np.median(errors))
    figures = before, median, float(np.percentile(errors, 90)), median / float(np.hypot(*size))
    return Row(name, quality["metric"], quality["verdict"], *figures, quality["folds"], seconds, bool(passed), counted)


def show(rows: Iterator[Row]) -> list[Row]:
    """Print a table as it grows, and its summary."""
    print(f"{'pair':32s} {'metric':9s} {'verdict':8s} {'before':>8s} {'median':>8s} {'p90':>8s} {'rTRE %':>7s} {'folds':>5s} {'s':>6s}")
    done = []
    for row in rows:
        done.append(row)
        mark = ("pass" if row.passed else "FAIL") if row.counted else "(not counted)"
        print(
            f"{row.pair:32s} {row.metric:9s} {row.verdict:8s} {row.before:8.2f} {row.median:8.3f} {row.p90:8.3f} "
            f"{100 * row.rtre:7.3f} {row.folds:5d} {row.seconds:6.1f} {mark}",
            flush=True,
        )
    counted = [row for row in done if row.counted]
    worse = sum(row.median > row.before * 1.001 and row.median - row.before > 1 for row in done)
    passed = sum(row.passed for row in counted)
    print(
        f"{passed} of {len(counted)} pass ({passed / max(len(counted), 1):.0%}); median of medians {np.median([r.median for r in counted]):.3f} px; "
        f"{worse} worse than before by more than a pixel; {sum(row.folds for row in done)} folds; median {np.median([r.seconds for r in done]):.1f} s\n"
    )
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="folder with MANIFEST.csv and pairs")
    parser.add_argument("--all", action="store_true", help="also the pairs outside ±30° and 0.8 to 1.25")
    parser.add_argument("--synthetic", action="store_true", help="run the synthetic pairs")
    parser.add_argument("--seeds", type=int, default=3, help="random warps per texture and amplitude")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON too")
    options = parser.parse_args()
    rows = []
    if options.real:
        rows += show(real(options.real, options.all))
    if options.synthetic:
        rows += show(synthetic(options.seeds))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
