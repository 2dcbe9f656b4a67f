from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from register.compute import cuda_graphs, memory
from register.compute.iteration import run_stepwise
from register.engine.fit import local_fit
from register.engine.fit.comparison import prepare
from register.engine.fit.level import optimise_global, optimise_patches
from register.engine.fit.objective import GlobalObjective, PatchObjective
from register.engine.fit.problem import Problem
from register.errors import AlignmentError
from register.geometry import affine, affine_tensors, models, patch_tensors
from register.geometry.patch_grid import PatchGrid
from register.images import interpolation, pyramid
from register.images.descriptors import orientation
from register.optim.adam import adam
from register.optim.conjugate_gradients import conjugate_gradients
from register.optim.gauss_newton import Expansion, gauss_newton
from register.optim.result import OptimisationResult, result_of
from register.settings import PRESETS
from register.similarity import registry


@pytest.fixture
def comparison(texture, through):
    """Three equal maps, 2.3 and 0.6 pixels from the truth.

    These are not integers, where linear interpolation has two gradients.
    """
    still = affine.points_at(*interpolation.axes(*texture.shape, dtype=torch.float64))
    fixed, moving = (
        pyramid.base(plane)
        for plane in (torch.from_numpy(through(texture, still + s)).float()[None] for s in (0, OFF))
    )
    return prepare(
        fixed,
        moving,
        affine_tensors.translation(2.0, 1.0)[None].expand(3, -1, -1),
        "ncc",
        window=20,
        margin=8,
    )


OFF = torch.tensor([0.3, -0.4])


def followed(begun, steps):
    return result_of(run_stepwise(begun, steps, lambda index, loss: None))


def quadratic(parameters):
    return (parameters - 3).square().sum(1), 2 * (parameters - 3)


def test_adam_reaches_the_minimum_and_reports_why_it_ended():
    outcome = followed(adam(quadratic, torch.zeros(2, 4), step=0.5, steps=200, tolerance=0.001), 200)
    assert torch.allclose(outcome.parameters, torch.full((2, 4), 3.0), atol=0.02)
    assert "tolerance" in outcome.reason
    assert outcome.history[-1] < outcome.history[0]


def test_adam_keeps_the_best_state():
    start = torch.full((1, 2), 3.0)
    begun = adam(
        lambda p: ((p - 3).square().sum(1), torch.ones_like(p)), start, step=1.0, steps=5, tolerance=0
    )
    assert torch.equal(followed(begun, 5).parameters, start)


def test_a_number_that_is_not_finite_is_an_error():
    with pytest.raises(AlignmentError, match="no longer finite"):
        followed(
            adam(lambda p: (p.sum(1) * float("nan"), p), torch.zeros(1, 2), step=1.0, steps=5, tolerance=0), 5
        )


def test_gauss_newton_solves_least_squares_in_a_few_steps_and_never_climbs():
    target = torch.tensor([[1.0, 2.0], [-1.0, 0.5]])

    def expand(p):  # Rosenbrock's valley as a sum of squares, one per batch item
        residual = torch.stack(
            [p[:, 0] - target[:, 0], 10 * (p[:, 1] - target[:, 1] - (p[:, 0] - target[:, 0]) ** 2)], 1
        )
        slopes = torch.stack(
            [
                torch.tensor([[1.0, 0.0]]).expand(2, -1),
                torch.stack([-20 * (p[:, 0] - target[:, 0]), torch.full((2,), 10.0)], 1),
            ],
            1,
        )
        loss = residual.square().sum(1)
        return Expansion(
            loss, loss[:, None], 2 * (slopes.mT @ residual[..., None])[..., 0], 2 * slopes.mT @ slopes
        )

    def solve(at, damping):
        return -torch.linalg.solve(
            at.hessian + torch.diag_embed(at.hessian.diagonal(dim1=-2, dim2=-1) * damping), at.gradient
        )

    outcome = followed(gauss_newton(expand, solve, torch.zeros(2, 2), tolerance=1e-6, gain=0.0), 40)
    assert torch.allclose(outcome.parameters, target, atol=1e-3)
    assert all(later <= earlier for earlier, later in pairwise(outcome.history))


def test_conjugate_gradients_solve_a_positive_system():
    torch.manual_seed(0)
    a = torch.randn(12, 12, dtype=torch.float64)
    a = a @ a.T + torch.eye(12)
    right = torch.randn(12, dtype=torch.float64)
    found = conjugate_gradients(lambda v: a @ v, lambda r: r / a.diagonal(), right)
    assert float((a @ found - right).norm() / right.norm()) < 0.05


@pytest.mark.parametrize("metric", ["ncc", "structure", "mse"])
def test_the_gradient_of_patches_is_that_of_their_loss_by_both_methods(comparison, tensors_only, metric):
    with tensors_only():
        objective, parameters = patch_objective(comparison, metric, parts=3)
        loss, slope = objective.evaluate(parameters)
        found = objective.expand(parameters)
        step = torch.randn_like(parameters) * 0.02
        there, back = (objective.evaluate(parameters + s * step)[0] for s in (1, -1))
    assert torch.allclose(found.loss, loss)
    assert torch.allclose(found.gradient, slope, atol=1e-6)
    assert float(there - back) / 2 == pytest.approx(float((slope * step).sum()), rel=0.1)


