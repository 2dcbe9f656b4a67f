"""Deformations of hundredths of a pixel are recovered where both halves of the image show them, and are not
made from noise."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from skimage import data

import register
from benchmarks import ranges, small
from benchmarks.sections import sections
from benchmarks.set_defects import lost
from register.engine.fit.repeatability import Repeatability
from register.engine.quality import kinds


def test_two_hundredths_of_a_pixel_are_recovered():
    found = small.deformed(np.random.default_rng(5), 0.02, noise=1.0)
    assert found.deformed
    assert found.recovered == pytest.approx(1, abs=0.1)
    assert found.median < 0.006
    assert found.verdict == "ok"


def test_noise_is_no_deformation():
    found = small.deformed(np.random.default_rng(6), 0.0, noise=4.0)
    assert not found.deformed
    assert found.median < 0.006


@pytest.mark.parametrize("metric", ["auto", "structure"])
def test_strong_noise_on_large_even_areas_is_no_deformation(metric):
    """Noise of 10 % covers the sky of the picture; it made patches of structure of 0.4 px."""
    rng, texture = np.random.default_rng(8), data.camera()[56:456, 56:456] / 255.0
    rows, columns = np.mgrid[:360, :360]
    seen = map_coordinates(texture, [1.01 * rows + 12.4, 1.01 * columns + 0.02 * rows + 9.3], order=5)
    fixed, moving = (view + rng.normal(0, 0.1, view.shape) for view in (seen, texture))
    found = register.align(fixed, moving, metric=metric)
    assert found.quality.verdict == "ok"
    points = np.stack(np.meshgrid(*[np.linspace(20, 340, 9)] * 2), -1).reshape(-1, 2)
    truth = np.stack([1.01 * points[:, 0] + 0.02 * points[:, 1] + 9.3, 1.01 * points[:, 1] + 12.4], 1)
    assert np.median(np.linalg.norm(found.transform.map(points) - truth, axis=1)) < 0.2


def test_jagged_borders_of_masks_are_no_deformation():
    found = ranges.measure("mask", 1)
    assert found.median < 0.1


def test_thin_lines_that_were_interpolated_are_no_deformation():
    found = ranges.measure("page", 2)
    assert found.median < 0.02
    assert found.below > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("noise", [1.0, 8.0])
def test_an_affine_pair_keeps_its_accuracy(noise):
    found = small.undeformed(np.random.default_rng(7), noise)
    assert found.median < 0.012


@pytest.mark.parametrize(
    ("correlation", "count", "real"),
    [(0.31, 200, True), (0.29, 200, False), (0.31, 100, False), (0.5, 100, True), (0.25, 10_000, False)],
)
def test_correlation_that_is_taken_for_real_depends_on_the_number_of_patches(correlation, count, real):
    assert Repeatability(correlation, count, 0.01).is_real is real


@pytest.mark.parametrize(("interpolated", "real"), [(0.0, True), (0.01, True), (0.02, False)])
def test_a_deformation_that_interpolation_shows_too_is_not_real(interpolated, real):
    assert Repeatability(0.5, 200, 0.05, interpolated).is_real is real


def test_a_deformation_that_was_not_kept_stands_in_the_expected_error(monkeypatch):
    """A section of which 15 % of the tissue is left, too little to keep patches for it."""
    monkeypatch.setattr(kinds, "alike", lambda *_: 1.0)
    moving, whole = sections(2, 500, 2)
    fixed = lost(whole).section
    found = register.align(fixed.image, moving.image)
    assert any("only the global fit was kept" in note for note in found.quality.notes)
    at = np.random.default_rng(0).uniform(0, fixed.image.shape[::-1], (4000, 2))
    expected = found.expected_error(at)
    at, expected = at[np.isfinite(expected)], expected[np.isfinite(expected)]
    error = np.linalg.norm(moving.content(found.transform.map(at)) - fixed.content(at), axis=1)
    assert np.median(error) > 0.15
    assert 0.45 < (error < expected).mean() < 0.9  # 0.1 without what was not kept
