"""Seconds and memory of the whole program, and of one optimisation step beside what the machine could do.

    python -m benchmarks.speed                           # sides of 512 to 4096, balanced and fast; steps
    python -m benchmarks.speed --sides 16384 --presets balanced
    python -m benchmarks.speed --rgb                     # colour images of 5800 x 4800 pixels
    python -m benchmarks.speed --files FIXED MOVING      # a pair of your own
    python -m benchmarks.speed --device cuda --sides 4096    # on a GPU, beside two threads of the CPU

Pairs are the retina texture under a smooth warp of 2 % of the diagonal, resized to each side; above 4096
pixels the pair of 4096 is enlarged. Start-up is the time of the process that its own clock does not see:
interpreter, imports and exit. Peak memory is that of the process.

The floor of a step is the larger of two times: the bytes that it must read (both images and both masks, once)
divided by the measured rate of a copy, and its arithmetic (``FLOPS`` per pixel and channel) divided by the
measured rate of a matrix product. Steps by tensors are also compared with the time for all bytes that their
operations read and write, intermediate images included. The images of a step are an image and itself, as it
is and rotated by 30°.
"""

import argparse
import gc
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from skimage import color, data
from skimage.transform import resize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import register
from benchmarks.synthetic import warped_pair
from register import settings
from register.compute import cuda_graphs
from register.compute.iteration import Iteration
from register.engine.fit import local_fit, objective
from register.engine.fit.comparison import Comparison
from register.engine.fit.problem import Problem
from register.engine.fit.working_copy import working_copy
from register.geometry import affine_tensors, patch_tensors
from register.geometry.patch_grid import PatchGrid
from register.images.pyramid import base
from register.optim.gauss_newton import GaussNewtonState, gauss_newton

LARGEST = 4096
FLOPS = 100
"""Operations of one pixel of one channel in a step: blend 20, sampling 15, sums 15, gradient 20, Hessian 15,
sums of the patches 15."""
PATIENCE = 2.0
"""Seconds during which a step, a copy or a product is repeated; the least time is taken, because other
programs on the machine slow some of the repetitions."""


def timed(*arguments: str) -> tuple[float, float]:
    """Wall seconds and peak memory in GB of one run of the program."""
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "register", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"register {' '.join(arguments)} ended with status {status}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1e6


def retina() -> NDArray[np.float64]:
    """The texture (1050, 1050) of all pairs."""
    return color.rgb2gray(data.retina())[180:1230, 180:1230]


def write_pair(folder: Path, side: int) -> tuple[str, str]:
    """The two files of a pair of ``side`` pixels: PNG, above ``LARGEST`` tiled TIFF."""
    small = min(side, LARGEST)
    texture = resize(retina(), (small, small), anti_aliasing=True)
    pair = warped_pair(texture, 0.02, seed=1)
    names = []
    for name, image in (("fixed", pair.fixed), ("moving", pair.moving)):
        pixels = np.rint(image * 255).astype(np.uint8)
        path = folder / f"{name}_{side}.{'png' if side == small else 'tif'}"
        if side == small:
            cv2.imwrite(str(path), pixels)
        else:
            tifffile.imwrite(
                path,
                cv2.resize(pixels, (side, side), interpolation=cv2.INTER_CUBIC),
                tile=(512, 512),
                compression="zlib",
            )
        names.append(str(path))
    return names[0], names[1]


