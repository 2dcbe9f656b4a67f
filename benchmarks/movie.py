"""A movie with known drift and local motion: accuracy, frames per second and memory.

    python -m benchmarks.movie --frames 2000 --folder FOLDER    # FOLDER gets the movie (1 GB) and the results
    python -m benchmarks.movie --frames 2000 --folder FOLDER --suite2p ENVIRONMENT/bin/python

Also runs pystackreg, if it is installed, and suite2p with the Python that is given: it needs versions of its
own. Cells on a textured ground, 512 x 512 uint16, 4 % noise; every frame is shifted by a random walk with
jitter and deformed by three slow modes of 1.5 px each. The error is the distance between the mapped and the
true position of fixed points, on a grid, in every tenth frame.
"""

import argparse
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import tifffile
import torch
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import gaussian_filter, map_coordinates

from benchmarks.synthetic import smooth_field
from register.transforms.transform import Transform

SIDE, MARGIN, PERIODS = 512, 24, (37, 53, 91)
EVERY = 10


def scene(seed: int = 0) -> np.ndarray:
    """Round cells of several sizes on a textured ground, larger than a frame."""
    rng, side = np.random.default_rng(seed), SIDE + 2 * MARGIN
    cells = np.zeros((side, side))
    for _ in range(350):
        row, column, radius = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(3, 7)
        cells[int(row), int(column)] += rng.uniform(0.5, 1.5) * radius**2
    cells, ground = gaussian_filter(cells, 4), gaussian_filter(rng.normal(size=(side, side)), 3)
    return np.clip(cells / np.percentile(cells, 99.5) + 0.075 * ground / ground.std() + 0.2, 0, 1.5)


