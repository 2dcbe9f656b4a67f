"""Images that repeat themselves: the verdict says so, and content decides where it can."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import register
from register.geometry.pixel_size import PixelSize, in_pixels

SIDE = 320


def scene(shift, *, pitch=24.0, angle=0.0, defects=(), noise=0.05, seed=0):
    """A lattice (h, w) seen after a shift (x, y), with dark spots at places (x, y, radius) that move with it."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(float)
    x, y = columns - shift[0], rows - shift[1]
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    image = (0.5 + 0.5 * np.cos(2 * np.pi * u / pitch)) * (0.5 + 0.5 * np.cos(2 * np.pi * v / pitch))
    for left, top, radius in defects:
        image = image * (1 - 0.8 * np.exp(-((x - left) ** 2 + (y - top) ** 2) / (2 * radius**2)))
    return image + np.random.default_rng(seed).normal(0, noise, image.shape)


def error(alignment, shift):
    """The median distance (px) between where points of the fixed image are mapped and where they should be."""
    points = np.stack(np.meshgrid(*[np.linspace(60, SIDE - 61, 8)] * 2), -1).reshape(-1, 2)
    return float(np.median(np.linalg.norm(alignment.transform.map(points) - points - shift, axis=1)))


@pytest.mark.parametrize("model", ["translation", pytest.param("local", marks=pytest.mark.slow)])
def test_a_plain_lattice_is_suspect_and_the_rival_is_named(model):
    shift = np.array([17.0, -7.0])
    fixed, moving = scene((0, 0), seed=1), scene(shift, seed=2)
    alignment = register.align(fixed, moving, model=model, preset="fast")
    assert alignment.quality["verdict"] == "suspect"
    assert "explains the images as well" in alignment.quality["reasons"][0]
    nearest = math.hypot(17 - 24, -7)
    assert math.hypot(*alignment.transform.matrix[:, 2]) < nearest + 0.5  # the smallest displacement wins
    assert alignment.quality["expected_error"] > 20  # it covers the nearest rival, a pitch away


def test_four_defects_in_a_lattice_decide():
    shift = np.array([40.8, -16.3])
    defects = [(120, 105, 9), (200, 208, 12), (75, 235, 8), (250, 80, 9)]
    fixed, moving = scene((0, 0), defects=defects, seed=1), scene(shift, defects=defects, seed=2)
    alignment = register.align(fixed, moving, model="translation")
    assert alignment.quality["verdict"] == "ok"
    assert error(alignment, shift) < 0.1


def test_a_grating_leaves_the_shift_along_its_lines_unknown():
    _, columns = np.mgrid[:SIDE, :SIDE].astype(float)
    rng = np.random.default_rng(3)
    images = [np.cos(2 * np.pi * (columns - x) / 30.0) + rng.normal(0, 0.05, (SIDE, SIDE)) for x in (0, 6)]
    alignment = register.align(*images, model="translation")
    assert alignment.quality["verdict"] == "suspect"
    assert any("do not determine the shift" in reason for reason in alignment.quality["reasons"])
    assert np.isinf(alignment.expected_error(np.array([[100.0, 100.0]]))).all()


def test_ordinary_content_has_no_rivals():
    rng = np.random.default_rng(5)
    texture = sum(s * gaussian_filter(rng.normal(size=(SIDE + 40, SIDE + 40)), s) for s in (1.5, 3, 8))
    alignment = register.align(
        texture[:SIDE, :SIDE], texture[12 : SIDE + 12, 7 : SIDE + 7], model="translation"
    )
    assert alignment.quality["verdict"] == "ok"
    assert error(alignment, (-7, -12)) < 0.05


def test_a_range_of_shifts_below_half_a_pitch_leaves_one_answer():
    fixed, moving = scene((0, 0), seed=1), scene((7, -5), seed=2)
    alignment = register.align(fixed, moving, model="translation", shift_range="11")
    assert alignment.quality["verdict"] == "ok"
    assert error(alignment, (7, -5)) < 0.1


def test_a_map_outside_of_the_range_of_shifts_is_not_ok():
    rng = np.random.default_rng(5)
    texture = gaussian_filter(rng.normal(size=(SIDE + 60, SIDE + 60)), 2)
    fixed, moving = texture[:SIDE, :SIDE], texture[40 : SIDE + 40, 30 : SIDE + 30]
    alignment = register.align(fixed, moving, model="translation", shift_range="10", preset="fast")
    assert alignment.quality["verdict"] != "ok"
    assert register.align(fixed, moving, model="translation", shift_range="60").quality["verdict"] == "ok"


@pytest.mark.parametrize(
    ("text", "size", "pixels"), [("30", None, 30), ("5 µm", PixelSize(0.5, 0.5, "µm"), 10)]
)
def test_a_range_of_shifts_has_a_unit(text, size, pixels):
    assert in_pixels(text, size) == pytest.approx(pixels)


def test_a_unit_needs_a_pixel_size():
    with pytest.raises(register.RegisterError, match="the pixel size is not known"):
        in_pixels("5um", None)
    with pytest.raises(register.RegisterError, match="shift_range"):
        register.align(np.eye(64), np.eye(64), shift_range="far")
