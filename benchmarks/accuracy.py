"""Accuracy on real pairs and on synthetic pairs with a known dense warp, as one table.

    python -m benchmarks.accuracy --real FOLDER        # FOLDER holds MANIFEST.csv and pairs with landmarks
    python -m benchmarks.accuracy --synthetic          # textures from scikit-image and, with --real, none of FOLDER's
    python -m benchmarks.accuracy --real FOLDER --all --turned 1 2 3   # the moving image turned by any angle and scaled by 0.5 to 1.8, one draw per seed
    python -m benchmarks.accuracy --real FOLDER --synthetic --json results.json

TRE: distance between the mapped fixed landmark (or every textured pixel) and the truth, in pixels of the moving image.
rTRE: TRE over the diagonal of the fixed image. A real pair passes with a median rTRE of at most 1 %, or a median TRE of at most
1.5 times the noise floor of its landmarks, in pixels of the moving image before it was turned. Drawings and pairs that are identical but for noise are run
and not counted.
"""

import argparse
import csv
import json
import math
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, map_coordinates
from skimage import color, data

import register
from benchmarks.synthetic import textured, warped_pair
from register.geometry import affine
from register.io.points.open import read_points

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


def real(folder: Path, everything: bool, seed: int | None = None) -> Iterator[Row]:
    """Every pair of a manifest with rotation under 30° and a scale of 0.8 to 1.25, or all of them; with a ``seed`` turned and scaled at random."""
    with open(folder / "MANIFEST.csv", newline="", encoding="utf-8") as file:
        entries = list(csv.DictReader(file))
    for entry in entries:
        within = abs(float(entry["affine_rot_deg"])) < 30 and 0.8 <= float(entry["affine_scale"]) <= 1.25
        if not (within or everything):
            continue
        fixed, moving = (register.read_image(folder / entry[kind]).picture() for kind in ("fixed", "moving"))
        where = (folder / entry["fixed"]).parent
        points = [read_points(where / f"landmarks_{kind}.csv") for kind in ("fixed", "moving")]
        scale, title, size = 1.0, entry["id"], fixed.shape[1::-1]
        if seed is not None:
            rng = np.random.default_rng([seed, *entry["id"].encode()])
            angle, scale = (
                rng.uniform(-180, 180),
                max(math.exp(rng.uniform(math.log(0.5), math.log(1.8))), 200 / max(moving.shape[:2])),
            )
            moving, matrix = turned(moving, angle, scale)
            points[1], title = affine.apply(matrix, points[1]), f"{title} {angle:.0f}° x {scale:.2f}"
        begin = time.perf_counter()
        alignment = register.align(fixed, moving)
        seconds = time.perf_counter() - begin
        errors = (alignment.transform.map(points[0]) - points[1]).norm(dim=1).numpy() / scale
        before = float(np.median((points[0] - points[1]).norm(dim=1))) / scale
        floor = re.search(r"LOO-TPS landmark residual med ([\d.]+)", entry["gt_residual_note"])
        limit = max(0.01 * np.hypot(*size), 1.5 * float(floor[1]) if floor else 0.0)
        yield _row(
            title,
            alignment,
            errors,
            before,
            size,
            seconds,
            float(np.median(errors)) <= limit,
            not title.startswith(NOT_COUNTED),
        )


def turned(image: np.ndarray, angle: float, scale: float) -> tuple[np.ndarray, torch.Tensor]:
    """An image (h, w, c) turned by ``angle`` degrees and scaled on a canvas that holds all of it, black around it, and the map (2, 3) of its pixels."""
    height, width = image.shape[:2]
    corners = torch.tensor(
        [[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], dtype=torch.float64
    )
    turn = affine.similarity(math.radians(angle), scale, *torch.zeros(2, 2, dtype=torch.float64))
    ends = affine.apply(turn, corners)
    matrix = affine.compose(affine.translation(*(-ends.amin(0)).tolist()), turn)
    columns, rows = (ends.amax(0) - ends.amin(0)).ceil().int().tolist()
    at = affine.apply(
        affine.invert(matrix),
        affine.points_at(torch.arange(columns + 1.0).double(), torch.arange(rows + 1.0).double()),
    ).numpy()
    sigma = max(0.5 / scale - 0.4, 0.0)  # as much as pixels that become larger ask for
    planes = [
        map_coordinates(gaussian_filter(plane.astype(float), sigma), [at[..., 1], at[..., 0]], order=1)
        for plane in np.moveaxis(image, 2, 0)
    ]
    pixels = np.stack(planes, 2)
    return (np.rint(pixels) if image.dtype.kind in "ui" else pixels).astype(image.dtype), matrix


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
                    still = np.stack(
                        np.meshgrid(np.arange(truth.shape[1]), np.arange(truth.shape[0])), axis=2
                    )
                    shown = ((truth >= 0) & (truth <= np.array(texture.shape[::-1]) - 1)).all(
                        axis=2
                    ) & textured(warped_pair(texture, amplitude, seed).fixed)
                    errors = np.linalg.norm(alignment.transform.field().numpy() + still - truth, axis=2)[
                        shown
                    ]
                    before = float(np.median(np.linalg.norm(truth - still, axis=2)[shown]))
                    limit = 0.10 if (contrast, noise) == ("plain", 0.0) else 0.25
                    title = f"{name} {amplitude:.0%} {contrast}{' noise' if noise else ''} #{seed}"
                    yield _row(
                        title,
                        alignment,
                        errors,
                        before,
                        truth.shape[:2],
                        seconds,
                        float(np.median(errors)) <= limit,
                    )


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
    return Row(
        name,
        quality["metric"],
        quality["verdict"],
        *figures,
        quality["folds"],
        seconds,
        bool(passed),
        counted,
    )


def show(rows: Iterator[Row]) -> list[Row]:
    """Print a table as it grows, and its summary."""
    print(
        f"{'pair':40s} {'metric':9s} {'verdict':8s} {'before':>8s} {'median':>8s} {'p90':>8s} {'rTRE %':>7s} {'folds':>5s} {'s':>6s}"
    )
    done = []
    for row in rows:
        done.append(row)
        mark = ("pass" if row.passed else "FAIL") if row.counted else "(not counted)"
        print(
            f"{row.pair:40s} {row.metric:9s} {row.verdict:8s} {row.before:8.2f} {row.median:8.3f} {row.p90:8.3f} "
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="folder with MANIFEST.csv and pairs")
    parser.add_argument("--all", action="store_true", help="also the pairs outside ±30° and 0.8 to 1.25")
    parser.add_argument(
        "--turned",
        type=int,
        nargs="+",
        metavar="SEED",
        help="turn and scale the real moving images at random, once per seed",
    )
    parser.add_argument("--synthetic", action="store_true", help="run the synthetic pairs")
    parser.add_argument("--seeds", type=int, default=3, help="random warps per texture and amplitude")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON too")
    options = parser.parse_args()
    rows = []
    if options.real:
        for seed in options.turned or [None]:
            rows += show(real(options.real, options.all, seed))
    if options.synthetic:
        rows += show(synthetic(options.seeds))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