def motion(frames: int, seed: int = 1) -> tuple[np.ndarray, list[np.ndarray]]:
    """The drift (n, 2) of every frame and the modes (h, w, 2) of its deformation."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(0, 0.15, (frames, 2)), axis=0)
    drift = 8 * np.tanh((walk - walk[0]) / 8) + rng.normal(0, 0.7, (frames, 2))
    drift[0] = 0
    return drift, [smooth_field(SIDE, SIDE, 1.0, s, cycles=2) for s in (1, 2, 3)]


def moved(index: int, drift: np.ndarray, modes: list[np.ndarray]) -> np.ndarray:
    """The displacement (h, w, 2) from the pixels of a frame to the scene, without the margin."""
    return drift[index] + sum(
        1.5 * np.sin(2 * np.pi * index / period) * mode for period, mode in zip(PERIODS, modes, strict=True)
    )


def make(path: Path, frames: int, drift: np.ndarray, modes: list[np.ndarray]) -> None:
    rng, picture = np.random.default_rng(2), scene()
    y, x = np.mgrid[:SIDE, :SIDE]
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for index in range(frames):
            shift = moved(index, drift, modes)
            frame = map_coordinates(
                picture, [y + MARGIN + shift[..., 1], x + MARGIN + shift[..., 0]], order=3, mode="reflect"
            )
            file.write(
                (np.clip((frame + rng.normal(0, 0.04, x.shape)) / 1.6, 0, 1) * 60000).astype(np.uint16),
                contiguous=True,
            )


def errors(index: int, transform, drift: np.ndarray, modes: list[np.ndarray]) -> np.ndarray:
    """Errors (n,) of a map of points (n, 2) from frame 0 to a frame: frame 0 does not move."""
    y, x = (v.ravel() for v in np.mgrid[40:470:10, 40:470:10])
    fixed = np.stack([x, y], 1) + moved(index, drift, modes)[y, x]
    return np.linalg.norm(transform(fixed) - np.stack([x, y], 1), axis=1)


def show(name: str, found: list[np.ndarray], seconds: float, frames: int) -> None:
    every = np.concatenate(found)
    figures = f"median {np.median(every):.3f} px, p90 {np.percentile(every, 90):.3f} px"
    print(f"{name:24s} {figures}, {frames / seconds:.2f} frames/s", flush=True)


def memory_of(process: subprocess.Popen, kept: list[tuple[float, int]]) -> None:
    """Append (time, resident bytes of a program and its workers) every two seconds until it ends."""
    while process.poll() is None:
        try:
            parent = psutil.Process(process.pid)
            kept.append(
                (time.time(), sum(x.memory_info().rss for x in (parent, *parent.children(recursive=True))))
            )
        except psutil.Error:
            pass
        time.sleep(2)


def ours(path: Path, folder: Path, frames: int, drift: np.ndarray, modes: list[np.ndarray]) -> None:
    begin, kept = time.time(), list[tuple[float, int]]()
    options = ["--series", str(path), "--to", "first", "-o", str(folder), "--redo", "-q"]
    process = subprocess.Popen([sys.executable, "-m", "register", "batch", *options])
    watcher = threading.Thread(target=memory_of, args=(process, kept))
    watcher.start()
    code = process.wait()
    watcher.join()
    seconds = time.time() - begin
    found = []
    for index in range(0, frames, EVERY):
        transform = Transform.load(folder / "transforms" / f"{index:05d}.json")
        found.append(
            errors(index, lambda points, t=transform: t.map(torch.from_numpy(points)).numpy(), drift, modes)
        )
    show(f"register (exit {code})", found, seconds, frames)
    largest = [
        max(m for t, m in kept if low <= (t - begin) / seconds <= high) / 1e6
        for low, high in ((0.0, 0.2), (0.2, 0.6), (0.6, 1.01))
    ]
    print(
        f"  resident memory of all processes: {largest[0]:.0f} MB in the first fifth of the time, "
        f"{largest[1]:.0f} MB in the next two, {largest[2]:.0f} MB in the last two"
    )


def pystackreg(path: Path, frames: int, drift: np.ndarray, modes: list[np.ndarray]) -> None:
    try:
        from pystackreg import StackReg
    except ImportError:
        print("pystackreg is not installed")
        return
    with tifffile.TiffFile(path) as file:
        fixed = file.pages[0].asarray().astype(float)
        for name in ("TRANSLATION", "RIGID_BODY", "AFFINE"):
            tool, found, begin = StackReg(getattr(StackReg, name)), [], time.time()
            chosen = range(0, min(frames, 400), EVERY)
            for index in chosen:
                matrix = tool.register(fixed, file.pages[index].asarray().astype(float))
                found.append(
                    errors(index, lambda points, m=matrix: points @ m[:2, :2].T + m[:2, 2], drift, modes)
                )
            show(f"pystackreg {name}", found, time.time() - begin, len(chosen))


def suite2p(python: str, path: Path, folder: Path, drift: np.ndarray, modes: list[np.ndarray]) -> None:
    """suite2p's shifts as a map of points: the rigid ones, and with those of blocks, linear between
    centres."""
    out = folder / "suite2p.npz"
    subprocess.run([python, Path(__file__).with_name("suite2p_shifts.py"), path, str(EVERY), out], check=True)
    values = np.load(out)
    for name, blocks in (
        ("suite2p, rigid", 0 * values["blocks"]),
        ("suite2p, blocks of 128", values["blocks"]),
    ):
        found = []
        for number, (rigid, shifts) in enumerate(zip(values["rigid"], blocks, strict=True)):
            inner = RegularGridInterpolator((values["y"], values["x"]), shifts)
            low, high = (np.array([values["x"][k], values["y"][k]]) for k in (0, -1))
            moved = partial(displaced, rigid, inner, low, high)
            found.append(errors(number * EVERY, moved, drift, modes))
        show(name, found, float(values["seconds"]), len(found))


def displaced(
    rigid: np.ndarray, inner: RegularGridInterpolator, low: np.ndarray, high: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """Points (n, 2) after the rigid shift and the shift of blocks that suite2p found for one frame."""
    return points + rigid + inner(np.clip(points, low, high)[:, ::-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument(
        "--folder", type=Path, required=True, metavar="FOLDER", help="where the movie and the results go"
    )
    parser.add_argument("--suite2p", metavar="PYTHON", help="the Python that has suite2p")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    drift, modes = motion(options.frames)
    path = options.folder / f"movie{options.frames}.tif"
    if not path.exists():
        make(path, options.frames, drift, modes)
    pystackreg(path, options.frames, drift, modes)
    if options.suite2p:
        suite2p(options.suite2p, path, options.folder, drift, modes)
    ours(path, options.folder / "aligned", options.frames, drift, modes)


if __name__ == "__main__":
    main()
