"""``register batch``: rates, memory, unreadable pairs among good ones, interruptions, a killed worker.

python -m benchmarks.batch --folder FOLDER --rates --count 200   # beside one worker and a shell loop
python -m benchmarks.batch --folder FOLDER --bad --interrupts --dask
"""

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import tifffile
from scipy.ndimage import gaussian_filter, map_coordinates

PROGRAM = [sys.executable, "-m", "register"]
QUICK = ["--preset", "fast", "--model", "rigid", "--metric", "ncc", "--init", "identity", "--no-report"]


def make(folder: Path, count: int, side: int = 512) -> Path:
    """Write ``count`` pairs of one texture, rotated by up to 3°, shifted by up to 12 px and deformed by 3 px.

    Both images carry 1 % noise.
    """
    for number in range(count):
        if (folder / "m" / f"p{number:03d}.tif").exists():
            continue
        rng = np.random.default_rng(number)
        texture = sum(s * gaussian_filter(rng.normal(size=(side + 48, side + 48)), s) for s in (1.5, 3, 8))
        texture = (texture - texture.min()) / np.ptp(texture)
        y, x = np.mgrid[24 : 24 + side, 24 : 24 + side].astype(float)
        angle, (dx, dy), middle = rng.uniform(-0.05, 0.05), rng.uniform(-12, 12, 2), 24 + side / 2
        across = (
            middle
            + (x - middle) * np.cos(angle)
            - (y - middle) * np.sin(angle)
            + dx
            + 3 * np.sin(2 * np.pi * y / 300)
        )
        down = middle + (x - middle) * np.sin(angle) + (y - middle) * np.cos(angle) + dy
        views = (
            map_coordinates(texture, [down, across], order=3, mode="reflect"),
            texture[24 : 24 + side, 24 : 24 + side],
        )
        for name, view in zip("fm", views, strict=True):
            (folder / name).mkdir(parents=True, exist_ok=True)
            noisy = np.clip(view + rng.normal(0, 0.01, view.shape), 0, 1)
            tifffile.imwrite(folder / name / f"p{number:03d}.tif", (noisy * 65535).astype(np.uint16))
    return folder


def table(folder: Path, numbers: range) -> Path:
    """A table of some of the pairs."""
    path = folder / f"pairs{len(numbers)}.csv"
    path.write_text("fixed,moving\n" + "".join(f"f/p{n:03d}.tif,m/p{n:03d}.tif\n" for n in numbers))
    return path


def batch(path: Path, output: Path, *more: str) -> list[str]:
    return [*PROGRAM, "batch", "--pairs", str(path), "-o", str(output), *more]


def watched(command: list[str]) -> tuple[float, list[tuple[float, int]]]:
    """Run a command; its seconds, and (seconds since the start, resident bytes of all its processes)."""
    begin, kept = time.time(), []
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            parent = psutil.Process(process.pid)
            kept.append(
                (
                    time.time() - begin,
                    sum(x.memory_info().rss for x in (parent, *parent.children(recursive=True))),
                )
            )
        except psutil.Error:
            pass
        time.sleep(0.5)
    return time.time() - begin, kept


def rates(folder: Path, count: int) -> None:
    few, loop = range(min(count, 20)), range(12)
    begin = time.time()
    for n in loop:
        subprocess.run(
            [
                *PROGRAM,
                "align",
                folder / f"f/p{n:03d}.tif",
                folder / f"m/p{n:03d}.tif",
                "-o",
                folder / f"loop/{n}",
                "-q",
                "--overwrite",
            ],
            check=True,
        )
    shell = (time.time() - begin) / len(loop)
    alone, _ = watched(batch(table(folder, few), folder / "alone", "--workers", "1", "--redo"))
    both, kept = watched(batch(table(folder, range(count)), folder / "both", "--workers", "2", "--redo"))
    print(
        f"shell loop {shell:.2f} s per pair; one worker {alone / len(few):.2f}; "
        f"two workers {both / count:.2f}, of {count} pairs"
    )
    print(
        f"  two workers: {alone / len(few) / (both / count):.2f} times the rate of one, "
        f"{shell / (both / count):.2f} times that of the loop"
    )
    ten = max(m for t, m in kept if t < both * 10 / count + 8)
    print(
        f"  memory of all processes: {ten / 1e6:.0f} MB at most up to pair 10, "
        f"{max(m for _, m in kept) / 1e6:.0f} MB at most in the complete run"
    )


