"""Images that agree in part: which parts are recognised, the verdict, and where no error is expected."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import register
from register.engine.fit.estimate import Estimate
from register.engine.fit.working_copy import working_copy
from register.engine.quality import parts, recognition, verdict
from register.geometry import affine_tensors
from register.images import pyramid
from register.transforms.quality import Quality

CENTRES = [(80.0, 80.0), (240.0, 80.0), (80.0, 240.0), (240.0, 240.0)]
"""Centres (x, y) of four pieces in images of 320 × 320 pixels."""


def slide(order, *, seed=1):
    """Four round pieces of different texture on a bright slide, in some order; None for a missing one."""
    textures = gaussian_filter(np.random.default_rng(0).normal(size=(4, 140, 140)), (0, 2, 2))
    textures = 0.45 + 0.12 * textures / textures.std()
    y, x = np.mgrid[:140, :140] - 69.5
    image = np.full((320, 320), 0.95)
    for (left, top), number in zip(CENTRES, order, strict=True):
        if number is not None:
            box = np.s_[int(top) - 70 : int(top) + 70, int(left) - 70 : int(left) + 70]
            image[box] = np.where(np.hypot(x, y) < 60, textures[number], image[box])
    return np.clip(image + np.random.default_rng(seed).normal(0, 0.01, image.shape), 0, 1)


def level(image):
    return working_copy(pyramid.base(torch.from_numpy(image).float()[None]), 2048, "fixed")


def judged(fixed, moving):
    regions = recognition.regions(level(fixed), level(moving), Estimate(affine_tensors.identity()))
    return parts.of(regions)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 0, 2, 3), (0, 1, None, 3), (1, 2, 0, 3)])
def test_every_piece_is_recognised_where_it_lies_and_no_other(order):
    odds = judged(slide((0, 1, 2, 3)), slide(order, seed=2)).log_odds(torch.tensor(CENTRES).double())
    assert (odds > 0).tolist() == [number == own for own, number in enumerate(order)]


def test_the_outline_of_an_exchanged_piece_is_not_recognised():
    angle = torch.arange(0, 2 * torch.pi, 0.2).double()
    rim = 58 * torch.stack([angle.cos(), angle.sin()], 1)
    found = judged(slide((0, 1, 2, 3)), slide((1, 0, 2, 3), seed=2))
    assert float((found.log_odds(rim + torch.tensor(CENTRES[0])) < 0).double().mean()) > 0.9
    assert float((found.log_odds(rim + torch.tensor(CENTRES[3])) > 0).double().mean()) > 0.9


def test_a_lattice_is_not_taken_for_parts_that_do_not_match():
    y, x = np.mgrid[:320, :320]
    lattice = 0.5 + 0.2 * np.cos(2 * np.pi * x / 16) + 0.2 * np.cos(2 * np.pi * y / 16)
    noise = np.random.default_rng(0).normal(0, 0.02, (2, 320, 320))
    found = judged(*(lattice + noise).clip(0, 1))
    points = torch.rand(100, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 280 + 20
    assert bool((found.log_odds(points) > 0).all())


def test_regions_that_are_hardly_recognised_are_not_called_wrong():
    noise = np.random.default_rng(5).normal(0, 0.35, (2, 320, 320))
    fixed, moving = (gaussian_filter(slide((0, 1, 2, 3)) + one, 1) for one in noise)
    regions = recognition.regions(level(fixed), level(moving), Estimate(affine_tensors.identity()))
    assert 0.6 < regions.overall.rank < 0.95
    odds = parts.of(regions).log_odds(torch.tensor(CENTRES).double())
    assert bool((odds > 0).all())


def test_the_verdict_counts_the_patches_that_are_not_recognised():
    right = Quality(probability_wrong=0.05, overlap=1.0, det_global=1.0, back_and_forth=0.1)
    called, reasons = verdict.verdict(right, ["ok"] * 11 + ["unrecognised"] * 34, verdict.Expected(1000.0))
    assert called == "suspect"
    assert reasons[0].startswith("34 of 45 patches on tissue or other content are not recognised")
    assert verdict.verdict(right, ["ok"] * 43 + ["unrecognised"] * 2, verdict.Expected(1000.0)) == ("ok", ())


@pytest.fixture(scope="module")
def exchanged():
    options = {"preset": "fast", "rotation_range": 5, "scale_range": 1.1}
    return {
        model: register.align(slide((0, 1, 2, 3)), slide((1, 0, 2, 3), seed=2), model=model, **options)
        for model in ("local", "translation")
    }


def test_exchanged_pieces_have_no_expected_error_and_the_verdict_is_suspect(exchanged):
    found = exchanged["local"]
    assert found.quality.verdict == "suspect"
    assert "patches on tissue or other content are not recognised" in found.quality.reasons[0]
    told = found.expected_error(np.array(CENTRES))
    assert np.isinf(told).tolist() == [True, True, False, False]
    assert float(told[2:].max()) < 1
    figures = found.transform.patch_figures
    pairs = zip(figures["status"], figures["expected_error"], strict=True)
    assert all(error is None for status, error in pairs if status == "unrecognised")


def test_a_global_model_has_no_expected_error_if_parts_are_not_recognised(exchanged):
    quality = exchanged["translation"].quality
    assert quality.verdict in ("suspect", "failed")
    assert quality.expected_error is None
