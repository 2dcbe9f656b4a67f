"""B-spline maps against SciPy's B-splines, and what follows from them: patches, folds, composed maps."""

import numpy as np
import pytest
from scipy.interpolate import BSpline as Reference

from register.geometry import affine, bspline, patch_grid
from register.geometry.spline_map import SplineMap

H, W = 60, 84
RNG = np.random.default_rng(8)
POINTS = RNG.uniform([-0.5, -0.5], [W - 0.5, H - 0.5], (200, 2))
MATRIX = affine.compose(affine.translation(3.0, -5.0), affine.similarity(0.1, 1.1, np.zeros(2), np.zeros(2)))


def of_scipy(coefficients, length, positions, derivative=0):
    """The cubic spline with intervals of equal length between -0.5 and length - 0.5, at positions (n,)."""
    intervals = len(coefficients) - 3
    knots = np.arange(-3, intervals + 4) * (length / intervals) - 0.5
    return Reference(knots, coefficients, 3)(positions, nu=derivative)


def displaced(coefficients, points):
    """The displacement (n, 2) of tensor-product splines (2, rows, columns) at points, by SciPy."""
    planes = [[of_scipy(of_scipy(plane, H, y), W, x) for x, y in points] for plane in coefficients]
    return np.array(planes).T


def test_a_map_is_its_affine_map_after_the_displacement_of_its_spline():
    coefficients = RNG.normal(0, 2, (2, 6, 8))
    made = SplineMap(H, W, MATRIX, coefficients)
    wanted = displaced(coefficients, POINTS)
    assert np.allclose(made.displacement(POINTS), wanted, atol=1e-12)
    assert np.allclose(made.map(POINTS), affine.apply(MATRIX, POINTS + wanted), atol=1e-12)
    beyond = np.array([[-30.0, 10.0], [W + 30.0, 10.0]])
    assert np.allclose(made.displacement(beyond), made.displacement(beyond.clip(-0.5, W - 0.5)), atol=1e-12)


def test_the_patches_of_a_spline_reproduce_every_quadratic_displacement():
    """A cubic spline holds every polynomial of degree 2, and patches with half of the gradient do too."""
    y, x = np.mgrid[-0.5 : H - 0.5 : 30j, -0.5 : W - 0.5 : 30j]
    points = np.stack([x.ravel(), y.ravel()], 1)

    def quadratic(at):
        u, v = at[:, 0] / W, at[:, 1] / H
        return np.stack([2 * u * u - u * v + 3 * v, v * v + u - 1], 1)

    rows, columns = 4 + 3, 5 + 3
    empty = SplineMap(H, W, np.eye(2, 3), np.zeros((2, rows, columns)))
    basis = np.stack(
        [empty_with(empty, r, c).displacement(points)[:, 0] for r in range(rows) for c in range(columns)], 1
    )
    coefficients = np.linalg.lstsq(basis, quadratic(points), rcond=None)[0].T.reshape(2, rows, columns)
    made = SplineMap(H, W, MATRIX, coefficients)
    assert np.allclose(made.displacement(POINTS), quadratic(POINTS), atol=1e-10)
    grid, matrices = made.patches()
    assert (grid.columns, grid.rows) == (2 * 5 + 1, 2 * 4 + 1)
    assert np.allclose(patch_grid.blend_at(grid, matrices, POINTS)[0], made.map(POINTS), atol=1e-9)


def empty_with(of, row, column):
    """A map whose displacement is one B-spline."""
    coefficients = np.zeros_like(of.coefficients)
    coefficients[:, row, column] = 1
    return SplineMap(of.height, of.width, of.matrix, coefficients)


