"""Calibration of the expected error: predicted against true errors, on known warps and on landmarks.

    python -m benchmarks.calibration --synthetic        # 11 textures, half an hour; fits the constants
    python -m benchmarks.calibration --synthetic --keep patches.npz
    python -m benchmarks.calibration --real FOLDER      # FOLDER holds MANIFEST.csv and pairs with landmarks

The true error of a patch is the root mean square, over its cell, of the distance between the estimated map
and the true one, where the images overlap. Constants are fitted to all textures, and cross-validated by
leaving one texture out. A pair of n patches has the weight n to the power of 3/4: between equal patches and
equal pairs. Landmarks tell ``OTHER_KIND``, the part of the expected error that images of different kinds
have, cross-validated by leaving one scene out.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from skimage import color, data

import register
from benchmarks.accuracy import NOT_COUNTED, landmarks, manifest, pictures, textures
from benchmarks.synthetic import warped_pair
from register.engine.quality import expected_error

MORE = "brick", "grass", "camera", "coins", "moon", "chelsea", "page"
COVERED = 0.68
COLUMNS = ("predicted", "true", *[name for name in expected_error.LOG_ERROR if name != "one"])


def all_textures() -> dict[str, np.ndarray]:
    """Grey images in [0, 1] that come with scikit-image."""
    more = {name: getattr(data, name)() for name in MORE}
    return textures() | {name: color.rgb2gray(x) if x.ndim == 3 else x / 255.0 for name, x in more.items()}


def cell_errors(
    error: np.ndarray, overlap: np.ndarray, centres: np.ndarray, spacing: tuple[float, float]
) -> np.ndarray:
    """The root mean square error (n,) over the cell of every patch; NaN where less than half of it
    overlaps."""
    sums = [
        np.pad(x.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        for x in (np.where(overlap, error**2, 0.0), overlap.astype(float))
    ]
    found = []
    for x, y in centres:
        left, right = (
            int(np.clip(round(x + s * spacing[0] / 2) + (s > 0), 0, error.shape[1])) for s in (-1, 1)
        )
        top, bottom = (
            int(np.clip(round(y + s * spacing[1] / 2) + (s > 0), 0, error.shape[0])) for s in (-1, 1)
        )
        total, count = (t[bottom, right] - t[top, right] - t[bottom, left] + t[top, left] for t in sums)
        found.append(np.sqrt(total / count) if count > 0.5 * (right - left) * (bottom - top) else np.nan)
    return np.array(found)


def synthetic(seeds: int) -> dict[str, np.ndarray]:
    """Every patch of every pair: what is predicted, what is true, the terms behind the prediction, and where
    it comes from."""
    seen: dict[int, dict[str, Any]] = {}
    errors = expected_error.errors

    def spy(bound: Any, parameters: Any, back: Any, similarity: Any) -> Any:
        seen[len(bound)] = expected_error.terms(bound, parameters, back, similarity)
        return errors(bound, parameters, back, similarity)

    expected_error.errors = spy
    rows, textures_of, pairs = [], [], []
    for seed in range(1, seeds + 1):
        for name, texture in all_textures().items():
            for amplitude in (0.01, 0.03):
                for contrast, noise in (("plain", 0.0), ("plain", 0.03), ("gamma", 0.02), ("inverted", 0.05)):
                    pair = warped_pair(texture, amplitude, seed, contrast=contrast, noise=noise)
                    seen.clear()
                    alignment = register.align(pair.fixed, pair.moving)
                    transform, truth = alignment.transform, pair.moving_from_fixed
                    y, x = np.indices(truth.shape[:2])
                    error = np.linalg.norm(transform.field().numpy() + np.stack([x, y], 2) - truth, axis=2)
                    overlap = ((truth >= 0) & (truth <= np.array(texture.shape[::-1]) - 1)).all(axis=2)
                    true = cell_errors(
                        error, overlap, transform.grid.centres().reshape(-1, 2), transform.grid.spacing
                    )
                    predicted = np.array(
                        [np.nan if v is None else v for v in transform.patch_figures["expected_error"]]
                    )
                    known = seen[transform.grid.count]  # patches that were not kept are assessed too
                    table = np.column_stack(
                        [predicted, true, *[np.asarray(known[term]) for term in COLUMNS[2:]]]
                    )
                    table = table[np.isfinite(table).all(axis=1)]
                    rows.append(table)
                    textures_of += [name] * len(table)
                    pairs += [len(rows)] * len(table)
                    title = f"{name} {amplitude:.0%} {contrast} noise {noise:.0%} #{seed}"
                    middle = np.median(table[:, :2], axis=0) if len(table) else (np.nan, np.nan)
                    verdict = alignment.quality["verdict"]
                    print(
                        f"{title:40s} {verdict:8s} predicted {middle[0]:.3f}, true {middle[1]:.3f} px",
                        flush=True,
                    )
    expected_error.errors = errors
    return {"table": np.concatenate(rows), "texture": np.array(textures_of), "pair": np.array(pairs)}


def weighted_quantile(values: np.ndarray, weight: np.ndarray, share: float) -> float:
    order = np.argsort(values)
    return float(values[order][np.searchsorted(weight[order].cumsum(), share * weight.sum())])


def fit(table: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Constants of the log of the error that ``COVERED`` of the patches stay below: least squares of logs,
    then moved up to the quantile."""
    design, goal = (
        np.column_stack([np.ones(len(table)), np.log(table[:, 2:])]),
        np.log(np.maximum(table[:, 1], 1e-4)),
    )
    found = np.linalg.lstsq(design * np.sqrt(weight)[:, None], goal * np.sqrt(weight), rcond=None)[0]
    found[0] += weighted_quantile(goal - design @ found, weight, COVERED)
    return found


