"""Diverged patches are initialised again from their neighbours."""

import numpy as np
import pytest
import torch

import register
from benchmarks.synthetic import warped_pair
from register import settings
from register.engine.fit import comparison, recover_patches
from register.engine.fit.problem import Problem
from register.engine.initial import features
from register.geometry import affine_tensors, patch_grid, patch_tensors
from register.geometry.patch_grid import PatchGrid
from register.geometry.patch_tensors import Patches
from register.images import pyramid

GRID = PatchGrid(6, 5, (-0.5, -0.5), (20.0, 25.0))
EFFORT = settings.PRESETS["fast"]


def affine_patches(grid):
    """Parameters (2, 3, rows, columns) of one affine map on all patches."""
    matrix = torch.tensor([[1.02, 0.03, 2.0], [-0.01, 0.97, -3.0]], dtype=torch.float64)
    return patch_grid.from_matrices(grid, matrix.expand(grid.rows, grid.columns, 2, 3))


@pytest.mark.parametrize("held", [[(2, 3)], [(0, 0), (4, 5)], [(0, 2), (1, 2), (3, 4)]])
def test_recovered_patches_extrapolate_an_affine_map(held):
    truth, known = affine_patches(GRID), torch.zeros(GRID.rows, GRID.columns, dtype=torch.bool)
    known[tuple(torch.tensor(held).T)] = True
    found = recover_patches.extrapolated(torch.where(known, truth, 99.0), known)
    assert found == pytest.approx(truth, abs=1e-9)


def test_patches_are_unchanged_where_none_or_all_are_known():
    truth = affine_patches(GRID)
    for known in (torch.ones(5, 6, dtype=torch.bool), torch.zeros(5, 6, dtype=torch.bool)):
        assert torch.equal(recover_patches.extrapolated(truth, known), truth)


def level(image):
    plane = torch.from_numpy(np.ascontiguousarray(image)).float()[None]
    return pyramid.base(plane)


def test_diverged_patches_are_those_that_were_moved_away(texture):
    one = level(texture)
    compare = Problem([one], one, "local", EFFORT, 30.0).compare(one, affine_tensors.identity(), "ncc")
    grid = PatchGrid.cover(*one.size, 40)
    parameters = patch_tensors.zeros(grid)
    parameters[0, 0, 2:4, 5] = 12.0
    gone = recover_patches.diverged(
        *comparison.per_patch(compare, grid, comparison.windows(compare, Patches(grid, parameters)))
    )
    assert bool(gone[2:4, 5].all())
    gone[1:5, 4:7] = False
    assert not bool(gone.any())


def test_no_patch_of_unrelated_images_is_diverged(texture):
    one, other = level(texture), level(np.random.default_rng(0).normal(size=texture.shape))
    compare = Problem([one], other, "local", EFFORT, 30.0).compare(one, affine_tensors.identity(), "ncc")
    grid = PatchGrid.cover(*one.size, 40)
    assert not bool(
        recover_patches.diverged(*comparison.per_patch(compare, grid, comparison.windows(compare))).any()
    )


@pytest.mark.slow
def test_a_corner_out_of_reach_is_reached_from_the_middle(texture, monkeypatch):
    """Without features to start from, as between images of other kinds.

    All patches but a few at the border converge.
    """
    monkeypatch.setattr(features, "match", lambda *_, **__: None)
    pair = warped_pair(texture, 0.05, 1, contrast="inverted", noise=0.02)
    target = pair.moving_from_fixed
    height, width = pair.fixed.shape
    shown = ((target >= 0) & (target <= [width - 1, height - 1])).all(axis=2)
    still = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=2)

    def ninetieth():
        return np.percentile(
            np.linalg.norm(
                register.align(pair.fixed, pair.moving).transform.field().numpy() + still - target, axis=2
            )[shown],
            90,
        )

    assert ninetieth() < 1.0
    monkeypatch.setattr(recover_patches, "ROUNDS", 0)
    assert ninetieth() > 5.0
