"""Movies with known motion: accuracy, bad frames, and processor time per frame of the whole command.

    python -m benchmarks.movie --folder FOLDER --frames 60 --save movie
    python -m benchmarks.movie --folder FOLDER --frames 400 --suite2p ENVIRONMENT/bin/python

Three levels of light (see ``benchmarks.movie_scene``), 512 x 512 uint16, drift of 10 px, three modes of
2 px, jumps to 38 px, blank, dark, stimulation and half-dark frames. FOLDER gets the movies and the results.
suite2p needs versions of its own, and runs with the Python that is given, on the same files. Errors are
distances between mapped and true positions of points on a grid; those of good frames are summarised, and
those of the others listed by their verdict.
"""

import argparse
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from scipy.interpolate import RegularGridInterpolator

from benchmarks import movie_scene, results
from benchmarks.movie_scene import Scene
from register.transforms.movie import load_movie

EVERY_BAD = {60: 5}
"""Every how manieth frame is special, by the number of frames; 20 for others."""


def ours(path: Path, folder: Path, workers: int) -> dict[str, float]:
    """Run the command; seconds, and seconds of the processor of all its processes."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "register", "movie", str(path), "-o", str(folder), "--redo", "-q"]
    subprocess.run([*command, "--workers", str(workers)], check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.perf_counter() - begin, "cpu": used, "memory_mb": after.ru_maxrss / 1024}


def summary(scene: Scene, maps: list[Any], verdicts: list[str]) -> dict[str, Any]:
    """Median and 90th percentile of the error in good frames, and the outcome of every other frame."""
    found = movie_scene.errors(scene, maps)
    good = [n for n, kind in enumerate(scene.kinds) if kind == "good" and maps[n] is not None]
    others = [
        {"frame": n, "kind": kind, "verdict": verdicts[n], "median": float(np.median(found[n]))}
        for n, kind in enumerate(scene.kinds)
        if kind != "good"
    ]
    medians = np.median(found, axis=1)
    wrong = [n for n, verdict in enumerate(verdicts) if verdict == "ok" and not medians[n] <= 3]
    return {
        "median": float(np.median(found[good])),
        "p90": float(np.percentile(found[good], 90)),
        "verdicts": {name: verdicts.count(name) for name in ("ok", "suspect", "failed")},
        "ok_and_wrong": [n for n in wrong if scene.kinds[n] not in ("blank", "dark")]
        + [
            n for n, verdict in enumerate(verdicts) if verdict == "ok" and scene.kinds[n] in ("blank", "dark")
        ],
        "special": others,
    }


def of_register(
    scene: Scene, path: Path, folder: Path, start: dict[str, float], workers: int
) -> dict[str, Any]:
    """Accuracy and cost of the command; the cost of a movie of 16 frames is taken off for the start-up."""
    cost = ours(path, folder, workers)
    movie = load_movie(folder / "transforms.npz")
    maps = [movie[n].map for n in range(len(movie))]
    frames = len(maps) - 16
    per_frame = {"cpu_ms": 1e3 * (cost["cpu"] - start["cpu"]) / frames, "memory_mb": cost["memory_mb"]}
    per_frame["frames_per_second"] = frames / max(cost["seconds"] - start["seconds"], 1e-9)
    return per_frame | summary(scene, maps, [str(one.verdict) for one in movie.frames])


def of_suite2p(scene: Scene, path: Path, folder: Path, python: str) -> dict[str, Any]:
    """Accuracy and cost of suite2p's blocks: rigid shifts, and those of blocks, linear between centres."""
    out = folder / "suite2p.npz"
    subprocess.run([python, Path(__file__).with_name("suite2p_shifts.py"), path, "1", out], check=True)
    values = np.load(out)
    low, high = (np.array([values["x"][k], values["y"][k]]) for k in (0, -1))
    maps = [
        partial(displaced, rigid, RegularGridInterpolator((values["y"], values["x"]), block), low, high)
        for rigid, block in zip(values["rigid"], values["blocks"], strict=True)
    ]
    cost = {"cpu_ms": 1e3 * float(values["cpu"]) / len(maps)}
    return cost | summary(scene, maps, ["ok"] * len(maps))


def displaced(
    rigid: np.ndarray, inner: RegularGridInterpolator, low: np.ndarray, high: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """Points (n, 2) after the rigid shift and the shift of blocks that suite2p found for one frame."""
    return points + rigid + inner(np.clip(points, low, high)[:, ::-1])


def show(row: dict[str, Any]) -> None:
    """Print one row, and the frames that are not good."""
    figures = (
        f"median {row['median']:.3f} px, p90 {row['p90']:.3f} px, {row['cpu_ms']:.0f} ms of the processor"
    )
    print(
        f"{row['level']:5s} {row['program']:9s} {figures} a frame; ok and off by 3 px: {row['ok_and_wrong']}"
    )
    for one in row["special"]:
        print(f"      frame {one['frame']:4d} {one['kind']:12s} {one['verdict']:8s} {one['median']:.2f} px")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--levels", default="easy,mid,hard")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--folder", type=Path, required=True, metavar="FOLDER", help="where the movies and the results go"
    )
    parser.add_argument("--suite2p", metavar="PYTHON", help="the Python that has suite2p")
    results.add_options(parser)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for level in options.levels.split(","):
        scene = movie_scene.scene(options.frames, level, bad_every=EVERY_BAD.get(options.frames, 20))
        path, short = (options.folder / f"{level}{n}.tif" for n in (options.frames, f"{options.frames}_16"))
        if not path.exists():
            frames = [scene.frame(n) for n in range(options.frames)]
            tifffile.imwrite(path, np.stack(frames), photometric="minisblack")
            tifffile.imwrite(short, np.stack(frames[:16]), photometric="minisblack")
        start = ours(short, options.folder / "short", options.workers)
        row = of_register(scene, path, options.folder / level, start, options.workers)
        rows.append({"level": level, "program": "register"} | row)
        show(rows[-1])
        if options.suite2p:
            row = of_suite2p(scene, path, options.folder, options.suite2p)
            rows.append({"level": level, "program": "suite2p"} | row)
            show(rows[-1])
    results.keep(options, rows)


if __name__ == "__main__":
    main()