def reliability(predicted: np.ndarray, true: np.ndarray) -> None:
    """Print predicted against true by decile of the prediction."""
    for number, part in enumerate(np.array_split(np.argsort(predicted, kind="stable"), 10), 1):
        medians = f"predicted {np.median(predicted[part]):7.3f}, true median {np.median(true[part]):7.3f} px"
        below = (true[part] <= predicted[part]).mean()
        print(f"  decile {number:2d}: {medians}, {below:4.0%} below, {len(part)}")


def show_synthetic(found: dict[str, np.ndarray]) -> None:
    table, texture, pair = found["table"], found["texture"], found["pair"]
    patches = np.bincount(pair)[pair]
    weight = patches**-0.25
    print(f"{len(table)} patches of {len(np.unique(pair))} pairs, as the program predicts:")
    below = table[:, 1] <= table[:, 0]
    equally = (below / patches).sum() / (1 / patches).sum()
    rank = spearmanr(table[:, 0], table[:, 1])[0]
    print(f"Spearman {rank:.3f}; {below.mean():.1%} below, {equally:.1%} with equal pairs")
    print(
        "  by texture:",
        ", ".join(f"{name} {below[texture == name].mean():.0%}" for name in np.unique(texture)),
    )
    reliability(table[:, 0], table[:, 1])
    held_out = np.zeros(len(table))
    for name in np.unique(texture):
        inside = texture == name
        held_out[inside] = np.exp(
            np.column_stack([np.ones(inside.sum()), np.log(table[inside, 2:])])
            @ fit(table[~inside], weight[~inside])
        )
    below = table[:, 1] <= held_out
    constants = dict(zip(expected_error.LOG_ERROR, fit(table, weight).round(3).tolist(), strict=True))
    print(f"fitted to all: {constants}; in use: {expected_error.LOG_ERROR}")
    equally = (below / patches).sum() / (1 / patches).sum()
    rank = spearmanr(held_out, table[:, 1])[0]
    print(
        f"one texture left out: Spearman {rank:.3f}; {below.mean():.1%} below, {equally:.1%} with equal pairs"
    )


