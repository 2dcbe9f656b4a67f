"""Start finders of other packages: what the setting ``matcher`` adds to the built-in search."""

import sys
import types

import numpy as np
import pytest
import torch

import register
from benchmarks.synthetic import SIDE, views
from register.engine.initial import correlation, features, registry
from register.engine.initial.finder import Proposal, StartFinder
from register.engine.initial.matchers import finder_from_matches
from register.engine.points import look
from register.errors import RegisterError, RegisterWarning
from register.geometry import affine, affine_tensors
from register.registries import STARTS


def points_of(truth, count=60, scale=1.0):
    """Matches (n, 2), (n, 2) and scores (n,) on a known map, in pixels of images ``scale`` times smaller."""
    rng = np.random.default_rng(3)
    fixed = rng.uniform(0, SIDE - 1, (400, 2))
    moving = affine.apply(truth, torch.from_numpy(fixed)).numpy()
    inside = ((moving >= 0) & (moving <= SIDE - 1)).all(1)
    return fixed[inside][:count], moving[inside][:count], np.ones(int(inside.sum()))[:count]


@pytest.fixture
def points_alone(texture, monkeypatch):
    """Two views with their true map, on which features and correlation propose nothing."""
    fixed, moving, truth = views(texture, 100.0, 1.5, 0.8, "plain", False, seed=8)
    monkeypatch.setattr(features, "match", lambda *given, **options: None)
    monkeypatch.setattr(correlation, "candidates", lambda *given, **options: [])
    return fixed, moving, truth


@pytest.fixture
def hard(points_alone, monkeypatch):
    """Two views with their true map, on which the built-in finders propose nothing."""
    monkeypatch.setattr(look, "matched", lambda *given, **options: [])
    return points_alone


@pytest.fixture
def added():
    """Adds a finder for the length of a test."""
    names = []

    def add(name, record):
        STARTS.add(name, record)
        names.append(name)

    yield add
    for name in names:
        STARTS.remove(name)


def distance(matrix, truth):
    corners = torch.tensor([[50.0, 50], [250, 50], [50, 250], [250, 250]], dtype=torch.float64)
    return float(
        (affine.apply(torch.as_tensor(matrix), corners) - affine.apply(truth, corners)).norm(dim=1).max()
    )


def align(fixed, moving, **values):
    return register.align(fixed, moving, preset="fast", model="similarity", **values)


def test_the_arrangement_of_points_finds_a_texture(points_alone):
    fixed, moving, truth = points_alone
    found = align(fixed, moving)
    assert found.quality["verdict"] == "ok"
    assert distance(found.transform.matrix, truth) < 1.0
    assert "the start finder points found the initial map" in found.quality["notes"]


def test_an_added_function_is_tried_where_the_built_in_search_fails(hard, added):
    fixed, moving, truth = hard
    assert align(fixed, moving).quality["verdict"] == "failed"
    added("toy", lambda fixed, moving: points_of(truth))
    assert align(fixed, moving, matcher="none").quality["verdict"] == "failed"
    for matcher in ("auto", "toy"):
        found = align(fixed, moving, matcher=matcher)
        assert found.quality["verdict"] == "ok"
        assert distance(found.transform.matrix, truth) < 1.0
        assert "the start finder toy found the initial map" in found.quality["notes"]


def test_a_function_is_imported_by_name(hard, monkeypatch):
    fixed, moving, truth = hard
    module = types.ModuleType("toy_matcher")
    module.match = lambda fixed, moving: points_of(truth)
    monkeypatch.setitem(sys.modules, "toy_matcher", module)
    found = align(fixed, moving, matcher="toy_matcher:match")
    assert found.quality["verdict"] == "ok"
    assert distance(found.transform.matrix, truth) < 1.0


def test_a_record_may_propose_maps_directly(hard, added):
    fixed, moving, truth = hard
    near = affine.compose(truth, affine_tensors.translation(4.0, -3.0))
    added("record", StartFinder("record", lambda fixed, moving, within: iter([[Proposal(near, 1.0)]])))
    assert distance(align(fixed, moving).transform.matrix, truth) < 1.0


