"""Accuracy on real pairs with landmarks and on synthetic pairs with a known dense warp, as one table.

    python -m benchmarks.accuracy --real FOLDER        # FOLDER holds MANIFEST.csv and pairs with landmarks
    python -m benchmarks.accuracy --synthetic          # textures that come with scikit-image
    python -m benchmarks.accuracy --real FOLDER --all --rotated 1 2 3   # rotated, scaled at random
    python -m benchmarks.accuracy --real FOLDER --synthetic --json results.json

TRE (target registration error) is the distance, in pixels of the moving image, between a mapped fixed
landmark (or every pixel with texture) and its true position. rTRE is TRE divided by the diagonal of the fixed
image. A real pair is found if its median rTRE is at most 1 %, or its median TRE at most 1.5 times the noise
of its landmarks; with ``--rotated``, TRE is in pixels of the moving image before it was rotated. Drawings and
pairs that are identical except for noise are aligned and not counted.
"""

import argparse
import csv
import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from skimage import color, data

import register
from benchmarks import results
from benchmarks.synthetic import textured, warped_pair
from register import Transform
from register.geometry import affine
from register.io.points.open import read_points

NOT_COUNTED = ("birl_artificial", "iguazu")
CONTRASTS = ("plain", 0.0), ("plain", 0.02), ("gamma", 0.02), ("inverted", 0.02)
"""Contrast of the moving image of a synthetic pair, and standard deviation of the noise in both images."""
HEAD = "{:40s} {:9s} {:8s} {:>8s} {:>8s} {:>8s} {:>7s} {:>5s} {:>6s}".format(
    "pair", "metric", "verdict", "before", "median", "p90", "rTRE %", "folds", "s"
)


@dataclass(frozen=True)
class Images:
    """A pair in memory. ``errors`` gives the TRE (n,) of a transform in pixels; ``before`` is the median TRE
    of the identity."""

    fixed: np.ndarray
    moving: np.ndarray
    before: float
    limit: float  # largest median TRE of a pair that is found
    errors: Callable[[Transform], np.ndarray]


@dataclass(frozen=True)
class Pair:
    """A pair to align: its name, whether it is counted, and how its images are read or made."""

    name: str
    counted: bool
    load: Callable[[], Images]


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


def manifest(folder: Path, everything: bool = True) -> list[dict[str, str]]:
    """The entries of MANIFEST.csv: all, or those rotated by less than 30° and scaled by 0.8 to 1.25."""
    with open(folder / "MANIFEST.csv", newline="", encoding="utf-8") as file:
        entries = list(csv.DictReader(file))
    return [entry for entry in entries if everything or _ordinary(entry)]


def _ordinary(entry: dict[str, str]) -> bool:
    return abs(float(entry["affine_rot_deg"])) < 30 and 0.8 <= float(entry["affine_scale"]) <= 1.25


def landmarks(folder: Path, entry: dict[str, str]) -> list[np.ndarray]:
    """The fixed and the moving landmarks (n, 2) of an entry, in pixels."""
    place = (folder / entry["fixed"]).parent
    return [np.asarray(read_points(place / f"landmarks_{kind}.csv")) for kind in ("fixed", "moving")]


def pictures(folder: Path, fixed: dict[str, str], moving: dict[str, str]) -> list[np.ndarray]:
    """The fixed image of one entry and the moving image of one, (h, w, c)."""
    return [register.read_image(folder / path).picture() for path in (fixed["fixed"], moving["moving"])]


def real_pairs(folder: Path, everything: bool, seed: int | None = None) -> list[Pair]:
    """Pairs of a manifest; with a ``seed`` their moving images are rotated and scaled at random."""
    pairs = []
    for entry in manifest(folder, everything):
        name, rotation = entry["id"], (0.0, 1.0)
        if seed is not None:
            rotation = _random_rotation(entry, seed)
            name = f"{name} {rotation[0]:.0f}° x {rotation[1]:.2f}"
        counted = not entry["id"].startswith(NOT_COUNTED)
        pairs.append(
            Pair(name, counted, lambda entry=entry, rotation=rotation: _real(folder, entry, *rotation))
        )
    return pairs


