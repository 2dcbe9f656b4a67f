"""Commands that are killed at random moments: the next run ends with 0, has the same pixels, and cleans up.

    python -m benchmarks.kills [--count 60] [--commands align apply batch group movie merge]

Each command runs once undisturbed: its duration gives the range of the moments, and its files are what every
later run must end with. Five of eight signals are sent when the first file, finished or not, is there, the
others at any moment. KILL, TERM, INT and HUP take turns. After each the command runs again, as a user would:
with what lies there, and with ``--overwrite`` where it refuses a finished result. No other file, temporary
one or process may be left then.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

SAMPLES = Path(__file__).parent.parent / "sample_images"
PAIR = ["image0.tif", "image1.tif"]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
ALIGN = ["--preset", "fast", "-q"]
COMMANDS = {
    "align": ["align", *PAIR, "-o", "OUT", *ALIGN],
    "apply": ["apply", "start/transform.json", PAIR[1], "-o", "OUT/applied.ome.tif", "--pyramid"],
    "batch": ["batch", "--pairs", "pairs.csv", "-o", "OUT", *ALIGN, "--workers", "2"],
    "group": ["group", "--table", "set.csv", "-o", "OUT", "--preset", "fast", "--quiet", "--workers", "2"],
    "movie": ["movie", "movie.tif", "-o", "OUT", "--quiet"],
    "merge": ["merge", "start/transform.json", "-o", "OUT/merged.ome.tif"],
}
RESUME = ("batch", "group", "movie")
"""Commands that continue; the others refuse a finished result."""


@dataclass(frozen=True)
class Outcome:
    """What a kill left: files with other content under a final name, and whether any result was there."""

    partial: int
    any_left: bool


def prepare(folder: Path) -> None:
    """Shifted images, a transform, a table of pairs, a table of a set, and a movie, in a folder."""
    picture = tifffile.imread(SAMPLES / "fundus_fixed.tif")[100:400, 100:400]
    rows, pages = ["fixed,moving,id"], []
    for number in range(3):
        shifted = np.roll(picture, (3 * number, -2 * number), (0, 1))
        tifffile.imwrite(folder / f"image{number}.tif", shifted)
        rows.append(f"{PAIR[0]},{PAIR[1]},pair{number}")
    for number in range(12):
        pages.append(np.roll(picture[:256, :256], (number % 5 - 2, number % 3), (0, 1)))
    tifffile.imwrite(
        folder / "movie.tif", np.stack(pages), photometric="minisblack", metadata={"axes": "TYX"}
    )
    run(["align", *PAIR, "-o", "start", *ALIGN], folder)
    (folder / "pairs.csv").write_text("\n".join(rows) + "\n")
    (folder / "set.csv").write_text("image\n" + "".join(f"image{number}.tif\n" for number in range(3)))


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the program in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "register", *words], cwd=folder, env=environment(folder), capture_output=True,
        text=True, check=False,
    )  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    """The variables of this process, with a folder for temporary files of its own."""
    (folder / "temporary").mkdir(exist_ok=True)
    return os.environ | {"TMPDIR": str(folder / "temporary")}


def content(path: Path) -> object:
    """The pixels or numbers of a file, without dates, seconds and pictures of them."""
    if path.suffix == ".tif":
        return tifffile.imread(path).tobytes()
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name].tobytes() for name in ("matrix", "coefficients", "verdict")}
    if path.suffix == ".npy":
        return np.load(path).tobytes()
    if path.name == "transform.json":
        values = json.loads(path.read_text())
        return values["global"], values["patches"], values["quality"]["verdict"]
    return path.suffix


def results(folder: Path) -> dict[str, object]:
    """The content of every file of a folder, with hidden ones, by its path in the folder."""
    files = (path for path in folder.rglob("*") if path.is_file()) if folder.exists() else ()
    return {path.relative_to(folder).as_posix(): content(path) for path in files}


def finished(folder: Path, expected: dict[str, object]) -> Outcome:
    """What lies under final names after a kill, compared with what must be there in the end."""
    partial = 0
    found = [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
    final = [
        path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    for path in final:
        try:
            there = content(path)  # of files that are not there in the end, such as parts of a movie, any
            same = there == expected.get(path.relative_to(folder).as_posix(), there)
        except Exception:  # a half-written file fails in any way
            same = False
        partial += not same
        if not same:
            print(f"not whole: {path.relative_to(folder)}", flush=True)
    return Outcome(partial, bool(final))


def kill_once(words: list[str], folder: Path, wait: float, number: int, writing: bool) -> int:
    """Run a command and send it a signal after some seconds, counted from its start or, while it writes, from
    its first file; the number of its process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "register", *words], cwd=folder, env=environment(folder),
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while writing and process.poll() is None and not any((folder / "out").rglob("*")):
        time.sleep(0.002)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(wait)
    if process.poll() is None:
        process.send_signal(number)
    process.wait(600)
    return process.pid


def left_behind(folder: Path, group: int) -> list[str]:
    """Temporary files, and whether processes of a killed command are running."""
    found = [path.name for path in (folder / "temporary").iterdir()]
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, 0)
        found.append("a running process")
    return found


def again(name: str, words: list[str], folder: Path, expected: dict[str, object]) -> str | None:
    """Run the command again; what is wrong with its end, or None."""
    done = run(words, folder)
    if done.returncode and name not in RESUME and "--overwrite" in done.stderr:
        done = run([*words, "--overwrite"], folder)
    if done.returncode:
        return done.stderr
    found = results(folder / "out")
    names = sorted(set(found) ^ set(expected))
    if names:
        return f"files differ: {names}"
    changed = [file for file in found if found[file] != expected[file]]
    return f"content differs: {changed}" if changed else None


def kills(name: str, count: int, folder: Path, moments: random.Random) -> tuple[int, int, float]:
    """Kill one command ``count`` times. Raises ``SystemExit`` where the next run does not end as it must."""
    words = [word.replace("OUT", "out") for word in COMMANDS[name]]
    begin = time.perf_counter()
    first = run(words, folder)
    seconds = time.perf_counter() - begin
    if first.returncode:
        raise SystemExit(f"{name}: {first.stderr}")
    expected, partial, left = results(folder / "out"), 0, 0
    for number in range(count):
        shutil.rmtree(folder / "out")
        writing = number % 8 < 5  # each signal in both ways
        wait = moments.uniform(0, 0.1 if writing else 1) * seconds
        sent = SIGNALS[number % len(SIGNALS)]
        group = kill_once(words, folder, wait, sent, writing)
        outcome = finished(folder / "out", expected)
        partial, left = partial + outcome.partial, left + outcome.any_left
        if wrong := again(name, words, folder, expected):
            raise SystemExit(f"{name}, {sent.name} at {wait:.2f} s: {wrong}")
        if traces := left_behind(folder, group):
            raise SystemExit(f"{name}, {sent.name} at {wait:.2f} s: {traces} left")
    shutil.rmtree(folder / "out")
    return partial, left, seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=60, help="kills of all commands together")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments, total = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder)
        for name in options.commands:
            count = -(-options.count // len(options.commands))
            partial, left, seconds = kills(name, count, folder, moments)
            total += partial
            print(
                f"{name}: {count} kills within {seconds:.1f} s, {left} while or after files were written: "
                f"{partial} partial files; every next run ended 0 with the same pixels and no other file",
                flush=True,
            )
    raise SystemExit(1 if total else 0)


if __name__ == "__main__":
    main()
