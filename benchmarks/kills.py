"""``register align`` killed at random moments: no partial file under a final name, and the next run succeeds.

    python -m benchmarks.kills [--count 20]

The first run is not interrupted: its duration gives the range of the random moments, and every later run must
end with its transform and pixels.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

import register

SAMPLES = Path(__file__).parent.parent / "sample_images"
PAIR = [str(SAMPLES / f"fundus_{kind}.tif") for kind in ("fixed", "moving")]


def is_complete(path: Path, expected: Path) -> bool:
    """Whether a file has the content that the uninterrupted run wrote."""
    if path.suffix == ".tif":
        return np.array_equal(tifffile.imread(path), tifffile.imread(expected))
    if path.suffix == ".json":
        return bool((register.Transform.load(path).matrix == register.Transform.load(expected).matrix).all())
    return path.stat().st_size == expected.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        expected, out = Path(scratch) / "expected", Path(scratch) / "out"
        command = [sys.executable, "-m", "register", "align", *PAIR, "--preset", "fast", "-q", "-o"]
        begin = time.perf_counter()
        subprocess.run([*command, str(expected)], check=True)
        seconds = time.perf_counter() - begin
        partial, left = 0, 0
        for number in range(options.count):
            # every other one late, when files are written
            wait = moments.uniform(0, seconds) if number % 2 else moments.uniform(0.75, 1.0) * seconds
            process = subprocess.Popen([*command, str(out)], stderr=subprocess.DEVNULL)
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
            process.wait()
            found = [path for path in out.glob("*") if not path.name.startswith(".")] if out.exists() else []
            partial += sum(not is_complete(path, expected / path.name) for path in found)
            left += bool(found)
            again = subprocess.run([*command, str(out)], capture_output=True, text=True, check=False)
            finished = (out / "transform.json").exists() and "already holds" in again.stderr
            if again.returncode and not finished:
                raise SystemExit(f"after a kill at {wait:.2f} s: {again.stderr}")
            kept = sorted(path.name for path in out.iterdir())
            if kept != sorted(path.name for path in expected.iterdir()) or not all(
                is_complete(out / name, expected / name) for name in kept
            ):
                raise SystemExit(f"after a kill at {wait:.2f} s, the next run left {kept}")
            for path in out.iterdir():
                path.unlink()
            out.rmdir()
        print(
            f"{options.count} kills within {seconds:.1f} s, {left} while or after files were written: "
            f"{partial} partial files; every next run succeeded"
        )
        raise SystemExit(1 if partial else 0)


if __name__ == "__main__":
    main()
