"""Landmarks that hold: lost tissue, a wrong landmark, and pairs that fail by themselves.

``python -m benchmarks.held`` prints the rows. With ``--data FOLDER``, a folder of pairs with landmarks and a
MANIFEST.csv, the last part cuts 70 % of each moving image away and holds six of the landmarks that are left;
the errors are those of the others.
"""

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

import register
from benchmarks.synthetic import smooth_field, warped_pair
from register.io.images.open import read_image
from register.io.points.open import read_points

Array = NDArray[np.float64]
REACH = 0.35
"""Standard deviation of the displacement inside lost tissue, as a share of its side."""
LEFT = 0.3
"""Share of the moving image that is left of a cut pair."""


@dataclass(frozen=True)
class LostTissue:
    """A pair (h, w) whose fixed image lost the tissue in ``hole`` (h, w), with the true map (h, w, 2)."""

    fixed: Array
    moving: Array
    truth: Array
    hole: NDArray[np.bool_]
    seed: int

    @property
    def outside(self) -> NDArray[np.bool_]:
        """The pixels (h, w) with tissue in both images."""
        sides = np.array(self.moving.shape[::-1])
        return ~self.hole & ((self.truth > 2) & (self.truth < sides - 3)).all(2)

    def landmarks(self, sigma: float) -> tuple[Array, Array]:
        """Four pairs of points (4, 2) in the hole; the moving ones have an error of ``sigma`` per axis."""
        rng = np.random.default_rng(self.seed + 50)
        y, x = np.nonzero(self.hole)
        quarter = (np.ptp(x) + 1) / 4
        corners = np.array([[i, j] for i in (-1, 1) for j in (-1, 1)]) * quarter
        fixed = np.array([x.mean(), y.mean()]) + corners + rng.uniform(-0.2, 0.2, (4, 2)) * quarter
        return fixed, truth_at(self.truth, fixed) + rng.normal(0, 1, (4, 2)) * sigma


def texture(side: int, seed: int) -> Array:
    """A picture (side, side) in [0, 1] with detail at several scales."""
    rng = np.random.default_rng(seed)
    layers = sum(s * gaussian_filter(rng.normal(size=(side, side)), s) for s in (1.5, 3, 8, 20))
    return (layers - layers.min()) / (layers.max() - layers.min())


def truth_at(truth: Array, points: Array) -> Array:
    """A map (h, w, 2) at points (n, 2)."""
    return np.stack([map_coordinates(truth[..., k], points.T[::-1], order=1) for k in (0, 1)], 1)


def lost_tissue(side: int, hole: int, amplitude: float, seed: int) -> LostTissue:
    """A pair of ``side`` pixels under a smooth warp, with a displacement of ``amplitude`` pixels more in a
    square ``hole`` whose tissue is lost in the fixed image."""
    margin = side // 10
    world, rng = texture(side + 2 * margin, seed), np.random.default_rng(seed + 5)
    y, x = np.mgrid[:side, :side].astype(float)
    centre, angle = rng.uniform(0.35, 0.65, 2) * side, rng.uniform(0, 2 * np.pi)
    bump = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * (REACH * hole) ** 2))
    field = smooth_field(side, side, 0.01 * side, seed)
    field += amplitude * bump[..., None] * np.array([np.cos(angle), np.sin(angle)])
    truth = field + np.stack([x, y], 2)
    fixed = map_coordinates(world, [truth[..., 1] + margin, truth[..., 0] + margin], order=3, mode="reflect")
    lost = (np.abs(x - centre[0]) < hole / 2) & (np.abs(y - centre[1]) < hole / 2)
    fixed[lost] = 0.9
    moving = world[margin : margin + side, margin : margin + side]
    fixed, moving = (image + rng.normal(0, 0.02, image.shape) for image in (fixed, moving))
    return LostTissue(fixed, moving, truth, lost, seed)


def errors(alignment: register.Alignment, truth: Array) -> Array:
    """The distances (h, w), in pixels, of a transform from the true map (h, w, 2)."""
    y, x = np.mgrid[: truth.shape[0], : truth.shape[1]]
    return np.linalg.norm(alignment.transform.field().numpy() + np.stack([x, y], 2) - truth, axis=2)


