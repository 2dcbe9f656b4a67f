"""Seconds and memory of the whole program, as a user waits for it: ``python -m benchmarks.speed [--sides 512 1024 2048] [--runs 3]``.

Pairs are the retina texture under a smooth warp of 2 % of the diagonal, resized to each side. Start-up is the time of ``register --version``
and ``register align --help``; peak memory is that of the process.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import color, data
from skimage.transform import resize

from benchmarks.synthetic import warped_pair


def timed(*arguments: str) -> tuple[float, float]:
    """Wall seconds and peak memory in GB of one run of the program."""
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "register", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"register {' '.join(arguments)} ended with status {status}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1e6


def write_pair(folder: Path, side: int) -> tuple[str, str]:
    """The two files of a pair of ``side`` pixels."""
    texture = resize(color.rgb2gray(data.retina())[180:1230, 180:1230], (side, side), anti_aliasing=True)
    pair = warped_pair(texture, 0.02, seed=1)
    names = str(folder / f"fixed_{side}.png"), str(folder / f"moving_{side}.png")
    for name, image in zip(names, (pair.fixed, pair.moving), strict=True):
        Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(name)
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 1000, 2048])
    parser.add_argument("--presets", nargs="+", default=["balanced", "fast"])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    for arguments in (("--version",), ("align", "--help")):
        seconds = [timed(*arguments)[0] for _ in range(options.runs + 2)]
        print(f"register {' '.join(arguments):40s} median {np.median(seconds):5.2f} s, least {min(seconds):5.2f} s")
    with tempfile.TemporaryDirectory() as scratch:
        for side in options.sides:
            names = write_pair(Path(scratch), side)
            for preset in options.presets:
                output = Path(scratch) / f"out_{side}_{preset}"
                runs = [timed("align", *names, "-o", str(output), "--overwrite", "-q", "--preset", preset) for _ in range(options.runs)]
                stages = json.loads((output / "transform.json").read_text())["provenance"]["seconds"]
                total = stages.pop("total")
                print(
                    f"{side:5d} x {side:5d} {preset:9s} median {np.median([s for s, _ in runs]):6.2f} s of {', '.join(f'{s:.1f}' for s, _ in runs)}; "
                    f"peak {max(m for _, m in runs):.2f} GB; start-up {np.median([s for s, _ in runs]) - total:.1f} s; "
                    + ", ".join(f"{name} {seconds:.2f}" for name, seconds in stages.items()),
                    flush=True,
                )


if __name__ == "__main__":
    main()
