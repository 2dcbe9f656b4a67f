"""A submission to BIRL: its table, and landmarks that its own formula scores like ``register evaluate``."""

import csv
import json

import numpy as np
import pytest
from conftest import SAMPLES
from PIL import Image

COVER = (
    ",Target image,Source image,Target landmarks,Source landmarks,status,Image size [pixels],"
    "Warped source landmarks"
)
SHIFT = np.array([6.0, -4.0])
QUICK = ["--preset", "fast", "--model", "translation", "--metric", "ncc", "--init", "identity", "--no-report"]
QUICK += ["--workers", "1", "--quiet"]


@pytest.fixture
def dataset(tmp_path, texture):
    """A cover table of a pair that is shifted by ``SHIFT``, and of a pair whose image is missing."""
    grey = (texture * 255).astype(np.uint8)
    Image.fromarray(grey[20:200, 20:220]).save(tmp_path / "he.png")
    Image.fromarray(grey[24:204, 14:214]).save(tmp_path / "ihc.png")
    target = np.random.default_rng(1).uniform(20, 160, (9, 2))
    for name, points in (("he", target), ("ihc", target + SHIFT)):
        rows = "".join(f"{n},{x},{y}\n" for n, (x, y) in enumerate(points.tolist()))
        (tmp_path / f"{name}.csv").write_text(",X,Y\n" + rows)
    row = '0,he.png,ihc.png,he.csv,ihc.csv,training,"(180, 200)",'
    (tmp_path / "cover.csv").write_text(f"{COVER}\n{row}\n\n1,he.png,none.png,he.csv,ihc.csv,evaluation,,\n")
    return tmp_path, target


def submitted(folder):
    with open(folder / "registration-results.csv", newline="") as file:
        return list(csv.DictReader(file))


def landmarks(path):
    assert path.read_text().startswith(",X,Y\n0,")
    return np.genfromtxt(path, delimiter=",", skip_header=1)[:, 1:]


def test_source_landmarks_lie_at_the_targets(dataset, program):
    folder, target = dataset
    done = program("batch", "--pairs", folder / "cover.csv", "--birl", "-o", folder / "out", *QUICK)
    assert done.returncode == 1  # the second pair has no image
    one, other = submitted(folder / "out")
    assert [one[name] for name in COVER.split(",")[:-1]] == [
        "0", "he.png", "ihc.png", "he.csv", "ihc.csv", "training", "(180, 200)"
    ]  # fmt: skip
    assert (other["Warped source landmarks"], other["Execution time [minutes]"]) == ("", "")
    warped = landmarks(folder / "out" / one["Warped source landmarks"])
    assert np.abs(warped - target).max() < 0.1
    spent = json.loads((folder / "out" / "ihc" / "transform.json").read_text())["provenance"]["seconds"][
        "total"
    ]
    assert float(one["Execution time [minutes]"]) == pytest.approx(spent / 60, abs=1e-5)


def test_withheld_target_landmarks_are_not_needed(dataset, program):
    folder, target = dataset
    (folder / "he.csv").unlink()
    table = folder / "cover.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:2]) + "\n")
    done = program("batch", "--pairs", table, "--birl", "-o", folder / "out", *QUICK)
    assert (done.returncode, done.stderr) == (0, "")
    (one,) = submitted(folder / "out")
    assert np.abs(landmarks(folder / "out" / one["Warped source landmarks"]) - target).max() < 0.1


def test_the_source_may_have_more_landmarks_than_the_target(dataset, program):
    folder, target = dataset
    fewer = (folder / "he.csv").read_text().splitlines()[:-2]
    (folder / "he.csv").write_text("\n".join(fewer) + "\n")
    program("batch", "--pairs", folder / "cover.csv", "--birl", "-o", folder / "out", *QUICK)
    one, _ = submitted(folder / "out")
    assert np.abs(landmarks(folder / "out" / one["Warped source landmarks"]) - target).max() < 0.1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("fixed,moving\na.png,b.png\n", "has no column 'Target image'; --birl needs the columns"),
        (f"{COVER}\n0,a.png,b.png,a.csv,,,,\n", "row 2 names no source landmarks"),
    ],
)
def test_another_table_is_refused(text, why, tmp_path, program):
    (tmp_path / "cover.csv").write_text(text)
    done = program("batch", "--pairs", tmp_path / "cover.csv", "--birl", "-o", tmp_path / "out")
    assert done.returncode == 1
    assert why in done.stderr
    assert not (tmp_path / "out").exists()


def test_without_a_table_it_is_wrong_usage(tmp_path, program):
    done = program(
        "batch", "--fixed", SAMPLES / "a.png", "--moving", "b*.png", "--birl", "-o", tmp_path / "out"
    )
    assert done.returncode == 2
    assert "--birl needs --pairs with a cover table of BIRL" in done.stderr
