"""Results of benchmarks as files: the rows, and when, where and by which command they were measured.

``--json FILE`` writes a file anywhere, ``--save NAME`` writes ``benchmarks/results/NAME.json``, from which
``benchmarks.current`` makes its table. Names of folders are replaced by ``FOLDER`` in the command that is
kept.
"""

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from register._version import __version__

RESULTS = Path(__file__).parent / "results"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of a benchmark that can keep its results."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--save", metavar="NAME", help="write them as benchmarks/results/NAME.json")
    parser.add_argument("--note", default="", help="what else a reader of the results must know")


def keep(options: argparse.Namespace, rows: Any) -> None:
    """Write the rows where the options say, if they do."""
    for path in (options.json, options.save and RESULTS / f"{options.save}.json"):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = {"command": command(), "note": options.note} | circumstances() | {"rows": rows}
            path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")


def command() -> str:
    """The command of this process as a user types it, without the options that only keep results."""
    module = Path(sys.argv[0])
    words = ["python", "-m", f"benchmarks.{module.stem}"]
    hidden = False
    for word in sys.argv[1:]:
        skip, hidden = hidden, word in ("--json", "--save", "--note")
        if not skip and not hidden:
            words.append("FOLDER" if os.sep in word else word)
    return " ".join(words)


def circumstances() -> dict[str, Any]:
    """Date, version and machine."""
    import torch

    return {
        "date": datetime.now(UTC).date().isoformat(),
        "version": __version__,
        "machine": {
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }


def processor() -> str:
    """The model of the processor, as far as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def load(name: str) -> dict[str, Any] | None:
    """Saved results by their name; None where there are none."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