@pytest.mark.parametrize("model", ["translation", "rigid", "similarity", "affine"])
def test_the_gradient_and_hessian_of_a_global_model(comparison, model):
    objective = GlobalObjective(comparison, model)
    parameters = torch.full((3, models.get(model).parameters), 0.3)
    found = objective.expand(parameters)
    loss, slope = objective.evaluate(parameters)
    assert torch.allclose(found.loss, loss, atol=1e-5)
    assert torch.allclose(found.gradient, slope, rtol=1e-3, atol=1e-5)
    assert float(torch.linalg.eigvalsh(found.hessian).min()) > 0


def test_adam_and_gauss_newton_find_the_same_shift(comparison):
    one = comparison.batches(3)[0]
    for optimizer, steps in (("adam", 80), ("gauss-newton", 10)):
        matrix, _ = optimise_global(
            one, "translation", optimizer=optimizer, step=0.5, steps=steps, tolerance=1e-4
        )
        assert matrix[0, :, 2].tolist() == pytest.approx([-2.3, -0.6], abs=0.02)


def patch_objective(comparison, metric, parts):
    one = replace(comparison.batches(3)[0], similarity=registry.get(metric))
    if metric == "structure":
        one = replace(
            one,
            fixed=orientation(one.fixed, torch.ones_like(one.fixed)),
            moving=orientation(one.moving, torch.ones_like(one.moving)),
        )
    grid = PatchGrid.cover(400, 460, 120)
    torch.manual_seed(1)
    return PatchObjective(one, grid, 5.0, parts), 0.5 * torch.randn(1, 2, 3, grid.rows, grid.columns)


def fake_memory(monkeypatch, limit):
    real, refused = interpolation.grid_sample, []

    def small_device(image, grid, **options):
        if grid.shape[0] * grid.shape[1] * grid.shape[2] > limit:
            refused.append(grid.shape)
            raise torch.OutOfMemoryError("fake")
        return real(image, grid, **options)

    monkeypatch.setattr(interpolation, "grid_sample", small_device)
    return refused


@pytest.mark.parametrize("optimizer", ["adam", "gauss-newton"])
def test_out_of_memory_splits_the_level_into_strips_with_the_same_result(
    comparison, monkeypatch, tensors_only, optimizer
):
    one = comparison.batches(3)[0]
    grid = PatchGrid.cover(400, 460, 60)
    settings = {
        "optimizer": optimizer,
        "stiffness": 5.0,
        "max_shift": 30.0,
        "step": 0.5,
        "steps": 12,
        "tolerance": 0.0,
    }
    with tensors_only():
        whole = optimise_patches(one, grid, patch_tensors.zeros(grid), **settings)
        refused = fake_memory(monkeypatch, 400 * 460 // 3)
        parts = optimise_patches(one, grid, patch_tensors.zeros(grid), **settings)
    assert refused
    assert float(parts.loss) == pytest.approx(float(whole.loss), abs=1e-3)
    assert torch.allclose(parts.parameters[:, 0], whole.parameters[:, 0], atol=0.02)


def test_out_of_memory_splits_a_batch_of_starts_with_the_same_result(comparison, monkeypatch, tensors_only):
    settings = {"optimizer": "gauss-newton", "step": 0.5, "steps": 5, "tolerance": 0.0}
    with tensors_only():
        whole, _ = optimise_global(comparison, "similarity", **settings)
        refused = fake_memory(monkeypatch, 400 * 460 + 1000)
        parts, _ = optimise_global(comparison, "similarity", **settings)
    assert refused
    assert torch.allclose(parts, whole, atol=0.01)


def test_recordings_are_freed_before_the_work_is_split(monkeypatch):
    monkeypatch.setattr(cuda_graphs, "_RECORDINGS", {"of another pair": None})
    tried = []

    def work(parts):
        tried.append((parts, len(cuda_graphs._RECORDINGS)))
        if cuda_graphs._RECORDINGS:
            raise torch.OutOfMemoryError("fake")
        return "done"

    assert memory.in_batches(work) == "done"
    assert tried == [(1, 1), (1, 0)]


def test_out_of_memory_in_every_number_of_parts_is_passed_on():
    tried = []

    def work(parts):
        tried.append(parts)
        raise torch.OutOfMemoryError("fake")

    with pytest.raises(torch.OutOfMemoryError, match="even in 16 batches"):
        memory.in_batches(work)
    assert tried == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("soft", "stiff", "kept"), [(4.0, 0.0, 1.0), (0.0, 4.0, local_fit.STIFFER), (0.0, 0.0, None)]
)
def test_a_level_whose_patches_follow_noise_is_stiffer_or_left_out(texture, soft, stiff, kept):
    """Patches that move towards the true map improve held-out windows; those that move away do not."""
    fixed, moving = (torch.from_numpy(texture[:200, x : x + 260]).float()[None] for x in (4, 0))
    levels = [pyramid.base(image) for image in (fixed, moving)]
    problem = Problem(levels[:1], levels[1], "local", PRESETS["balanced"], max_shift=30.0)
    compare = problem.compare(levels[0], affine_tensors.identity(), "ncc")
    grid = PatchGrid.cover(200, 260, 40)

    def descend(half, start, stiffness):
        step = torch.zeros_like(start)
        step[0, 0] = soft if stiffness == 1.0 else stiff
        step[1, 0] = 0.0 if step.any() else 3.0  # away from the true map
        return OptimisationResult(start + step, torch.zeros(1), (), "")

    found = local_fit._try_half(compare, grid, patch_tensors.zeros(grid), descend, 1.0)
    assert (found and found[1]) == kept
