"""Tears are found and the sides aligned separately; pixels without counterpart, and what differs."""

import numpy as np
import pytest
import tifffile
import torch

import register
from benchmarks.synthetic import warped_pair
from register import settings
from register.engine.tears import labels, seam
from register.workflows import align
from register.workflows.job import Job
from tests.test_split import near_errors, torn_pair


def test_the_cheapest_path_follows_what_does_not_match():
    bad = np.zeros((40, 50))
    columns = (20 + 6 * np.sin(np.arange(40) / 8)).round().astype(int)
    bad[np.arange(40), columns] = 1
    sides, path = seam.divided(bad)
    assert np.array_equal(path.argmax(1), columns)
    assert np.array_equal(sides == 1, np.arange(50) < columns[:, None])
    turned, _ = seam.divided(bad.T)
    assert np.array_equal(turned, sides.T)


def test_pixels_take_the_side_that_leaves_least_or_none():
    truth = np.ones((40, 60), np.int8)
    truth[:, 30:] = 2
    truth[:, 26:34] *= -1
    differences = [torch.from_numpy(np.where(truth == k, 0.01, 0.6)) for k in (1, 2)]
    zone = torch.zeros(40, 60, dtype=torch.bool)
    zone[:, 15:45] = True
    initial = np.where(np.arange(60) < 22, 1, 2)[None].repeat(40, 0).astype(np.int8)
    found = labels.chosen(differences, initial, zone)
    assert ((found < 0) == (truth < 0)).mean() > 0.98
    shown = truth > 0
    assert (found[shown] == truth[shown]).all()


def test_a_tear_is_found():
    fixed, moving, right, truth = torn_pair()
    made = register.align(fixed, moving, preset="fast", init="identity", split_mask="auto")
    assert made.transform.model == "split"
    assert made.quality.verdict == "ok"
    assert max(map(np.median, near_errors(made.transform, truth, right))) < 0.3


def test_a_whole_pair_stays_whole():
    rng = np.random.default_rng(3)
    texture = np.clip(0.5 + torn_pair(200)[0] - 0.5 + 0.01 * rng.normal(size=(200, 200)), 0, 1)
    pair = warped_pair(texture, 0.01, 4, noise=0.02)
    usual, asked = (
        register.align(pair.fixed, pair.moving, preset="fast", init="identity", **more)
        for more in ({}, {"split_mask": "auto"})
    )
    assert np.array_equal(usual.transform.matrices, asked.transform.matrices)


@pytest.mark.slow
def test_the_files_say_what_has_no_counterpart(tmp_path):
    fixed, moving, _, _ = torn_pair()
    fixed = fixed.copy()
    fixed[60:100, 20:70] = fixed[120:160, 20:70]  # shows something else than the moving image
    for name, image in (("f", fixed), ("m", moving)):
        pixels = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
        tifffile.imwrite(tmp_path / f"{name}.tif", (255 * image).astype(np.uint8), **pixels)
    chosen = settings.check(
        preset="fast",
        init="identity",
        occlusion_mask=True,
        residual_map=True,
        split_mask="auto",
        report=False,
    )
    done = align.run(Job(tmp_path / "f.tif", tmp_path / "m.tif", tmp_path / "out", chosen))
    assert {"occluded", "residual"} <= set(done.files)
    occluded, residual = (tifffile.imread(tmp_path / "out" / f"{x}.tif") for x in ("occluded", "residual"))
    assert occluded.shape == residual.shape == fixed.shape
    assert (occluded[65:95, 25:65] > 0).mean() > 0.8
    assert np.nanmedian(residual[65:95, 25:65]) > 10 * np.nanmedian(residual[160:, :100])
    sizes = [register.read_image(tmp_path / x).pixel_size for x in ("f.tif", "out/residual.tif")]
    assert sizes[0] is not None
    assert sizes[1].x == pytest.approx(sizes[0].x)
    plain = settings.check(preset="fast", init="identity", occlusion_mask=True, report=False)
    align.run(Job(tmp_path / "f.tif", tmp_path / "m.tif", tmp_path / "plain", plain))
    occluded = tifffile.imread(tmp_path / "plain" / "occluded.tif") > 0
    assert occluded[65:95, 25:65].mean() > 0.8
    assert occluded[150:, :100].mean() < 0.02