def _random_rotation(entry: dict[str, str], seed: int) -> tuple[float, float]:
    """An angle in degrees and a scale of 0.5 to 1.8 that leaves at least 200 pixels."""
    rng = np.random.default_rng([seed, *entry["id"].encode()])
    angle, scale = rng.uniform(-180, 180), math.exp(rng.uniform(math.log(0.5), math.log(1.8)))
    shorter = min(map(int, entry["size_moving"].split("x")))
    return angle, max(scale, 200 / shorter)


def _real(folder: Path, entry: dict[str, str], angle: float, scale: float) -> Images:
    fixed, moving = pictures(folder, entry, entry)
    source, target = landmarks(folder, entry)
    if (angle, scale) != (0.0, 1.0):
        moving, matrix = rotated(moving, angle, scale)
        target = affine.apply(matrix, target)
    limit = largest_error(entry, fixed.shape)

    def errors(transform: Transform) -> np.ndarray:
        return np.linalg.norm(transform.map(source) - target, axis=1) / scale

    before = float(np.median(np.linalg.norm(source - target, axis=1))) / scale
    return Images(fixed, moving, before, limit, errors)


def largest_error(entry: dict[str, str], shape: tuple[int, ...]) -> float:
    """The largest median TRE, in pixels, of a pair that is found; ``shape`` is that of the fixed image."""
    noise = re.search(r"LOO-TPS landmark residual med ([\d.]+)", entry["gt_residual_note"])
    return max(0.01 * math.hypot(*shape[:2]), 1.5 * float(noise[1]) if noise else 0.0)


