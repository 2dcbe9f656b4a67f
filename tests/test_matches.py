"""Matches of deformed images: the selection of those that agree with a smooth map, and that map."""

import pytest
import torch

from benchmarks.synthetic import warped_pair
from register.engine.initial import features
from register.geometry import affine, matches, moving_least_squares
from tests.test_search import level

MATRIX = torch.tensor([[1.1, -0.2, 30.0], [0.15, 0.9, -12.0]], dtype=torch.float64)


def scattered(count, seed=0):
    return 800 * torch.rand(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def bent(points):
    """A map that deviates by 25 pixels from an affine map over half the image."""
    return affine.apply(MATRIX, points) + 25 * torch.sin(points.flip(1) / 130)


def test_right_matches_are_used_and_wrong_ones_are_rejected():
    fixed = scattered(600)
    moving = bent(fixed) + 0.4 * torch.randn(
        600, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    wrong = torch.arange(600) % 4 == 0
    moving[wrong] = scattered(int(wrong.sum()), seed=2)
    seed = (fixed - 200).norm(dim=1) < 80
    on = matches.grow(fixed, moving, seed & ~wrong, tolerance=3.0)
    assert on[~wrong].double().mean() > 0.97
    assert on[wrong].double().mean() < 0.05


def test_a_seed_that_no_match_confirms_is_not_grown():
    fixed, moving = scattered(200), scattered(200, seed=3)
    seed = torch.arange(200) < 10
    assert int(matches.grow(fixed, moving, seed, tolerance=3.0).sum()) < 20


def test_the_smooth_map_of_an_affine_map_equals_it():
    fixed = scattered(50)
    points = torch.tensor([[0.0, 0.0], [400.0, 300.0], [2000.0, -900.0]], dtype=torch.float64)
    assert moving_least_squares.smooth(
        points, fixed, affine.apply(MATRIX, fixed), reach=25.0
    ) == pytest.approx(affine.apply(MATRIX, points), abs=1e-5)


def test_the_smooth_map_fits_a_curved_map():
    fixed, points = (
        scattered(1500),
        100 + 600 * torch.rand(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(4)),
    )
    error = (moving_least_squares.smooth(points, fixed, bent(fixed), reach=25.0) - bent(points)).norm(dim=1)
    assert float(error.median()) < 1.0


@pytest.mark.parametrize("contrast", ["plain", "inverted"])
def test_features_cover_a_curved_pair(texture, contrast):
    """Each homography is valid in a part of the image only; the result is right in the entire image."""
    pair = warped_pair(texture, 0.05, 1, contrast=contrast)
    found = features.match(level(pair.fixed), level(pair.moving))
    assert found.homography is None
    height, width = pair.fixed.shape
    rows, columns = torch.meshgrid(
        torch.arange(20, height - 20, 12), torch.arange(20, width - 20, 12), indexing="ij"
    )
    truth = torch.from_numpy(pair.moving_from_fixed)[rows, columns].reshape(-1, 2)
    mapped = found.map(torch.stack([columns, rows], -1).reshape(-1, 2).double())
    assert float((mapped - truth).norm(dim=1).median()) < 1.5