def test_a_map_and_then_another_one():
    one = SplineMap(H, W, MATRIX, RNG.normal(0, 0.3, (2, 7, 8)))
    other = SplineMap(H, W, affine.translation(-2.0, 1.0), RNG.normal(0, 0.3, (2, 7, 8)))
    inside = POINTS[((POINTS > 25) & (POINTS < 45)).all(1)]
    both = one.then(other)
    assert np.abs(both.map(inside) - other.map(one.map(inside))).max() < 0.1
    shifted = SplineMap(H, W, affine.translation(1.0, 2.0)).then(SplineMap(H, W, MATRIX))
    assert shifted.coefficients is None
    assert np.allclose(shifted.map(POINTS), affine.apply(MATRIX, POINTS + np.array([1, 2])))
    bent = SplineMap(H, W, affine.translation(1.0, 2.0)).then(
        SplineMap(H, W, MATRIX, np.full((2, 5, 6), 0.5))
    )
    assert np.allclose(bent.map(POINTS), affine.apply(MATRIX, POINTS + np.array([1.5, 2.5])), atol=1e-9)


@pytest.mark.parametrize(("slope", "folds"), [(-0.9, False), (-0.97, True), (-1.2, True), (0.9, False)])
def test_a_displacement_whose_slope_passes_minus_one_folds(slope, folds):
    """A linear spline: its coefficients are its values at the knots, one interval apart."""
    columns = 8
    knots = (np.arange(columns) - 1) * W / (columns - 3)
    coefficients = np.zeros((2, 6, columns))
    coefficients[0] = slope * knots
    made = SplineMap(H, W, np.eye(2, 3), coefficients)
    assert np.allclose(made.displacement(POINTS)[:, 0], slope * (POINTS[:, 0] + 0.5), atol=1e-9)
    assert made.folds == folds
    less = made.unfolded()
    assert not less.folds
    assert (less is made) == (not folds)
    assert np.allclose(less.coefficients.mean((1, 2)), coefficients.mean((1, 2)))


def test_the_figures_of_a_map():
    coefficients = np.zeros((2, 5, 6))
    coefficients[0] += 2.0
    made = SplineMap(H, W, affine.translation(1.0, -4.0), coefficients)
    assert made.shift == pytest.approx((3.0, -4.0))
    assert made.extent == pytest.approx(0.0)
    coefficients[1, ::2] += 1.0
    coefficients[1, 1::2] -= 1.0
    assert made.extent == pytest.approx(np.sqrt(1 - 0.2**2))  # of one component, over both
    assert SplineMap(H, W, MATRIX).extent == 0.0
    assert SplineMap(H, W, MATRIX).rotation == pytest.approx(np.degrees(0.1))


def test_the_cubic_spline_is_that_of_scipy():
    element = Reference.basis_element(np.arange(-2.0, 3.0), extrapolate=False)
    distance = np.linspace(0, 3, 61)
    assert np.allclose(bspline.cubic_spline(distance), np.nan_to_num(element(distance)), atol=1e-15)


def test_a_fitted_spline_is_as_near_as_it_says_and_exact_for_a_cubic_map():
    def cubic(points):
        u = (points - [W / 2, H / 2]) / W
        return points + np.stack([3 * u[:, 0] ** 3 - u[:, 1] ** 2, u[:, 0] * u[:, 1] ** 3], 1)

    made, error = bspline.fit(cubic, W, H, 20.0, tolerance=1e-6)
    assert error < 1e-9
    x, y = np.linspace(0, W - 1, 50), np.linspace(0, H - 1, 40)
    points = affine.points_at(x, y)
    wanted = cubic(points.reshape(-1, 2)).reshape(points.shape) - points
    assert np.abs(made.displacement(x, y) - wanted).max() < 1e-9

    def wave(points):
        return points + np.sin(points / 6.0)

    coarse = bspline.fit(wave, W, H, 40.0, tolerance=10.0)[0]
    fine, error = bspline.fit(wave, W, H, 40.0, tolerance=0.02)
    assert error < 0.02
    assert fine.spacing[0] < coarse.spacing[0] / 2
    wanted = wave(points.reshape(-1, 2)).reshape(points.shape) - points
    assert np.abs(fine.displacement(x, y) - wanted).max() < 0.03
