"""The compiled code gives the same numbers as PyTorch."""

import math
from dataclasses import replace

import pytest
import torch

import register
from register.compute import device
from register.compute.iteration import run_stepwise
from register.engine.fit import comparison
from register.engine.fit.hessian import HessianBuilder
from register.engine.fit.objective import GlobalObjective, PatchObjective, block_centres
from register.errors import AlignmentError
from register.geometry import affine, affine_tensors, models
from register.geometry.patch_grid import PatchGrid, from_matrices
from register.geometry.patch_tensors import Patches
from register.geometry.smoothness import SmoothnessPenalty
from register.images import pyramid
from register.kernels import cpu, dispatch
from register.kernels.triton import compile_ahead
from register.optim.gauss_newton import gauss_newton
from register.optim.result import result_of

pytestmark = pytest.mark.skipif(
    cpu.library() is None, reason="no compiler was at hand when the package was installed"
)
HEIGHT, WIDTH = 203, 331
BEYOND = torch.tensor([[[1.03, 0.05, -22.0], [-0.04, 0.98, 13.0]]], dtype=torch.float64)
"""A map to points outside the moving image on two sides."""
INSIDE = torch.tensor([[[0.91, 0.02, 9.3], [-0.02, 0.9, 11.6]]], dtype=torch.float64)
NEAR = torch.tensor([[[0.98, 0.003, 3.3], [-0.002, 0.98, 2.1]]], dtype=torch.float64)
"""A map of neighbouring pixels to points that mostly lie between neighbouring pixels."""


def compared(texture, metric, step, *, holes=False, window=20):
    fixed, moving = (
        torch.from_numpy(texture[y : y + HEIGHT, x : x + WIDTH]).float()[None] for y, x in ((0, 0), (4, 7))
    )
    mask = torch.ones_like(moving)
    if holes:
        mask[:, 60:90, 100:150] = 0
    made = comparison.prepare(
        pyramid.base(fixed), pyramid.base(moving, mask), step, metric, window=window, margin=12
    )
    if holes:
        made = replace(made, fixed_mask=made.fixed_mask * (torch.arange(WIDTH) > 100))
    return made


def precise(compare):
    """The same for float64 tensors, which are the reference."""
    names = "fixed", "fixed_mask", "moving", "moving_mask", "moving_from_fixed"
    return replace(compare, **{name: getattr(compare, name).double() for name in names})


def away_from_kinks(compare, grid, parameters):
    """Without the few pixels whose points lie where four pixels meet: linear interpolation has two gradients
    there, and rounding chooses one."""
    exact = precise(compare)
    points = exact.shifted(Patches(grid, parameters.double()).displacement(*exact.axes()))
    apart = ((points - points.round()).abs().amin(-1) > 1e-3).float()
    return replace(compare, fixed_mask=compare.fixed_mask * apart[None])


def near(found, expected, share=1e-4):
    return float((found - expected).abs().max()) <= share * float(expected.abs().max())


def random_patches(size=60):
    grid = PatchGrid.cover(HEIGHT, WIDTH, size)
    torch.manual_seed(3)
    return grid, 0.7 * torch.randn(1, 2, 3, grid.rows, grid.columns)


