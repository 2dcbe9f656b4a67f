"""What each guard and refinement of the method is worth: every pair aligned with each of them switched off,
one at a time.

    python -m benchmarks.ablation --real FOLDER --all --synthetic --contrasts --far --rows rows.json
    python -m benchmarks.ablation --real FOLDER --all --rotated 1 --only "150 starts" features
    python -m benchmarks.ablation --rows rows.json      # prints the tables of earlier runs

A switch replaces a function or a constant of the package while one alignment runs; the product has no option
for it. ``SWITCHES`` holds them by name, with the modules and attributes that they replace. Every pair is
aligned with all switches before the next pair starts, in a random order of pairs, so that a run that is ended
early still compares all switches on the same pairs; with ``--rows`` it is resumed. Alignments use one thread.
Seconds are those of the processor, not of the clock, and of the estimate alone.

The pairs are those of ``benchmarks.accuracy``, real, ``--rotated`` and synthetic; those of
``benchmarks.contrasts``; and with ``--far`` textures of inverted contrast under warps of 5 %, beyond the
reach of a patch, which are aligned without features, as images are that have none in common.

The table gives, for the whole method and for each switch: pairs found (the rule of ``benchmarks.accuracy``),
wrong pairs that are called ``ok``, right ones that are not, the geometric mean over the pairs of the error
relative to that of the whole method, for all pairs and for those that both find, how many pairs are better
and worse by more than 2 %, and the seconds relative to the whole method's.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

import register
from benchmarks import contrasts, results
from benchmarks.accuracy import Images, Pair, real_pairs, synthetic_pair, synthetic_pairs, textures

MODULES = {
    "settings": "register.settings",
    "local_fit": "register.engine.fit.local_fit",
    "recover_patches": "register.engine.fit.recover_patches",
    "global_fit": "register.engine.fit.global_fit",
    "model_choice": "register.engine.fit.model_choice",
    "first_estimate": "register.engine.initial.first_estimate",
    "correlation": "register.engine.initial.correlation",
    "features": "register.engine.initial.features",
    "preprocess": "register.images.preprocess",
    "cpu": "register.kernels.cpu",
    "launch": "register.kernels.triton.launch",
    "cuda_graphs": "register.compute.cuda_graphs",
}
"""Where the parts of the method are."""
WHOLE = "whole method"
NO_FEATURES = ", without features"
"""End of the names of pairs that are aligned without features."""
NOTICEABLE = 0.02
"""Relative difference of the error of one pair from which on it counts as better or worse."""


@dataclass(frozen=True)
class Change:
    """An attribute of a module and the function that makes its replacement from the original."""

    module: str
    attribute: str
    make: Callable[[object], object]


@dataclass(frozen=True)
class Switch:
    """A part of the method, what is done without it, and the changes that leave it out."""

    without: str
    changes: tuple[Change, ...]
    gpu_only: bool = False


def constant(value: object) -> Callable[[object], object]:
    """A replacement that does not depend on the original."""
    return lambda _: value


def returns(value: object) -> Callable[[object], object]:
    """A function that returns ``value`` whatever its arguments are."""
    return lambda _: lambda *args, **options: value


def other_metric(instead_of: str, metric: str) -> Callable[[Callable], Callable]:
    """A function that is called with another similarity."""

    def make(original: Callable) -> Callable:
        def call(*args, **options):
            args = [metric if isinstance(x, str) and x == instead_of else x for x in args]
            options = {name: metric if value == instead_of else value for name, value in options.items()}
            return original(*args, **options)

        return call

    return make


def no_finer(presets: dict) -> dict:
    """The presets without a last pass of finer patches."""
    return {name: replace(effort, finer=None) for name, effort in presets.items()}


def always_kept(_: object) -> Callable:
    """Every level's patches are kept, at the usual stiffness, without a trial on half of the windows."""
    return lambda compare, grid, start, optimise, stiffness: (start, stiffness)


def no_stiffer(original: Callable) -> Callable:
    """A level whose patches do not improve held-out windows is left out at once."""

    def call(compare, grid, start, optimise, stiffness):
        found = original(compare, grid, start, optimise, stiffness)
        return found if found is None or found[1] == stiffness else None

    return call


def not_tilted(original: Callable) -> Callable:
    """Simulated views are not looked for."""

    def detected(fixed, moving, within, detection):
        return None if detection.tilted else original(fixed, moving, within, detection)

    return detected


def valid_pixels(_: object) -> Callable:
    """Every valid pixel has the weight one."""
    return lambda plane, mask, **options: mask.clone()


