"""Formulas of geometry against plain loops, autograd and the definitions in their docstrings."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from register.errors import RegisterError
from register.geometry import (
    affine,
    affine_tensors,
    arrays,
    bspline,
    homography,
    jacobian,
    landmark_map,
    matches,
    models,
    moving_least_squares,
    newton,
    patch_grid,
    patch_tensors,
    pixel_size,
    smoothness,
    spline_map,
    user_points,
)
from register.geometry.landmark_lattice import OUTLIERS, SOFTEST, STEPS, STIFFEST, Lattice, leave_one_out
from register.geometry.matches import Matches
from register.geometry.patch_grid import PatchGrid
from register.geometry.spline_map import SplineMap

GRID = PatchGrid(5, 4, (-0.5, -0.5), (10.0, 12.5))
TURN = np.array([[0.9, 0.2, 5.0], [-0.1, 1.1, -7.0]])


def generator(seed=0):
    return np.random.default_rng(seed)


def tensor(values):
    return torch.tensor(np.asarray(values), dtype=torch.float64)


# --- affine maps -----------------------------------------------------------------------------------------


def test_the_parts_of_an_affine_map():
    stretched = affine.compose(
        affine.similarity(math.radians(30), 1, (0, 0), (4, 5)), np.diag([3.0, 0.75]) @ np.eye(2, 3)
    )
    parts = affine.decompose(stretched)
    assert parts == pytest.approx((30, 1.5, 4))
    assert affine.scale(stretched) == pytest.approx(1.5)
    assert affine.scale(stretched * np.array([[1.0], [-1.0]])) == pytest.approx(1.5)
    assert affine.determinant(TURN) == pytest.approx(0.9 * 1.1 + 0.1 * 0.2)
    flat = affine.decompose(np.array([[2.0, 0, 0], [0, 0, 0]]))
    assert flat.anisotropy > 1e200
    assert 0 <= flat.scale < 1e-100
    assert affine.identity().tolist() == [[1, 0, 0], [0, 1, 0]]
    found = affine.similarity(math.radians(90), 2, (1, 0), (10, 20))
    assert affine.apply(found, np.array([[1.0, 0.0], [2.0, 0.0]])) == pytest.approx(
        np.array([[10, 20], [10, 22]])
    )
    centre = tensor([1.0, 0.0]), tensor([10.0, 20.0])
    assert affine_tensors.similarity(math.radians(90), 2, *centre).numpy() == pytest.approx(found)


def test_a_homography_of_an_affine_map_and_one_with_a_horizon():
    points = tensor(generator().uniform(0, 100, (6, 2)))
    same = homography.from_affine(tensor(TURN))
    assert same[2].tolist() == [0, 0, 1]
    assert torch.allclose(homography.apply(same, points), affine.apply(tensor(TURN), points))
    tilted = tensor([[1, 0.1, 5], [0.2, 0.9, 3], [0.001, 0.002, 1.5]])
    for (x, y), found, weight in zip(
        points.tolist(),
        homography.apply(tilted, points).tolist(),
        homography.weights(tilted, points),
        strict=True,
    ):
        u, v, w = (tilted.numpy() @ [x, y, 1]).tolist()
        assert float(weight) == pytest.approx(w)
        assert found == pytest.approx([u / w, v / w])


def test_models_for_landmarks_and_their_least_numbers():
    assert [models.for_landmarks(n) for n in range(1, 6)] == [
        "translation", "similarity", "similarity", "affine", "affine"]  # fmt: skip
    assert [models.get(name).least_points for name in ("translation", "rigid", "similarity", "affine")] == [
        1,
        2,
        2,
        3,
    ]
    assert [models.get(name).parameters for name in ("translation", "rigid", "similarity", "affine")] == [
        2,
        3,
        4,
        6,
    ]
    ways = {
        name: (models.get(name).rotates, models.get(name).scales)
        for name in ("translation", "rigid", "similarity", "affine")
    }
    assert ways == {
        "translation": (False, False),
        "rigid": (True, False),
        "similarity": (True, True),
        "affine": (True, True),
    }
    with pytest.raises(ValueError, match="rigid needs at least 2 point pairs, got 1 and 1"):
        models.RIGID.fit(np.zeros((1, 2)), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="got 3 and 4"):
        models.RIGID.fit(np.zeros((3, 2)), np.zeros((4, 2)))
    assert models.TRANSLATION.fit(np.zeros((1, 2)), np.array([[3.0, 4.0]])).tolist() == [[1, 0, 3], [0, 1, 4]]
    assert models.is_global("rigid")
    assert not models.is_global("local")
    with pytest.raises(RegisterError):
        models.get("local")


@pytest.mark.parametrize("name", ["rigid", "similarity", "affine"])
def test_a_fit_has_the_least_squares(name):
    """No small change within the model makes the squares of noisy points smaller; a mirror is no rotation."""
    fixed, model = generator(2).uniform(-50, 50, (15, 2)), models.get(name)
    for moving in (generator(3).normal(affine.apply(TURN, fixed), 5), fixed * [-1, 1]):
        best = model.fit(fixed, moving)
        squares = np.square(affine.apply(best, fixed) - moving).sum()
        for step in np.eye(model.parameters):
            for sign in (1e-3, -1e-3):
                near = affine.compose(model.matrix(sign * step[None], np.zeros(2), 50.0)[0], best)
                assert np.square(affine.apply(near, fixed) - moving).sum() >= squares
        assert np.linalg.det(best[:, :2]) > 0 or name == "affine"


def test_points_nearly_on_a_line_are_fitted_with_the_least_stretch_across():
    fixed = np.array([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0], [30.0, 0.0]])
    found = models.AFFINE.fit(fixed, fixed * 2 + 1)
    assert found == pytest.approx(np.array([[2, 0, 1], [0, 0, 1]]), abs=1e-9)
    spread = fixed + np.array([[0, 0], [0, 1e-3], [0, 0], [0, 1e-3]])
    assert models.AFFINE.fit(spread, affine.apply(TURN, spread)) == pytest.approx(TURN, abs=1e-6)


def test_parameters_of_models_are_a_shift_and_a_change_at_the_radius():
    centre = np.array([40.0, 30.0])
    shifted = models.AFFINE.matrix(np.array([[3.0, 4, 0, 0, 0, 0]]), centre, 25.0)[0]
    assert shifted == pytest.approx(affine.translation(3, 4))
    turned = models.SIMILARITY.matrix(np.array([[0.0, 0, 2.5, 5.0]]), centre, 25.0)[0]
    assert turned == pytest.approx(affine.similarity(0.1, math.exp(0.2), centre, centre))
    free = models.AFFINE.matrix(np.array([[0.0, 0, 1, 2, 3, 4]]), centre, 10.0)[0]
    assert free[:, :2] == pytest.approx(np.array([[1.1, 0.2], [0.3, 1.4]]))
    assert affine.apply(free, centre[None]) == pytest.approx(centre[None])


# --- arrays ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_functions_for_both_kinds_of_arrays(kind):
    given = kind(np.arange(6, dtype=np.float32).reshape(2, 3))
    assert arrays.counting(3, given).tolist() == [0, 1, 2]
    assert arrays.counting(3, given).dtype == arrays.identity(2, given).dtype == given.dtype
    assert arrays.identity(2, given).tolist() == [[1, 0], [0, 1]]
    assert tuple(arrays.stack([given, given], 0).shape) == (2, 2, 3)
    assert tuple(arrays.concatenate([given, given], 1).shape) == (2, 6)
    assert tuple(arrays.move_axis(given, 0, -1).shape) == (3, 2)
    assert tuple(arrays.broadcast(given, (4, 2, 3)).shape) == (4, 2, 3)
    assert str(arrays.to_index(given).dtype).endswith("int64")
    assert arrays.in_type_of(given > 2, given).tolist() == [[0, 0, 0], [1, 1, 1]]
    assert arrays.in_type_of(given > 2, given).dtype == given.dtype
    frozen = np.arange(3.0)
    frozen.flags.writeable = False
    back = arrays.in_kind_of(frozen, torch.zeros(1))
    back += 1
    assert frozen.tolist() == [0, 1, 2]


def test_points_of_users_are_checked_and_keep_their_form():
    def half(points):
        return points / 2

    assert user_points.over_points([2, 4], half).tolist() == [1, 2]
    assert user_points.over_points(np.ones((3, 4, 2), np.uint8), half).shape == (3, 4, 2)
    length = user_points.over_points([[3, 4], [np.inf, 1], [0, 5]], lambda p: np.hypot(*p.T))
    assert length.tolist()[::2] == [5, 5]
    assert np.isnan(length[1])
    assert isinstance(user_points.over_points(torch.ones(1, 2), half), torch.Tensor)
    masked = np.ma.masked_array([[1.0, 2.0], [3.0, 4.0]], [[False, True], [False, False]])
    found = user_points.over_points(masked, half)
    assert found.mask.tolist() == [[True, True], [False, False]]
    assert found[1].tolist() == [1.5, 2]
    assert user_points.over_points(masked, lambda p: p[:, 0]).mask.tolist() == [True, False]
    assert user_points.over_points(np.array([[1, 2.5]], object), half).tolist() == [[0.5, 1.25]]
    for wrong in (
        5,
        [1, 2, 3],
        [["a", "b"]],
        [[1j, 2]],
        torch.ones(1, 2, dtype=torch.complex64),
        [[1], [2, 3]],
    ):
        with pytest.raises(RegisterError, match="points"):
            user_points.over_points(wrong, half)


def test_positions_do_not_decrease():
    assert user_points.positions([1, 1, 2], "x").tolist() == [1, 1, 2]
    assert user_points.positions(torch.tensor([3]), "x").tolist() == [3]
    for wrong in ([], [1, 0.5], [1, np.nan], [[1]], 5):
        with pytest.raises(RegisterError, match="x must be finite numbers in one dimension"):
            user_points.positions(wrong, "x")


def test_lengths_of_pixels_have_a_range():
    for side in (1.1e-30, 0.9e30):
        assert pixel_size.measured(side, 1, "m") == (side, 1, "m")
        assert pixel_size.measured(1, side, "m") == (1, side, "m")
    for side in (0.9e-30, 1.1e30):
        assert pixel_size.measured(side, 1, "m") is None
        assert pixel_size.measured(1, side, "m") is None


# --- patches ---------------------------------------------------------------------------------------------


def parameters(seed=0, size=1.0, grid=GRID):
    return generator(seed).normal(0, size, (2, 3, grid.rows, grid.columns))


@pytest.mark.parametrize(
    ("height", "width", "size", "columns", "rows"),
    [(90, 120, 30, 5, 4), (90, 120, 1000, 2, 2), (15, 44, 30, 2, 2), (16, 46, 30, 3, 2)],
)
def test_a_grid_covers_an_image_from_edge_to_edge(height, width, size, columns, rows):
    grid = PatchGrid.cover(height, width, size)
    assert (grid.columns, grid.rows, grid.count) == (columns, rows, columns * rows)
    assert grid.centres()[0, 0].tolist() == [-0.5, -0.5]
    assert grid.centres()[-1, -1] == pytest.approx([width - 0.5, height - 0.5])


def test_a_patch_maps_about_its_centre_and_in_units_of_the_spacing():
    given = np.zeros((2, 3, 4, 5))
    given[:, 0, 2, 3], given[:, 1, 2, 3], given[:, 2, 2, 3] = (1, 2), (3, 4), (5, 6)
    found = patch_grid.to_matrices(GRID, given)
    here = GRID.centres()[2, 3]
    around = here + np.array([[0, 0], [10, 0], [0, 12.5]])
    wanted = around + np.array([[1, 2], [1 + 3, 2 + 4], [1 + 5, 2 + 6]])
    assert affine.apply(found[2, 3], around) == pytest.approx(wanted)
    assert found[0, 0] == pytest.approx(affine.identity())


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_scattered_points_are_displaced_as_the_grid_of_positions_is(kind):
    given = parameters(1)
    x, y = np.array([-0.5, 3.0, 9.5, 30.25, 39.5]), np.array([-0.5, 11.0, 24.5, 37.0])
    wanted = patch_grid.displacement(given, GRID.axis_basis(x, 0), GRID.axis_basis(y, 1))
    points = affine.points_at(x, y).reshape(-1, 2)
    found = patch_grid.displacement_at(GRID, kind(given), kind(points))
    assert np.asarray(found).reshape(4, 5, 2) == pytest.approx(wanted)


def test_the_derivative_of_the_weights_is_zero_beyond_the_outer_centres():
    """There the two border patches keep their weights, and their maps alone change the displacement."""
    matrices = patch_grid.to_matrices(GRID, parameters(2))
    beyond = np.array([[-30.0, 4.0], [70.0, 4.0], [4.0, -30.0], [4.0, 70.0], [60.0, 60.0]])
    found = patch_grid.blend_at(GRID, matrices, beyond)[1]
    for axis in (0, 1):
        step = 1e-4 * np.eye(2)[axis]
        ends = (patch_grid.blend_at(GRID, matrices, beyond + sign * step)[0] for sign in (1, -1))
        assert (next(ends) - next(ends)) / 2e-4 == pytest.approx(found[..., axis], abs=1e-6)


def test_cells_before_positions_and_the_weight_of_the_next_patch():
    positions = tensor([-0.5, 4.5, 9.5, 39.5, 49.5, -10.5])
    cell, weight = patch_tensors.cells_before(GRID, positions, 0)
    assert cell.tolist() == [0, 0, 1, 3, 3, 0]
    assert weight.tolist() == pytest.approx([0, 0.5, 0, 1, 2, -1])
    assert patch_tensors.cells_before(GRID, tensor([30.0, 90.0]), 1)[0].tolist() == [2, 2]


def test_secants_are_differences_across_a_step():
    here, along_x, along_y = patch_tensors.secants(
        lambda p: torch.stack([p[:, 0] ** 2, p[:, 0] * p[:, 1]], 1), tensor([[3.0, 5.0]]), 4.0, 2.0
    )
    assert here.tolist() == [[9, 15]]
    assert along_x.tolist() == [[5**2 - 1, 5 * 5 - 1 * 5]]
    assert along_y.tolist() == [[0, 3 * 6 - 3 * 4]]


def test_a_refined_field_has_the_displacement_and_its_secants_at_the_finer_centres():
    coarse, fine = PatchGrid.cover(50, 60, 20), PatchGrid.cover(150, 180, 20)
    given = tensor(parameters(3, 1, coarse))
    found = patch_tensors.refine(coarse, given, fine, 3.0)

    def field(at):
        return patch_grid.displacement_at(coarse, given, (tensor(at) + 0.5) / 3 - 0.5).numpy() * 3

    centres = fine.centres().reshape(-1, 2)
    half = np.array(fine.spacing) / 2
    assert pytest.approx(field(centres)) == found[:, 0].numpy().reshape(2, -1).T
    for axis in (0, 1):
        step = half * np.eye(2)[axis]
        wanted = field(centres + step) - field(centres - step)
        assert pytest.approx(wanted) == found[:, 1 + axis].numpy().reshape(2, -1).T


def test_patches_at_rest():
    still = patch_tensors.Patches.identity(GRID)
    assert tuple(still.parameters.shape) == (2, 3, 4, 5)
    assert still.parameters.dtype == torch.float32
    x, y = torch.arange(7.0), torch.arange(6.0)
    assert tuple(still.displacement(x, y).shape) == (6, 7, 2)
    assert not still.displacement(x, y).any()
    moved = patch_tensors.Patches(GRID, tensor(parameters(4)))
    wanted = patch_grid.displacement_at(GRID, moved.parameters, tensor([[4.0, 3.0]]))
    assert torch.allclose(moved.displacement(x.double(), y.double())[3, 4], wanted[0])
    assert torch.equal(patch_tensors.centres(GRID), tensor(GRID.centres()))


# --- folds -----------------------------------------------------------------------------------------------


def test_determinants_of_every_cell_are_those_of_the_jacobian_of_the_blend():
    given, shares = parameters(5), np.array([0.0, 0.2, 0.7, 0.999])
    found = jacobian.determinants(GRID, given, shares)
    assert found.shape == (3, 4, 4, 4)
    matrices = patch_grid.to_matrices(GRID, given)
    for row, column, a, b in product(range(3), range(4), range(4), range(4)):
        at = np.array([[(column + shares[b]) * 10 - 0.5, (row + shares[a]) * 12.5 - 0.5]])
        at += 1e-9  # a share of 0 lies on the border of two cells
        wanted = np.linalg.det(patch_grid.blend_at(GRID, matrices, at)[1][0])
        assert found[row, column, a, b] == pytest.approx(wanted, abs=1e-6)


def test_the_bound_of_the_determinants_is_nearer_where_cells_are_divided():
    """Where a bound is not positive the cells are divided by four, and it is near to the least value."""
    for size, near in ((0.5, 0.5), (2.0, 0.3)):
        given = parameters(6, size)
        least = jacobian.determinants(GRID, given, np.linspace(0, 1, 41)).min((2, 3))
        bound = jacobian.smallest_determinants(GRID, given)
        assert (bound <= least + 1e-9).all()
        assert (bound > least - near).all()
        assert (bound.min() > 0) == (size == 0.5)


def test_bernstein_coefficients_are_those_of_the_definition():
    """The polynomial sum_k c_k B_k(t), with B_k(t) = C(3, k) t^k (1 - t)^(3 - k), at the nodes."""
    nodes = np.array([0, 1 / 3, 2 / 3, 1])
    basis = np.stack([math.comb(3, k) * nodes**k * (1 - nodes) ** (3 - k) for k in range(4)], 1)
    assert pytest.approx(np.linalg.inv(basis)) == jacobian._TO_BERNSTEIN


def folded():
    given = np.zeros((2, 3, 12, 14))
    given[0, 0, 5, 6], given[0, 0, 5, 7] = 15.0, -15.0
    return PatchGrid(14, 12, (-0.5, -0.5), (10.0, 10.0)), given


def test_unfolding_smooths_around_folds_until_the_least_determinant_is_reached():
    grid, given = folded()
    bound = jacobian.smallest_determinants(grid, given)
    for least in (0.05, 0.3):
        found, count = jacobian.unfold(grid, given, least)
        assert count == (bound <= least).sum() > 0
        assert jacobian.smallest_determinants(grid, found).min() > least
        changed = np.argwhere((found != given).any((0, 1)))
        rows, columns = changed.min(0), changed.max(0)
        assert (rows >= [1, 2]).all()
        assert (columns <= [9, 11]).all()
    same, count = jacobian.unfold(grid, given * 0.1)
    assert count == 0
    assert same is not None
    assert np.array_equal(same, given * 0.1)
    tensors, folds = patch_tensors.unfold(grid, tensor(given).float())
    assert tensors.dtype == torch.float32
    assert folds > 0
    still = tensor(given * 0.1)
    assert patch_tensors.unfold(grid, still)[0] is still


def test_one_round_of_unfolding_is_half_of_the_mean_of_four_neighbours(monkeypatch):
    """And gradients a fifth smaller; what still folds after all rounds is shrunk by a fifth at a time."""
    grid, given = folded()
    given[:, 1:] = generator(1).normal(0, 0.2, given[:, 1:].shape)
    monkeypatch.setattr(jacobian, "ROUNDS", 1)
    found, _ = jacobian.unfold(grid, given)
    padded = np.pad(given, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    mean = (
        sum(padded[..., 1 + dy : 13 + dy, 1 + dx : 15 + dx] for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)))
        / 4
    )
    smoothed = (given + mean) / 2
    smoothed[:, 1:] *= 0.8
    fold = jacobian.smallest_determinants(grid, given) <= 0.05
    near = np.zeros((12, 14), bool)
    for row, column in np.argwhere(fold):
        near[row : row + 2, column : column + 2] = True
    wanted = np.where(near, smoothed, given)
    shrunk = 0
    while jacobian.smallest_determinants(grid, wanted).min() <= 0.05:
        wanted, shrunk = wanted * 0.8, shrunk + 1
    assert found == pytest.approx(wanted)
    monkeypatch.setattr(jacobian, "ROUNDS", 0)
    shrunken, _ = jacobian.unfold(grid, given)
    factor = shrunken[0, 0, 5, 6] / given[0, 0, 5, 6]
    assert shrunken == pytest.approx(given * factor)
    steps = math.log(factor) / math.log(0.8)
    assert steps == pytest.approx(round(steps))
    assert steps > 0.5
    assert jacobian.smallest_determinants(grid, given * factor / 0.8).min() <= 0.05


# --- smoothness ------------------------------------------------------------------------------------------


def test_the_disagreement_of_each_patch_is_the_mean_over_its_neighbours():
    given = parameters(7)
    found = smoothness.neighbour_disagreement(tensor(given))
    matrices, centres = patch_grid.to_matrices(GRID, given), GRID.centres()
    for row, column in product(range(4), range(5)):
        squares = []
        for other in ((row, column + 1), (row, column - 1), (row + 1, column), (row - 1, column)):
            if 0 <= other[0] < 4 and 0 <= other[1] < 5:
                both = np.stack([centres[row, column], centres[other]])
                apart = affine.apply(matrices[row, column], both) - affine.apply(matrices[other], both)
                squares.append(np.square(apart).sum(1).mean())
        assert float(found[row, column]) == pytest.approx(math.sqrt(np.mean(squares)))


# --- points and matches ----------------------------------------------------------------------------------


def lattice():
    return Lattice(GRID, tensor(generator(8).uniform(2, 5, (4, 5))))


def test_the_basis_of_a_lattice_gives_the_displacement_of_its_parameters():
    given, points = tensor(parameters(9)), tensor(generator(1).uniform(0, 38, (7, 2)))
    found = lattice().basis(points) @ given.reshape(2, -1).T
    assert torch.allclose(found, patch_grid.displacement_at(GRID, given, points))


def test_a_correction_is_the_most_probable_one():
    """It minimises the disagreement over tau², the deviations from zero and the noise of the points."""
    points, residual = tensor(generator(2).uniform(0, 38, (6, 2))), tensor(generator(3).normal(0, 3, (6, 2)))
    made, sigma, used = lattice(), 0.7, torch.ones(6, dtype=torch.bool)
    seen = made.observed(points)
    assert len(seen.fields) == STEPS
    shares = [STIFFEST * (SOFTEST / STIFFEST) ** (n / (STEPS - 1)) for n in range(STEPS)]
    basis = made.basis(points)
    for share, field in zip(shares, seen.fields, strict=True):
        chosen = seen._scored(field, residual, sigma, used)
        found = seen.parameters(chosen, residual).clone().requires_grad_()
        disagreement = 0.0
        for axis in (0, 1):
            step = torch.diff(found[:, 0], dim=2 - axis)
            slope = found[:, 1 + axis]
            ends = [slope.narrow(2 - axis, end, step.shape[2 - axis]) for end in (0, 1)]
            disagreement = disagreement + sum((step - end).square().sum() for end in ends)
        tau = share * max(GRID.spacing)
        cost = disagreement / (2 * tau**2) + (found / made.deviation).square().sum() / 2
        off = basis @ found.reshape(2, -1).T - residual
        cost = cost + off.square().sum() / (2 * sigma**2)
        (slope,) = torch.autograd.grad(cost, found)
        assert float(slope.abs().max()) < 1e-6


def test_the_chosen_stiffness_predicts_left_out_points_best_and_outliers_cost_a_constant():
    points, residual = tensor(generator(2).uniform(0, 38, (6, 2))), tensor(generator(3).normal(0, 3, (6, 2)))
    made, used = lattice(), torch.tensor([True, True, False, True, True, True])
    seen = made.observed(points)
    chosen = seen.choose(residual, 0.7, used)
    scores = []
    area = GRID.count * GRID.spacing[0] * GRID.spacing[1]
    for field in seen.fields:
        covariance = seen.basis[used] @ field[:, used] + 0.49 * torch.eye(5, dtype=torch.float64)
        found = leave_one_out(covariance, residual[used])
        density = torch.exp(-found.sigmas.square() / 2) / (2 * math.pi * found.deviation**2)
        scores.append(float(torch.maximum(density, tensor(OUTLIERS / area)).log().sum()))
    logs = 5 * math.log(2 * math.pi)
    assert chosen.score == pytest.approx(max(scores) + logs)
    far = residual.clone()
    far[0] += 1e6
    further = residual.clone()
    further[0] += 2e6
    assert seen.choose(far, 0.7, used).score == pytest.approx(seen.choose(further, 0.7, used).score)


def noisy(count, seed=0, matrix=TURN, noise=0.5):
    fixed = generator(seed).uniform(0, 500, (count, 2))
    return tensor(fixed), tensor(generator(seed + 1).normal(affine.apply(matrix, fixed), noise))


def test_few_landmarks_agree_by_themselves_and_have_the_richest_map():
    for count, name in ((1, "translation"), (2, "similarity"), (3, "similarity")):
        fixed, moving = noisy(count, noise=30)
        found = landmark_map.agree(fixed, moving, 1.0)
        assert found.agrees.all()
        assert torch.allclose(found.matrix, models.get(name).fit(fixed, moving))
    fixed, moving = noisy(4, noise=0)
    moving[3] += 40
    turn = affine.similarity(0.3, 1.2, (0, 0), (5, 6))
    moving[:3] = affine.apply(tensor(turn), fixed[:3])
    assert landmark_map.agree(fixed, moving, 1.0).agrees.tolist() == [True, True, True, False]
    assert landmark_map.agree(fixed, moving, 1000.0).agrees.all()


def test_landmarks_in_a_narrow_strip_have_a_similarity():
    along = generator().uniform(0, 100, 9)
    for width, name in ((1.0, "similarity"), (60.0, "affine")):
        fixed = tensor(np.stack([along, generator(1).uniform(0, width, 9)], 1))
        moving = affine.apply(tensor(TURN), fixed) + tensor(generator(2).normal(0, 0.1, (9, 2)))
        found = landmark_map.agree(fixed, moving, 100.0)
        assert torch.allclose(found.matrix, models.get(name).fit(fixed, moving))


def test_landmarks_at_the_same_place_propose_no_map():
    fixed, moving = noisy(6, noise=0, matrix=affine.similarity(0.3, 1.2, (0, 0), (5, 6)))
    fixed, moving = torch.cat([fixed, fixed[:1]]), torch.cat([moving, moving[:1]])
    found = landmark_map.agree(fixed, moving, 1e-6)
    assert found.agrees.all()
    assert landmark_map._through(fixed[[0, 6]], moving[[0, 6]]) == []
    assert landmark_map._through(fixed[[0, 1]], moving[[0, 6]]) == []
    both = landmark_map._through(fixed[[0, 1]], moving[[0, 1]])
    for matrix, sign in zip(both, (1, -1), strict=True):
        assert torch.allclose(affine.apply(matrix, fixed[[0, 1]]), moving[[0, 1]])
        assert math.copysign(1, float(affine.determinant(matrix))) == sign


@pytest.mark.parametrize("seed", range(6))
def test_landmarks_agree_within_four_robust_deviations(seed):
    """With complex numbers a similarity is z -> a z + b, and a mirrored one z -> a conj(z) + b. The deviation
    is 1.4826 (1 + 5 / (n - 2)) times the median, as by Rousseeuw and Leroy."""
    fixed, moving = noisy(9 + seed % 2, seed, noise=3)
    moving[0] += 30 * (1 + seed)
    z, w = (torch.view_as_complex(side).numpy() for side in (fixed, moving))
    tried = []
    for i, j in product(range(len(z)), repeat=2):
        for source in (z, z.conj()) if i < j else ():
            a = (w[j] - w[i]) / (source[j] - source[i])
            tried.append(np.abs(a * (source - source[i]) + w[i] - w))
    best = min(tried, key=lambda off: np.sort(off)[len(z) // 2])
    spread = 1.4826 * (1 + 5 / (len(z) - 2)) * np.sort(best)[len(z) // 2]
    assert landmark_map.agree(fixed, moving, 0.0).agrees.tolist() == (best <= 4 * spread).tolist()
    nearest = float(np.sort(best)[-1])
    assert landmark_map.agree(fixed, moving, nearest + 1e-6).agrees.all()


def test_moving_least_squares_fit_an_affine_map_with_its_weights():
    fixed, moving = noisy(30, noise=20)
    points, reach = np.array([[100.0, 200.0], [480.0, 20.0]]), 60.0
    found = moving_least_squares.smooth(tensor(points), fixed, moving, reach)
    for point, mine in zip(points, found.numpy(), strict=True):
        weight = 1 / (np.square(fixed.numpy() - point).sum(1) + reach**2) ** 2
        design = np.hstack([fixed.numpy(), np.ones((30, 1))]) * np.sqrt(weight)[:, None]
        solved = np.linalg.lstsq(design, moving.numpy() * np.sqrt(weight)[:, None], rcond=None)[0]
        assert mine == pytest.approx(np.append(point, 1) @ solved, abs=1e-4)
    many = tensor(generator(5).uniform(0, 500, (5000, 2)))
    whole = moving_least_squares.smooth(many, fixed, moving, reach)
    assert torch.allclose(
        whole[4500:4510], moving_least_squares.smooth(many[4500:4510], fixed, moving, reach)
    )


def test_matches_by_a_homography_and_by_a_smooth_map():
    fixed, moving = noisy(40, noise=0)
    exact = Matches(homography.from_affine(tensor(TURN)), tensor(TURN), fixed, moving)
    some = tensor([[10.0, 20.0], [300.0, 100.0]])
    assert torch.allclose(exact.map(some), affine.apply(tensor(TURN), some))
    assert torch.allclose(exact.inverted().map(exact.map(some)), some)
    smooth = Matches(None, tensor(TURN), fixed, moving)
    assert torch.allclose(smooth.map(some), affine.apply(tensor(TURN), some), atol=1e-3)
    back = smooth.inverted()
    assert back.homography is None
    assert torch.allclose(affine.compose(back.matrix, smooth.matrix), tensor(np.eye(2, 3)))
    assert smooth.extent == pytest.approx(float(np.linalg.norm(np.ptp(moving.numpy(), axis=0))))
    noise = Matches(None, tensor(TURN), *noisy(40, noise=9))
    wanted = moving_least_squares.smooth(some, noise.fixed, noise.moving, 0.03 * noise.extent)
    assert torch.allclose(noise.map(some), wanted)


def test_a_match_agrees_within_the_tolerance_and_a_fifth_of_the_distance_to_its_neighbours():
    """Points one pixel apart on a line: the six nearest are 1, 1, 2, 2, 3 and 3 away, 2 in the mean."""
    fixed = tensor([[float(n), 0.0] for n in range(41)])
    accepted = torch.ones(41, dtype=torch.bool)
    for off, agrees in ((0.5 + 0.4 - 0.01, True), (0.5 + 0.4 + 0.01, False)):
        residual = torch.zeros(41, 2, dtype=torch.float64)
        residual[20, 1] = off
        found = matches._agrees_with_neighbours(fixed, residual, accepted, 0.5)
        assert found.tolist() == [n != 20 or agrees for n in range(41)]
    few = torch.arange(41) < 7
    grown = matches.grow(fixed, tensor(generator(1).uniform(0, 900, (41, 2))), few, 0.5)
    assert grown.sum() >= 7


def test_newtons_method_inverts_and_halves_steps_that_lead_away():
    def expand(points):
        return np.arctan(points), (1 / (1 + points**2))[:, :, None] * np.eye(2)

    target = np.array([[0.5, -0.3], [1.2, 1.0], [0.0, 0.0]])
    start = np.array([[3.0, 2.0], [-2.5, 2.5], [0.0, 0.0]])  # from where whole steps diverge
    found = newton.invert(expand, start.copy(), target, steps=30, tolerance=1e-12)
    assert found == pytest.approx(np.tan(target))
    once = newton.invert(expand, start.copy(), target, steps=1, tolerance=1e-12)
    before, after = (np.linalg.norm(np.arctan(at) - target, axis=1)[:2] for at in (start, once))
    assert (after < before).all()
    same = newton.invert(expand, start.copy(), target, steps=0, tolerance=1e-12)
    assert np.array_equal(same, start)
    rough = newton.invert(expand, np.array([[0.0, 0.0]]), np.array([[0.3, 0.4]]), steps=9, tolerance=0.5)
    assert rough.tolist() == [[0, 0]]  # it is within the tolerance

    def linear(points):
        return affine.apply(TURN, points), np.broadcast_to(TURN[:, :2], (len(points), 2, 2))

    exact = newton.invert(linear, np.zeros((1, 2)), np.array([[7.0, 9.0]]), steps=1, tolerance=1e-12)
    assert affine.apply(TURN, exact) == pytest.approx(np.array([[7.0, 9.0]]))


# --- splines ---------------------------------------------------------------------------------------------


def test_a_spline_is_refined_down_to_the_least_spacing():
    def wave(points):
        return points + np.sin(points * 2)

    made, error = bspline.fit(wave, 24, 19, 8.0, tolerance=0, least=2.0)
    assert error > 0
    assert made.spacing == (25 / 12, 20 / 10)  # a pixel more than the outer centres on either side
    assert made.origin == pytest.approx((-1 - 25 / 12, -1 - 2))
    assert made.coefficients.shape == (10 + 3, 12 + 3, 2)
    coarse, _ = bspline.fit(wave, 24, 19, 8.0, tolerance=9)
    assert coarse.coefficients.shape == (2 + 3, 3 + 3, 2)
    assert bspline.fit(wave, 24, 19, 8.0, tolerance=0, least=8.0)[0].spacing == coarse.spacing
    one, _ = bspline.fit(wave, 1, 1, 50.0, tolerance=9)
    assert one.coefficients.shape == (4, 4, 2)


def test_composed_splines_are_exact_where_the_product_is_a_spline():
    """A shift after a spline, or a spline after a shift of both ends of which nothing is seen."""
    coefficients = generator(4).normal(0, 0.5, (2, 7, 8))
    bent, shift = SplineMap(60, 84, TURN, coefficients), SplineMap(60, 84, affine.translation(2.0, -1.0))
    made = bent.then(shift)
    assert made.coefficients == pytest.approx(coefficients, abs=1e-9)
    assert made.matrix == pytest.approx(affine.compose(shift.matrix, TURN))
    points = generator(5).uniform(0, 59, (50, 2))
    assert made.map(points) == pytest.approx(shift.map(bent.map(points)))
    assert (made.height, made.width) == (60, 84)
    assert shift.patches() is None
    assert not shift.folds
    assert shift.unfolded() is shift
    assert shift.displacement(points).tolist() == np.zeros((50, 2)).tolist()


def test_shares_of_a_displacement_that_folds_are_tried_from_the_largest():
    knots = (np.arange(8) - 1) * 84 / 5
    for slope, share in ((-1.2, 0.75), (-1.5, 0.5), (-3.0, 0.25), (-4.0, 0.0)):
        coefficients = np.zeros((2, 6, 8))
        coefficients[0] = slope * knots + 3
        less = SplineMap(60, 84, np.eye(2, 3), coefficients).unfolded()
        mean = coefficients.mean((1, 2), keepdims=True)
        assert less.coefficients == pytest.approx(mean + share * (coefficients - mean))
        assert less.coefficients.shape == (2, 6, 8)


@pytest.mark.parametrize(("slope", "folds"), [(-0.949, False), (-0.951, True)])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_determinant_of_a_twentieth_counts_as_folded(slope, folds, axis):
    length, count = ((60, 6), (84, 8))[1 - axis]
    knots = (np.arange(count) - 1) * length / (count - 3)
    coefficients = np.zeros((2, 6, 8))
    coefficients[axis] = slope * (knots[:, None] if axis else knots)
    assert SplineMap(60, 84, np.eye(2, 3), coefficients).folds == folds


def test_weights_of_a_spline_are_those_of_the_docstring():
    values, slopes = spline_map._weights(np.array([-0.5, 3.7, 11.5, -9.0, 30.0]), 12, 3)
    assert values.shape == slopes.shape == (5, 6)
    assert values.sum(1) == pytest.approx(np.ones(5))
    assert slopes.sum(1) == pytest.approx(np.zeros(5), abs=1e-12)
    assert values[0] == pytest.approx([1 / 6, 4 / 6, 1 / 6, 0, 0, 0])
    assert values[2] == pytest.approx([0, 0, 0, 1 / 6, 4 / 6, 1 / 6])
    assert np.array_equal(values[3], values[0])
    t = 4.2 * 3 / 12 - 1
    assert values[1] == pytest.approx([0, (1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6,
                                       (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6, 0])  # fmt: skip
    ends = spline_map._weights(np.array([3.7 - 1e-6, 3.7 + 1e-6]), 12, 3)[0]
    assert slopes[1] == pytest.approx((ends[1] - ends[0]) / 2e-6, abs=1e-6)
