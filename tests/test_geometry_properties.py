"""Properties of every transform and patch grid, checked on random ones."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from register.geometry import affine, arrays, jacobian, patch_grid
from register.geometry.patch_grid import PatchGrid
from register.transforms import compose
from register.transforms.frame import Frame
from register.transforms.transform import Transform

FIXED, MOVING = Frame(120, 90), Frame(140, 110)
small = st.floats(-0.15, 0.15)
shifts = st.floats(-20, 20)
seeds = st.integers(0, 2**32 - 1)
matrices = st.builds(
    lambda a, b, c, d, x, y: np.array([[1 + a, b, x], [c, 1 + d, y]]),
    small,
    small,
    small,
    small,
    shifts,
    shifts,
)
grids = st.builds(
    lambda height, width, size: PatchGrid.cover(height, width, size),
    st.integers(20, 150), st.integers(20, 150), st.integers(8, 60),
)  # fmt: skip
examples = settings(max_examples=40, deadline=None)


def scattered(seed, count=60, frame=FIXED, beyond=15.0):
    """Points on and around an image."""
    share = np.random.default_rng(seed).uniform(size=(count, 2))
    return share * (np.array([frame.width, frame.height]) + 2 * beyond) - beyond


def patches(matrix, seed, size=30.0, bend=1.5):
    """A transform of patches that differ from a global map by up to some pixels, without folds."""
    grid = PatchGrid.cover(FIXED.height, FIXED.width, size)
    parameters = np.random.default_rng(seed).uniform(-bend, bend, (2, 3, grid.rows, grid.columns))
    parameters, _ = jacobian.unfold(grid, parameters)
    absolute = affine.compose(matrix, patch_grid.to_matrices(grid, parameters))
    return Transform("local", FIXED, MOVING, matrix, grid, absolute).checked()


transforms = st.builds(patches, matrices, seeds) | matrices.map(
    lambda m: Transform("affine", FIXED, MOVING, m)
)


@examples
@given(matrices, matrices, seeds)
def test_composing_with_the_inverse_is_the_identity(outer, inner, seed):
    points = scattered(seed)
    product = affine.compose(affine.compose(outer, inner), affine.invert(inner))
    assert np.allclose(affine.apply(product, points), affine.apply(outer, points), atol=1e-9)


@examples
@given(grids, seeds)
def test_blend_weights_are_not_negative_and_sum_to_one(grid, seed):
    positions = np.random.default_rng(seed).uniform(-50, 200, 40)
    for axis, count in enumerate((grid.columns, grid.rows)):
        weights = grid.axis_basis(positions, axis)[:, :count]
        assert weights.min() >= 0
        assert weights.sum(1) == pytest.approx(np.ones(40), abs=1e-12)


@examples
@given(grids, matrices, seeds)
def test_patches_that_agree_reproduce_their_affine_map(grid, matrix, seed):
    agreeing = np.broadcast_to(matrix, (grid.rows, grid.columns, 2, 3))
    points = scattered(seed)
    mapped, jacobians = patch_grid.blend_at(grid, agreeing, points)
    assert np.allclose(mapped, affine.apply(matrix, points), atol=1e-9)
    assert np.allclose(jacobians, matrix[:, :2], atol=1e-9)
    parameters = patch_grid.from_matrices(grid, agreeing)
    assert np.allclose(patch_grid.to_matrices(grid, parameters), agreeing, atol=1e-9)


@examples
@given(matrices, seeds)
def test_the_inverse_returns_points_to_a_millionth_of_a_pixel(matrix, seed):
    transform, points = patches(matrix, seed), scattered(seed, beyond=0.0)
    assert np.abs(transform.inverse().map(transform.map(points)) - points).max() < 1e-5
    tight = transform.inverse().map(transform.map(points), tolerance=1e-9)
    assert np.abs(tight - points).max() < 1e-6


@examples
@given(transforms, seeds)
def test_invert_and_compose_return_points(transform, seed):
    points = scattered(seed, beyond=0.0)
    there_and_back = compose.compose(transform, compose.invert(transform))
    assert np.abs(there_and_back.map(points) - points).max() < 1e-4
    twice = compose.invert(compose.invert(transform))
    assert np.allclose(twice.map(points), transform.map(points), atol=1e-9)


@examples
@given(transforms, st.sampled_from([0.5, 2.0, 4.0]), seeds)
def test_a_scaled_transform_maps_scaled_points_and_scales_back(transform, scale, seed):
    points = scattered(seed)
    there = transform.at_scale(scale)
    scaled = (points + 0.5) * scale - 0.5
    assert np.allclose(there.map(scaled), (transform.map(points) + 0.5) * scale - 0.5, atol=1e-8)
    back = there.at_scale(1 / scale)
    assert np.allclose(back.map(points), transform.map(points), atol=1e-9)
    assert back.grid is None or back.grid.spacing == pytest.approx(transform.grid.spacing)


@examples
@given(transforms, seeds)
def test_the_jacobian_is_that_of_finite_differences(transform, seed):
    h, points = 1e-6, scattered(seed)
    jacobians = transform.expand(points)[1]
    for axis in (0, 1):
        step = h * np.eye(2)[axis]
        difference = (transform.map(points + step) - transform.map(points - step)) / (2 * h)
        smooth = np.abs(difference - jacobians[:, :, axis]).max(1) < 1e-5
        if transform.grid is None:
            assert smooth.all()
        else:  # a difference across the border of two cells mixes both
            assert smooth.mean() > 0.9


@examples
@given(transforms, seeds)
def test_the_grid_of_positions_is_mapped_as_its_points_are(transform, seed):
    rng = np.random.default_rng(seed)
    x, y = np.sort(rng.uniform(0, 119, 9)), np.sort(rng.uniform(0, 89, 7))
    mapped = transform.map_grid(x, y)
    assert np.allclose(mapped, transform.map(affine.points_at(x, y)), atol=1e-9)
    units = (0.5, 2.0), (3.0, -1.0)
    assert np.allclose(transform.map_grid(x, y, units), mapped * units[0] + units[1], atol=1e-9)


@examples
@given(transforms, seeds)
def test_a_bound_of_the_determinant_lies_below_every_point(transform, seed):
    determinants = np.linalg.det(transform.expand(scattered(seed, beyond=0.0))[1])
    assert determinants.min() >= transform.smallest_determinant() - 1e-9


@examples
@given(transforms, seeds)
def test_tensors_arrays_and_lists_give_the_same_numbers_in_their_own_kind(transform, seed):
    points = scattered(seed, beyond=0.0)
    for method in (transform.map, transform.inverse().map, transform.expected_error):
        array, tensor, nested = method(points), method(torch.from_numpy(points)), method(points.tolist())
        assert isinstance(array, np.ndarray)
        assert isinstance(nested, np.ndarray)
        assert isinstance(tensor, torch.Tensor)
        assert tensor.dtype == torch.float64
        assert np.array_equal(array, tensor.numpy())
        assert np.array_equal(array, nested)
    single = transform.map(torch.from_numpy(points).float())
    assert single.numpy() == pytest.approx(transform.map(points.astype(np.float32)))


@examples
@given(grids, matrices, seeds)
def test_formulas_give_equal_numbers_for_arrays_and_tensors(grid, matrix, seed):
    rng = np.random.default_rng(seed)
    parameters = rng.normal(0, 1, (2, 3, grid.rows, grid.columns))
    points, x, y = rng.uniform(0, 100, (20, 2)), np.arange(12.0), np.arange(9.0)

    def results(kind):
        m, p, at = kind(matrix), kind(parameters), kind(points)
        bases = grid.axis_basis(kind(x), 0), grid.axis_basis(kind(y), 1)
        absolute = patch_grid.to_matrices(grid, p)
        return [
            affine.invert(m), affine.compose(m, m), affine.apply(m, at), affine.determinant(m),
            affine.apply_to_grid(m[None], kind(x), kind(y)), absolute,
            patch_grid.from_matrices(grid, absolute), patch_grid.displacement(p, *bases),
            *patch_grid.blend_at(grid, absolute, at),
        ]  # fmt: skip

    for array, tensor in zip(results(np.array), results(torch.tensor), strict=True):
        assert tensor.numpy() == pytest.approx(array, abs=1e-9)


def test_the_median_is_the_lower_of_two():
    assert arrays.median(np.array([4.0, 1.0, 3.0, 2.0])) == 2.0
    assert arrays.median(np.array([3.0, 1.0, 2.0])) == 2.0
