import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from register.geometry import affine, affine_tensors, jacobian, patch_grid, patch_tensors
from register.geometry.patch_grid import PatchGrid
from register.geometry.smoothness import SmoothnessPenalty
from register.images import interpolation

sizes = st.integers(1, 97)
AFFINE = torch.tensor([[1.03, 0.08, -4.0], [-0.05, 0.97, 2.5]], dtype=torch.float64)


def dense(grid, parameters, height, width):
    x, y = interpolation.axes(height, width, dtype=torch.float64)
    return patch_grid.displacement(parameters, grid.axis_basis(x, 0), grid.axis_basis(y, 1))


@given(sizes, sizes, st.integers(8, 40))
def test_weights_sum_to_one_for_any_size(height, width, patch):
    grid = PatchGrid.cover(height, width, patch)
    for axis, (count, n) in enumerate(((grid.columns, width), (grid.rows, height))):
        weights = grid.axis_basis(torch.arange(-2.0, n + 2, dtype=torch.float64), axis)[:, :count]
        assert torch.allclose(weights.sum(1), torch.ones(n + 4, dtype=torch.float64), atol=1e-12)
        assert float(weights.min()) >= 0


@settings(max_examples=25)
@given(sizes, sizes)
def test_one_affine_in_all_patches_is_that_affine_everywhere(height, width):
    grid = PatchGrid.cover(height, width, 16)
    parameters = patch_grid.from_matrices(grid, AFFINE.expand(grid.rows, grid.columns, 2, 3))
    x, y = interpolation.axes(height, width, dtype=torch.float64)
    still = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], dim=-1)
    assert torch.allclose(
        dense(grid, parameters, height, width) + still,
        affine.apply_to_grid(AFFINE[None], x, y)[0],
        atol=1e-10,
    )


def test_matrices_and_parameters_are_the_same_thing():
    grid = PatchGrid.cover(90, 130, 25)
    parameters = torch.randn(2, 3, grid.rows, grid.columns, dtype=torch.float64)
    assert torch.allclose(
        patch_grid.from_matrices(grid, patch_grid.to_matrices(grid, parameters)), parameters, atol=1e-10
    )


def test_field_is_the_blend_of_the_patches_own_predictions():
    grid = PatchGrid.cover(60, 80, 20)
    parameters = torch.randn(2, 3, grid.rows, grid.columns, dtype=torch.float64)
    matrices = patch_grid.to_matrices(grid, parameters)
    point = torch.tensor([[33.3, 21.7]], dtype=torch.float64)
    wx = grid.axis_basis(point[:, 0], 0)[0, : grid.columns]
    wy = grid.axis_basis(point[:, 1], 1)[0, : grid.rows]
    blended = torch.einsum("r,c,rck->k", wy, wx, affine.apply(matrices, point)[..., 0, :])
    assert torch.allclose(
        point[0] + patch_grid.displacement_at(grid, parameters, point)[0], blended, atol=1e-10
    )


def test_refine_keeps_an_affine_field():
    coarse, fine = PatchGrid.cover(50, 60, 20), PatchGrid.cover(100, 120, 20)
    whole = AFFINE.clone()
    at_coarse = affine.compose(
        affine.compose(affine.invert(affine_tensors.scaling(2, 2)), whole), affine_tensors.scaling(2, 2)
    )
    parameters = patch_grid.from_matrices(coarse, at_coarse.expand(coarse.rows, coarse.columns, 2, 3))
    refined = patch_tensors.refine(coarse, parameters, fine, 2.0)
    assert torch.allclose(
        patch_grid.to_matrices(fine, refined), whole.expand(fine.rows, fine.columns, 2, 3), atol=1e-9
    )


def test_disagreement_is_zero_for_one_affine_and_positive_otherwise():
    grid = PatchGrid.cover(80, 80, 20)
    agreed = patch_grid.from_matrices(grid, AFFINE.expand(grid.rows, grid.columns, 2, 3))
    assert float(SmoothnessPenalty.of(grid, dtype=agreed.dtype)(agreed)[0]) == pytest.approx(0, abs=1e-12)
    assert float(SmoothnessPenalty.of(grid, dtype=agreed.dtype)(torch.randn_like(agreed))[0]) > 0.1


