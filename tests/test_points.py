"""Fields of points: sources, their agreement, and alignments that rest on them."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage import color, data

import register
from benchmarks import points as field
from benchmarks.synthetic import warped_pair
from register.engine.initial.search_range import SearchRange
from register.engine.points import agreement, look, places, sources
from register.images import pyramid

ANY = SearchRange("local", 180.0, 5)


def sky(side, xy, flux, fwhm, rng, *, noise=4.0, rays=0):
    """Stars on a background of 100 with noise and single bright pixels."""
    image, s = np.full((side, side), 100.0), fwhm / 2.355
    radius = int(np.ceil(5 * s))
    for (x, y), f in zip(xy, flux, strict=True):
        rows = np.arange(max(round(y) - radius, 0), min(round(y) + radius + 1, side))
        columns = np.arange(max(round(x) - radius, 0), min(round(x) + radius + 1, side))
        if len(rows) and len(columns):
            image[np.ix_(rows, columns)] += f * np.exp(
                -((columns - x) ** 2 + (rows[:, None] - y) ** 2) / (2 * s * s)
            )
    image += noise * rng.standard_normal(image.shape)
    image[rng.integers(0, side, rays), rng.integers(0, side, rays)] += rng.uniform(300, 4000, rays)
    return image.astype(np.float32)


def turned(angle, scale, side, shift):
    """A similarity about the middle, as a function of points."""
    a, middle = np.deg2rad(angle), (side - 1) / 2
    linear = scale * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return lambda p: (p - middle) @ linear.T + middle + np.array(shift)


def pair(count, angle, scale, seed, *, side=300, missing=0.3, rays=50):
    """Two fields of stars, of different seeing, with stars missing, cosmic rays and a border of NaN."""
    rng = np.random.default_rng(seed)
    truth = turned(angle, scale, side, (9.3, -6.8))
    xy, flux = (
        rng.uniform(-side, 2 * side, (9 * count, 2)),
        np.minimum(60 * (1 + rng.pareto(1.2, 9 * count)), 3e4),
    )
    seen = rng.random(len(xy)) > missing
    fixed = sky(side, xy, flux, 3.0, rng, rays=rays)
    moving = sky(side, truth(xy)[seen], 0.4 * flux[seen], 5.0, rng, rays=rays)
    fixed[:9], moving[:, -7:] = np.nan, np.nan
    return fixed, moving, truth


def error(transform, truth, side):
    points = np.stack(np.meshgrid(*[np.linspace(10, side - 11, 9)] * 2), -1).reshape(-1, 2)
    return np.linalg.norm(np.asarray(transform.map(points)) - truth(points), axis=1)


def level(image):
    valid = np.isfinite(image)
    plane, mask = np.where(valid, image, 0).astype(np.float32), valid.astype(np.float32)
    return pyramid.base(torch.from_numpy(plane)[None], torch.from_numpy(mask)[None])


def test_sources_have_their_places_and_cosmic_rays_are_none():
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(20, 190, 24.0)] * 2), -1).reshape(-1, 2)
    true = grid + rng.uniform(-3, 3, grid.shape)
    image = sky(200, true, np.full(len(true), 400.0), 3.0, rng, rays=150)
    image[50, 60:75] = 3000.0  # a cosmic ray along a row
    found = sources.of(level(image))
    index, distance = places.nearest(true, found.places, 2.0)
    assert (index >= 0).mean() > 0.95
    assert len(found) < 1.1 * len(true)
    assert np.median(distance[index >= 0]) < 0.05


def test_dark_points_are_sources_too():
    rng = np.random.default_rng(1)
    grid = np.stack(np.meshgrid(*[np.arange(25, 190, 50.0)] * 2), -1).reshape(-1, 2)
    true = grid + rng.uniform(-9, 9, grid.shape)
    image = sky(200, true, np.full(16, 400.0), 4.0, rng)
    bright, dark = sources.of(level(image)), sources.of(level(1000 - image))
    assert (places.nearest(true, bright.places, 1.0)[0] >= 0).all()
    assert (places.nearest(true, dark.places, 1.0)[0] >= 0).all()


@pytest.mark.parametrize(
    ("count", "angle", "scale"), [(12, 140.0, 0.75), (50, 35.0, 1.0), (200, -100.0, 1.35)]
)
def test_turned_fields_agree_and_are_ok(count, angle, scale):
    fixed, moving, truth = pair(count, angle, scale, count)
    found = register.align(fixed, moving, preset="fast")
    distance = error(found.transform, truth, 300)
    assert found.quality.verdict == "ok"
    assert np.median(distance) < (0.3 if count == 12 else 0.1)
    assert np.median(distance) < 3 * found.quality.expected_error
    assert found.quality.points.matched > 0.5 * found.quality.points.possible


def test_unrelated_fields_do_not_agree():
    one, other = (sources.of(level(pair(40, 0, 1, 100 + i)[0])) for i in (0, 1))
    assert look.is_field(one)
    assert look.is_field(other)
    assert not look.matched(one, other, ANY)
    assert min([each.chance for each in agreement.find(one, other, ANY)], default=0.0) > -5


def test_a_mirrored_field_is_seen_and_aligned():
    fixed, moving, truth = pair(60, 20.0, 1.0, 7)
    seen = look.look(level(fixed), level(moving[:, ::-1].copy()), [ANY])
    assert seen.agreed is None
    assert seen.mirrored
    found = register.align(fixed, moving[:, ::-1].copy(), preset="fast", allow_flip=True)
    back = np.array([[-1.0, 0.0], [0.0, 1.0]])
    assert np.median(error(found.transform, lambda p: truth(p) @ back + [299.0, 0.0], 300)) < 0.1


def test_points_that_repeat_are_left_to_the_images():
    xy = np.stack(np.meshgrid(*[np.arange(-40, 340, 25.0)] * 2), -1).reshape(-1, 2)
    rng = np.random.default_rng(2)
    fixed, moving = (sky(300, xy + d, np.full(len(xy), 400.0), 4.0, rng) for d in (0.0, 6.0))
    assert look.look(level(fixed), level(moving), [ANY]).repeats


def test_two_groups_of_points_that_move_apart_are_suspect():
    rng = np.random.default_rng(3)
    xy, flux = rng.uniform(15, 285, (60, 2)), rng.uniform(200, 900, 60)
    there = xy + np.where(np.arange(60)[:, None] < 36, [12.0, 4.0], [-9.0, 15.0])
    found = register.align(sky(300, xy, flux, 3.5, rng), sky(300, there, flux, 3.5, rng), preset="fast")
    assert found.quality.verdict == "suspect"
    assert "others on another one" in found.quality.reasons[0]


def test_a_deformation_of_points_is_left_to_the_images():
    rng = np.random.default_rng(5)
    xy, flux = rng.uniform(10, 290, (120, 2)), rng.uniform(200, 900, 120)

    def truth(p):
        return p + 3 * np.stack([np.sin(p[:, 1] / 50), np.cos(p[:, 0] / 60)], 1) + [8, -5]

    images = sky(300, xy, flux, 3.5, rng), sky(300, truth(xy), flux, 3.5, rng)
    found = register.align(*images, preset="fast")
    distance = np.linalg.norm(np.asarray(found.transform.map(xy)) - truth(xy), axis=1)
    assert found.quality.points is None
    assert np.percentile(distance, 90) < 0.3


def test_a_shift_alone_is_fitted_where_it_is_asked_for():
    fixed, moving, truth = pair(60, 0.0, 1.0, 8)
    found = register.align(fixed, moving, preset="fast", model="translation")
    assert np.allclose(found.transform.matrix[:, :2], np.eye(2))
    assert np.median(error(found.transform, truth, 300)) < 0.05


def test_other_images_are_no_fields_of_points():
    rng = np.random.default_rng(4)
    noise = rng.standard_normal((200, 200))
    texture = gaussian_filter(noise, 3) / 0.1 + 0.1 * noise
    lines = np.where(gaussian_filter(noise, (1, 6)) > 0.15, 1.0, 0.0) + 0.02 * noise
    for image in (noise, texture, lines):
        assert not look.is_field(sources.of(level(image.astype(np.float32))))


def test_the_nearest_of_some_points_is_exact():
    rng = np.random.default_rng(5)
    one, other = rng.uniform(0, 100, (300, 2)), rng.uniform(0, 100, (200, 2))
    index, distance = places.nearest(one, other, 4.0)
    every = np.linalg.norm(one[:, None] - other[None], axis=2)
    near = every.min(1) <= 4
    assert (index[near] == every.argmin(1)[near]).all()
    assert np.allclose(distance[near], every.min(1)[near])
    assert (index[~near] == -1).all()


@pytest.mark.slow
def test_points_that_a_strong_deformation_moves_are_left_to_the_images():
    """Galaxies under a warp of 4 %: their sources agree on no global map, the images on the warp."""
    pair = warped_pair(color.rgb2gray(data.hubble_deep_field())[:, :1000], 0.04, seed=1)
    alignment = register.align(pair.fixed, pair.moving)
    assert alignment.quality["verdict"] == "ok"
    points = np.random.default_rng(0).uniform(150, 700, (200, 2))
    truth = pair.moving_from_fixed[points[:, 1].astype(int), points[:, 0].astype(int)]
    found = alignment.transform.map(points.astype(int))
    assert np.median(np.linalg.norm(found - truth, axis=1)) < 0.2


@pytest.mark.slow
def test_ten_stars_are_found_and_a_few_that_match_by_chance_are_not():
    """Five or six common stars of ten; and fields of which the images alone make ``suspect``."""
    found = [field.run("stars10", seed, astroalign=False, model="local") for seed in (0, 1, 2, 3)]
    assert [row.verdict for row in found] == ["ok"] * 4
    assert max(row.median for row in found) < 1.0
    other = [field.run("unrelated50", seed, astroalign=False, model="local") for seed in (8, 12)]
    assert [row.verdict for row in other] == ["failed"] * 2
