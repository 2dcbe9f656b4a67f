"""CPU time and memory of ``register points`` on the cells of a slide, as QuPath exports them, and on a table.

    python -m benchmarks.cells [--cells 100000] [--rows 10000000] [--lines 1000000]

A cell is a polygon of 21 vertices with a nucleus of 21. Each run is a process of its own; its CPU time is the
one that the system counted, and its memory the largest of the runs so far.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from register.geometry import affine
from register.geometry.patch_grid import PatchGrid
from register.transforms.frame import Frame
from register.transforms.transform import Transform

SIDE = 40_000
"""Sides of the slide in pixels."""
VERTICES = 21
"""Vertices of a polygon; the first one is repeated at its end."""


def transform() -> Transform:
    """A smooth local transform of a slide, of 20 × 20 patches."""
    grid = PatchGrid.cover(SIDE, SIDE, SIDE / 20)
    matrices = np.broadcast_to(affine.identity(), (grid.rows, grid.columns, 2, 3)).copy()
    x, y = np.meshgrid(np.arange(grid.columns), np.arange(grid.rows))
    matrices[..., 0, 2], matrices[..., 1, 2] = 30 * np.sin(x / 3), 20 * np.cos(y / 4)
    frame = Frame(SIDE, SIDE)
    return Transform("local", frame, frame, affine.identity(), grid, matrices)


def write_cells(path: Path, count: int) -> None:
    """QuPath's GeoJSON of cells with nuclei."""
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * math.pi, VERTICES)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    ring[-1] = ring[0]
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"type":"FeatureCollection","features":[')
        for number, centre in enumerate(rng.uniform(50, SIDE - 50, (count, 2))):
            outer, inner = ((centre + radius * ring).round(2).tolist() for radius in (12, 5))
            feature = {
                "type": "Feature",
                "id": f"{number:032x}",
                "geometry": {"type": "Polygon", "coordinates": [outer]},
                "nucleusGeometry": {"type": "Polygon", "coordinates": [inner]},
                "properties": {"objectType": "cell", "measurements": {"Nucleus: Area": number % 97 / 2}},
            }
            file.write("," if number else "")
            json.dump(feature, file)
        file.write("]}")


def write_table(path: Path, count: int) -> None:
    """A Parquet table of transcripts: position, gene and quality."""
    import pyarrow
    from pyarrow import parquet

    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, SIDE, (2, count)).astype(np.float32)
    genes = pyarrow.DictionaryArray.from_arrays(
        rng.integers(0, 300, count).astype(np.int16), [f"gene {n}" for n in range(300)]
    )
    table = pyarrow.table({"x": x, "y": y, "gene": genes, "quality": rng.uniform(0, 40, count)})
    parquet.write_table(table, path)


def write_lines(path: Path, count: int) -> None:
    """A table of transcripts as text."""
    rng, block = np.random.default_rng(0), 100_000
    with open(path, "w", encoding="utf-8") as file:
        file.write("transcript,x,y,gene\n")
        for first in range(0, count, block):
            places = rng.uniform(0, SIDE, (min(block, count - first), 2)).tolist()
            file.writelines(
                f"t{first + n},{x:.3f},{y:.3f},gene {n % 300}\n" for n, (x, y) in enumerate(places)
            )


def measured(source: Path, output: Path, by: Path) -> tuple[float, float, str]:
    """CPU seconds and largest memory in GB of one run, and what it printed."""
    command = [sys.executable, "-m", "register", "points", str(by), str(source), "-o", str(output)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, after.ru_maxrss / 1e6, done.stdout.split(" -> ")[0].strip()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=100_000, help="cells with nuclei; 0 leaves them out")
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of Parquet; 0 leaves them out")
    parser.add_argument("--lines", type=int, default=1_000_000, help="rows of CSV; 0 leaves them out")
    options = parser.parse_args()
    print("| file | CPU s | GB | mapped |")
    print("| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        transform().save(place / "t.json")
        for count, name, write in (
            (options.lines, "table.csv", write_lines),
            (options.rows, "table.parquet", write_table),
            (options.cells, "cells.geojson", write_cells),
        ):
            if not count:
                continue
            write(place / name, count)
            seconds, memory, text = measured(place / name, place / f"mapped-{name}", place / "t.json")
            print(f"| {count:,} of {name} | {seconds:.1f} | {memory:.2f} | {text} |", flush=True)


if __name__ == "__main__":
    main()
