"""How far verdicts can be trusted; fits the constants of the verdict and cross-validates them.

    python -m benchmarks.verdicts --real FOLDER --rows rows.json   # aligns what rows.json lacks (an hour)
    python -m benchmarks.verdicts --draws 20 --rows rows.json      # and draws of other kinds
    python -m benchmarks.verdicts --rows rows.json                 # only fits

FOLDER holds MANIFEST.csv and pairs with landmarks. Besides the pairs themselves, pairs with a wrong start,
with a mirrored moving image and of different objects are aligned. An alignment is wrong if its median
landmark error exceeds 2 % of the fixed image's diagonal; those of mirrored images and of different objects
always are; the mirrored moving image, which the program tries by itself before it gives up, is not tried.
With ``--draws`` pairs of the kinds that other benchmarks draw are added (``benchmarks.verdict_kinds``).
For the cross-validation, alignments are left out of the fit together with all others of the same fixed image,
or of the same kind of draw. Alignments that are suspect for another reason than the probability, such as a
rival, are not part of the fit: their verdict does not depend on it.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from scipy.optimize import minimize
from scipy.stats import rankdata

import register
from benchmarks import results, verdict_kinds
from benchmarks.accuracy import landmarks, manifest, pictures
from register import api
from register.engine.quality import verdict
from register.geometry import affine, models
from register.transforms.frame import Frame
from register.transforms.transform import Transform

SCENES = "birl_artificial", "homogr_LePoint", "padfield"
"""Prefixes of the names of pairs of the same object."""
RIDGE = 1.0


def scene(name: str) -> str:
    """The object of a pair, by its name."""
    return next((one for one in SCENES if name.startswith(one)), name.split("#")[0])


def jobs(entries: list[dict[str, str]]) -> Iterator[tuple[str, dict[str, str], dict[str, str]]]:
    """The kind of each alignment, and the entries of its fixed and its moving image."""
    rng = np.random.default_rng(5)
    for kind in ("real", "flip"):
        yield from ((kind, entry, entry) for entry in entries)
    n, pairs = len(entries), set()
    while len(pairs) < 55:
        i, j = map(int, rng.integers(n, size=2))
        if (
            entries[i]["category"] != entries[j]["category"]
            or entries[i]["id"].split("_")[0] != entries[j]["id"].split("_")[0]
        ):
            pairs.add((i, j))
    for k in range(n):  # and of the same kind
        same = [j for j in range(n) if j != k and entries[j]["category"] == entries[k]["category"]]
        pairs |= {(k, int(rng.choice(same)))} if same else set()
    yield from (
        ("unrelated", entries[i], entries[j])
        for i, j in sorted(pairs)
        if scene(entries[i]["id"]) != scene(entries[j]["id"])
    )
    for entry in entries:
        yield from ((kind, entry, entry) for kind in ("start-near", "start-far"))


def wrong_start(folder: Path, entry: dict[str, str], kind: str, seed: int) -> np.ndarray:
    """The true affine map (2, 3), rotated and shifted.

    By up to 15° and 8 % of the diagonal if ``kind`` is ``start-near``, else by up to 180° and 25 %.
    """
    rng, near = np.random.default_rng(seed), kind == "start-near"
    width, height = map(int, entry["size_fixed"].split("x"))
    points = landmarks(folder, entry)
    truth = models.get("affine" if len(points[0]) >= 4 else "similarity").fit(*points)
    angle = math.radians(rng.uniform(*((2, 15) if near else (20, 180))) * rng.choice([-1, 1]))
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    length = math.hypot(width, height) * rng.uniform(*((0.02, 0.08) if near else (0.05, 0.25)))
    direction = rng.uniform(0, 2 * math.pi)
    moved = centre + length * np.array([math.cos(direction), math.sin(direction)])
    scale = float(math.exp(rng.normal(0, 0.05)))
    return affine.compose(np.asarray(truth), affine.similarity(angle, scale, moved, centre))


def run(folder: Path, kind: str, one: dict[str, str], other: dict[str, str], seed: int) -> dict[str, Any]:
    """Align one pair; its error and the evidence on which the verdict rests."""
    fixed, moving = pictures(folder, one, other)
    if kind == "flip":
        moving = np.ascontiguousarray(moving[:, ::-1])
    settings = {}
    as_they_are = patch.object(api, "_mirrored", lambda failed, *_: failed)
    with tempfile.TemporaryDirectory() as place, as_they_are:
        if kind.startswith("start"):
            start = Transform(
                "affine",
                Frame(fixed.shape[1], fixed.shape[0]),
                Frame(moving.shape[1], moving.shape[0]),
                wrong_start(folder, one, kind, seed),
            )
            start.save(Path(place) / "start.json")
            settings["init"] = str(Path(place) / "start.json")
        alignment = register.align(fixed, moving, **settings)
    diagonal, rtre = math.hypot(*fixed.shape[:2]), math.inf
    if kind == "real" or kind.startswith("start"):
        points = landmarks(folder, one)
        rejected = alignment.quality.get("rejected_matrix")  # of a failed alignment, which has the identity
        if rejected is None:
            found = alignment.transform.map(points[0])
        else:
            found = affine.apply(np.array(rejected), points[0])
        rtre = float(np.median(np.linalg.norm(found - points[1], axis=1))) / diagonal
    return row(
        kind, one["id"] if one is other else f"{one['id']}+{other['id']}", rtre, alignment.quality, diagonal
    )


def draw(kind: str, seed: int) -> dict[str, Any]:
    """Align a pair of a kind that another benchmark draws; wrong by that kind's own limit."""
    with verdict_kinds.recorded() as made:
        error = verdict_kinds.kinds()[kind](seed)
    quality, diagonal = made[-1]["quality"], made[-1]["diagonal"]
    drawn = row(kind, f"{kind}#{seed}", error / diagonal, quality, diagonal)
    return drawn | {"wrong": error > verdict_kinds.WRONG}