SWITCHES: dict[str, Switch] = {
    "recovered patches": Switch(
        "diverged patches stay where they are", (Change("recover_patches", "ROUNDS", constant(0)),)
    ),
    "finer patches": Switch("no last pass of finer patches", (Change("settings", "PRESETS", no_finer),)),
    "held-out windows": Switch(
        "every level's patches are kept", (Change("local_fit", "_try_half", always_kept),)
    ),
    "stiffer retry": Switch(
        "levels whose patches follow noise are left out", (Change("local_fit", "_try_half", no_stiffer),)
    ),
    "self-similarity, patches": Switch(
        "coarse patches start with structure",
        (Change("local_fit", "fit", other_metric("mind", "structure")),),
    ),
    "self-similarity, search": Switch(
        "starts and the first global map are fitted with structure",
        (
            Change("global_fit", "compare_at", other_metric("mind", "structure")),
            Change("model_choice", "fit_global", other_metric("mind", "structure")),
        ),
    ),
    "weights by texture": Switch(
        "every valid pixel has the same weight", (Change("preprocess", "texture_weight", valid_pixels),)
    ),
    "weights by noise": Switch(
        "texture weights take all variance as texture",
        (Change("preprocess", "noise_variance", returns(0.0)),),
    ),
    "features": Switch(
        "the search starts from correlation alone", (Change("features", "match", returns(None)),)
    ),
    "simulated views": Switch("features of the images alone", (Change("features", "_detected", not_tilted),)),
    "patches from matches": Switch(
        "strong perspective starts from a global map too",
        (Change("first_estimate", "deformed_patches", returns(None)),),
    ),
    "150 starts": Switch(
        "the first few starts alone are refined", (Change("correlation", "MANY", constant(0)),)
    ),
    "compiled step": Switch(
        "tensors do all the work, as with REGISTER_NATIVE=0", (Change("cpu", "library", returns(None)),)
    ),
    "Triton": Switch(
        "tensors do all the work", (Change("launch", "is_available", returns(False)),), gpu_only=True
    ),
    "CUDA graphs": Switch(
        "every step is launched separately",
        (Change("cuda_graphs", "can_record", returns(False)),),
        gpu_only=True,
    ),
}


@contextmanager
def switched_off(name: str) -> Iterator[None]:
    """Leave one part of the method out; raises ``AttributeError`` where the package has changed its names."""
    with ExitStack() as stack:
        for change in SWITCHES[name].changes if name != WHOLE else ():
            module = import_module(MODULES[change.module])
            made = change.make(getattr(module, change.attribute))
            stack.enter_context(patch.object(module, change.attribute, made))
        yield


def far_pairs(seeds: int) -> list[Pair]:
    """Textures under warps of 5 % of the diagonal, named so that ``measure`` leaves features out."""
    pairs = [
        synthetic_pair(name, 0.05, seed, "inverted", 0.02)
        for name in textures()
        for seed in range(1, seeds + 1)
    ]
    return [replace(pair, name=f"{pair.name}{NO_FEATURES}") for pair in pairs]


def measure(pair: Pair, images: Images, name: str, device: str) -> dict:
    """One alignment without one part: the error, whether it is found, the verdict and the seconds of the
    processor."""
    threads = {"threads": 1} if device == "cpu" else {}
    with ExitStack() as stack:
        stack.enter_context(switched_off("features" if pair.name.endswith(NO_FEATURES) else WHOLE))
        stack.enter_context(switched_off(name))
        begin = time.process_time()
        alignment = register.align(images.fixed, images.moving, device=device, **threads)
        seconds = time.process_time() - begin
    error = float(np.median(images.errors(alignment.transform)))
    verdict = str(alignment.quality["verdict"])
    return {
        "pair": pair.name,
        "counted": pair.counted,
        "without": name,
        "error": error,
        "found": error <= images.limit,
        "verdict": verdict,
        "seconds": seconds,
    }


def run(pairs: list[Pair], names: list[str], device: str, rows: list[dict], keep: Path | None) -> None:
    """Add to ``rows`` what they do not hold yet, pair by pair."""
    done = {(row["pair"], row["without"]) for row in rows}
    for pair in pairs:
        missing = [name for name in names if (pair.name, name) not in done]
        images = pair.load() if missing else None
        rows += [measure(pair, images, name, device) for name in missing]
        if keep:
            keep.write_text(json.dumps(rows, indent=1))
        print(f"{pair.name}: {len({row['pair'] for row in rows})} pairs done", flush=True)


def summary(rows: list[dict]) -> list[dict]:
    """For each switch the figures of the table, over the counted pairs that were aligned with it and as a
    whole."""
    by_pair: dict[str, dict[str, dict]] = {}
    for row in rows:
        by_pair.setdefault(row["pair"], {})[row["without"]] = row
    counted = [one for one in by_pair.values() if WHOLE in one and one[WHOLE]["counted"]]
    names = dict.fromkeys(row["without"] for row in rows)
    return [_compare(name, [one for one in counted if name in one]) for name in names]