def rotated(image: np.ndarray, angle: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """An image (h, w, c) rotated by ``angle`` degrees and scaled, on a black canvas that holds all of it.

    Also returns the map (2, 3) of its pixels to those of the canvas.

    """
    height, width = image.shape[:2]
    turn = affine.similarity(math.radians(angle), scale, np.zeros(2), np.zeros(2))
    ends = affine.apply(turn, affine.points_at(np.array([0.0, width - 1]), np.array([0.0, height - 1])))
    corner = ends.min(axis=(0, 1))
    matrix = affine.compose(affine.translation(*-corner), turn)
    columns, rows = np.ceil(ends.max(axis=(0, 1)) - corner).astype(int)
    grid = affine.points_at(np.arange(columns + 1.0), np.arange(rows + 1.0))
    points = affine.apply(affine.invert(matrix), grid)
    sigma = max(0.5 / scale - 0.4, 0.0)  # against aliasing where pixels become larger
    planes = [
        map_coordinates(
            gaussian_filter(plane.astype(float), sigma), [points[..., 1], points[..., 0]], order=1
        )
        for plane in np.moveaxis(image, 2, 0)
    ]
    pixels = np.stack(planes, 2)
    return (np.rint(pixels) if image.dtype.kind in "ui" else pixels).astype(image.dtype), matrix


def synthetic_pairs(seeds: int) -> list[Pair]:
    """Real textures under smooth warps of 1, 2 and 4 % of the diagonal, in four combinations of contrast and
    noise."""
    pairs = []
    for name in textures():
        for seed in range(1, seeds + 1):
            for amplitude in (0.01, 0.02, 0.04):
                pairs += [synthetic_pair(name, amplitude, seed, *one) for one in CONTRASTS]
    return pairs


def synthetic_pair(name: str, amplitude: float, seed: int, contrast: str, noise: float) -> Pair:
    """A texture under a smooth warp of a share of the diagonal."""
    title = f"{name} {amplitude:.0%} {contrast}{' noise' if noise else ''} #{seed}"
    return Pair(title, True, lambda: _synthetic(name, amplitude, seed, contrast, noise))


def _synthetic(name: str, amplitude: float, seed: int, contrast: str, noise: float) -> Images:
    texture = textures()[name]
    pair = warped_pair(texture, amplitude, seed, contrast=contrast, noise=noise)
    truth = pair.moving_from_fixed
    identity = np.stack(np.meshgrid(np.arange(truth.shape[1]), np.arange(truth.shape[0])), axis=2)
    overlap = ((truth >= 0) & (truth <= np.array(texture.shape[::-1]) - 1)).all(axis=2)
    judged = overlap & textured(warped_pair(texture, amplitude, seed).fixed)

    def errors(transform: Transform) -> np.ndarray:
        return np.linalg.norm(transform.field().numpy() + identity - truth, axis=2)[judged]

    before = float(np.median(np.linalg.norm(truth - identity, axis=2)[judged]))
    return Images(
        pair.fixed, pair.moving, before, 0.10 if (contrast, noise) == CONTRASTS[0] else 0.25, errors
    )


def textures() -> dict[str, np.ndarray]:
    """Grey images (about 1000, 1000) in [0, 1] that come with scikit-image."""
    ihc = color.rgb2gray(data.immunohistochemistry())
    return {
        "retina": color.rgb2gray(data.retina())[200:1200, 200:1200],
        "hubble": color.rgb2gray(data.hubble_deep_field())[:, :1000],
        "tissue": np.clip(ihc, 0, 1),
        "gravel": data.gravel() / 255.0,
    }


def measure(pair: Pair) -> Row:
    """Align one pair and compare the transform with the truth."""
    images = pair.load()
    begin = time.perf_counter()
    alignment = register.align(images.fixed, images.moving)
    seconds = time.perf_counter() - begin
    errors, quality = images.errors(alignment.transform), alignment.quality
    median = float(np.median(errors))
    return Row(
        pair=pair.name,
        metric=quality["metric"],
        verdict=str(quality["verdict"]),
        before=images.before,
        median=median,
        p90=float(np.percentile(errors, 90)),
        rtre=median / math.hypot(*images.fixed.shape[:2]),
        folds=quality["folds"],
        seconds=seconds,
        passed=median <= images.limit,
        counted=pair.counted,
    )


def show(rows: Iterator[Row]) -> list[Row]:
    """Print a table while its rows are computed, and its summary."""
    print(HEAD)
    done = []
    for row in rows:
        done.append(row)
        outcome = "found" if row.passed else "NOT FOUND"
        print(
            f"{row.pair:40s} {row.metric:9s} {row.verdict:8s} {row.before:8.2f} {row.median:8.3f} "
            f"{row.p90:8.3f} {100 * row.rtre:7.3f} {row.folds:5d} {row.seconds:6.1f} "
            f"{outcome if row.counted else '(not counted)'}",
            flush=True,
        )
    print(sentence(summary([asdict(row) for row in done])) + "\n")
    return done


def summary(rows: list[dict]) -> dict[str, float]:
    """The figures of a table: pairs counted and found, errors in pixels, pairs made worse, folds and
    seconds."""
    counted = [row for row in rows if row["counted"]]
    worse = [row["median"] > row["before"] * 1.001 and row["median"] - row["before"] > 1 for row in rows]
    return {
        "pairs": len(counted),
        "found": sum(row["passed"] for row in counted),
        "median": float(np.median([row["median"] for row in counted])),
        "worse": sum(worse),
        "folds": sum(row["folds"] for row in rows),
        "seconds": float(np.median([row["seconds"] for row in rows])),
    }


def sentence(figures: dict[str, float]) -> str:
    """A summary as a line of text."""
    return (
        f"{figures['found']} of {figures['pairs']} found; median of medians {figures['median']:.3f} px; "
        f"{figures['worse']} worse than the identity by more than a pixel; {figures['folds']} folds; "
        f"median {figures['seconds']:.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="folder with MANIFEST.csv and pairs")
    parser.add_argument("--all", action="store_true", help="also the pairs outside ±30° and 0.8 to 1.25")
    parser.add_argument(
        "--rotated",
        type=int,
        nargs="+",
        metavar="SEED",
        help="rotate and scale the real moving images at random, once per seed",
    )
    parser.add_argument("--synthetic", action="store_true", help="run the synthetic pairs")
    parser.add_argument("--seeds", type=int, default=3, help="random warps per texture and amplitude")
    results.add_options(parser)
    options = parser.parse_args()
    rows = []
    if options.real:
        for seed in options.rotated or [None]:
            rows += show(map(measure, real_pairs(options.real, options.all, seed)))
    if options.synthetic:
        rows += show(map(measure, synthetic_pairs(options.seeds)))
    results.keep(options, [asdict(row) for row in rows])


if __name__ == "__main__":
    main()