def row(kind: str, name: str, rtre: float, quality: dict[str, Any], diagonal: float) -> dict[str, Any]:
    """What the fit needs of an alignment."""
    back, recognised = quality["back_and_forth"], quality["recognised"]
    return {
        "kind": kind,
        "name": name,
        "rtre": rtre,
        "doubt": quality["verdict"] == "suspect" and quality["probability_wrong"] < verdict.SUSPECT_FROM,
        "verdict": str(quality["verdict"]),
        "recognised": 0.5 if recognised is None else recognised,
        "sigma": quality["recognised_sigma"] or 0.0,
        "back": 1.0 if back is None else back / diagonal,
        "above_chance": quality["above_chance"],
    }


def is_wrong(one: dict[str, Any]) -> bool:
    """Whether the alignment of a row is wrong, by the limit of its kind where it has one."""
    return one.get("wrong", one["rtre"] > verdict.WRONG)


def fit(features: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Coefficients of a ridge logistic regression with equal weights of both classes; the constant first."""
    mean, spread = features.mean(0), features.std(0)
    design = np.column_stack([np.ones(len(features)), (features - mean) / spread])
    share = np.clip(wrong.mean(), 1e-6, 1 - 1e-6)  # few runs may all be right
    weight = np.where(wrong, 0.5 / share, 0.5 / (1 - share))
    sign = np.where(wrong, 1.0, -1.0)
    found = minimize(
        lambda b: (weight * np.logaddexp(0, -sign * (design @ b))).sum() + RIDGE * (b[1:] ** 2).sum() / 2,
        np.zeros(design.shape[1]),
    ).x
    coefficients = found[1:] / spread
    return np.concatenate([[found[0] - (coefficients * mean).sum()], coefficients])


def area_under_curve(score: np.ndarray, wrong: np.ndarray) -> float:
    """The probability that a wrong run scores above a right one."""
    ranks, n = rankdata(score), wrong.sum()
    return float((ranks[wrong].sum() - n * (n + 1) / 2) / (n * (~wrong).sum()))


def report(rows: list[dict[str, Any]]) -> None:
    """Fit, cross-validate, and print the verdicts of each kind of alignment."""
    wrong = np.array([is_wrong(one) for one in rows])
    doubt = np.array([one.get("doubt", False) for one in rows])
    known = [
        [math.log((one["recognised"] + 0.01) / (1.01 - one["recognised"])), math.log1p(max(one["sigma"], 0))]
        for one in rows
    ]
    features, groups = np.array(known), np.array([scene(one["name"].split("+")[0]) for one in rows])
    odds = np.zeros(len(rows))
    for group in np.unique(groups):
        inside = groups == group
        odds[inside] = np.column_stack([np.ones(inside.sum()), features[inside]]) @ fit(
            features[~inside & ~doubt], wrong[~inside & ~doubt]
        )
    chance = 1 / (1 + np.exp(-odds))
    names = list(verdict.LOG_ODDS)
    print(f"{len(rows)} runs, {wrong.sum()} wrong")
    print(
        "fitted to all:",
        ", ".join(
            f"{name} {value:.2f}"
            for name, value in zip(names, fit(features[~doubt], wrong[~doubt]), strict=True)
        ),
        "; in use:",
        verdict.LOG_ODDS,
    )
    ok, failed = (chance < verdict.SUSPECT_FROM) & ~doubt, chance >= verdict.FAILED_FROM
    print(f"cross-validated: AUC {area_under_curve(odds[~doubt], wrong[~doubt]):.4f}")
    for name, those in (("wrong", wrong), ("right", ~wrong)):
        print(f"  of {name} ones {ok[those].mean():.1%} ok, {failed[those].mean():.1%} failed")
    for kind in dict.fromkeys(one["kind"] for one in rows):
        inside = np.array([one["kind"] == kind for one in rows])
        called = {
            name: sum(one["verdict"] == name for one in rows if one["kind"] == kind)
            for name in ("ok", "suspect", "failed")
        }
        held_out = f"cross-validated {ok[inside].sum():3d} ok, {failed[inside].sum():3d} failed"
        counts = f"{inside.sum():3d} runs, {wrong[inside].sum():3d} wrong"
        print(f"  {kind:10s} {counts}; {held_out}; the program: {called}")
    print("most surprising:")
    for i in np.argsort(-np.abs(chance - wrong))[:12]:
        one = rows[i]
        evidence = f"recognised {one['recognised']:.2f} ({one['sigma']:.1f} σ), round trip {one['back']:.4f}"
        outcome = f"rTRE {one['rtre']:.4f}, probability {chance[i]:.2f}"
        print(f"  {one['kind']:10s} {one['name']:44s} {outcome}, {evidence}")


def confusion(rows: list[dict[str, Any]]) -> str:
    """A line per kind: right and wrong alignments by what the program calls them."""
    lines = [
        f"{'kind':32s} {'right: ok':>9s} {'suspect':>8s} {'failed':>7s} {'wrong: ok':>10s} suspect  failed"
    ]
    for kind in dict.fromkeys(one["kind"] for one in rows):
        counts = [
            sum((one["kind"], one["verdict"], is_wrong(one)) == (kind, called, wrong) for one in rows)
            for wrong in (False, True)
            for called in ("ok", "suspect", "failed")
        ]
        lines.append("{:32s} {:9d} {:8d} {:7d} {:10d} {:7d} {:7d}".format(kind, *counts))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="folder with MANIFEST.csv and pairs")
    parser.add_argument(
        "--rows",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="where rows are kept; all are read",
    )
    parser.add_argument(
        "--part", default="1/1", help="which share of the pairs of FOLDER, as 1/2: to run two processes"
    )
    parser.add_argument("--draws", type=int, default=0, help="draws of each kind of other benchmarks")
    results.add_options(parser)
    options = parser.parse_args()
    read = [one for path in options.rows if path.exists() for one in json.loads(path.read_text())]
    rows, keep = list({(one["kind"], one["name"]): one for one in read}.values()), options.rows[0]
    number, count = map(int, options.part.split("/"))
    if options.real:
        done = {(one["kind"], one["name"]) for one in rows}
        numbered = list(enumerate(jobs(manifest(options.real))))
        for seed, (kind, one, other) in numbered[number - 1 :: count]:
            name = one["id"] if one is other else f"{one['id']}+{other['id']}"
            if (kind, name) in done:
                continue
            try:
                rows.append(run(options.real, kind, one, other, seed))
            except register.RegisterError as error:
                print(f"{kind} {name}: {error}", flush=True)
                continue
            print(f"{kind:10s} {name:44s} rTRE {rows[-1]['rtre']:.4f} {rows[-1]['verdict']}", flush=True)
            keep.write_text(json.dumps(rows, indent=1))
    for kind in verdict_kinds.kinds() if options.draws else ():
        done = {one["name"] for one in rows}
        for seed in (n for n in range(options.draws) if f"{kind}#{n}" not in done):
            rows.append(draw(kind, seed))
            print(f"{kind}#{seed} rTRE {rows[-1]['rtre']:.4f} {rows[-1]['verdict']}", flush=True)
            keep.write_text(json.dumps(rows, indent=1))
    report(rows)
    print(confusion(rows))
    results.keep(options, rows)


if __name__ == "__main__":
    main()
