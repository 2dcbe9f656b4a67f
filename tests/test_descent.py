import pytest
import torch

from register import affine, descent, memory, pyramid, sampling
from register.comparison import prepare
from register.descent import descend
from register.errors import AlignmentError
from register.patches import PatchGrid


@pytest.fixture
def comparison(texture):
    plane = torch.from_numpy(texture)[None].float()
    level = pyramid.base(plane, torch.ones_like(plane))
    return prepare(level, level, affine.translation(2.0, 1.0)[None].expand(3, -1, -1), "ncc", window=20, margin=8)


def quadratic(parameters):
    return (parameters - 3).square().sum(1), 2 * (parameters - 3)


def test_descent_reaches_the_minimum_and_says_why_it_stopped():
    outcome = descend(quadratic, torch.zeros(2, 4), step=0.5, steps=200, tolerance=0.001)
    assert torch.allclose(outcome.parameters, torch.full((2, 4), 3.0), atol=0.02)
    assert "ten steps" in outcome.reason
    assert outcome.history[-1] < outcome.history[0]


def test_descent_keeps_the_best_state():
    start = torch.full((1, 2), 3.0)
    assert torch.equal(descend(lambda p: ((p - 3).square().sum(1), torch.ones_like(p)), start, step=1.0, steps=5, tolerance=0).parameters, start)


def test_a_number_that_is_not_finite_is_an_error():
    with pytest.raises(AlignmentError, match="no longer finite"):
        descend(lambda p: (p.sum(1) * float("nan"), p), torch.zeros(1, 2), step=1.0, steps=5, tolerance=0)


def fake_memory(monkeypatch, limit):
    real, refused = sampling.grid_sample, []

    def small_device(image, grid, **options):
        if grid.shape[0] * grid.shape[1] * grid.shape[2] > limit:
            refused.append(grid.shape)
            raise torch.OutOfMemoryError("fake")
        return real(image, grid, **options)

    monkeypatch.setattr(sampling, "grid_sample", small_device)
    return refused


def test_out_of_memory_splits_the_level_into_strips_with_the_same_result(comparison, monkeypatch):
    one = comparison.batches(3)[0]
    grid = PatchGrid.cover(400, 460, 60)
    settings = {"stiffness": 5.0, "max_shift": 30.0, "step": 0.5, "steps": 8, "tolerance": 0.0}
    whole = descent.descend_patches(one, grid, grid.zeros(), **settings)
    refused = fake_memory(monkeypatch, 400 * 460 // 3)
    parts = descent.descend_patches(one, grid, grid.zeros(), **settings)
    assert refused
    assert torch.allclose(parts.parameters, whole.parameters, atol=2e-3)


def test_out_of_memory_splits_a_batch_of_starts_with_the_same_result(comparison, monkeypatch):
    settings = {"step": 0.5, "steps": 5, "tolerance": 0.0}
    whole, _ = descent.descend_global(comparison, "similarity", **settings)
    refused = fake_memory(monkeypatch, 400 * 460 + 1000)
    parts, _ = descent.descend_global(comparison, "similarity", **settings)
    assert refused
    assert torch.allclose(parts, whole, atol=1e-4)


def test_out_of_memory_in_every_number_of_parts_is_passed_on():
    tried = []

    def work(parts):
        tried.append(parts)
        raise torch.OutOfMemoryError("fake")

    with pytest.raises(torch.OutOfMemoryError, match="even in 16 parts"):
        memory.in_parts(work)
    assert tried == [1, 2, 4, 8, 16]