def _compare(name: str, pairs: list[dict[str, dict]]) -> dict:
    """One switch against the whole method, over pairs."""
    both = [one for one in pairs if one[WHOLE]["found"] and one[name]["found"]]
    ratios = [_ratio(one, name) for one in pairs]
    return {
        "without": name,
        "pairs": len(pairs),
        "found": sum(one[name]["found"] for one in pairs),
        "found_whole": sum(one[WHOLE]["found"] for one in pairs),
        "wrong_ok": sum(one[name]["verdict"] == "ok" and not one[name]["found"] for one in pairs),
        "right_not_ok": sum(one[name]["verdict"] != "ok" and one[name]["found"] for one in pairs),
        "error": _mean(ratios),
        "error_found": _mean([_ratio(one, name) for one in both]),
        "worse": sum(ratio > 1 + NOTICEABLE for ratio in ratios),
        "better": sum(ratio < 1 - NOTICEABLE for ratio in ratios),
        "seconds": _seconds(name, pairs) / max(_seconds(WHOLE, pairs), 1e-9),
    }


def _seconds(name: str, pairs: list[dict[str, dict]]) -> float:
    return sum(one[name]["seconds"] for one in pairs)


def _ratio(one: dict[str, dict], name: str) -> float:
    """The error of a pair relative to that of the whole method; both at least a hundredth of a pixel."""
    return max(one[name]["error"], 0.01) / max(one[WHOLE]["error"], 0.01)


def _mean(ratios: list[float]) -> float:
    """The geometric mean."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan


def show(title: str, table: list[dict]) -> None:
    """Print the table."""
    print(f"\n{title}\n{'without':26s} {'found':>12s} {'wrong ok':>8s} {'right not':>9s} "
          f"{'error':>7s} {'of found':>8s} {'worse':>5s} {'better':>6s} {'CPU s':>6s}")  # fmt: skip
    for one in table:
        found = f"{one['found']} ({one['found_whole']})/{one['pairs']}"
        verdicts = f"{one['wrong_ok']:8d} {one['right_not_ok']:9d}"
        print(
            f"{one['without']:26s} {found:>12s} {verdicts} {one['error']:7.3f} "
            f"{one['error_found']:8.3f} {one['worse']:5d} {one['better']:6d} {one['seconds']:6.2f}"
        )


def kind_of(name: str, contrasting: set[str]) -> str:
    """The title of the table of a pair; ``contrasting`` are names of ``benchmarks.contrasts``."""
    if name in contrasting:
        return "Different contrasts"
    if name.endswith(NO_FEATURES):
        return "Large deformations, without features"
    if "#" in name:
        return "Synthetic pairs"
    return "Real pairs, rotated" if "° x " in name else "Real pairs"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="folder with MANIFEST.csv and pairs")
    parser.add_argument("--all", action="store_true", help="also the pairs outside ±30° and 0.8 to 1.25")
    parser.add_argument(
        "--rotated", type=int, metavar="SEED", help="rotate and scale the real ones at random"
    )
    parser.add_argument("--contrasts", action="store_true", help="images of different contrast")
    parser.add_argument("--far", action="store_true", help="large deformations, without features")
    parser.add_argument("--synthetic", action="store_true", help="textures under known warps")
    parser.add_argument("--seeds", type=int, default=1, help="random warps per texture and amplitude")
    parser.add_argument(
        "--only", nargs="+", choices=list(SWITCHES), metavar="NAME", help="some of the switches"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--rows", type=Path, nargs="+", metavar="FILE", help="where rows are kept; all are read"
    )
    parser.add_argument(
        "--part", default="1/1", help="which share of the pairs, as 1/2: to run two processes"
    )
    results.add_options(parser)
    options = parser.parse_args()
    rows = [row for path in options.rows or () if path.exists() for row in json.loads(path.read_text())]
    pairs: list[Pair] = []
    if options.real:
        pairs += real_pairs(options.real, options.all, options.rotated)
    if options.synthetic:
        pairs += synthetic_pairs(options.seeds)
    if options.contrasts:
        pairs += contrasts.pairs()
    if options.far:
        pairs += far_pairs(options.seeds)
    random.Random(0).shuffle(pairs)
    number, count = map(int, options.part.split("/"))
    gpu = torch.cuda.is_available() and options.device != "cpu"
    names = options.only or [name for name, switch in SWITCHES.items() if gpu or not switch.gpu_only]
    run(pairs[number - 1 :: count], [WHOLE, *names], options.device, rows, options.rows and options.rows[0])
    kinds: dict[str, list[dict]] = {}
    contrasting = {name for name, *_ in contrasts.pictures()}
    for row in rows:
        kinds.setdefault(kind_of(row["pair"], contrasting), []).append(row)
    tables = {title: summary(those) for title, those in kinds.items()}
    for title, those in tables.items():
        show(title, those)
    results.keep(options, tables)


if __name__ == "__main__":
    main()
