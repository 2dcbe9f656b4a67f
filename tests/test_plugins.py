"""Another package adds a similarity, a reader, a start finder and an export format by entry points."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import TISSUE

GROUPS = ("register.similarities", "register.readers", "register.starts", "register.exports")
NAMES = ("SIMILARITY", "READER", "match", "EXPORT")
TOY = '''
import numpy as np
import torch

from register.files.atomic import write_text
from register.images.filters import smooth
from register.io.images.model import Image
from register.io.images.reader import ImageReader
from register.io.transforms.export_format import ExportFormat, ExportReport
from register.similarity.base import Similarity
from register.similarity.cosine import cosine

SHIFT = 12.0


def gradient(image, mask):
    """Gradients (b, 2, h, w) of images (b, 1, h, w)."""
    vectors = torch.cat(torch.gradient(smooth(image, 1.5), dim=(2, 3)), dim=1) * mask
    return vectors / vectors.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-6)


def read(path, selection):
    with open(path, "rb") as file:
        file.readline()
        return Image(np.load(file)[None], kind="other", path=str(path))


def match(fixed, moving):
    """Points of the fixed image (n, 2), the same points shifted, and their scores."""
    x, y = np.meshgrid(np.arange(30, 200, 10.0), np.arange(30, 170, 10.0))
    points = np.stack([x.ravel(), y.ravel()], 1)
    return points, points + [SHIFT, 0], np.ones(len(points))


def write(transform, path, options):
    write_text(path, " ".join(f"{value:.3f}" for value in transform.matrix.flatten().tolist()))
    return ExportReport(model=transform.model)


SIMILARITY = Similarity("toy", cosine, descriptor=gradient)
READER = ImageReader("toy", lambda path, head: head.startswith(b"TOY"), read, suffixes=(".toy",))
EXPORT = ExportFormat("toy", ".txt", write)
'''


def install(folder, name, code):
    """Put a package of one module with an entry point of each group into a folder."""
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    lines = [f"[{group}]\n{name} = {name}:{record}\n" for group, record in zip(GROUPS, NAMES, strict=True)]
    (info / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("plugins")
    install(made, "toy", TOY)
    install(made, "broken", 'raise ImportError("a library is missing")\n')
    return made


@pytest.fixture
def run_with(folder):
    """The program in a process of its own that finds the packages of the folder."""

    def run(*args):
        path = os.pathsep.join(filter(None, [str(folder), os.getcwd(), os.environ.get("PYTHONPATH")]))
        return subprocess.run(
            [sys.executable, "-m", "register", *map(str, args)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": path},
        )

    return run


@pytest.fixture(scope="module")
def images(tmp_path_factory, texture):
    """Two images in the toy reader's format; the moving one shows the fixed one 12 pixels further right."""
    made = tmp_path_factory.mktemp("images")
    pixels = (texture * 255).astype(np.uint8)
    for name, left in (("fixed", 32), ("moving", 20)):
        with open(made / f"{name}.toy", "wb") as file:
            file.write(b"TOY\n")
            np.save(file, pixels[10:210, left : left + 240])
    return made / "fixed.toy", made / "moving.toy"


def test_a_similarity_a_reader_a_start_finder_and_an_export_of_another_package(run_with, images, tmp_path):
    described = json.loads(run_with("info", images[0], "--json").stdout)["files"][0]
    assert (described["width"], described["height"], described["dtype"]) == (240, 200, "uint8")
    out = tmp_path / "out"
    done = run_with("align", *images, "-o", out, "--metric", "toy", "--matcher", "toy", "--preset", "fast",
                    "--model", "translation", "--no-report", "-q")  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    content = json.loads((out / "transform.json").read_text())
    assert content["quality"]["metric"] == "toy"
    assert content["global"]["matrix"][0][2] == pytest.approx(12, abs=0.1)
    done = run_with("export", out / "transform.json", "--to", "toy", "-o", tmp_path / "t.txt")
    assert (done.returncode, done.stderr) == (0, "")
    assert float((tmp_path / "t.txt").read_text().split()[2]) == pytest.approx(12, abs=0.1)


def test_the_doctor_lists_plugins_their_packages_and_why_one_cannot_be_loaded(run_with):
    findings = json.loads(run_with("doctor", "--json").stdout)["findings"]
    found = {finding["subject"]: finding for finding in findings}
    for kind in ("similarity", "image reader", "start finder", "export format"):
        assert "toy (package toy)" in found[kind]["found"]
        assert "broken (package broken)" in found[kind]["found"]
        assert "package broken cannot be loaded (ImportError: a library is missing)" in found[kind]["advice"]
        assert "toy" not in found[kind]["advice"]


@pytest.mark.parametrize("option", ["--metric", "--matcher"])
def test_a_plugin_that_cannot_be_loaded_is_a_one_line_error_where_it_is_requested(option, run_with, tmp_path):
    done = run_with("align", *TISSUE, "-o", tmp_path / "o", option, "broken", "--preset", "fast")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "package broken cannot be loaded (ImportError: a library is missing)" in done.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_a_plugin_that_cannot_be_loaded_does_not_harm_other_commands(run_with, tmp_path):
    done = run_with("info", TISSUE[0])
    assert (done.returncode, done.stderr) == (0, "")
    done = run_with("align", *TISSUE, "-o", tmp_path / "o", "--preset", "fast", "--no-report", "-q")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_that_only_a_missing_reader_might_read_names_the_package(run_with, tmp_path):
    (tmp_path / "x.broken").write_text("something")
    done = run_with("info", tmp_path / "x.broken")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "x.broken" in done.stderr
    assert "package broken" in done.stderr
