"""The kernels for GPUs give the same numbers as PyTorch: interpreted on machines without a GPU, or else
compiled."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import register
from register.compute import device
from register.engine.fit import comparison
from register.engine.fit.hessian import HessianBuilder
from register.engine.fit.level import GAUSS_NEWTON, optimise_patches
from register.engine.fit.objective import GlobalObjective, PatchObjective, block_centres
from register.geometry import affine_tensors, models, patch_tensors
from register.geometry.patch_grid import PatchGrid
from register.geometry.patch_tensors import Patches
from register.geometry.smoothness import SmoothnessPenalty
from register.images import pyramid
from register.kernels import cpu, dispatch
from register.kernels.triton import compile_ahead, launch, launch_system

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("triton"), reason="there is no Triton here; pip install -e '.[dev]'"),
]
HERE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if HERE.type == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when it is imported
HEIGHT, WIDTH = 43, 91
BEYOND = torch.tensor([[[1.03, 0.05, -12.0], [-0.04, 0.98, 9.0]]], dtype=torch.float64)
"""A map to points outside the moving image on two sides."""
INSIDE = torch.tensor([[[0.91, 0.02, 4.3], [-0.02, 0.9, 3.6]]], dtype=torch.float64)


@pytest.fixture
def kernels(monkeypatch):
    """Use the kernels; without a GPU they run on CPU tensors in place of the C library."""
    if HERE.type == "cpu":
        monkeypatch.setattr(cpu, "library", lambda: None)
        monkeypatch.setattr(launch, "supports_tensor", lambda tensor: tensor.dtype == torch.float32)


def compared(texture, metric, step, *, holes=False, window=20):
    fixed, moving = (
        torch.from_numpy(texture[y : y + HEIGHT, x : x + WIDTH]).float()[None].to(HERE)
        for y, x in ((0, 0), (4, 7))
    )
    mask = torch.ones_like(moving)
    if holes:
        mask[:, 16:28, 40:60] = 0
    made = comparison.prepare(
        pyramid.base(fixed), pyramid.base(moving, mask), step, metric, window=window, margin=12
    )
    return (
        replace(made, fixed_mask=made.fixed_mask * (torch.arange(WIDTH, device=HERE) > 30)) if holes else made
    )


def precise(compare):
    """The same for float64 tensors, which are the reference."""
    return compare.with_tensors(*(x.double() for x in compare.tensors))


def away_from_kinks(compare, grid, parameters):
    """Without the few pixels whose points lie where four pixels meet: linear interpolation has two gradients
    there, and rounding chooses one."""
    exact = precise(compare)
    points = exact.shifted(Patches(grid, parameters.double()).displacement(*exact.axes()))
    return replace(
        compare, fixed_mask=compare.fixed_mask * ((points - points.round()).abs().amin(-1) > 1e-3)[None]
    )


def near(found, expected, share=1e-4):
    return float((found - expected).abs().max()) <= share * float(expected.abs().max())


def random_patches(size):
    grid = PatchGrid.cover(HEIGHT, WIDTH, size)
    torch.manual_seed(3)
    return grid, 0.7 * torch.randn(1, 2, 3, grid.rows, grid.columns).to(HERE)


@pytest.mark.parametrize(
    ("metric", "step", "holes", "window", "patch"),
    [
        ("ncc", INSIDE, False, 20, 30),
        ("ncc", BEYOND, True, 20, 9),
        ("ncc", BEYOND, False, 13, 40),
        ("structure", INSIDE, False, 24, 30),
        ("structure", BEYOND, True, 8, 40),
        ("mind", BEYOND, True, 20, 200),
    ],
)
def test_loss_gradient_and_curvature_equal_those_of_pytorch(
    kernels, texture, metric, step, holes, window, patch
):
    grid, parameters = random_patches(patch)
    compare = away_from_kinks(
        compared(texture, metric, step, holes=holes, window=window), grid, parameters[0]
    )
    assert isinstance(compare.compiled[0], launch.PreparedPair)
    found = PatchObjective(compare, grid, 5.0, 1).expand(parameters)
    expected = PatchObjective(precise(compare), grid, 5.0, 1).expand(parameters.double())
    assert all(near(one, other) for one, other in zip(found, expected, strict=True))


def test_patches_may_end_where_windows_and_programs_do(kernels, texture):
    grid = PatchGrid(6, 4, (0.0, 0.0), (20.0, 20.0))
    torch.manual_seed(2)
    parameters = 0.7 * torch.randn(1, 2, 3, grid.rows, grid.columns).to(HERE)
    compare = away_from_kinks(compared(texture, "ncc", INSIDE), grid, parameters[0])
    found, expected = (
        PatchObjective(compare, grid, 5.0, 1).expand(parameters),
        PatchObjective(precise(compare), grid, 5.0, 1).expand(parameters.double()),
    )
    assert all(near(one, other, 1e-5) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(("metric", "holes"), [("ncc", True), ("structure", False)])
def test_similarities_of_windows_equal_those_of_pytorch(kernels, texture, metric, holes):
    compare, (grid, parameters) = compared(texture, metric, BEYOND, holes=holes), random_patches(30)
    for moved, turned in (
        (None, None),
        (Patches(grid, parameters[0]), Patches(grid, parameters[0].double())),
    ):
        found, expected = comparison.windows(compare, moved), comparison.windows(precise(compare), turned)
        assert near(found.value, expected.value)
        assert near(found.weight, expected.weight)


def test_any_number_of_groups_gives_the_same(kernels, texture, monkeypatch):
    compare, found = compared(texture[:30, :50], "ncc", BEYOND, window=10), []
    grid = PatchGrid.cover(*compare.size, 9)
    torch.manual_seed(6)
    parameters = torch.randn(2, 3, grid.rows, grid.columns).to(HERE)
    for groups in (1, 4):
        monkeypatch.setattr(launch, "GROUPS", groups)
        found.append(dispatch.expand(compare.compiled[0], grid, parameters, 5))
    assert all(
        near(one, other, 1e-5) for others in found[1:] for one, other in zip(found[0], others, strict=True)
    )


@pytest.mark.interpreter
@pytest.mark.parametrize(("step", "holes", "expected"), [(INSIDE, False, 5 / 6), (BEYOND, True, 0)])
def test_skipping_the_visibility_test_gives_the_same_result(
    kernels, texture, monkeypatch, step, holes, expected
):
    from register.kernels.triton import expand

    certain, said = expand.certain, []
    if HERE.type == "cpu":  # only the interpreter gives its values
        monkeypatch.setattr(expand, "certain", lambda *given: said.append(certain(*given)) or said[-1])
    (grid, parameters), pair = random_patches(30), compared(texture, "ncc", step, holes=holes).compiled[0]
    found = [
        dispatch.expand(each, grid, parameters[0], 10)
        for each in (pair, pair._replace(covered=torch.zeros_like(pair.covered)))
    ]
    answers = [bool(answer.handle.data.all()) for answer in said]
    assert not said or (sum(answers[:6]) / 6, any(answers[6:])) == (expected, False)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_a_global_map_equals_two_by_two_patches(kernels, texture):
    compare, parameters = (
        compared(texture, "ncc", BEYOND),
        torch.full((1, models.get("affine").parameters), 0.237, device=HERE),
    )
    found, expected = (
        GlobalObjective(compare, "affine").expand(parameters),
        GlobalObjective(precise(compare), "affine").expand(parameters.double()),
    )
    assert near(found.loss, expected.loss)
    assert near(
        found.gradient, expected.gradient, 2e-3
    )  # a few points lie where linear interpolation has two gradients
    assert near(found.hessian, expected.hessian)


@pytest.mark.interpreter
def test_an_optimisation_ends_where_that_of_pytorch_ends(kernels, texture):
    grid, compare = (
        PatchGrid.cover(HEIGHT, WIDTH, 40),
        compared(texture, "ncc", affine_tensors.translation(-7.4, -3.7)[None]),
    )
    settings = {
        "optimizer": GAUSS_NEWTON,
        "stiffness": 5.0,
        "max_shift": 5.0,
        "step": 0.0,
        "steps": 3,
        "tolerance": 0.0,
        "gain": 0.0,
    }
    found, expected = (
        optimise_patches(
            replace(compare, tensors_only=only), grid, patch_tensors.zeros(grid, device=HERE), **settings
        )
        for only in (False, True)
    )
    assert float(expected.parameters[0, 0].median()) == pytest.approx(0.4, abs=0.1)
    assert torch.allclose(found.parameters, expected.parameters, atol=2e-3)


@pytest.mark.interpreter
@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow", "ignore:All-NaN")
def test_parameters_that_are_not_finite_read_no_memory_outside_the_image(kernels, texture):
    compare, (grid, parameters) = compared(texture, "ncc", BEYOND), random_patches(40)
    for value in (float("nan"), float("inf"), -1e30):
        dispatch.expand(compare.compiled[0], grid, torch.full_like(parameters[0], value), 10)


def test_the_kernels_compile_for_other_gpus():
    """Compiled by Triton's compiler, which is stricter than its interpreter."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("compile_kernel.py")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 33
    carried = {line.split("carry ")[1] for line in lines if line.startswith("expand")}
    # each variable of the loops over patches, over rows, and over cells: two that start as one tensor may
    # become one
    assert carried == {"[2, 27]", "[2, 22]"}


