"""Coverage-guided fuzzing of readers, by atheris: inputs that reach new lines are kept and changed further.

    pip install atheris
    python -m benchmarks.fuzz_coverage .geojson [--seconds 60]

The ending chooses the reader, as in ``benchmarks.fuzz``, whose seeds are the first inputs. Any exception but
a ``RegisterError`` ends the run with its traceback and the input that causes it; so do more than ten seconds
or two gigabytes for one input.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import fuzz

SECONDS, MEGABYTES = 10, 2048
ENDINGS = sorted(set(fuzz.STRUCTURED) - {".json"})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ending", choices=ENDINGS, help="the kind of file")
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    import atheris

    with atheris.instrument_imports(include=["register"]):
        from register.errors import RegisterError

        read = fuzz.readers()[options.ending]
        contents = [data for _, data in fuzz.seeds(None, options.ending)]
        folder = Path(tempfile.mkdtemp(prefix="register-fuzz-"))
        (folder / "corpus").mkdir()
        for number, data in enumerate(contents):
            (folder / "corpus" / str(number)).write_bytes(data)
            (folder / f"first{options.ending}").write_bytes(data)
            read(folder / f"first{options.ending}")  # imports what the reader needs
    target = folder / f"input{options.ending}"

    def one(data: bytes) -> None:
        target.write_bytes(data)
        try:
            read(target)
        except RegisterError:
            return

    if not contents:
        raise SystemExit(f"benchmarks.fuzz has no seed for {options.ending}")
    limits = [f"-max_total_time={options.seconds}", f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES}"]
    atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", str(folder / "corpus")], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
