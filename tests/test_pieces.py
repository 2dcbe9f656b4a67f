"""Pieces of the fixed image that lie on background of the moving image, or outside of it."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import register
from register.engine.fit.working_copy import valid_pixels, working_copy
from register.engine.quality import pieces
from register.geometry import affine_tensors
from register.images import pyramid
from register.images.pyramid import Level

CENTRES = [(70.0, 70.0), (210.0, 70.0), (70.0, 210.0), (210.0, 210.0)]
"""Centres (x, y) of the pieces in images of 280 × 280 pixels."""
RADIUS = 50.0


def slide(order, *, ground=0.95, noise=0.0, shift=(0, 0)):
    """Four round pieces of different texture on a slide, in some order; None for a missing one."""
    textures = gaussian_filter(np.random.default_rng(0).normal(size=(4, 120, 120)), (0, 2, 2))
    textures = 0.45 + 0.12 * textures / textures.std()
    y, x = np.mgrid[:120, :120] - 59.5
    image = np.full((280, 280), ground)
    for (left, top), number in zip(CENTRES, order, strict=True):
        if number is not None:
            box = np.s_[int(top) - 60 : int(top) + 60, int(left) - 60 : int(left) + 60]
            image[box] = np.where(np.hypot(x, y) < RADIUS, textures[number], image[box])
    image = np.roll(image, shift, (0, 1))
    return np.clip(image + np.random.default_rng(1).normal(0, noise, image.shape), 0, 1)


def missing(fixed, moving, matrix=None, mask=None):
    """The missing pieces under a map, by default the identity."""
    given = [pyramid.base(torch.from_numpy(x).float()[None]) for x in (fixed, moving)]
    if mask is not None:
        given[1] = Level(given[1].image, torch.from_numpy(mask).float()[None], given[1].original_from_level)
    copies = [working_copy(one, 2048, "image") for one in given]
    matrix = affine_tensors.identity() if matrix is None else matrix
    valid = tuple(valid_pixels(one, copy) for one, copy in zip(given, copies, strict=True))
    return pieces.missing(tuple(copies), valid, lambda points: points @ matrix[:, :2].T + matrix[:, 2])


@pytest.mark.parametrize("ground", [0.95, 0.0])
@pytest.mark.parametrize("noise", [0.0, 0.01, 0.03])
def test_a_missing_piece_is_found_on_any_background(ground, noise):
    found = missing(slide((0, 1, 2, 3), ground=ground, noise=noise), slide((0, 1, None, 3), ground=ground))
    assert (found.count, found.among) == (1, 4)
    assert found.share == pytest.approx(0.25, abs=0.03)
    assert found.at(torch.tensor(CENTRES).double()).tolist() == [False, False, True, False]
    assert found.reason.startswith("1 of 4 pieces of the fixed image (2")


def test_pieces_that_are_all_there_are_not_missing():
    fixed = slide((0, 1, 2, 3))
    assert missing(fixed, slide((0, 1, 2, 3), noise=0.01)) is None
    assert missing(fixed, slide((0, 1, 2, 3), shift=(3, -3))) is None  # a small error of the map


def test_pieces_outside_of_the_moving_image_are_missing_if_both_images_show_whole_pieces():
    fixed, right = slide((0, 1, 2, 3)), affine_tensors.translation(140.0, 0.0)
    found = missing(fixed, slide((3, 0, 1, 2)), right)
    assert found.at(torch.tensor(CENTRES).double()).tolist() == [False, True, False, True]
    cut = np.concatenate(
        [fixed[:, 30:], np.full((280, 30), 0.95)], 1
    )  # the frame cuts the pieces on the left
    assert missing(cut, slide((1, None, 3, None)), affine_tensors.translation(-100.0, 0.0)) is None
    scene = np.tile(np.roll(fixed, (70, 70), (0, 1)), (2, 2))  # a view of a larger scene, cut anywhere
    assert missing(scene[:280, :280], scene[:280, 140:420], affine_tensors.translation(-140.0, 0.0)) is None


def test_masked_pixels_of_the_moving_image_are_no_background():
    mask = np.ones((280, 280))
    mask[140:, :140] = 0
    assert missing(slide((0, 1, 2, 3)), slide((0, 1, None, 3)), mask=mask) is None


def test_images_that_show_no_pieces_have_none_missing(texture):
    assert missing(texture, np.roll(texture, 20, 1)) is None
    half = np.where(np.arange(texture.shape[1]) < 200, texture, 0.0)
    assert missing(texture, half) is None  # half of one piece


def test_a_missing_piece_on_a_slide_without_noise_makes_the_verdict_suspect():
    options = {"preset": "fast", "rotation_range": 5, "scale_range": 1.1}
    found = register.align(slide((0, 1, 2, 3)), slide((0, 1, None, 3)), **options)
    assert found.quality.verdict == "suspect"
    assert any(reason.startswith("1 of 4 pieces") for reason in found.quality.reasons)
    told = found.expected_error(np.array(CENTRES))
    assert np.isinf(told).tolist() == [False, False, True, False]
    figures = found.transform.patch_figures
    pairs = zip(figures["status"], figures["expected_error"], strict=True)
    assert all(error is None for status, error in pairs if status == "unrecognised")
