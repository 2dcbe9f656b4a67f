"""Verdicts and expected errors of pairs whose true alignment is known."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import register
from register.engine.fit import comparison
from register.engine.fit.estimate import Estimate
from register.engine.fit.problem import Problem
from register.engine.fit.working_copy import levels_of, working_copy
from register.engine.quality import expected_error, kinds, verdict
from register.engine.quality.recognition import recognised
from register.engine.quality.round_trip import round_trip
from register.geometry import affine_tensors, patch_grid, patch_tensors, smoothness
from register.geometry.patch_grid import PatchGrid
from register.images import pyramid
from register.images.pyramid import Level
from register.settings import PRESETS
from register.transforms import compose
from register.transforms.frame import Frame
from register.transforms.quality import PatchFigures, Quality
from register.transforms.transform import Transform


def level(image):
    picture = torch.from_numpy(np.ascontiguousarray(image)).float()[None]
    return working_copy(pyramid.base(picture), 2048, "fixed")


@pytest.fixture(scope="module")
def warped(texture, through):
    """A texture, half of it flat, and the same through a smooth warp of 5 px; with the true map (h, w, 2)."""
    moving = np.hstack([texture[:, :230], np.full((400, 230), texture.mean())])
    y, x = np.mgrid[:400, :460].astype(float)
    truth = np.stack([x + 5 * np.sin(2 * np.pi * y / 400), y + 4 * np.cos(2 * np.pi * x / 300)], 2)
    rng = np.random.default_rng(0)
    fixed = through(moving, truth) + rng.normal(0, 0.02, x.shape)
    return register.align(fixed, moving + rng.normal(0, 0.02, x.shape)), truth


def test_the_expected_error_is_close_to_the_true_error(warped):
    alignment, truth = warped
    assert alignment.quality["verdict"] == "ok"
    points = torch.from_numpy(
        np.stack(np.meshgrid(np.arange(30, 200, 6), np.arange(30, 370, 6)), 2).reshape(-1, 2)
    ).double()
    true = (
        alignment.transform.map(points) - torch.from_numpy(truth[points[:, 1].int(), points[:, 0].int()])
    ).norm(dim=1)
    told = alignment.expected_error(points)
    assert float((true <= told).double().mean()) > 0.5
    assert float(true.median()) / 3 < float(told.median()) < 4 * float(true.median()) + 0.05


def test_the_expected_error_is_infinite_where_there_is_no_texture(warped):
    alignment, _ = warped
    assert bool(torch.isinf(alignment.expected_error(torch.tensor([[350.0, 200.0], [400.0, 100.0]]))).all())
    assert bool(torch.isfinite(alignment.expected_error(torch.tensor([[120.0, 200.0]]))).all())


@pytest.mark.slow
def test_more_noise_gives_a_larger_expected_error(texture):
    told = []
    for noise in (0.0, 0.05, 0.15):
        rng = np.random.default_rng(1)
        one, other = (texture[:256, :256] + rng.normal(0, noise, (256, 256)) for _ in range(2))
        told.append(register.align(one, other, preset="fast", rotation_range=10).quality["expected_error"])
    assert told[0] < told[1] < told[2]


def test_regions_of_the_same_image_are_recognised_and_those_of_another_rank_at_chance(texture):
    unrelated = gaussian_filter(np.random.default_rng(3).normal(size=texture.shape), 2)
    share, sigma = recognised(level(texture), level(texture), Estimate(affine_tensors.identity()))
    assert share > 0.99
    assert sigma > 10
    share, sigma = recognised(level(texture), level(unrelated), Estimate(affine_tensors.identity()))
    assert abs(share - 0.5) < 0.1
    assert abs(sigma) < 4
    assert recognised(level(texture[:20, :20]), level(texture), Estimate(affine_tensors.identity())) is None
    share, sigma = recognised(level(texture[:60, :60]), level(texture), Estimate(affine_tensors.identity()))
    assert (share > 0.95, sigma > 6) == (True, True)


def test_the_round_trip_error_is_small_only_for_the_right_map(texture):
    fixed, moving = level(texture[20:320, 20:320]), level(texture)
    frames = Frame(300, 300), Frame(460, 400)
    found = []
    for shift in (20.0, 34.0):
        matrix = affine_tensors.translation(shift, shift)
        forward = Estimate(matrix).transform("local", frames)
        problem = Problem([fixed], moving, "local", PRESETS["balanced"], max_shift=30.0)
        back = round_trip(problem, forward, matrix, "structure")
        found.append(back.median(fixed))
    assert found[0] < 0.05
    assert found[1] > 10 * found[0]


def test_the_probability_of_being_wrong_decreases_with_all_evidence():
    sure = verdict.probability_wrong((0.99, 25.0), 0.0, 0)
    assert sure < 0.01
    assert verdict.probability_wrong((0.55, 2.0), 50.0, 50) > 0.95
    assert verdict.probability_wrong((0.8, 25.0), 50.0, 50) > sure
    assert verdict.probability_wrong((0.99, 5.0), 50.0, 50) > sure
    assert [
        verdict.probability_wrong(None, *known) for known in ((20.0, 0), (1.0, 40), (8.0, 0), (1.0, 0))
    ] == [0.2, 0.2, 0.5, 0.8]


def summary(**changes):
    known = {
        "probability_wrong": 0.01,
        "overlap": 0.9,
        "det_global": 1.0,
        "recognised": 0.9,
        "recognised_sigma": 20.0,
        "back_and_forth": 1.0,
        "above_chance": 30.0,
    }
    return Quality(**(known | changes))


@pytest.mark.parametrize(
    ("changes", "status", "called", "why"),
    [
        ({}, ["ok"], "ok", None),
        ({"overlap": 0.05}, ["ok"], "suspect", "only 5% of the fixed image overlaps"),
        ({}, ["weak"] * 9 + ["ok"], "suspect", "too little texture"),
        ({}, ["ok", "capped"], "suspect", "--max-shift"),
        ({"det_global": 30.0}, ["ok"], "suspect", "factor of 30"),
        (
            {"probability_wrong": 0.5, "recognised": 0.7},
            ["ok"],
            "suspect",
            "rank at the 70th percentile of similarity (chance: 50th)",
        ),
        (
            {"probability_wrong": 0.8, "recognised": None, "recognised_sigma": None, "above_chance": 2.0},
            ["ok"],
            "failed",
            "too few regions",
        ),
        ({"probability_wrong": 0.9}, ["ok"], "failed", "probably wrong (90%)"),
        ({"det_min": 0.25, "matches_agreeing": 3}, ["ok"], "suspect", "to 25% of its area"),
        ({"det_min": 0.25, "matches_agreeing": 60}, ["ok"], "ok", None),
        ({"det_min": 0.6, "matches_agreeing": 0}, ["ok"], "ok", None),
        ({"back_and_forth": 50.0}, ["ok"], "suspect", "50.0 px"),
        ({"back_and_forth": None}, ["ok"], "suspect", "do not overlap"),
    ],
)
def test_verdicts_give_their_reasons(changes, status, called, why):
    found, reasons = verdict.verdict(summary(**changes), status, verdict.Expected(1000.0))
    assert found == called
    assert (reasons == ()) if why is None else any(why in reason for reason in reasons)


def test_neighbours_with_one_affine_map_do_not_disagree():
    grid = PatchGrid.cover(300, 400, 50)
    matrices = affine_tensors.similarity(
        0.1, 1.1, torch.tensor([5.0, -3.0]).double(), torch.tensor([100.0, 80.0]).double()
    )
    assert (
        smoothness.neighbour_disagreement(
            patch_grid.from_matrices(grid, matrices.expand(grid.rows, grid.columns, 2, 3))
        ).max()
        < 1e-9
    )
    alone = patch_tensors.zeros(grid, dtype=torch.float64)
    alone[0, 0, 3, 4] = 2.0
    found = smoothness.neighbour_disagreement(alone)
    assert float(found[3, 4]) == pytest.approx(2.0)
    assert float(found[3, 5]) == pytest.approx(math.sqrt(4 / 4))
    assert float(found[0, 0]) == 0.0


def with_errors(matrix, errors):
    grid = PatchGrid(2, 2, (0.0, 0.0), (100.0, 100.0))
    frame = Frame(101, 101)
    return Transform(
        "local",
        frame,
        frame,
        matrix,
        grid,
        matrix.expand(2, 2, 2, 3).clone(),
        patch_figures=PatchFigures(expected_error=tuple(errors)),
    )


def test_errors_blend_scale_and_add():
    points = torch.tensor([[0.0, 0.0], [50.0, 0.0], [100.0, 100.0], [90.0, 100.0]])
    one = with_errors(affine_tensors.identity(), [1.0, 3.0, 1.0, None])
    assert one.expected_error(points).tolist() == [1.0, 2.0, math.inf, math.inf]
    twice = with_errors(affine_tensors.scaling(2.0, 2.0), [1.0] * 4)
    assert compose.invert(twice).expected_error(torch.tensor([50.0, 50.0])).item() == pytest.approx(0.5)
    both = compose.compose(one, twice)
    assert both.expected_error(points[:1]).item() == pytest.approx(math.hypot(2 * 1.0, 1.0))
    assert (
        Transform("affine", one.fixed, one.moving, affine_tensors.identity()).expected_error(points[0]).item()
        == math.inf
    )


def test_images_of_one_kind_are_alike_on_coarse_levels_in_noise_and_where_a_third_is_missing(texture):
    rng = np.random.default_rng(2)
    noisy, inverted = texture + rng.normal(0, 0.2, texture.shape), 1 - texture
    inverted[:, 300:] = rng.normal(0.5, 0.1, inverted[:, 300:].shape)
    other = gaussian_filter(rng.normal(size=texture.shape), 3)
    shares = []
    for moving in (noisy, inverted, other):
        levels = levels_of(level(texture))
        problem = Problem(levels, level(moving), "local", PRESETS["balanced"], max_shift=30.0)
        shares.append(kinds.alike(problem, Estimate(affine_tensors.identity())))
    assert shares[0] > 0.9
    assert shares[1] > 0.9
    assert shares[2] < 0.5


def test_images_of_different_kinds_have_larger_expected_errors():
    same = expected_error.between_kinds([0.1, None], 1.0, 1.0)
    assert same == pytest.approx([0.1, math.inf], rel=0.02)
    (other,) = expected_error.between_kinds([0.1], 0.2, 1.0)
    assert other == pytest.approx(math.sqrt(0.01 + expected_error.OTHER_KIND**2 * 0.1))
    assert expected_error.between_kinds([0.2], 0.2, 2.0) == pytest.approx([2 * other])


def test_what_patches_show_beyond_their_error_is_added_to_the_expected_error():
    grid, fine = PatchGrid.cover(80, 120, 40), PatchGrid.cover(80, 120, 20)
    at = torch.from_numpy(fine.centres().reshape(-1, 2))
    shown = torch.full((fine.count,), 0.5, dtype=torch.float64)
    excess = expected_error.excess(shown, (0.3,) * fine.count)
    assert torch.allclose(excess, torch.tensor(0.16, dtype=torch.float64))
    errors = expected_error.with_excess([0.3, None] + [0.0] * (grid.count - 2), grid, at, excess)
    assert errors == pytest.approx([0.5, math.inf] + [0.4] * (grid.count - 2))
    within = expected_error.excess(shown, (0.7,) * fine.count)
    assert expected_error.with_excess([0.3] * grid.count, grid, at, within) == pytest.approx(
        [0.3] * grid.count
    )


def test_patches_that_were_not_kept_count_where_they_are_and_have_an_error():
    grid, fine = PatchGrid.cover(100, 200, 100), PatchGrid.cover(100, 200, 25)
    at = torch.from_numpy(fine.centres().reshape(-1, 2))
    left = at[:, 0] < 50
    excess = torch.where(left, 0.04, 0.0).double()
    errors = np.reshape(expected_error.with_excess([0.0] * grid.count, grid, at, excess), (2, 3))
    assert errors[0, 0] > 0.15
    assert errors[:, 2].tolist() == [0.0, 0.0]
    known = torch.where(left, math.nan, excess)
    assert expected_error.with_excess([0.1] * grid.count, grid, at, known) == pytest.approx(
        [0.1] * grid.count
    )


def test_the_bound_grows_with_the_noise(texture):
    """The Cramér-Rao bound of a shift is proportional to the noise's standard deviation.

    That is so apart from the stiffness and the smallest unexplained variance.
    """
    found = []
    grid = PatchGrid.cover(256, 256, 40)
    for noise in (0.02, 0.08):
        image, rng = level(texture[:256, :256]), np.random.default_rng(0)
        noisy = Level(
            image.image + torch.from_numpy(rng.normal(0, noise, (1, 256, 256))).float(),
            image.mask,
            image.original_from_level,
        )
        problem = Problem([image], noisy, "local", PRESETS["balanced"], max_shift=30.0)
        compare = problem.compare(image, affine_tensors.identity(), "ncc")
        weight = float(comparison.windows(compare).weight.sum())
        found.append(float(expected_error.bounds(compare, grid, patch_tensors.zeros(grid), weight).median()))
    assert 1.8 < found[1] / found[0] < 6
