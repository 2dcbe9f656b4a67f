"""Readers and export formats that a program adds through the registries work by the command line."""

import importlib
import json

import numpy as np
import pytest

from register.errors import RegisterError
from register.io.images.model import Image
from register.io.images.open import open_image
from register.io.images.reader import ImageReader, image_suffixes
from register.io.transforms.export_format import ExportFormat, ExportReport
from register.registries import EXPORTS, READERS


def read_toy(path, selection):
    height, width, *values = path.read_text().split()[1:]
    return Image(np.array(values, np.uint8).reshape(1, int(height), int(width)), kind="other")


def write_toy(path, pixels):
    path.write_text("TOY " + " ".join(map(str, [*pixels.shape, *pixels.ravel()])))


TOY = ImageReader("toy", lambda path, head: head.startswith(b"TOY "), read_toy, (".toy",))


@pytest.fixture
def toy_reader():
    READERS.add("toy", TOY)
    yield
    READERS.remove("toy")


def test_an_added_reader_is_described_listed_and_aligned(toy_reader, texture, tmp_path, program):
    pixels = (texture * 255).astype(np.uint8)
    write_toy(tmp_path / "fixed.toy", pixels[10:210, 10:250])
    write_toy(tmp_path / "moving.toy", pixels[7:207, 14:254])
    found = json.loads(program("info", tmp_path / "fixed.toy", "--json").stdout)["files"][0]
    assert (found["width"], found["height"], found["axes"]) == (240, 200, "YX")
    assert (
        "series" not in program("info", tmp_path / "fixed.toy").stdout
    )  # a file of one image names no series
    assert ".toy" in image_suffixes()
    done = program("align", tmp_path / "fixed.toy", tmp_path / "moving.toy", "-o", tmp_path / "out",
                   "--model", "translation", "--no-report")  # fmt: skip
    assert done.returncode == 0, done.stderr
    matrix = json.loads((tmp_path / "out" / "transform.json").read_text())["global"]["matrix"]
    assert np.allclose(np.array(matrix)[:, 2], [-4, 3], atol=0.2)
    assert (tmp_path / "out" / "aligned.tif").exists()


def test_a_built_in_format_is_replaced_only_on_purpose(tmp_path):
    from PIL import Image as Pillow

    Pillow.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "a.png")
    for before, size in ((False, (4, 5)), (True, (2, 3))):
        READERS.add(
            "greedy",
            ImageReader(
                "greedy",
                lambda path, head: True,
                lambda path, selection: Image(np.zeros((1, 2, 3))),
                before_built_in=before,
            ),
        )
        try:
            assert open_image(tmp_path / "a.png").size == size
        finally:
            READERS.remove("greedy")


def test_an_added_reader_that_fails_names_the_file(toy_reader, tmp_path):
    (tmp_path / "bad.toy").write_text("TOY 2 2 1")
    with pytest.raises(RegisterError, match=r"bad\.toy: cannot be read as an image"):
        open_image(tmp_path / "bad.toy")


def test_a_format_added_after_the_command_was_imported_is_a_choice_of_export(tmp_path, program):
    importlib.import_module("register.cli.export")
    from register import Transform
    from register.geometry import affine
    from register.transforms.transform import Frame

    Transform("affine", Frame(9, 8), Frame(9, 8), affine.identity()).save(tmp_path / "t.json")

    def write(transform, path, options):
        path.write_text(f"{transform.model} {options.spacing}")
        return ExportReport(points=1)

    EXPORTS.add("toy", ExportFormat("toy", ".toy", write))
    try:
        done = program("export", tmp_path / "t.json", "--to", "toy", "-o", tmp_path / "t.toy",
                       "--spacing", "3", "--json")  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"format": "toy", "file": str(tmp_path / "t.toy"), "points": 1}
        assert (tmp_path / "t.toy").read_text() == "affine 3.0"
    finally:
        EXPORTS.remove("toy")


@pytest.mark.parametrize("registry", [READERS, EXPORTS], ids=lambda registry: registry.kind)
def test_a_record_of_another_type_is_refused_by_name(registry):
    from register.io.images.reader import image_reader
    from register.io.transforms.export_format import export_format

    registry.add("toy", "a text")
    try:
        with pytest.raises(RegisterError, match="'toy' is a str"):
            (image_reader if registry is READERS else export_format)("toy")
    finally:
        registry.remove("toy")