@pytest.mark.parametrize("metric", ["ncc", "structure", "mind"])
@pytest.mark.parametrize(
    ("step", "holes"), [(INSIDE, False), (NEAR, False), (NEAR, True), (BEYOND, False), (BEYOND, True)]
)
def test_loss_gradient_and_curvature_equal_those_of_pytorch(texture, metric, step, holes):
    grid, parameters = random_patches()
    compare = away_from_kinks(compared(texture, metric, step, holes=holes), grid, parameters[0])
    found = PatchObjective(compare, grid, 5.0, 1).expand(parameters)
    expected = PatchObjective(precise(compare), grid, 5.0, 1).expand(parameters.double())
    assert all(near(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("metric", ["ncc", "structure"])
@pytest.mark.parametrize("window", [8, 13, 24])
def test_windows_equal_those_of_pytorch(texture, metric, window):
    compare, (grid, parameters) = compared(texture, metric, BEYOND, window=window), random_patches()
    for patches in (None, Patches(grid, parameters[0])):
        found = comparison.windows(compare, patches)
        expected = comparison.windows(
            precise(compare), None if patches is None else Patches(grid, parameters[0].double())
        )
        assert near(found.value, expected.value)
        assert near(found.weight, expected.weight)


@pytest.mark.parametrize("model", ["rigid", "affine"])
@pytest.mark.parametrize("metric", ["ncc", "mind"])
def test_a_global_map_equals_two_by_two_patches(texture, model, metric):
    compare = compared(texture, metric, BEYOND)
    parameters = torch.full((1, models.get(model).parameters), 0.237)
    found, expected = (
        GlobalObjective(compare, model).expand(parameters),
        GlobalObjective(precise(compare), model).expand(parameters.double()),
    )
    assert near(found.loss, expected.loss)
    assert near(
        found.gradient, expected.gradient, 2e-3
    )  # a few points lie where linear interpolation has two gradients
    assert near(found.hessian, expected.hessian)


def test_any_number_of_threads_sums_to_the_same_bits(texture):
    objective, (_, parameters) = (
        PatchObjective(compared(texture, "ncc", BEYOND), random_patches()[0], 5.0, 1),
        random_patches(),
    )
    found = []
    for threads in (1, 2, 5):
        with device.using_threads(threads):  # one of them for matrix products, which round by their number
            found.append(objective.expand(parameters))
    assert all(
        torch.equal(one, other) for others in found[1:] for one, other in zip(found[0], others, strict=True)
    )


@pytest.fixture(params=[11, 37, 90, 400])
def coupled(request):
    """HessianBuilder of a grid, and the curvature, the gradient and the damping of its patches."""
    grid = PatchGrid.cover(HEIGHT, WIDTH, request.param)
    x, y = (block_centres(torch.arange(n).float(), 5) for n in (WIDTH, HEIGHT))
    curvature = torch.rand(3, len(y), len(x)) * torch.tensor([1.0, 0.3, 1.0])[:, None, None] / 1e4
    return (
        HessianBuilder(grid, x, y, SmoothnessPenalty.of(grid), 1e-3),
        curvature,
        torch.randn(2, 3, grid.rows, grid.columns) / 1e3,
        torch.rand(grid.count),
    )


def test_the_step_solves_the_system_of_pytorch(tensors_only, coupled):
    couplings, curvature, slope, damping = coupled
    found = couplings.compiled.solve(curvature, damping, slope, steps=2000, tolerance=1e-6)
    with tensors_only():
        stencil = couplings.hessian(curvature)
    product = (
        stencil.damped(stencil.own.diagonal(dim1=-2, dim2=-1) * damping[:, None] + 1e-9)
        @ found.reshape(6, -1).T
    )
    assert near(product.T.reshape_as(slope), slope, 1e-4)


def test_the_step_equals_that_of_pytorch_for_any_number_of_threads(tensors_only, coupled):
    couplings, *given = coupled
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found.append(couplings.step(*given))
    torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])
    with tensors_only():
        assert near(
            found[0],
            HessianBuilder(couplings.grid, *couplings.at, couplings.smoothness, couplings.stiffness).step(
                *given
            ),
            1e-3,
        )


def test_the_stiffness_of_patches_equals_that_of_pytorch(tensors_only, coupled):
    couplings, _, parameters, _ = coupled
    found = couplings.penalise(parameters)
    with tensors_only():
        expected = HessianBuilder(
            couplings.grid, *couplings.at, couplings.smoothness, couplings.stiffness
        ).penalise(parameters)
    assert near(found[1], expected[1], 1e-5)
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-5)


def test_a_tile_without_weight_gives_zeros(texture):
    compare = compared(texture, "ncc", BEYOND)
    grid, parameters = random_patches()
    found = dispatch.expand(
        replace(compare, fixed_mask=torch.zeros_like(compare.fixed_mask)).compiled[0], grid, parameters[0], 5
    )
    assert not any(bool(x.any()) for x in found)


def test_parameters_that_are_not_finite_are_an_error_and_not_a_crash(texture):
    objective, (_, parameters) = (
        PatchObjective(compared(texture, "ncc", BEYOND), random_patches()[0], 5.0, 1),
        random_patches(),
    )
    for value in (float("nan"), float("inf"), 1e30):
        dispatch.expand(
            objective.compare.compiled[0],
            objective.grid,
            torch.full_like(parameters[0], value),
            objective.block,
        )
    with pytest.raises(AlignmentError, match="no longer finite"):
        result_of(
            run_stepwise(
                gauss_newton(
                    objective.expand,
                    objective.solve,
                    torch.full_like(parameters, float("nan")),
                    tolerance=0.0,
                ),
                2,
                lambda *_: None,
            )
        )


