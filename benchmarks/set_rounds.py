"""Rounds of any size whose nuclear stain is at different places: errors, pixels, memory and time."""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.interpolate import BSpline
from scipy.ndimage import spline_filter

from benchmarks.sections import Array, texture
from register.io.images.model import Image
from register.io.images.open import open_image, write_image
from register.transforms.frame import Frame
from register.transforms.transform import Transform

ZOOM = 4
"""Pixels of an image for each pixel of the texture that all rounds show."""
MARGIN = 20
"""Pixels of the texture around the images."""
SHIFT, SCALE = 30, 0.0005
"""The largest shift of a round along each axis, in pixels, and the standard deviation of its scale."""
PERIOD = 1021
"""Pixels after which the noise, and the content of the other channels, repeat."""
BAND = 1024
"""Rows of the merged file that are compared at a time."""


@dataclass(frozen=True)
class Stain:
    """The pixels (h, w) of a nuclear stain: a texture where ``point · scale + shift`` of the content is."""

    coefficients: Array
    shift: tuple[float, float]
    scale: float
    noise: Array

    def window(self, rows: Array, columns: Array) -> Array:
        """Values at rows and columns: the cubic B-spline of the texture, and noise."""
        y, x = (self._weights(at, n) for at, n in zip((rows, columns), self.shift[::-1], strict=True))
        (first, down), (left, across) = y, x
        part = self.coefficients[first : first + down.shape[1], left : left + across.shape[1]]
        return down @ part @ across.T + self.noise[rows % PERIOD][:, columns % PERIOD]

    def _weights(self, at: Array, shift: float) -> tuple[int, Array]:
        """The first coefficient that matters, and the weights (n, k) of it and those that follow."""
        place = (at * self.scale + shift) / ZOOM + MARGIN
        first, last = int(place[0]) - 1, int(place[-1]) + 3
        found = BSpline.basis_element([-2, -1, 0, 1, 2], extrapolate=False)(
            place[:, None] - np.arange(first, last)
        )
        return first, np.nan_to_num(found).astype(np.float32)


@dataclass(frozen=True)
class Round:
    """Channels (c, side, side): the nuclear stain at place ``nuclei``, the others of blocks that repeat."""

    stain: Stain
    nuclei: int
    others: Array
    side: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows, columns."""
        return len(self.others), self.side, self.side

    @property
    def dtype(self) -> np.dtype:
        """The type of a value."""
        return np.dtype(np.uint16)

    def __getitem__(self, key: tuple[slice, slice, slice]) -> Array:
        """A window."""
        rows, columns = (np.arange(self.side)[part] for part in key[1:])
        planes = []
        for channel in range(len(self.others))[key[0]]:
            if channel == self.nuclei:
                planes.append(self.stain.window(rows, columns))
            else:
                planes.append(self.others[channel][rows % PERIOD][:, columns % PERIOD])
        return np.stack(planes).clip(0, 65535).astype(np.uint16)


def rounds(count: int, side: int, channels: int = 4) -> Iterator[tuple[Round, tuple[str, ...]]]:
    """Rounds and the names of their channels, of which only DAPI is in all of them."""
    rng = np.random.default_rng(0)
    nuclei = texture(side // ZOOM + 2 * MARGIN + 2 * SHIFT // ZOOM, rng) * 6000 + 25000
    coefficients = spline_filter(nuclei, 3).astype(np.float32)
    for number in range(count):
        shift = tuple(rng.uniform(0, SHIFT, 2)) if number else (0.0, 0.0)
        scale = 1 + rng.normal(0, SCALE) if number else 1.0
        noise = rng.normal(0, 300, (PERIOD, PERIOD)).astype(np.float32)
        others = rng.normal(20000, 3000, (channels, PERIOD, PERIOD)).astype(np.float32)
        place = (number + 2) % channels
        names = [f"{letter}{number}" for letter in "ABCDEFGH"[: channels - 1]]
        names.insert(place, "DAPI")
        yield Round(Stain(coefficients, shift, scale, noise), place, others, side), tuple(names)


def run(options: argparse.Namespace) -> list[dict[str, object]]:
    """One row: the largest median error, whether the pixels of the last round are ``apply``'s, and cost."""
    made = list(rounds(options.count, options.side))
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder = Path(place)
        for number, (pixels, names) in enumerate(made):
            image = Image(pixels, kind="ome", channel_names=names)
            write_image(folder / f"r{number}.ome.tif", image, compression="zstd", pyramid=True)
        merged, out = folder / "all.ome.tif", folder / "out"
        files = [str(folder / f"r{number}.ome.tif") for number in range(len(made))]
        begin = time.perf_counter()
        _command(
            "group", *files, "-o", str(out), "--reference", "r0", "--no-images", "--merge", str(merged),
            "--compression", "zstd",
        )  # fmt: skip
        seconds, used = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
        transforms = [out / f"r{number}" / "transform.json" for number in range(len(made))]
        off = [
            _error(Transform.load(path), pixels.stain)
            for path, (pixels, _) in zip(transforms, made, strict=True)
        ]
        same = _is_applied(transforms[-1], files[-1], merged, len(made) - 1)
        size = merged.stat().st_size
    return [{"images": len(made), "side": options.side, "largest median error": max(off),
             "pixels of the last one are apply's": same, "peak GB": used.ru_maxrss / 1e6, "seconds": seconds,
             "CPU seconds": used.ru_utime + used.ru_stime, "file GB": size / 1e9}]  # fmt: skip


def _command(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "register", *arguments], check=True, capture_output=True)


def _error(transform: Transform, stain: Stain) -> float:
    """The median distance, in pixels of the first round, from where a round shows what the first one does."""
    side = transform.fixed.width
    points = Frame(side, side).sample_points(30)
    inside = points[(np.abs(points - side / 2) < 0.45 * side).all(1)]
    shown = transform.map(inside) * stain.scale + np.array(stain.shift)
    return float(np.median(np.linalg.norm(shown - inside, axis=1)))


def _is_applied(transform: Path, file: str, merged: Path, number: int) -> bool:
    """Whether the channels of a round in the merged file are what ``register apply`` writes."""
    applied = merged.with_name("applied.ome.tif")
    _command("apply", str(transform), file, "-o", str(applied), "--overwrite", "--compression", "zstd")
    alone, whole = open_image(applied).pixels, open_image(merged).pixels
    channels, side, every = alone.shape[0], alone.shape[1], slice(None)
    here = slice(channels * number, channels * (number + 1))
    bands = (slice(row, row + BAND) for row in range(0, side, BAND))
    return all(np.array_equal(alone[every, rows, every], whole[here, rows, every]) for rows in bands)