def bad(folder: Path) -> None:
    rows = [[f"f/p{n % 10:03d}.tif", f"m/p{n % 10:03d}.tif"] for n in range(50)]
    (folder / "corrupt.tif").write_bytes(b"II*\0\x08\0\0\0broken")
    (folder / "closed.tif").unlink(missing_ok=True)
    (folder / "closed.tif").write_bytes((folder / "m/p000.tif").read_bytes())
    (folder / "closed.tif").chmod(0)  # root can read it all the same: run this as another user
    rng = np.random.default_rng(99)
    tifffile.imwrite(
        folder / "other.tif", (gaussian_filter(rng.normal(size=(512, 512)), 4) * 1000).astype(np.float32)
    )
    for number, name in ((7, "corrupt.tif"), (19, "none.tif"), (33, "other.tif"), (41, "closed.tif")):
        rows[number][1] = name
    path = folder / "bad.csv"
    path.write_text("fixed,moving\n" + "".join(",".join(row) + "\n" for row in rows))
    code = subprocess.run(
        batch(path, folder / "bad", "--redo", *QUICK[:-1], "--init", "auto", "--no-report"),
        stdout=subprocess.DEVNULL,
    ).returncode
    with open(folder / "bad" / "summary.csv", newline="") as file:
        found = list(csv.DictReader(file))
    print(f"exit {code}; {sum(row['verdict'] == 'ok' for row in found)} of {len(found)} ok")
    for row in found:
        if row["verdict"] != "ok":
            print(f"  {row['id']}: {row['verdict'] or 'error'} {row['error'] or row['reasons']}")


def plain(folder: Path) -> dict[str, dict]:
    """The transforms of a batch by pair, without seconds and dates."""
    found = {}
    for path in sorted(folder.glob("*/transform.json")):
        content = json.loads(path.read_text())
        for name in ("seconds", "created"):
            content["provenance"].pop(name)
        found[path.parent.name] = content
    return found


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def interrupts(folder: Path, times: int = 20) -> None:
    path, rng = table(folder, range(40)), random.Random(1)
    subprocess.run(
        batch(path, folder / "complete", "--redo", "--workers", "2", *QUICK),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    output, stamps, again = folder / "broken", {}, 0
    for number in range(times):
        process = subprocess.Popen(
            batch(path, output, "--workers", "2", *QUICK),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(rng.uniform(1, 14))
        process.send_signal(signal.SIGKILL if number % 2 else signal.SIGINT)
        process.wait()
        time.sleep(1)
        for found in output.glob("*/transform.json"):
            stamp = found.stat().st_mtime_ns
            again += stamps.setdefault(found, stamp) != stamp
    code = subprocess.run(batch(path, output, "--workers", "2", *QUICK), stdout=subprocess.DEVNULL).returncode
    again += sum(found.stat().st_mtime_ns != stamp for found, stamp in stamps.items())
    same = plain(output) == plain(folder / "complete")
    files = tree(output) == tree(folder / "complete")
    print(f"{times} interruptions; {len(stamps)} pairs were done before the last run (exit {code})")
    print(f"  transforms equal {same}, files equal {files}, {again} done twice")


def dask(folder: Path) -> None:
    from distributed import LocalCluster

    path = table(folder, range(12))
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        process = subprocess.Popen(
            batch(path, folder / "dask", "--redo", "--scheduler", cluster.scheduler_address, *QUICK),
            stdout=subprocess.DEVNULL,
        )
        while len(list((folder / "dask").glob("*/transform.json"))) < 3 and process.poll() is None:
            time.sleep(0.2)
        os.kill(cluster.workers[0].pid, signal.SIGKILL)
        code = process.wait()
    subprocess.run(
        batch(path, folder / "local", "--redo", "--workers", "1", *QUICK),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    one, other = plain(folder / "dask"), plain(folder / "local")
    difference = max(
        abs(np.array(one[k]["global"]["matrix"]) - np.array(other[k]["global"]["matrix"])).max()
        for k in other
    )
    print(
        f"Dask, one of two workers killed: exit {code}, {len(one)} of 12 pairs done, "
        f"largest difference of a matrix {difference:.2g}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="where pairs and results go")
    parser.add_argument("--count", type=int, default=200)
    for name in ("rates", "bad", "interrupts", "dask"):
        parser.add_argument(f"--{name}", action="store_true")
    options = parser.parse_args()
    folder = make(options.folder, max(options.count if options.rates else 0, 40))
    if options.bad:
        bad(folder)
    if options.dask:
        dask(folder)
    if options.interrupts:
        interrupts(folder)
    if options.rates:
        rates(folder, options.count)


if __name__ == "__main__":
    main()
