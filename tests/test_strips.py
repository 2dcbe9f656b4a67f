"""Strips and profiles: the cost of the search is bounded for images of every shape, and a budget ends it."""

import math
import time

import numpy as np
import pytest
import torch
from scipy import ndimage

import register
from register.compute.budget import Budget
from register.engine.initial import correlation, search_range
from register.images import pyramid


def scene(height, width, seed):
    """Blobs of several sizes (height, width)."""
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.normal(size=(height, width)), s) * s for s in (1.5, 3, 6)]
    return np.float32(sum(fields))


def strips(shape, shift, seed=0):
    """Two images of a shape that show one scene, shifted by (x, y) pixels."""
    (height, width), (x, y) = shape, shift
    whole = scene(height + 40, width + 80, seed)
    rng = np.random.default_rng(seed + 1)
    cut = [whole[b : b + height, a : a + width] for a, b in ((20, 20), (20 + x, 20 + y))]
    return [one + np.float32(0.02) * rng.normal(size=shape).astype(np.float32) for one in cut]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "shift"), [((17, 900), (30, 2)), ((900, 17), (2, 19)), ((12, 200), (9, 1))]
)
def test_strips_are_aligned_in_seconds(shape, shift):
    fixed, moving = strips(shape, shift)
    start = time.process_time()
    found = register.align(fixed, moving, preset="fast")
    assert time.process_time() - start < 20  # ten times what it takes; it was a minute and more
    assert found.quality.verdict == "ok"
    middle = np.array([[shape[1] / 2, shape[0] / 2]])
    assert np.abs(found.transform.map(middle) - (middle - shift)).max() < 0.5


@pytest.mark.parametrize(
    ("fixed", "moving"),
    [
        ((17, 1700), (17, 1700)),
        ((1700, 17), (17, 1700)),
        ((16, 2000), (1200, 1000)),
        ((1200, 1000), (2000, 16)),
    ],
)
def test_the_plane_of_shifts_is_bounded_for_every_shape(fixed, moving, monkeypatch):
    planes = []
    original = correlation._spectra

    def counted(vectors, mask, shape):
        planes.append(math.prod(shape))
        return original(vectors, mask, shape)

    monkeypatch.setattr(correlation, "_spectra", counted)
    rng = np.random.default_rng(0)
    one, other = (
        pyramid.base(torch.from_numpy(rng.random((1, *n)).astype("float32"))) for n in (fixed, moving)
    )
    correlation.candidates(
        one, other, angles=torch.arange(-180.0, 180.0, 45), scales=torch.tensor([0.5, 1.0])
    )
    assert planes
    assert max(planes) <= 1.2 * correlation.MOST_PIXELS


@pytest.mark.parametrize("angle", [3.0, 20.0, 45.0, 88.0])
def test_no_rotation_is_left_out_at_which_rectangles_overlap_enough(angle):
    def mask(size, turned):
        y, x = np.mgrid[-150:151, -150:151]
        t = math.radians(turned)
        u, v = x * math.cos(t) + y * math.sin(t), y * math.cos(t) - x * math.sin(t)
        return (np.abs(v) <= size[0] / 2) & (np.abs(u) <= size[1] / 2)

    for one, other in (((10, 200), (12, 180)), ((60, 80), (20, 150))):
        shared = int((mask(one, 0) & mask(other, angle)).sum())
        assert float(correlation._largest_overlap(one, other, torch.tensor([angle]))) >= shared


def test_the_budget_ends_a_sweep():
    rng = np.random.default_rng(0)
    one, other = (
        pyramid.base(torch.from_numpy(rng.random((1, 120, 120)).astype("float32"))) for _ in range(2)
    )
    sweep = {"angles": search_range.angles(180.0), "scales": search_range.scales(2.5)}
    assert correlation.candidates(one, other, **sweep, budget=Budget.of(0.0)) == []
    start = time.monotonic()
    correlation.candidates(one, other, **sweep, budget=Budget.of(0.05))
    some = time.monotonic() - start
    start = time.monotonic()
    correlation.candidates(one, other, **sweep)
    assert some < 0.5 * (time.monotonic() - start)
