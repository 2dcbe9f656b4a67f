"""Grey values that mislead: debris, hot pixels, exactly constant backgrounds, and units far from 1."""

import cv2
import numpy as np
import pytest
import torch

import register
from register.images import debris, hot_pixels, preprocess
from register.images.arrays import grey_level

SHIFT = np.array([6, -4])


@pytest.fixture
def views(texture):
    """Two views (260, 300) of counts whose content moves by ``SHIFT``: the shift maps fixed to moving."""
    rng = np.random.default_rng(0)
    x, y = SHIFT
    return [
        rng.poisson(200 + 2000 * texture[row : row + 260, column : column + 300]).astype(np.float64)
        for row, column in ((40, 40), (40 - y, 40 - x))
    ]


def dirt(seed, share=0.02):
    rng, found = np.random.default_rng(seed), np.zeros((260, 300), np.uint8)
    while found.mean() < share:
        cv2.circle(found, (int(rng.integers(0, 300)), int(rng.integers(0, 260))), 6, 1, -1)
    return found > 0


def median_error(alignment, judged=np.s_[:]):
    return float(np.median(np.linalg.norm(alignment.transform.field().numpy() - SHIFT, axis=2)[judged]))


@pytest.mark.parametrize("sides", [(1, 0), (1, 2)])
def test_saturated_debris_does_not_set_the_range(views, sides):
    fixed, moving = (
        np.where(dirt(side), 65535, view).astype(np.uint16) if side else view.astype(np.uint16)
        for side, view in zip(sides, views, strict=True)
    )
    found = register.align(fixed, moving, preset="fast")
    assert found.quality.verdict == "ok"
    assert median_error(found) < 0.1
    assert "saturated or hot" in found.quality.fixed_grey


def test_hot_pixels_do_not_set_the_range_and_are_replaced(views):
    rng = np.random.default_rng(1)
    hot = rng.random((260, 300)) < 0.02  # at the same places of the sensor
    fixed, moving = (np.where(hot, rng.uniform(5000, 65535, hot.shape), view) for view in views)
    found = register.align(fixed, moving, preset="fast")
    assert found.quality.verdict == "ok"
    assert median_error(found) < 0.1
    level = grey_level(fixed).level
    assert float(level.mask.mean()) > 0.995
    assert float((level.image > 3000).float().mean()) < 0.1 * 0.02  # neighbouring ones are kept


def test_bright_structure_is_not_debris_and_stars_are_not_hot(texture):
    rng, (y, x) = np.random.default_rng(3), np.mgrid[:260, :300]
    sky = 100 + rng.normal(0, 4, (260, 300))
    for row, column, flux in rng.uniform((5, 5, 100), (255, 295, 9000), (60, 3)):
        sky += flux * np.exp(-((x - column) ** 2 + (y - row) ** 2) / 2.0)
    page, walls = (np.full((260, 300), 250, np.uint8) for _ in range(2))
    cv2.rectangle(walls, (40, 40), (200, 200), 0, 9)
    for line in range(30, 250, 20):
        cv2.putText(page, "words of a page", (10, line), 0, 0.5, 0, 2)
    page, walls = (np.clip(x + rng.normal(0, 2, x.shape), 0, 255) for x in (page, walls))
    for image in (sky, page, walls, texture, (texture > 0.6) * 255.0, np.where(texture > 0.7, 1.0, texture)):
        plane = torch.from_numpy(image.copy())[None]
        assert debris.bounds(plane, torch.ones_like(plane)).is_open
        assert hot_pixels.threshold(plane, torch.ones_like(plane)) == float("inf")


def test_one_valid_pixel_shows_no_hot_ones():
    plane, valid = torch.rand(1, 1024, 1024), torch.zeros(1, 1024, 1024)
    valid[0, 1, 1] = 1
    assert hot_pixels.threshold(plane, valid) == float("inf")


def test_the_background_of_a_page_counts_and_the_surroundings_of_a_picture_do_not(texture):
    page = np.full((260, 300), 255, np.uint8)
    for line in range(30, 250, 20):
        cv2.putText(page, "words of a page", (10, line), 0, 0.5, 0, 1, cv2.LINE_AA)
    mask = np.zeros((260, 300), np.uint8)
    cv2.circle(mask, (150, 130), 80, 1, -1)
    picture = np.where(mask > 0, 0.2 + 0.7 * texture[:260, :300], 0)
    everywhere = torch.ones(1, 260, 300)
    shares = [
        float(preprocess.constant_border(torch.from_numpy(x)[None].float(), everywhere).float().mean())
        for x in (page / 255, mask.astype(float), picture)
    ]
    assert shares[:2] == [0, 0]
    assert shares[2] == pytest.approx(1 - float(mask.mean()), abs=0.02)


@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_units_do_not_matter(views, unit):
    one, other = (register.align(*(x * k for x in views), preset="fast") for k in (1.0, unit))
    assert other.quality.verdict == "ok"
    apart = (one.transform.field() - other.transform.field()).norm(dim=-1)
    assert float(apart.max()) < 0.03  # a fit ends where no step would be larger than that


@pytest.mark.parametrize("far", [1e6])
def test_a_small_range_far_from_zero_is_no_constant(views, far):
    found = register.align(*(far + x * 1e-5 for x in views), preset="fast")
    assert found.quality.verdict == "ok"
    assert median_error(found) < 0.1


def test_32_bit_integers_keep_their_differences(views):
    fixed, moving = (2_000_000_000 + x.astype(np.uint32) // 100 for x in views)
    assert median_error(register.align(fixed, moving, preset="fast")) < 0.2


def test_pages_on_exactly_white_are_aligned():
    page = np.full((420, 360), 255, np.uint8)
    rng = np.random.default_rng(5)
    for line in range(30, 400, 24):
        text = " ".join(rng.choice(["the", "slide", "was", "scanned", "again", "after", "washing"], 4))
        cv2.putText(page, text, (20, line), 0, 0.5, 0, 1, cv2.LINE_AA)
    scan = np.roll(page, (-4, 6), (0, 1)) * 0.9 + rng.normal(0, 5, page.shape)
    found = register.align(page, np.clip(scan, 0, 255).astype(np.uint8), preset="fast")
    ink = cv2.erode(page, np.ones((9, 9))) < 100
    assert found.quality.verdict == "ok"
    assert median_error(found, ink) < 0.1
