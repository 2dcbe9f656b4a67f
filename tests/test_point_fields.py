"""Fields of points that are hard to recognise or to match, and the error to expect of few sources."""

import numpy as np
import pytest
import torch

import register
from register.engine.initial.search_range import SearchRange
from register.engine.points import judge, look, sources, weighted_fit
from register.engine.points.agreement import Agreement
from register.errors import RegisterError
from register.geometry import affine
from register.images import pyramid

ANY = SearchRange("affine", 180.0, 5)
Y, X = np.mgrid[:320, :320]


def level(image):
    return pyramid.base(torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None])


def scattered(rng, count, apart=24.0, side=320):
    """Points (n, 2) that are some distance apart."""
    found = []
    while len(found) < count:
        one = rng.uniform(20, side - 20, 2)
        if not found or np.hypot(*(np.array(found) - one).T).min() > apart:
            found.append(one)
    return np.array(found)


def drawn(shape, places, rng, noise=5.0, background=0.0):
    """An image of the same or other shapes, functions of x and y, at places."""
    image = sum(shape(X - x, Y - y) for x, y in places)
    return image + 100 + background + rng.normal(0, noise, X.shape)


def faint(x, y):
    return 25 * np.exp(-(x**2 + y**2) / (2 * 2.2**2))


def trail(x, y):
    return sum(12 * np.exp(-((x - 4 * t) ** 2 + (y + 7 * t) ** 2) / 4) for t in np.linspace(-0.5, 0.5, 9))


def ring(x, y):
    r = np.hypot(x, y)
    return 150 / (1 + np.exp((r - 6.5) / 0.7)) - 135 / (1 + np.exp((r - 4.3) / 0.7))


def disc(x, y, radius=9.0):
    return 150 / (1 + np.exp((np.hypot(x, y) - radius) / 0.7))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("shape", [faint, trail, ring, disc])
def test_sources_of_any_compact_shape_are_a_field(shape, seed):
    rng = np.random.default_rng(seed)
    places = scattered(rng, 20, 30)
    found = look.field_of(level(drawn(shape, places, rng)))
    assert found is not None
    near = np.hypot(*(found.places[:, None] - places).transpose(2, 0, 1)).min(0)
    assert (near < 1.5).mean() > 0.8


def test_an_uneven_background_is_no_hindrance():
    rng = np.random.default_rng(2)
    uneven = 600 * (X / 320) ** 2 + 300 * np.exp(-((X - 90) ** 2 + (Y - 200) ** 2) / (2 * 70**2))
    image = drawn(lambda x, y: 4 * faint(x, y), scattered(rng, 25), rng, background=uneven)
    assert look.field_of(level(image)) is not None


@pytest.mark.parametrize("width", [2.0, 4.0, 7.0])
@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_textures_are_no_field(width, noise):
    from scipy import ndimage

    rng = np.random.default_rng(3)
    texture = ndimage.gaussian_filter(rng.normal(size=X.shape), width) * width
    assert look.field_of(level(texture + noise * 0.1 * rng.normal(size=X.shape))) is None


def sky_of(count, fraction, rng):
    """Sources of a large image and of a small view of it, turned, with a tenth missing in each."""
    places, signals = rng.uniform(0, 1500, (count, 2)), rng.pareto(1.2, count) + 10
    angle, corner = 0.7, np.array([700.0, 500.0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    there = (places - corner) @ turn.T + 150 * fraction
    inside = ((there > 0) & (there < 300 * fraction)).all(1)

    def made(points, size):
        kept = rng.random(len(points)) > 0.1
        points = (points + rng.normal(0, 0.1, points.shape))[kept]
        own = signals[: len(points)] if len(points) > 500 else rng.pareto(1.2, len(points)) + 10
        order = np.argsort(-own)
        figures = np.full(len(points), 0.1), own[order]
        return sources.Sources(points[order], *figures, 0.9, 0.05, 1.0, (size, size))

    truth = np.concatenate([turn, (150 * fraction - turn @ corner)[:, None]], 1)
    return made(places, 1500.0), made(there[inside], 300.0 * fraction), truth


@pytest.mark.parametrize("swapped", [False, True])
def test_a_small_view_of_a_large_field_agrees(swapped):
    large, small, truth = sky_of(900, 1.0, np.random.default_rng(4))
    assert len(small) < 50
    pair = (small, large) if swapped else (large, small)
    best = look.matched(*pair, ANY)[0]
    matrix = affine.invert(best.matrix) if swapped else best.matrix
    assert len(best) > 15
    assert np.abs(matrix - truth)[:, :2].max() < 0.01


def test_a_small_view_of_another_field_does_not_agree():
    large, _, _ = sky_of(900, 1.0, np.random.default_rng(5))
    _, small, _ = sky_of(900, 1.0, np.random.default_rng(6))
    assert not look.matched(large, small, ANY)


@pytest.mark.parametrize("count", [5, 7, 12])
def test_two_of_three_errors_of_few_sources_are_below_the_expected_one(count):
    """Also where the errors of the places are twice as large as their signals tell."""
    rng = np.random.default_rng(count)
    below = []
    for _ in range(120):
        places = rng.uniform(0, 300, (count, 2))
        moved = places + rng.normal(0, 0.2, places.shape)
        errors = np.full(count, 0.1)
        figures = errors / np.sqrt(2), np.full(count, 9.0), 0.9, 0.01, 1.0, (300.0, 300.0)
        one, other = sources.Sources(places, *figures), sources.Sources(moved, *figures)
        index, eye = np.arange(count), np.eye(2, 3)
        fit = weighted_fit.fit(one, other, index, index, eye, "similarity")
        agreed = Agreement(
            fit.matrix, fit.model, fit.fixed, fit.moving, count, fit.residual, fit.errors, -9.0
        )
        grid = np.stack(np.meshgrid([50.0, 150.0, 250.0], [50.0, 150.0, 250.0]), -1).reshape(-1, 2)
        error = np.hypot(*(affine.apply(fit.matrix, grid) - grid).T)
        below.append(np.mean(error < judge.expected(agreed, one, other, grid)))
    assert 0.6 < np.mean(below) < 0.85


def test_a_matcher_that_does_not_exist_is_refused_for_points_too():
    rng = np.random.default_rng(7)
    image = drawn(lambda x, y: 8 * faint(x, y), scattered(rng, 30), rng)
    with pytest.raises(RegisterError, match="nosuch"):
        register.align(image, image, matcher="nosuch:fn")


def test_a_brief_search_says_what_ended_it():
    rng = np.random.default_rng(8)
    images = [drawn(lambda x, y: 8 * faint(x, y), scattered(rng, 15), rng) for _ in range(2)]
    found = register.align(*images, preset="fast", rotation_range=5.0)
    assert found.quality.verdict == "failed"
    assert not any("time was over" in note for note in found.quality.notes)
