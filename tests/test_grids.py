"""Parts of patch grids, numbers blended by patch, sizes of pixels, and the kinds of arrays, against their
definitions."""

import numpy as np
import pytest
import torch

from register.errors import RegisterError
from register.geometry import affine, affine_tensors, arrays, jacobian, patch_grid, patch_tensors, pixel_size
from register.geometry.patch_grid import PatchGrid
from register.geometry.pixel_size import PixelSize

GRID = PatchGrid(7, 5, (-0.5, -0.5), (10.0, 12.5))
RNG = np.random.default_rng(4)


@pytest.mark.parametrize("origin", [(-0.5, -0.5), (13.0, 21.5)])
def test_the_patches_between_two_positions_are_all_that_have_weight_there(origin):
    grid = PatchGrid(7, 5, origin, (10.0, 12.5))
    for axis, count in ((0, 7), (1, 5)):
        for first, last in RNG.uniform(-30, 100, (200, 2)).cumsum(1) - [0, 30]:
            last = max(first, last)
            found = grid.cells(first, last, axis)
            weight = grid.axis_basis(np.linspace(first, last, 300), axis)[:, :count].max(0)
            used = np.flatnonzero(weight > 1e-9)
            assert found.start <= used[0], (first, last)
            assert found.stop > used[-1], (first, last)
            assert 2 <= found.stop - found.start <= max(len(used), 1) + 2
            assert found.start >= 0
            assert found.stop <= count


def test_a_cut_grid_has_the_same_centres_and_a_scaled_one_the_same_places():
    cut = GRID.cut(slice(1, 4), slice(2, 6))
    assert np.allclose(cut.centres(), GRID.centres()[1:4, 2:6])
    assert (cut.rows, cut.columns, cut.count) == (3, 4, 12)
    finer = GRID.at_scale(4.0)
    assert np.allclose((finer.centres() + 0.5) / 4, GRID.centres() + 0.5)  # the edges of pixels lie at -0.5


def test_numbers_of_patches_are_blended_as_maps_are():
    values = RNG.uniform(1, 2, (5, 7))
    points = RNG.uniform([-0.5, -0.5], [59.5, 49.5], (300, 2))
    shifts = np.broadcast_to(affine.identity(), (5, 7, 2, 3)).copy()
    shifts[..., 0, 2] = values
    wanted = patch_grid.blend_at(GRID, shifts, points)[0][:, 0] - points[:, 0]
    assert np.allclose(patch_grid.blend_finite(GRID, values.ravel().tolist(), points), wanted)


def test_a_number_is_unknown_where_patches_without_one_have_half_of_the_weight_or_more():
    values = [1.0] * 35
    values[0] = None
    between = [[-0.5 + 10 * share, -0.5] for share in (0.0, 0.49, 0.5, 0.51, 1.0)]
    found = patch_grid.blend_finite(GRID, values, np.array(between))
    assert found.tolist() == [np.inf, np.inf, np.inf, pytest.approx(1.0), pytest.approx(1.0)]
    far = np.array(
        [[-10.4, 0.0], [-10.6, 0.0], [69.4, 0.0], [69.6, 0.0], [30.0, -12.9], [30.0, -13.1], [30.0, 62.1]]
    )
    known = np.isfinite(patch_grid.blend_finite(GRID, [2.0] * 35, np.array(far))).tolist()
    assert known == [True, False, True, False, True, False, False]


def test_parameters_of_several_fields_are_those_of_each():
    matrices = affine.identity() + RNG.normal(0, 0.1, (3, 5, 7, 2, 3))
    every = patch_grid.from_matrices(GRID, matrices)
    assert every.shape == (3, 2, 3, 5, 7)
    for one, matrix in zip(every, matrices, strict=True):
        assert np.allclose(one, patch_grid.from_matrices(GRID, matrix))
        assert np.allclose(patch_grid.to_matrices(GRID, one), matrix)


def test_the_gradient_of_a_shared_map_is_that_of_autograd():
    centre = torch.tensor([21.0, 17.0], dtype=torch.float64)
    shared = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.from_numpy(RNG.normal(size=(2, 3, 5, 7)))
    offset = torch.from_numpy(GRID.centres()) - centre  # (rows, columns, 2)
    moved = torch.einsum("ij,rcj->irc", shared[:, :2], offset) + shared[:, 2][:, None, None]
    along = [shared[:, k][:, None, None].expand(2, 5, 7) * GRID.spacing[k] for k in (0, 1)]
    (torch.stack([moved, *along], 1) * weights).sum().backward()
    found = patch_tensors.gradient_of_affine(GRID, weights, centre)
    assert torch.allclose(found, shared.grad)
    both = patch_tensors.gradient_of_affine(GRID, torch.stack([weights, 2 * weights]), centre)
    assert torch.allclose(both, torch.stack([found, 2 * found]))