@pytest.mark.parametrize("garbage", ["random", "consistent", "none"])
def test_wrong_proposals_change_nothing(texture, added, garbage):
    fixed, moving, _ = views(texture, 20.0, 1.1, 0.9, "plain", False, seed=9)
    rng = np.random.default_rng(0)

    def match(fixed, moving):
        source = rng.uniform(0, SIDE - 1, (200, 2))
        if garbage == "none":
            return np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0)
        target = source[:, ::-1] if garbage == "random" else source + np.array([30.0, -40.0])
        return source, rng.permutation(target) if garbage == "random" else target, np.ones(200)

    expected = align(fixed, moving, matcher="none")
    added("garbage", match)
    found = align(fixed, moving, matcher="garbage")
    assert np.array_equal(found.transform.matrix, expected.transform.matrix)
    assert found.quality["notes"] == expected.quality["notes"]


@pytest.mark.slow
def test_wrong_proposals_do_not_align_unrelated_images(texture, added):
    texture, other = texture[:150, :150], np.random.default_rng(2).random((150, 150))
    source = np.random.default_rng(3).uniform(20, 130, (200, 2))
    added("garbage", lambda fixed, moving: (source, source + np.array([12.0, -9.0]), np.ones(200)))
    found = register.align(texture, other, preset="fast", model="affine", matcher="garbage")
    assert found.quality["verdict"] == "failed"


def test_a_finder_that_raises_is_a_warning_that_names_it(hard, added):
    def breaks(fixed, moving):
        raise ValueError("no weights")

    fixed, moving, _ = hard
    added("broken", breaks)
    for matcher in ("auto", "broken"):
        with pytest.warns(RegisterWarning, match="'broken' failed and is not used: ValueError: no weights"):
            align(fixed, moving, matcher=matcher)


def test_a_finder_that_returns_wrong_shapes_is_one_clear_error(texture, added):
    added("wrong", lambda fixed, moving: (np.zeros((5, 2)), np.zeros((4, 2)), np.zeros(5)))
    with pytest.raises(RegisterError, match=r"'wrong' returned arrays of shapes \(5, 2\), \(4, 2\), \(5,\)"):
        align(texture, texture, matcher="wrong")
    with pytest.raises(RegisterError, match="must return points"):
        align(texture, texture, matcher="numpy:subtract")


@pytest.mark.parametrize("matcher", ["no_such_module:match", "math:no_such_function", "math:pi"])
def test_a_finder_that_cannot_be_imported_is_one_clear_error(texture, matcher):
    with pytest.raises(RegisterError, match=f"--matcher {matcher}"):
        align(texture, texture, matcher=matcher)


def test_an_unknown_name_is_an_error_that_lists_the_known_ones(texture):
    with pytest.raises(RegisterError, match="features, correlation"):
        align(texture, texture, matcher="unknown")


def test_a_function_is_given_grey_images_and_masks_where_it_takes_them(texture):
    seen = {}

    def match(fixed, moving, *, fixed_mask, moving_mask):
        seen.update(fixed=fixed, moving=moving, fixed_mask=fixed_mask, moving_mask=moving_mask)
        return np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0)

    from register.engine.fit.working_copy import working_copy
    from register.engine.initial.search_range import SearchRange
    from register.images import pyramid

    mask = torch.ones(1, *texture.shape)
    mask[:, :, :50] = 0
    level = working_copy(pyramid.base(torch.from_numpy(texture).float()[None], mask), 2048, "fixed")
    proposals = list(finder_from_matches("masks", match).rounds(level, level, SearchRange("affine", 30.0, 2)))
    assert proposals == [[]]
    assert seen["fixed"].dtype == np.float32
    assert 0 <= seen["fixed"].min() <= seen["fixed"].max() <= 1
    assert not seen["fixed_mask"][:, :50].any()
    assert seen["fixed_mask"][100:200, 100:200].all()
    assert seen["moving_mask"].shape == seen["moving"].shape == texture.shape


def test_the_built_in_finders_are_records():
    assert [registry.get(name).name for name in ("features", "correlation")] == ["features", "correlation"]
