"""Images that repeat themselves: the verdict says so, and content decides where it can."""

import math
import re

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import register
from register.engine.ambiguity import rivals
from register.engine.fit.parts import Sides
from register.engine.fit.problem import Problem
from register.engine.fit.working_copy import levels_of, working_copy
from register.engine.initial.search_range import SearchRange
from register.geometry import affine_tensors
from register.geometry.pixel_size import PixelSize, in_pixels
from register.images import pyramid
from register.settings import PRESETS

SIDE = 320


def scene(shift, *, pitch=24.0, angle=0.0, defects=(), noise=0.05, seed=0):
    """A lattice (h, w) seen after a shift (x, y), with dark spots (x, y, radius) that move with it."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(float)
    x, y = columns - shift[0], rows - shift[1]
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    image = (0.5 + 0.5 * np.cos(2 * np.pi * u / pitch)) * (0.5 + 0.5 * np.cos(2 * np.pi * v / pitch))
    for left, top, radius in defects:
        image = image * (1 - 0.8 * np.exp(-((x - left) ** 2 + (y - top) ** 2) / (2 * radius**2)))
    return image + np.random.default_rng(seed).normal(0, noise, image.shape)


def error(alignment, shift):
    """The median distance (px) between where points of the fixed image are mapped and where they belong."""
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


@pytest.mark.parametrize("seed", [1, 2])
def test_illumination_that_stays_does_not_decide_among_repeats(seed):
    """Equal dies below a vignette of the camera: it is equal at a shift that the dies do not have."""
    rng = np.random.default_rng(seed)
    die = gaussian_filter(rng.normal(size=(54, 54)), 1.5, mode="wrap")
    wafer = 0.5 + 0.15 * np.tile(die / die.std(), (9, 9))
    rows, columns = np.mgrid[:SIDE, :SIDE]
    light = 1 - 0.25 * ((columns - 140) ** 2 + (rows - 190) ** 2) / SIDE**2
    fixed, moving = (wafer[y : y + SIDE, x : x + SIDE] * light for x, y in ((100, 30), (39, 97)))
    noisy = [image + rng.normal(0, 0.015, image.shape) for image in (fixed, moving)]
    alignment = register.align(*noisy, model="translation", preset="fast")
    assert alignment.quality["verdict"] == "suspect"
    assert any("explains the images as well" in reason for reason in alignment.quality["reasons"])


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


def sections(shift, *, pitch=100, alike=True):
    """Sections (h, w) beside each other, seen after a shift (x, y); of one texture, or of three."""
    texture = gaussian_filter(np.random.default_rng(0).normal(size=(3, 200, 80)), (0, 2, 2))
    rows, columns = (np.mgrid[:240, :240] - np.array([shift[1], shift[0]])[:, None, None]).astype(int)
    number, inside = columns // pitch, columns % pitch
    tissue = (inside >= 10) & (inside < 90) & (rows >= 20) & (rows < 220)
    which = np.zeros_like(number) if alike else number % 3
    grey = texture[which, (rows - 20).clip(0, 199), (inside - 10).clip(0, 79)] / texture.std()
    return np.where(tissue, 0.5 + 0.12 * grey, 0.9)


def resolved(fixed, moving, shift):
    """The rivals of a shift (x, y) of two images, of their parts where they share little under it."""
    copies = [
        working_copy(pyramid.base(torch.from_numpy(x).float()[None]), 2048, "x") for x in (fixed, moving)
    ]
    matrix = affine_tensors.translation(*map(float, shift))
    parts = Sides.of(*copies).under(matrix)
    fine, other = parts or copies
    problem = Problem(levels_of(fine), other, "translation", PRESETS["fast"], 30.0, None, tuple(copies))
    return rivals.resolve(problem, matrix, SearchRange("translation", 0.0, 6, 1.0)), parts is not None


def test_sections_that_are_alike_are_rivals_although_the_images_share_more_under_one_of_them():
    found, in_part = resolved(sections((0, 0)), sections((20, 0)), (20, 0))
    assert not in_part
    assert not found.replaced
    apart = sorted(rival.shift[0] for rival in found.rivals)
    assert apart == pytest.approx([-100, 100], abs=1)  # they cover 0.7 and 0.5 as many windows
    found, in_part = resolved(sections((0, 0)), sections((40, -60)), (-160, -60))
    assert in_part
    assert found.matrix[:, 2].tolist() == pytest.approx([-60, -60], abs=1)  # the smallest displacement
    assert abs(found.rivals[0].shift[0]) == pytest.approx(100, abs=1)


def test_a_copy_beside_the_content_in_a_larger_image_is_a_rival():
    rng = np.random.default_rng(3)
    section = 0.5 + 0.18 * gaussian_filter(rng.normal(size=(220, 200)), 3) / 0.047
    fixed, moving = section[20:180, 10:180], np.hstack([section, section])
    noisy = [image + rng.normal(0, 0.02, image.shape) for image in (fixed, moving)]
    alignment = register.align(*noisy, model="translation", preset="fast")
    assert alignment.quality["verdict"] == "suspect"
    assert alignment.quality["reasons"][0] == "a shift by a further (200, 0) px explains the images as well"


def test_sections_that_differ_have_no_rival():
    for shift in ((50, 0), (110, -60)):
        found, _ = resolved(sections((0, 0), alike=False), sections(shift, alike=False), shift)
        assert not found.rivals
        assert not found.replaced


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


def form(parts, angle, centre, *, mark=False, noise=4.0, seed=0):
    """A wheel (320, 320) of equal spokes, rotated by an angle in degrees about its centre."""
    rows, columns = np.mgrid[:320, :320].astype(float)
    turn = np.deg2rad(angle)
    x, y = columns - centre[0], rows - centre[1]
    x, y = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    far, around = np.hypot(x, y), np.arctan2(y, x)
    within = ((around * parts / 2 / np.pi + 0.5) % 1 - 0.5) * 2 * np.pi / parts
    spoke = (np.abs(far * np.sin(within)) < 5) & (far < 120)
    image = np.where(spoke | ((far > 100) & (far < 125)), 0.7, 0.15)
    if mark:
        image = np.where(np.hypot(x - 70, y - 25) < 11, 0.95, image)
    blurred = 255 * gaussian_filter(image, 1)
    return np.clip(blurred + np.random.default_rng(seed).normal(0, noise, image.shape), 0, 255).astype(
        np.uint8
    )


def on_circle(centre, angle=0.0):
    """Points (n, 2) at 80 pixels from a centre, after a rotation in degrees about it."""
    around = np.linspace(0, 2 * np.pi, 24, endpoint=False) + np.deg2rad(angle)
    return np.array(centre) + 80 * np.stack([np.cos(around), np.sin(around)], -1)


@pytest.mark.parametrize("parts", [5, 7, 29])
def test_a_form_of_equal_parts_may_be_rotated_by_each_of_them(parts):
    fixed = form(parts, 0, (158, 163))
    moving = form(parts, 100, (165, 155), seed=1)
    found = register.align(fixed, moving, model="rigid")
    assert found.quality["verdict"] == "suspect"
    (angle,) = {abs(int(x)) for x in re.findall(r"rotation by (-?\d+)°", found.quality["reasons"][0])}
    assert angle % (360 / parts) == pytest.approx(0, abs=1) or angle % (360 / parts) > 360 / parts - 1
    true, got = on_circle((165, 155), 100), found.transform.map(on_circle((158, 163)))
    expected = found.transform.expected_error(on_circle((158, 163)))
    away = np.linalg.norm(got - true, axis=1)
    assert (away < 1).all() or (expected > 10).all()


@pytest.mark.parametrize("parts", [5, 12])
def test_a_mark_decides_which_part_it_is(parts):
    fixed = form(parts, 0, (158, 163), mark=True)
    moving = form(parts, 100, (165, 155), mark=True, seed=1)
    found = register.align(fixed, moving, model="rigid")
    true, got = on_circle((165, 155), 100), found.transform.map(on_circle((158, 163)))
    assert np.linalg.norm(got - true, axis=1).max() < 0.5
    assert found.quality["verdict"] == "ok"
