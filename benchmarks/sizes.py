"""Peak memory and seconds against image size.

    python -m benchmarks.sizes [--sides 5000 10000 20000] [--kinds uint16 rgb] [--zarr]

Each pair is generated tile by tile (smooth blobs and noise; the moving image is the scene shifted by 40 and
20 px), aligned, and its transform applied, by separate processes of the command-line program. For comparison
the moving image is copied tile by tile with the same tiles and compression: read, decoded, compressed and
written by tifffile. With ``--zarr`` it is then applied to an OME-Zarr and to a TIFF, both with their pyramid
and the compression that each has by default.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter

TILE, GRAIN = 512, 16
SHIFT = 40, 20


def scene(side: int) -> np.ndarray:
    """Coarse blobs (n, n) in [0, 1], one value per ``GRAIN`` pixels."""
    blobs = gaussian_filter(
        np.random.default_rng(0).normal(size=(side // GRAIN + 8 + 2 * TILE // GRAIN,) * 2), 2
    )
    return (blobs - blobs.min()) / np.ptp(blobs)


def tiles(side: int, kind: str, shift: tuple[int, int]) -> Iterator[np.ndarray]:
    """The tiles of an image of the scene, linear between its values, with noise."""
    blobs, noise = scene(side), np.random.default_rng(1).normal(0, 300, (TILE, TILE))
    count = -(-side // TILE)
    for top in range(count):
        for left in range(count):
            places = []
            for first, move in ((top, shift[1]), (left, shift[0])):
                position = (np.arange(TILE) + first * TILE + move) / GRAIN
                places.append((position.astype(int), position % 1))
            (y, fy), (x, fx) = places
            near = blobs[y[0] : y[-1] + 2][:, x[0] : x[-1] + 2]
            y, x, fy = y - y[0], x - x[0], fy[:, None]
            across = near[:, x] * (1 - fx) + near[:, x + 1] * fx
            values = (across[y] * (1 - fy) + across[y + 1] * fy) * 40000 + 5000 + noise
            if kind == "uint16":
                yield values.clip(0, 65535).astype(np.uint16)
            else:
                grey = (values / 256).clip(0, 255).astype(np.uint8)
                yield np.stack([grey, 255 - grey, grey // 2], axis=2)


def layout(side: int, kind: str) -> dict:
    return {
        "shape": (side, side) if kind == "uint16" else (side, side, 3),
        "dtype": np.uint16 if kind == "uint16" else np.uint8,
        "photometric": "minisblack" if kind == "uint16" else "rgb",
        "tile": (TILE, TILE),
        "compression": "zlib",
        "maxworkers": 2,
        "buffersize": 2**26,
        "bigtiff": True,
    }


def copy(source: Path, target: Path, side: int, kind: str) -> None:
    """Decode and compress every tile again."""
    with tifffile.TiffFile(source) as file:
        page = file.pages[0]
        tifffile.imwrite(
            target,
            (
                np.ascontiguousarray(np.squeeze(tile[0], 0)[..., 0] if kind == "uint16" else tile[0][0])
                for tile in page.segments()
            ),
            **layout(side, kind),
        )


def measured(*command: str) -> tuple[float, float]:
    """Seconds and peak memory in megabytes of a process."""
    before = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - before
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)}: {process.stderr.read().decode() if process.stderr else ''}")
    return seconds, used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", type=int, nargs="+", default=[5000, 10000, 20000, 30000, 40000])
    parser.add_argument("--kinds", nargs="+", default=["uint16", "rgb"], choices=["uint16", "rgb"])
    parser.add_argument(
        "--folder",
        type=Path,
        help="where the images go, which need 6 bytes per pixel; default: the system's temporary folder",
    )
    parser.add_argument("--zarr", action="store_true", help="an OME-Zarr against a TIFF too")
    parser.add_argument("--copy", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.copy:
        source, target, side, kind = options.copy
        copy(Path(source), Path(target), int(side), kind)
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(
        "kind     side    align s     MB   apply s     MB    copy s     MB   apply/copy  s per 10^9 pixels",
        flush=True,
    )
    for kind in options.kinds:
        for side in options.sides:
            with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
                fixed, moving, out = (Path(scratch) / name for name in ("fixed.tif", "moving.tif", "out"))
                for path, shift in ((fixed, (0, 0)), (moving, SHIFT)):
                    tifffile.imwrite(path, tiles(side, kind, shift), **layout(side, kind))
                command = [sys.executable, "-m", "register"]
                # no pyramid: a copy writes none either
                align = measured(
                    *command, "align", str(fixed), str(moving), "-o", str(out), "--no-pyramid", "-q"
                )
                (out / "aligned.tif").unlink()
                applied = [*command, "apply", str(out / "transform.json"), str(moving), "--json", "-o"]
                apply = measured(*applied, str(out / "applied.tif"), "--no-pyramid")
                (out / "applied.tif").unlink()
                plain = measured(
                    sys.executable,
                    "-m",
                    "benchmarks.sizes",
                    "--copy",
                    str(moving),
                    str(out / "copy.tif"),
                    str(side),
                    kind,
                )
                figures = "  ".join(
                    f"{seconds:8.1f} {memory:6.0f}" for seconds, memory in (align, apply, plain)
                )
                ratio, per_pixel = apply[0] / plain[0], apply[0] / side**2 * 1e9
                print(f"{kind:7s} {side:5d}  {figures}  {ratio:10.2f}  {per_pixel:10.1f}", flush=True)
                if options.zarr:
                    (out / "copy.tif").unlink()
                    zarr, tiff = (measured(*applied, str(out / name)) for name in ("a.ome.zarr", "a.ome.tif"))
                    for name, (seconds, memory) in (("OME-Zarr", zarr), ("TIFF", tiff)):
                        print(f"  {name}: {seconds:.1f} s, {memory:.0f} MB")
                    print(f"  OME-Zarr takes {zarr[0] / tiff[0]:.2f} of the time", flush=True)


if __name__ == "__main__":
    main()