def test_a_window_that_is_not_a_multiple_of_the_block_is_refused(texture):
    with pytest.raises(ValueError, match="not a multiple of blocks"):
        dispatch.expand(
            compared(texture, "ncc", BEYOND).compiled[0],
            *Patches(random_patches()[0], random_patches()[1][0]),
            6,
        )


def wrong(image):
    """Arrays of another type, shape or layout than a given one."""
    return {
        "type": image.double(),
        "shape": image[..., :-1].contiguous(),
        "layout": image.mT.contiguous().mT,
        "axes": image[None],
    }


@pytest.mark.parametrize("kind", ["type", "shape", "layout", "axes"])
@pytest.mark.parametrize("name", ["fixed", "weight", "moving", "moving_mask", "fixed_sums"])
def test_wrong_images_never_reach_the_c_code(texture, monkeypatch, name, kind):
    pair = compared(texture, "ncc", BEYOND, holes=True).compiled[0]
    broken = pair._replace(**{name: wrong(getattr(pair, name))[kind]})
    if (name, kind) == ("moving", "shape"):
        broken = broken._replace(moving_mask=pair.moving_mask)  # of the right size, other than the image
    monkeypatch.setattr(cpu, "_call", lambda *_: pytest.fail("the C code was called"))
    grid, parameters = random_patches()
    with pytest.raises(ValueError, match=r"is |has |must be"):
        dispatch.similarities(broken, grid, parameters[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 0}, "window"),
        ({"valid_box": (0, 0, 10_000, 5)}, "valid_box"),
        ({"fixed": torch.zeros(2, HEIGHT, WIDTH)}, "one channel"),
    ],
)
def test_wrong_numbers_never_reach_the_c_code(texture, change, message):
    pair = compared(texture, "ncc", BEYOND, holes=True).compiled[0]._replace(**change)
    grid, parameters = random_patches()
    with pytest.raises(ValueError, match=message):
        dispatch.similarities(pair, grid, parameters[0])


def test_wrong_parameters_and_grids_never_reach_the_c_code(texture):
    pair, (grid, parameters) = compared(texture, "ncc", BEYOND).compiled[0], random_patches()
    for found in wrong(parameters[0]).values():
        if found.shape == parameters[0].shape and found.dtype == torch.float32:
            continue  # another layout is copied
        with pytest.raises(ValueError, match="parameters"):
            dispatch.expand(pair, grid, found, 10)
    with pytest.raises(ValueError, match="2 x 2"):
        dispatch.expand(pair, PatchGrid(1, 3, (0.0, 0.0), (9.0, 9.0)), torch.zeros(2, 3, 3, 1), 10)


@pytest.mark.parametrize("name", ["curvature", "damping", "right"])
def test_a_system_refuses_arrays_of_another_shape(name):
    grid = PatchGrid.cover(60, 80, 20)
    penalty = torch.zeros(2, 2, 2, grid.columns), torch.zeros(2, 2, 2, grid.rows)
    system = dispatch.patch_system(grid, torch.arange(5.0, 80, 10), torch.arange(5.0, 60, 10), penalty)
    given = {
        "curvature": torch.ones(3, 6, 8),
        "damping": torch.ones(grid.count),
        "right": torch.ones(2, 3, grid.rows, grid.columns),
    }
    assert system.solve(**given, steps=3, tolerance=0.1).isfinite().all()
    given[name] = given[name][..., :-1]
    with pytest.raises(ValueError, match=name):
        system.solve(**given, steps=3, tolerance=0.1)


def test_without_the_compiled_library_pytorch_is_used(texture, tensors_only):
    with tensors_only():
        assert compared(texture, "ncc", BEYOND).compiled == []
    assert compared(texture, "mse", BEYOND).compiled == []
    assert comparison.windows(compared(texture, "mse", BEYOND)).value.isfinite().all()