def test_cells_fold_exactly_where_the_determinant_is_negative():
    """The bound is exact for a displacement that is linear within each cell."""
    parameters = np.zeros((2, 3, 5, 7))
    parameters[0, 0] = -1.5 * np.clip(
        GRID.centres()[..., 0] - 29.5, 0, 10
    )  # between the fourth and fifth column
    bound = jacobian.smallest_determinants(GRID, parameters)
    assert bound.shape == (4, 6)
    assert np.allclose(bound[:, 3], -0.5)
    assert np.allclose(np.delete(bound, 3, 1), 1.0)


def test_maps_of_tensors_are_those_of_arrays():
    assert torch.equal(affine_tensors.identity(), torch.from_numpy(affine.identity()))
    shifts = torch.tensor([[[1.0, 2.0]], [[-3.0, 4.0]]])
    found = affine_tensors.translations(shifts)
    assert found.shape == (2, 1, 2, 3)
    for each, (x, y) in zip(found[:, 0], [(1.0, 2.0), (-3.0, 4.0)], strict=True):
        assert torch.equal(each, affine_tensors.translation(x, y))
        assert affine.apply(each.numpy(), np.array([[10.0, 20.0]])).tolist() == [[10 + x, 20 + y]]
    scaled = affine.apply(affine_tensors.scaling(2.0, 4.0).numpy(), np.array([[-0.5, -0.5], [1.0, 1.0]]))
    assert scaled.tolist() == [[-0.5, -0.5], [2.5, 5.5]]  # the corner stays, and centres of pixels move


def test_pixel_sizes():
    one, other = PixelSize(0.5, 0.25, "µm"), PixelSize(2.0, 1.0, "µm")
    assert pixel_size.comparable((one, other)) == (one, other)
    assert pixel_size.ratio((one, other)) == 0.25
    for unknown in ((one, None), (None, other), (one, PixelSize(2.0, 1.0, "nm")), (one, PixelSize(2.0, 1.0))):
        assert pixel_size.comparable(unknown) is None
        assert pixel_size.ratio(unknown) is None
    assert one.times(4, 2) == (2.0, 0.5, "µm")
    assert one.xy == (0.5, 0.25)
    assert pixel_size.measured("0.5", 2, "mm") == (0.5, 2.0, "mm")
    for wrong in ((0, 1), (1, -1), ("nan", 1), ("inf", 1), ("a", 1), (None, 1), (1e-31, 1), (1, 1e31)):
        assert pixel_size.measured(*wrong, "mm") is None


@pytest.mark.parametrize(
    ("length", "unit", "pixels"),
    [("30", None, 30), ("30px", "µm", 30), ("5µm", "µm", 10), ("5 μm", "um", 10), ("500nm", "micron", 1),
     ("1mm", "µm", 2000), ("1cm", "mm", 20), ("2m", "cm", 400), ("0.002mm", "nm", 4000)],
)  # fmt: skip
def test_lengths_are_converted_to_pixels(length, unit, pixels):
    assert pixel_size.in_pixels(length, PixelSize(0.5, 9.0, unit)) == pytest.approx(pixels)


@pytest.mark.parametrize("size", [None, PixelSize(1.0, 1.0), PixelSize(1.0, 1.0, "deg")])
def test_a_length_without_a_known_pixel_size_is_refused(size):
    with pytest.raises(RegisterError, match="5µm cannot be converted to pixels"):
        pixel_size.in_pixels("5µm", size)


def test_kinds_of_arrays():
    masked = np.ma.masked_array([1.0, 2.0], [True, False])
    assert arrays.is_masked(masked)
    assert not arrays.is_masked(np.zeros(2))
    assert not arrays.is_masked([1.0])
    tensor = torch.tensor([1.5], requires_grad=True)
    assert arrays.is_tensor(tensor)
    assert not arrays.is_tensor(np.zeros(1))
    assert arrays.to_numpy(tensor).tolist() == [1.5]
    assert arrays.to_numpy([[1, 2]]).dtype == np.float64
    given = np.arange(3.0)
    assert arrays.to_numpy(given) is given
    assert isinstance(arrays.in_kind_of(given, tensor), torch.Tensor)
    assert arrays.in_kind_of(given, given) is given