def write_rgb(folder: Path, width: int = 5800, height: int = 4800) -> tuple[str, str]:
    """The two files of a pair of colour images, tiled TIFF: a small pair enlarged, its grey values as the
    density of a stain that transmits red."""
    texture = resize(retina(), (height // 4, width // 4), anti_aliasing=True)
    pair = warped_pair(texture, 0.02, seed=1)
    names = []
    for name, image in (("fixed", pair.fixed), ("moving", pair.moving)):
        density = cv2.resize(image.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)[
            ..., None
        ]
        path = folder / f"{name}_rgb.tif"
        pixels = np.rint(255 * np.exp(-density.clip(0, 1) * np.float32([0.4, 1.6, 0.9]))).astype(np.uint8)
        tifffile.imwrite(path, pixels, photometric="rgb", tile=(512, 512), compression="zlib")
        names.append(str(path))
    return names[0], names[1]


def report(title: str, names: tuple[str, str], output: Path, preset: str, runs: int, *more: str) -> None:
    """Print the seconds of one pair, of the complete process and per stage."""
    found = [
        timed("align", *names, "-o", str(output), "--overwrite", "-q", "--preset", preset, *more)
        for _ in range(runs)
    ]
    provenance = json.loads((output / "transform.json").read_text())["provenance"]
    stages, median = provenance["seconds"], float(np.median([s for s, _ in found]))
    total = stages.pop("total")
    steps = {name: len(losses) - 1 for name, losses in provenance["history"].items() if "global" not in name}
    runs_in_words = ", ".join(f"{seconds:.1f}" for seconds, _ in found)
    print(
        f"{title:13s} {preset:9s} median {median:6.2f} s of {runs_in_words}; "
        f"peak {max(memory for _, memory in found):.2f} GB; start-up {found[-1][0] - total:.1f} s; "
        + ", ".join(f"{name} {seconds:.2f}" for name, seconds in stages.items()),
        f"\n  steps: {', '.join(f'{count} on {name}' for name, count in steps.items())}",
        flush=True,
    )


def beside_two_threads(names: tuple[str, str], side: int, device: str, runs: int) -> None:
    """Print the seconds of an alignment of two arrays on a device and with two threads of the CPU.

    All alignments run in this process; the first two of each kind are not counted.
    """
    images, medians, least = [cv2.imread(name, cv2.IMREAD_GRAYSCALE) for name in names], [], []
    for count, where in ((5 * runs, {"device": device}), (runs, {"device": "cpu", "threads": 2})):
        found = []
        for _ in range(2 + count):
            begin = time.perf_counter()
            register.align(*images, max_size=side, **where)
            found.append(time.perf_counter() - begin)
        medians.append(float(np.median(found[2:])))
        least.append(min(found[2:]))
    (ours, others), (best_of_ours, best_of_others) = medians, least
    print(
        f"{side} x {side}, arrays: {device} median {ours:.3f}, least {best_of_ours:.3f} s; "
        f"two threads {others:.3f}, {best_of_others:.3f} s: "
        f"{others / ours:.1f} and {best_of_others / best_of_ours:.1f} times",
        flush=True,
    )


def best(work: Callable[[], object], *, seconds: float = PATIENCE) -> float:
    """The least seconds of all runs within some ``seconds``, garbage collected before them and not in them,
    as ``timeit`` does."""
    gc.collect()
    gc.disable()
    found, end = [], time.perf_counter() + seconds
    while not found or time.perf_counter() < end:
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    gc.enable()
    return min(found)


def done(work: Callable[[], object], device: str) -> Callable[[], None]:
    """A function that does the work and waits until its device has finished."""

    def both() -> None:
        work()
        if device != "cpu":
            torch.cuda.synchronize()

    return both


def machine(device: str) -> tuple[float, float]:
    """Bytes per second that a copy reads and writes, and floating point operations per second of a matrix
    product."""
    source, square = torch.rand(32 * 2**20, device=device), torch.rand(1536, 1536, device=device)
    target = torch.empty_like(source)
    return 2 * 4 * source.numel() / best(done(lambda: target.copy_(source), device)), 2 * 1536**3 / best(
        done(lambda: square @ square, device)
    )


def implementations(
    compare: Comparison, grid: PatchGrid, device: str
) -> Iterator[tuple[str, Callable[[], object]]]:
    """A Gauss-Newton step of the patches by each implementation that a device has."""

    def begin(*tensors: torch.Tensor, tensors_only: bool) -> Iteration[GaussNewtonState]:
        made = objective.PatchObjective(
            replace(compare.with_tensors(*tensors), tensors_only=tensors_only), grid, local_fit.STIFFNESS, 1
        )
        return gauss_newton(
            made.expand,
            made.solve,
            patch_tensors.zeros(grid, device=device)[None] + 0.3,
            tolerance=0.0,
            gain=-1.0,
        )

    for name, only in (("compiled", False), ("tensors", True)):
        if only or compare.compiled:
            begun = begin(*compare.tensors, tensors_only=only)
            yield name, lambda: begun.stages[1](begun.stages[0](begun.state))  # noqa: B023
    if device != "cpu":
        for name, only in (("recorded", True), ("recorded, compiled", False)):
            recording = cuda_graphs.Recording(
                partial(begin, tensors_only=only), compare.tensors, cuda_graphs.graph_recorder()
            )
            recording.replay_start()
            yield name, recording.replay_step


class Traffic(TorchDispatchMode):
    """Counts the ``bytes`` that operations read and write while it is entered; views of tensors move none."""

    bytes = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        made = function(*arguments, **(options or {}))
        given, found = (
            [x for x in tree_leaves(tree) if isinstance(x, torch.Tensor)]
            for tree in ((arguments, options), made)
        )
        kept = {x.untyped_storage().data_ptr() for x in given}
        if function._schema.is_mutable or any(x.untyped_storage().data_ptr() not in kept for x in found):
            self.bytes += sum(
                x.element_size()
                * math.prod(n for n, stride in zip(x.shape, x.stride(), strict=True) if stride)
                for x in [*given, *found]
            )
        return made


def steps(sides: list[int], device: str) -> None:
    """One Gauss-Newton step of the patches at some sizes, beside its floor."""
    bandwidth, rate = machine(device)
    print(
        f"{device}: a copy moves {bandwidth / 1e9:.1f} GB/s, a product makes {rate / 1e9:.0f} GFLOP/s, "
        f"{torch.get_num_threads()} threads"
    )
    effort = settings.PRESETS["balanced"]
    texture = retina().astype(np.float32)
    for side in sides:
        image = torch.from_numpy(cv2.resize(texture, (side, side))).to(device)[None]
        level = working_copy(base(image), side, "fixed")
        grid = PatchGrid.cover(side, side, effort.patch_size)
        middle = torch.tensor([(side - 1) / 2] * 2, dtype=torch.float64)
        for metric, channels, degrees in (
            ("ncc", 1, 0),
            ("structure", 2, 0),
            ("ncc", 1, 30),
            ("structure", 2, 30),
        ):
            matrix = affine_tensors.similarity(math.radians(degrees), 1.0, middle, middle)
            compare = Problem([level], level, "local", effort, side / 10).compare(level, matrix, metric)
            moved, worked = (2 * channels + 2) * 4 * side**2 / bandwidth, FLOPS * channels * side**2 / rate
            floor = max(moved, worked)
            for name, step in implementations(compare, grid, device):
                step()
                if name == "tensors":
                    with Traffic() as traffic:
                        step()
                seconds = best(done(step, device))
                print(
                    f"  {side:5d} {metric:9s} {degrees:2d}° {name:18s} {1e3 * seconds:8.2f} ms a step, "
                    f"floor {1e3 * moved:.2f} ms of bytes, {1e3 * worked:.2f} ms of arithmetic: "
                    f"{seconds / floor:.1f} times the floor",
                    ""
                    if "compiled" in name
                    else f"and {seconds * bandwidth / traffic.bytes:.1f} times that of the "
                    f"{traffic.bytes / 1e9:.2f} GB that it moves",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", type=int, nargs="*", default=[512, 1024, 2048, 4096])
    parser.add_argument("--presets", nargs="+", default=["balanced", "fast"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--device",
        default="cpu",
        choices=["cpu", "cuda"],
        help="cuda is compared with two threads of the CPU",
    )
    parser.add_argument("--files", nargs=2, metavar="FILE", help="a pair of files instead")
    parser.add_argument(
        "--rgb", action="store_true", help="a pair of colour images of 5800 x 4800 pixels instead"
    )
    options = parser.parse_args()
    for words in (["--help"], ["align", "--help"]):
        seconds = [timed(*words)[0] for _ in range(options.runs + 2)]
        print(
            f"register {' '.join(words):15s} median {np.median(seconds):5.2f} s, least {min(seconds):5.2f} s"
        )
    seconds = [
        best(lambda: subprocess.run([sys.executable, "-c", "import register"], check=True), seconds=0)
        for _ in range(options.runs + 2)
    ]
    print(f"import register          median {np.median(seconds):5.2f} s, least {min(seconds):5.2f} s")
    with tempfile.TemporaryDirectory() as scratch:
        if options.files or options.rgb:
            names = tuple(options.files or write_rgb(Path(scratch)))
            report(Path(names[0]).stem[:13], names, Path(scratch) / "out", options.presets[0], options.runs)
            return
        for side in options.sides:
            names = write_pair(Path(scratch), side)
            if options.device != "cpu":
                beside_two_threads(names, min(side, LARGEST), options.device, options.runs)
            for preset in options.presets:
                title, output, size = (
                    f"{side} x {side}",
                    Path(scratch) / f"out_{side}_{preset}",
                    ("--max-size", str(min(side, LARGEST))),
                )
                if options.device != "cpu":  # the work of the whole image, on both
                    report(
                        f"{title}, GPU",
                        names,
                        output,
                        preset,
                        options.runs,
                        "--device",
                        options.device,
                        *size,
                    )
                    report(
                        f"{title}, CPU",
                        names,
                        output,
                        preset,
                        options.runs,
                        "--device",
                        "cpu",
                        "--threads",
                        "2",
                        *size,
                    )
                else:
                    report(title, names, output, preset, options.runs)
    steps(
        [side for side in (256, 512, 1024, 2048, 4096) if side <= max(options.sides, default=2048)],
        options.device,
    )


if __name__ == "__main__":
    main()
