"""Memory and time of ``register merge`` for images of any size."""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.sections import texture
from register.geometry import affine
from register.images.pixels import EVERYTHING
from register.io.images.model import Image
from register.io.images.open import open_image, write_image
from register.transforms.frame import Frame
from register.transforms.quality import Quality
from register.transforms.resample import Warped
from register.transforms.transform import Transform

PERIOD = 1021
"""Pixels after which the content repeats: the images are not aligned here, only resampled."""
WINDOW = 700
"""Side, in pixels, of the windows that are compared with the same resampled alone."""


@dataclass(frozen=True)
class Repeated:
    """Channels (c, side, side) of a block (c, p, p) that repeats."""

    block: np.ndarray
    side: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows, columns."""
        return len(self.block), self.side, self.side

    @property
    def dtype(self) -> np.dtype:
        """The type of a value."""
        return self.block.dtype

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        """A window."""
        rows, columns = (np.arange(self.side)[part] % PERIOD for part in key[1:])
        return self.block[key[0]][:, rows][:, :, columns]


def run(options: argparse.Namespace) -> list[dict[str, object]]:
    """One row: the peak memory of the process that merges, its seconds, and whether windows are right."""
    rng, side = np.random.default_rng(0), options.side
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder, names = Path(place), ("DAPI", "A", "B", "C")
        frames, transforms = [], []
        for number in range(options.count):
            block = np.stack([texture(PERIOD, rng) for _ in names]) * 4000 + 30000
            path = folder / f"r{number}.ome.tif"
            pixels = Repeated(block.clip(0, 65535).astype(np.uint16), side)
            write_image(
                path, Image(pixels, kind="ome", channel_names=names), compression="zstd", pyramid=True
            )
            frames.append(Frame(side, side, path=str(path)))
            if number:
                middle = ((side - 1) / 2,) * 2
                matrix = affine.similarity(0.02 * number, 1.001, middle, middle)
                made = Transform("similarity", frames[0], frames[-1], matrix, quality=Quality(verdict="ok"))
                made.save(folder / f"r{number}.json")
                transforms.append(made)
        merged = folder / "all.ome.tif"
        command = [
            sys.executable,
            "-m",
            "register",
            "merge",
            *(str(x) for x in sorted(folder.glob("r*.json"))),
        ]
        begin = time.perf_counter()
        subprocess.run([*command, "-o", str(merged), "--compression", "zstd", "--json"], check=True,
                       capture_output=True)  # fmt: skip
        seconds = time.perf_counter() - begin
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        same = all(_same(merged, transform, number) for number, transform in enumerate(transforms, start=1))
        size = merged.stat().st_size
    return [{"images": options.count, "channels": 4 * options.count, "side": side, "seconds": seconds,
             "CPU seconds": used.ru_utime + used.ru_stime, "peak GB": used.ru_maxrss / 1e6,
             "file GB": size / 1e9, "windows are apply's": same}]  # fmt: skip


def _same(merged: Path, transform: Transform, number: int) -> bool:
    """Whether a window in the middle has the pixels that the transform alone gives."""
    start = (transform.fixed.width - WINDOW) // 2
    part = slice(start, start + WINDOW)
    alone = Warped(open_image(str(transform.moving.path)).pixels, transform, "bilinear", None, False, None)
    channels = slice(4 * number, 4 * number + 4)
    found = open_image(merged).pixels[channels, part, part]
    return bool(np.array_equal(found, alone[EVERYTHING[0], part, part]))