def test_a_library_with_another_interface_version_is_not_used(monkeypatch):
    monkeypatch.setattr(cpu, "FORMAT", cpu.FORMAT + 1)
    cpu.library.cache_clear()
    assert cpu.library() is None
    monkeypatch.undo()
    cpu.library.cache_clear()
    assert cpu.library() is not None


def test_affine_maps_equal_patches_with_these_maps(texture):
    """Four patches represent every affine map exactly: windows are as similar as with the map itself."""
    compare, grid = compared(texture, "ncc", INSIDE), PatchGrid.cover(HEIGHT, WIDTH, WIDTH)
    small = torch.tensor([[1.004, 0.003, -0.6], [-0.002, 0.997, 0.8]])
    patches = from_matrices(grid, small.expand(grid.rows, grid.columns, 2, 3))
    composed = replace(compare, moving_from_fixed=affine.compose(compare.moving_from_fixed, small[None]))
    assert near(
        comparison.windows(compare, Patches(grid, patches)).value, comparison.windows(composed).value, 1e-4
    )


@pytest.mark.parametrize("metric", ["structure", "mind"])
def test_rounding_does_not_hide_a_fully_visible_area(texture, metric):
    """A mask that was resampled or shrunk is 1 where it differs from 1 only by rounding, and the box of valid
    pixels is not smaller."""
    turn = torch.tensor([[[0.87, -0.43, 110.0], [0.43, 0.87, -40.0]]], dtype=torch.float64)
    fixed, moving = (
        torch.from_numpy(texture[y : y + 300, x : x + 400]).float()[None] for y, x in ((0, 0), (4, 7))
    )
    mask = torch.ones_like(moving)
    mask[:, :5] = 0
    small = pyramid.shrink(pyramid.base(moving, mask), 1.3)
    assert float((small.mask == 1).float().mean()) == pytest.approx(
        float((small.mask > 0.999).float().mean()), abs=1e-6
    )
    made = comparison.prepare(pyramid.base(fixed), small, turn, metric, window=20, margin=12)
    ones = made.moving_mask == 1
    assert float(ones.float().mean()) > 0.3
    assert not bool(((made.moving_mask > 0.999) & ~ones).any())
    left, top, right, bottom = made.compiled[0].valid_box
    assert (right - left) * (bottom - top) > 0.15 * ones.numel()


@pytest.mark.parametrize("degrees", [-90, 35])
def test_rows_read_by_column_are_padded_in_memory(texture, degrees):
    """Without padding, the rows of an image 256 pixels wide would share the same lines of the cache."""
    fixed, moving = (
        torch.from_numpy(texture[y : y + 220, x : x + 256]).float()[None] for y, x in ((0, 0), (4, 7))
    )
    mask = torch.ones_like(moving)
    mask[:, 60:90, 100:150] = 0
    turn = affine_tensors.similarity(
        math.radians(degrees), 1.0, torch.tensor([128.0, 110.0]), torch.tensor([127.4, 109.7])
    ).double()
    compare = comparison.prepare(
        pyramid.base(fixed), pyramid.base(moving, mask), turn[None], "ncc", window=20, margin=12
    )
    grid = PatchGrid.cover(*compare.size, 60)
    torch.manual_seed(3)
    parameters = 0.7 * torch.randn(1, 2, 3, grid.rows, grid.columns)
    compare = away_from_kinks(compare, grid, parameters[0])
    pair = compare.compiled[0]
    assert pair.moving_mask is not None
    assert pair.moving.stride(1) == pair.moving_mask.stride(0) == 256 + 16
    found, expected = (
        PatchObjective(compare, grid, 5.0, 1).expand(parameters),
        PatchObjective(precise(compare), grid, 5.0, 1).expand(parameters.double()),
    )
    assert all(near(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("metric", ["ncc", "structure", "auto"])
def test_kernels_of_the_default_similarities_are_compiled_ahead_for_a_gpu(texture, monkeypatch, metric):
    compared = set()
    for name in ("expand", "similarities"):
        known = getattr(dispatch, name)
        monkeypatch.setattr(
            dispatch,
            name,
            lambda pair, *given, known=known: (
                compared.add((pair.kind, len(pair.fixed), pair.window)) or known(pair, *given)
            ),
        )
    register.align(texture[:256, :300], texture[4:260, 7:307], metric=metric)
    assert compared
    assert compared <= set(compile_ahead.WANTED)