def solved(grid, size, block, seed=1):
    """HessianBuilder by tensors, of a random positive curvature in blocks, and the inputs of a step."""
    torch.manual_seed(seed)
    x, y = (block_centres(torch.arange(n).float(), block).to(HERE) for n in reversed(size))
    root = torch.randn(len(y), len(x), 2, 2)
    tensor = root @ root.mT
    curvature = torch.stack([tensor[..., 0, 0], tensor[..., 0, 1], tensor[..., 1, 1]])
    couplings = HessianBuilder(grid, x, y, SmoothnessPenalty.of(grid, device=HERE), 0.3)
    return couplings, *(
        given.to(HERE)
        for given in (curvature, torch.randn(2, 3, grid.rows, grid.columns), torch.rand(grid.count))
    )


def by_tensors(couplings):
    return HessianBuilder(
        couplings.grid, *couplings.at, couplings.smoothness, couplings.stiffness, tensors_only=True
    )


@pytest.mark.interpreter
@pytest.mark.parametrize(("size", "patch", "block"), [((70, 91), 12, 6), ((53, 61), 200, 9)])
def test_the_step_solves_the_system_of_pytorch(kernels, size, patch, block):
    couplings, curvature, slope, damping = solved(PatchGrid.cover(*size, patch), size, block)
    assert isinstance(couplings.compiled, launch_system.PatchSystem)
    stencil = couplings.hessian(curvature)
    damped = stencil.damped(stencil.own.diagonal(dim1=-2, dim2=-1) * damping[:, None] + 1e-9)
    found = couplings.compiled.solve(curvature, damping, slope, steps=300, tolerance=1e-4)
    assert near((damped @ found.reshape(6, -1).T).T.reshape_as(slope), slope, 1e-3)
    assert not bool(couplings.compiled.solve(curvature, damping, 0 * slope, steps=300, tolerance=1e-5).any())