def test_the_gradient_of_the_disagreement_is_correct():
    grid = PatchGrid.cover(60, 100, 20)
    parameters = torch.randn(2, 3, grid.rows, grid.columns, dtype=torch.float64)
    slope = torch.autograd.functional.jacobian(lambda p: by_hand(grid, p), parameters)
    assert float(SmoothnessPenalty.of(grid, dtype=parameters.dtype)(parameters)[0]) == pytest.approx(
        float(by_hand(grid, parameters))
    )
    assert torch.allclose(SmoothnessPenalty.of(grid, dtype=parameters.dtype)(parameters)[1], slope)


def by_hand(grid, parameters):
    """Every pair of neighbours, both centres, one by one."""
    matrices, centres = patch_grid.to_matrices(grid, parameters), patch_tensors.centres(grid)
    total = 0
    for row in range(grid.rows):
        for column in range(grid.columns):
            for other, spacing in (
                ((row, column + 1), grid.spacing[0]),
                ((row + 1, column), grid.spacing[1]),
            ):
                if other[0] < grid.rows and other[1] < grid.columns:
                    for at in (centres[row, column], centres[other]):
                        apart = affine.apply(matrices[row, column], at[None]) - affine.apply(
                            matrices[other], at[None]
                        )
                        total = total + (apart / spacing).square().sum()
    return total


def test_gather_is_the_adjoint_of_displacement():
    grid = PatchGrid.cover(60, 100, 20)
    x, y = (torch.arange(n, dtype=torch.float64) for n in (100, 60))
    bases = grid.axis_basis(x, 0), grid.axis_basis(y, 1)
    parameters, field = (
        torch.randn(2, 3, grid.rows, grid.columns, dtype=torch.float64),
        torch.randn(60, 100, 2, dtype=torch.float64),
    )
    through = (patch_grid.displacement(parameters, *bases) * field).sum()
    assert torch.allclose(through, (patch_tensors.gather(field, *bases) * parameters).sum())


def test_determinant_bound_lies_below_every_sample_and_near_them():
    torch.manual_seed(0)
    grid = PatchGrid.cover(80, 100, 20)
    parameters = 2 * torch.randn(2, 3, grid.rows, grid.columns, dtype=torch.float64)
    least = float(jacobian.determinants(grid, parameters.numpy(), np.linspace(0, 1, 61)).min())
    bound = float(patch_tensors.smallest_determinants(grid, parameters).min())
    assert bound <= least + 1e-9
    assert bound > least - 0.1


def test_determinants_are_those_of_finite_differences():
    grid = PatchGrid.cover(60, 60, 20)
    parameters = torch.randn(2, 3, grid.rows, grid.columns, dtype=torch.float64)
    p, h = torch.tensor([[23.4, 31.2]], dtype=torch.float64), 1e-5
    step = [
        patch_grid.displacement_at(grid, parameters, p + torch.tensor(d))
        - patch_grid.displacement_at(grid, parameters, p - torch.tensor(d))
        for d in ([h, 0.0], [0.0, h])
    ]
    j = torch.stack([s[0] / (2 * h) for s in step], dim=-1) + torch.eye(2, dtype=torch.float64)
    shares = (p[0] + 0.5) / 20 - 1
    assert float(
        jacobian.determinants(grid, parameters.numpy(), shares.numpy())[1, 1, 1, 0]
    ) == pytest.approx(float(torch.linalg.det(j)), abs=1e-6)


def test_unfold_removes_folds_and_leaves_the_rest():
    grid = PatchGrid.cover(200, 200, 20)
    parameters = patch_tensors.zeros(grid, dtype=torch.float64)
    parameters[0, 0, 2, 2], parameters[0, 0, 2, 3] = 40.0, -40.0
    assert float(patch_tensors.smallest_determinants(grid, parameters).min()) < 0
    mended, count = patch_tensors.unfold(grid, parameters)
    assert count > 0
    assert float(patch_tensors.smallest_determinants(grid, mended).min()) > 0
    assert float(mended[..., 6:, 6:].abs().max()) == 0