def real(folder: Path) -> dict[str, np.ndarray]:
    """Every landmark of every pair: what is predicted, what is true, the expected error of the fit alone, how
    alike the images are, the pixel of the judging level, and the scene."""
    seen: dict[str, Any] = {}
    between = expected_error.between_kinds

    def spy(errors: Any, alike: float, pixel: float) -> Any:
        seen.update(errors=tuple(errors), alike=alike, pixel=pixel)
        return between(errors, alike, pixel)

    expected_error.between_kinds = spy
    rows, scenes = [], []
    for entry in manifest(folder):
        if entry["id"].startswith(NOT_COUNTED):
            continue
        transform = register.align(*pictures(folder, entry, entry)).transform
        source, target = landmarks(folder, entry)
        predicted, true = transform.expected_error(source), transform.map(source) - target
        figures = transform.patch_figures
        if len(seen["errors"]) == len(figures.expected_error):
            fit = replace(transform, patch_figures=replace(figures, expected_error=seen["errors"]))
            alone = fit.expected_error(source)
        else:  # finer patches, because parts are not recognised
            alone = predicted
        same = np.full((2, len(source)), [[seen["alike"]], [seen["pixel"]]])
        rows.append(np.column_stack([predicted, np.linalg.norm(true, axis=1), alone, *same]))
        scenes += [entry["id"].split("_")[0]] * len(source)
        known = np.isfinite(predicted)
        middle = np.median(rows[-1][known], axis=0) if known.any() else np.full(5, np.nan)
        print(
            f"{entry['id']:34s} predicted {middle[0]:.3f}, true {middle[1]:.3f}, fit {middle[2]:.3f} px, "
            f"alike {seen['alike']:.2f}, {known.mean():.0%} known",
            flush=True,
        )
    expected_error.between_kinds = between
    return {"table": np.concatenate(rows), "scene": np.array(scenes)}


def by_kind(table: np.ndarray, other: float) -> np.ndarray:
    """The expected errors (n,) of landmarks with another value of ``OTHER_KIND``."""
    _, _, alone, alike, pixel = table.T
    step = other / (1 + np.exp((alike - expected_error.ALIKE) / expected_error.WIDTH))
    return np.sqrt(alone**2 + step**2 * alone * pixel)


def show_real(found: dict[str, np.ndarray]) -> None:
    known = np.isfinite(found["table"]).all(axis=1)
    table, scene = found["table"][known], found["scene"][known]
    rank = spearmanr(table[:, 0], table[:, 1])[0]
    below = (table[:, 1] <= table[:, 0]).mean()
    print(
        f"{len(known)} landmarks, {known.mean():.0%} with a finite expected error; Spearman {rank:.3f}; "
        f"{below:.1%} below; fit alone: Spearman {spearmanr(table[:, 2], table[:, 1])[0]:.3f}, "
        f"{(table[:, 1] <= table[:, 2]).mean():.1%} below"
    )
    reliability(table[:, 0], table[:, 1])
    held_out, constants = np.zeros(len(table)), np.arange(0, 12, 0.1)
    for name in np.unique(scene):
        inside = scene == name
        others = table[~inside]
        shares = [(others[:, 1] <= by_kind(others, constant)).mean() for constant in constants]
        chosen = constants[np.argmin(np.abs(np.array(shares) - COVERED))]
        held_out[inside] = by_kind(table[inside], chosen)
        share = (table[inside, 1] <= held_out[inside]).mean()
        print(
            f"  without {name:9s} OTHER_KIND {chosen:.1f}; of its {inside.sum()} landmarks {share:.0%} below"
        )
    rank, below = spearmanr(held_out, table[:, 1])[0], (table[:, 1] <= held_out).mean()
    print(f"one scene left out: Spearman {rank:.3f}; {below:.1%} below")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--synthetic", action="store_true", help="known warps")
    parser.add_argument("--seeds", type=int, default=1, help="random warps per texture and amplitude")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FILE",
        help="keep the patches of known warps here, or read them from here",
    )
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="folder with MANIFEST.csv and pairs")
    options = parser.parse_args()
    if options.synthetic:
        found = (
            dict(np.load(options.keep))
            if options.keep and options.keep.exists()
            else synthetic(options.seeds)
        )
        if options.keep:
            np.savez_compressed(options.keep, **found)
        show_synthetic(found)
    if options.real:
        show_real(real(options.real))


if __name__ == "__main__":
    main()