def test_the_stiffness_of_neighbours_equals_that_of_pytorch(kernels):
    couplings, _, parameters, _ = solved(PatchGrid.cover(60, 100, 20), (60, 100), 10)
    exact = by_tensors(couplings)
    assert exact.compiled is None
    assert all(
        near(one, other, 1e-5)
        for one, other in zip(couplings.penalise(parameters), exact.penalise(parameters), strict=True)
    )


@pytest.mark.skipif(HERE.type == "cpu", reason="this machine has no cuda device")
def test_programs_of_a_gpu_wait_for_each_other():
    couplings, *given = solved(PatchGrid.cover(2000, 3000, 20), (2000, 3000), 5)
    expected = by_tensors(couplings).step(*given)
    for _ in range(20):
        assert near(couplings.step(*given), expected, 0.1)


@pytest.mark.interpreter
def test_the_kernels_compiled_ahead_are_the_ones_used(kernels, texture, monkeypatch):
    monkeypatch.setattr(device, "cores", lambda: 1)  # Triton's interpreter supports one thread
    compile_ahead.compile_all.__wrapped__(HERE)
    if HERE.type == "cuda":
        import triton

        compiled = []
        monkeypatch.setattr(
            triton.knobs.compilation, "listener", lambda **said: compiled.append(said["src"].name)
        )
        aligned = register.align(texture, np.roll(texture, 5, 1), device="cuda")
        assert aligned.quality["verdict"] == "ok"
        assert not compiled
