"""The program with a closed or full standard output, unusual file names, and without memory."""

import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from conftest import TISSUE, run

import register
from register.files.atomic import write_text
from register.io.images.model import Image
from register.io.images.open import write_image
from register.workflows import align


@pytest.mark.skipif(sys.platform == "win32", reason="its shell closes nothing")
def test_the_program_runs_without_standard_output(tmp_path):
    """As a job scheduler may start the program: with standard output closed."""
    done = subprocess.run(
        f"'{sys.executable}' -m register doctor --json >&-", shell=True, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are text")
@pytest.mark.slow
def test_file_names_need_not_be_valid_utf8(tmp_path):
    """File names may hold bytes that are not UTF-8.

    Written files are UTF-8, and their paths still name the files.
    """
    names = [os.fsdecode(b"fixed/f\xfc.png"), os.fsdecode(b"moving/f\xfc.png")]
    for name, sample in zip(names, TISSUE, strict=True):
        (tmp_path / name).parent.mkdir()
        shutil.copy(sample, tmp_path / name)
    table = run("align", *names, "-o", "out", cwd=tmp_path)
    assert (table.returncode, table.stderr) == (0, "")
    done = run("batch", "--fixed-dir", "fixed", "--moving-dir", "moving", "-o", "many", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for folder in ("out", "many/f"):
        path = register.Transform.load(tmp_path / folder / "transform.json").fixed.path
        assert os.path.samefile(tmp_path / path, tmp_path / names[0])
    assert "f\\udcfc.png" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert run("report", "out", cwd=tmp_path).returncode == 0
    applied = run(
        "apply", "out/transform.json", names[1], "-o", os.fsdecode(b"applied-\xfc"), "--json", cwd=tmp_path
    )
    (one,) = json.loads(applied.stdout)["images"]
    assert os.fsencode(one["file"]) == b"applied-\xfc/f\xfc.png"


def test_file_names_may_have_the_maximum_length(tmp_path):
    image = Image(np.zeros((1, 8, 8), np.uint8))
    for name in (255 * "n", 251 * "n" + ".png", 83 * "語" + ".png"):
        write_text(tmp_path / name, "whole") if "." not in name else write_image(tmp_path / name, image)
        assert [path.name for path in tmp_path.iterdir()] == [name]
        (tmp_path / name).unlink()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is always full")
def test_a_full_standard_output_is_a_one_line_error():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "register", "doctor"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == (
        "error: standard output: cannot be used (No space left on device); "
        "check the disk and your permissions there\n"
    )


NO_MEMORY = {
    "PyTorch": lambda: torch.empty(2**50),
    "NumPy": lambda: np.empty(2**50),
    "OpenCV": lambda: cv2.copyMakeBorder(np.zeros((2, 2), np.uint8), 0, 2**30, 0, 2**30, cv2.BORDER_CONSTANT),
}


@pytest.mark.parametrize("library", NO_MEMORY)
def test_running_out_of_memory_is_a_one_line_error_in_any_library(library, tmp_path, program, monkeypatch):
    monkeypatch.setattr(align, "open_pair", lambda job: NO_MEMORY[library]())
    done = program("align", *TISSUE, "-o", tmp_path / "out")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: out of memory; use")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
    many = program(
        "batch", "--fixed", TISSUE[0], "--moving", TISSUE[1], "-o", tmp_path / "many", "--workers", "1"
    )
    assert many.returncode == 1
    assert "out of memory" in (tmp_path / "many" / "summary.csv").read_text()
