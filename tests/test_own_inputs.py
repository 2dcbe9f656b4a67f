"""No command replaces a file that it reads, whatever the file is called and with ``--overwrite`` too."""

import os
import shutil

import numpy as np
import pytest
import tifffile
from conftest import TISSUE

from register.geometry import affine
from register.transforms.frame import Frame
from register.transforms.transform import Transform

RNG = np.random.default_rng(0)
CASES = {
    "align": ["align", "f.tif", "out/aligned.tif", "-o", "out", "--overwrite"],
    "align, mask": [
        "align",
        "f.tif",
        "m.tif",
        "--fixed-mask",
        "out/valid.tif",
        "-o",
        "out",
        "--overwrite",
        "--valid-mask",
    ],
    "align, init": ["align", "f.tif", "m.tif", "--init", "out/transform.json", "-o", "out", "--overwrite"],
    "apply": ["apply", "t.json", "m.tif", "-o", "m.tif", "--overwrite"],
    "apply, link": ["apply", "t.json", "m.tif", "-o", "link.tif", "--overwrite"],
    "apply, other way": ["apply", "t.json", "m.tif", "-o", "out/../m.tif", "--overwrite"],
    "apply, folder": ["apply", "t.json", "out/m.tif", "-o", "out", "--overwrite"],
    "merge": ["merge", "out/transform.json", "-o", "f.ome.tif", "--overwrite"],
    "points": ["points", "t.json", "p.csv", "-o", "p.csv", "--overwrite"],
    "points, transform": ["points", "t.json", "p.csv", "-o", "t.json", "--overwrite"],
    "invert": ["invert", "t.json", "-o", "t.json", "--overwrite"],
    "compose": ["compose", "t.json", "out/transform.json", "-o", "t.json", "--overwrite"],
    "compose, second": ["compose", "t.json", "out/transform.json", "-o", "out/transform.json", "--overwrite"],
    "export": ["export", "t.json", "--to", "elastix", "-o", "t.json", "--overwrite"],
    "export, folder around": ["export", "out/transform.json", "--to", "ngff", "-o", "out", "--overwrite"],
    "evaluate": ["evaluate", "t.json", "p.csv", "q.csv", "-o", "q.csv", "--overwrite"],
    "evaluate, transform": ["evaluate", "t.json", "p.csv", "q.csv", "-o", "t.json", "--overwrite"],
    "report": ["report", "out", "out2", "-o", "out/transform.json"],
    "batch": ["batch", "--pairs", "out/summary.csv", "-o", "out"],
    "movie": ["movie", "out/aligned.tif", "-o", "out"],
    "movie, second file": ["movie", "out/stack.tif", "out/reference.tif", "-o", "out"],
    "movie, reference": ["movie", "out/stack.tif", "--to", "out/reference.tif", "-o", "out"],
    "group": ["group", "f.tif", "out/m/m.tif", "-o", "out", "--overwrite"],
    "group, table": ["group", "--table", "set/summary.csv", "-o", "set", "--overwrite"],
    "group, mask": ["group", "--table", "set.csv", "-o", "out", "--overwrite"],
    "group, merge": ["group", "f.ome.tif", "m.tif", "-o", "new", "--merge", "f.ome.tif", "--overwrite"],
    "group, volume": ["group", "f.ome.tif", "m.tif", "-o", "new", "--volume", "f.ome.tif", "--overwrite"],
    "batch, series": ["batch", "--series", "out/stack.tif", "--also", "out/aligned.tif", "-o", "out"],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = RNG.integers(0, 255, (40, 50), np.uint8)
    for name in ("out", "out2", "out/m", "out/f", "set"):
        os.mkdir(name)
    for name in (
        "f.tif",
        "m.tif",
        "f.ome.tif",
        "out/m.tif",
        "out/valid.tif",
        "out/m/m.tif",
        "out/f/mask.tif",
    ):
        tifffile.imwrite(name, image)
    for name in ("out/stack.tif", "out/aligned.tif", "out/reference.tif"):
        tifffile.imwrite(name, np.stack([image] * 3), photometric="minisblack", metadata={"axes": "TYX"})
    os.symlink("m.tif", "link.tif")
    transform = Transform(
        "affine", Frame(50, 40, path="f.ome.tif"), Frame(50, 40, path="m.tif"), affine.identity()
    )
    for name in ("t.json", "out/transform.json", "out2/transform.json"):
        transform.save(name)
    for name in ("p.csv", "q.csv"):
        (tmp_path / name).write_text("x,y\n1,2\n3,4\n5,9\n7,7\n")
    (tmp_path / "out" / "summary.csv").write_text(f"id,fixed,moving\na,{TISSUE[0]},{TISSUE[1]}\n")
    (tmp_path / "set" / "summary.csv").write_text("image\n../f.tif\n../m.tif\n")
    (tmp_path / "set.csv").write_text("image,mask\nf.tif,out/f/mask.tif\nm.tif,\n")
    return tmp_path


@pytest.mark.parametrize("case", CASES)
def test_a_command_does_not_replace_what_it_reads(case, folder, program):
    shutil.copytree(folder, folder / "before", symlinks=True)
    done = program(*CASES[case])
    assert (done.returncode, done.stdout) == (1, "")
    option = next((name for name in ("--merge", "--volume") if name in CASES[case]), "--output")
    assert f"is an input and would be overwritten; choose another {option}" in done.stderr
    assert done.stderr.count("\n") == 1
    for path in (folder / "before").rglob("*"):
        if path.is_file():
            assert (folder / path.relative_to(folder / "before")).read_bytes() == path.read_bytes()


def test_a_folder_with_other_files_is_not_replaced_by_a_zarr(folder, program):
    (folder / "notes").mkdir()
    (folder / "notes" / "thesis.txt").write_text("years of work")
    done = program("export", "t.json", "--to", "ngff", "-o", "notes", "--overwrite")
    assert (done.returncode, done.stderr) == (
        1, "error: notes: is a folder with other files; choose another --output\n"
    )  # fmt: skip
    assert (folder / "notes" / "thesis.txt").read_text() == "years of work"
