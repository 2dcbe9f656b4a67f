"""Every benchmark can be started, and the table of current figures agrees with the results."""

import importlib
import pkgutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("skimage", reason="benchmarks need scikit-image: the extra 'bench'")
import benchmarks
from benchmarks import ablation, current

NAMES = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__))
LIBRARIES = (
    "instrument_files",
    "movie_scene",
    "mutant_tests",
    "results",
    "sections",
    "set_defects",
    "set_rounds",
    "set_triples",
    "solved_sets",
    "synthetic",
    "torn",
    "verdict_kinds",
)
"""Modules that benchmarks import and that are not programs."""
OTHER_ENVIRONMENT = ("suite2p_shifts",)
"""Programs that run where suite2p is installed."""


@pytest.mark.parametrize("name", [name for name in NAMES if name not in (*LIBRARIES, *OTHER_ENVIRONMENT)])
def test_help(name, capsys, monkeypatch):
    module = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 0
    assert "usage" in capsys.readouterr().out


def test_a_benchmark_runs_as_a_module():
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.current", "--check"], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ablation.SWITCHES)
def test_switches_name_parts_that_the_package_has(name):
    with ablation.switched_off(name):
        pass


def test_every_row_of_current_figures_names_a_command():
    lines = current.text().splitlines()
    heads = {line for line, below in pairwise(lines) if below.startswith("| ---")}
    rows = [line for line in lines if line.startswith("| ") and not line.startswith("| ---")]
    assert all("`python -m benchmarks." in row for row in rows if row not in heads)