def lost_rows(seeds: int) -> Iterator[str]:
    """A row per pair: median errors inside and outside, without and with landmarks of σ 1 px."""
    for seed in range(seeds):
        case = lost_tissue(side=1000, hole=200, amplitude=45, seed=seed)
        each = []
        for held in (None, case.landmarks(1.0)):
            sigma = {"landmark_sigma": 1.0} if held else {}
            error = errors(register.align(case.fixed, case.moving, held=held, **sigma), case.truth)
            inside = error[case.hole]
            each += [np.median(inside), np.percentile(inside, 90), np.median(error[case.outside])]
        yield "| {} | {:.2f} | {:.2f} | {:.3f} | {:.2f} | {:.2f} | {:.3f} |".format(seed, *each)


def wrong_rows(seeds: int) -> Iterator[str]:
    """A row per pair: median error with five right landmarks, with a sixth that is 190 px wrong, its name."""
    for seed in range(seeds):
        pair, rng = warped_pair(texture(600, seed), 0.02, seed, noise=0.03), np.random.default_rng(seed)
        fixed = rng.uniform(80, 520, (6, 2))
        moving = truth_at(pair.moving_from_fixed, fixed) + rng.normal(0, 1.5, (6, 2))
        five = fixed[:5], moving[:5].copy()
        angle = rng.uniform(0, 2 * np.pi)
        moving[5] += 190 * np.array([np.cos(angle), np.sin(angle)])
        done = [register.align(pair.fixed, pair.moving, held=held) for held in (five, (fixed, moving))]
        median = [np.median(errors(one, pair.moving_from_fixed)) for one in done]
        named = [n for n, one in enumerate(done[1].quality.held.points, 1) if not one.kept]
        yield f"| {seed} | {median[0]:.4f} | {median[1]:.4f} | {named} |"


def cut_rows(data: Path) -> Iterator[str]:
    """A row per cut pair that fails by itself: median error and verdict without and with six landmarks."""
    with open(data / "MANIFEST.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        folder = (data / row["fixed"]).parent
        points = [folder / f"landmarks_{kind}.csv" for kind in ("fixed", "moving")]
        if not all(path.exists() for path in points):
            continue
        f, m = (read_points(path) for path in points)
        images = [
            np.moveaxis(np.asarray(read_image(data / row[k]).pixels), 0, 2) for k in ("fixed", "moving")
        ]
        width = images[1].shape[1]
        kept = int(LEFT * width)
        lefts = range(0, width - kept + 1, 10)
        left = max(lefts, key=lambda x, m=m, kept=kept: ((m[:, 0] >= x + 5) & (m[:, 0] < x + kept - 5)).sum())
        moving, m = np.ascontiguousarray(images[1][:, left : left + kept]), m - [left, 0]
        inside = (m[:, 0] >= 5) & (m[:, 0] < kept - 5)
        if inside.sum() < 9:
            continue
        f, m = f[inside], m[inside]
        order = np.random.default_rng(1).permutation(len(f))
        held, test = order[:6], order[6:]
        alone = register.align(images[0], moving, preset="fast")
        if alone.quality.verdict != "failed":
            continue
        with_them = register.align(images[0], moving, preset="fast", held=(f[held], m[held]))
        error = [np.linalg.norm(one.transform.map(f[test]) - m[test], axis=1) for one in (alone, with_them)]
        verdicts = alone.quality.verdict, with_them.quality.verdict
        before, after = (
            f"{np.median(one):.1f} | {verdict}" for one, verdict in zip(error, verdicts, strict=True)
        )
        yield f"| {row['id']} | {before} | {after} |"


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="pairs of each kind")
    parser.add_argument("--data", type=Path, help="folder with real pairs")
    given = parser.parse_args()
    print("| lost | inside, px | p90 | outside | held: inside | p90 | outside |")
    print("| --- " * 7 + "|")
    for row in lost_rows(given.seeds):
        print(row, flush=True)
    print("\n| wrong | five, px | six, px | named |\n| --- | --- | --- | --- |")
    for row in wrong_rows(given.seeds):
        print(row, flush=True)
    if given.data:
        print("\n| cut | alone, px | verdict | held, px | verdict |\n| --- | --- | --- | --- | --- |")
        for row in cut_rows(given.data):
            print(row, flush=True)


if __name__ == "__main__":
    main()
