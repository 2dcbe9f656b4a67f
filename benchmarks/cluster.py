"""An OME-Zarr that is written by workers of Dask: seconds with one worker and with two, and equal files.

    python -m benchmarks.cluster [--side 6000] [--runs 3]

The workers are processes of one thread each on this machine, and are started beforehand. The image is a
texture in uint16 of two channels, warped by patches with bicubic interpolation, written with zstd. The median
of the runs is printed, each run with one and then with two workers, and whether all files are those that
``register apply`` writes without a scheduler.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
from distributed import LocalCluster

from benchmarks import results
from register.geometry import affine, patch_grid
from register.geometry.patch_grid import PatchGrid
from register.transforms.frame import Frame
from register.transforms.transform import Transform
from register.workflows import apply, on_cluster
from register.workflows.aligned_image import OutputStyle

PATCH, BEND = 250, 3.0
"""Side of the patches, and the standard deviation of their displacements, in pixels."""


def written(folder: Path, side: int) -> tuple[Path, Path]:
    """An image and a transform of its size, in files."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 40000, (2, side // 8 + 1, side // 8 + 1)).astype(np.uint16)
    pixels = np.kron(coarse, np.ones((1, 8, 8), np.uint16))[:, :side, :side]
    pixels += rng.integers(0, 2000, pixels.shape).astype(np.uint16)
    image = folder / "moving.ome.tif"
    tifffile.imwrite(image, pixels, photometric="minisblack", tile=(512, 512), metadata={"axes": "CYX"})
    grid = PatchGrid.cover(side, side, PATCH)
    parameters = np.zeros((2, 3, grid.rows, grid.columns))
    parameters[:, 0] = rng.normal(0, BEND, (2, grid.rows, grid.columns))
    matrices = patch_grid.to_matrices(grid, parameters)
    frame = Frame(side, side)
    transform = Transform("local", frame, frame, affine.identity(), grid, matrices)
    transform.save(folder / "t.json")
    return image, folder / "t.json"


def content(folder: Path) -> dict[str, bytes]:
    """All chunks of a hierarchy."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "zarr.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def ready() -> None:
    """Import in a worker what it needs."""
    import torch  # noqa: F401

    import register.workflows.aligned_image  # noqa: F401


def seconds(workers: int, transform: Path, image: Path, target: Path, style: OutputStyle) -> float:
    """The time that workers of a cluster take, once they have started."""
    with LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, protocol="tcp"
    ) as cluster:
        client = cluster.get_client()
        client.wait_for_workers(workers)
        client.run(ready)
        begin = time.perf_counter()
        on_cluster.apply_on_cluster(
            cluster.scheduler_address, str(transform), [str(image)], str(target), style=style, overwrite=True
        )
        return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=6000)
    parser.add_argument("--runs", type=int, default=3)
    results.add_options(parser)
    options = parser.parse_args()
    style = OutputStyle(interpolation="bicubic")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        image, transform = written(folder, options.side)
        apply.apply_at(str(transform), [str(image)], str(folder / "local.ome.zarr"), style=style)
        for run in range(options.runs):
            one, two = (seconds(n, transform, image, folder / f"by{n}.ome.zarr", style) for n in (1, 2))
            equal = all(
                content(folder / f"by{n}.ome.zarr") == content(folder / "local.ome.zarr") for n in (1, 2)
            )
            rows.append({"run": run, "one": one, "two": two, "equal": equal})
            print(f"run {run}: one worker {one:.1f} s, two {two:.1f} s, {one / two:.2f} times; equal {equal}")
    ratio = float(np.median([row["one"] / row["two"] for row in rows]))
    print(f"{options.side} × {options.side} × 2 uint16: {ratio:.2f} times the rate with two workers, median")
    results.keep(options, rows)


if __name__ == "__main__":
    main()
