"""The search for a start: correlation, features, the choice between them, alignments from distant starts."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

import register
from benchmarks.synthetic import SIDE, views
from register.engine import pair
from register.engine.fit.working_copy import working_copy
from register.engine.initial import correlation, features, search, search_range
from register.engine.initial import start as starts
from register.engine.initial.finder import CERTAIN, Proposal
from register.engine.initial.search_range import SearchRange
from register.geometry import affine, affine_tensors
from register.geometry.matches import Matches
from register.images import pyramid

MIRROR = torch.tensor([[-1.0, 0.0, SIDE - 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)


def level(image):
    return working_copy(base(image), 2048, "fixed")


def base(image):
    plane = torch.from_numpy(np.ascontiguousarray(image)).float()[None]
    return pyramid.base(plane)


def distance(matrix, truth, side=SIDE):
    """The mean distance in pixels, over the pixels visible in both views."""
    grid = torch.cartesian_prod(*[torch.linspace(0, side - 1, 12, dtype=torch.float64)] * 2)
    target = affine.apply(truth, grid)
    shown = ((target >= 0) & (target <= side - 1)).all(dim=1)
    return float((affine.apply(matrix, grid) - target).norm(dim=1)[shown].mean())


def start(fixed, moving, **values):
    return search.search_range(
        level(fixed), level(moving), SearchRange("local", **{"rotation": 180.0, "count": 5} | values)
    )


@pytest.mark.parametrize(("angle", "scale"), [(0, 1.0), (100, 1.0), (-140, 1.3), (37, 0.75)])
@pytest.mark.parametrize("contrast", ["plain", "inverted"])
def test_the_search_ranks_the_true_map_first(texture, angle, scale, contrast):
    fixed, moving, truth = views(texture, angle, scale, 0.7, contrast, False, seed=1)
    found = correlation.candidates(
        level(fixed), level(moving), angles=search_range.angles(180), scales=search_range.scales(1.6)
    )
    assert distance(found[0].matrix, truth) < 0.03 * SIDE * math.sqrt(2)


def test_a_rotation_by_180_degrees_from_reversed_spectra_equals_that_of_sampling(texture):
    """The search over a half circle with reversed spectra finds the same map as a rotation by resampling."""
    fixed, moving, _ = views(texture, 170.0, 1.0, 0.8, "plain", False, seed=2)
    found = {}
    for name, angles in (("paired", [-10.0, 170.0]), ("alone", [170.0])):
        hits = correlation.candidates(
            level(fixed), level(moving), angles=torch.tensor(angles), scales=torch.ones(1)
        )
        found[name] = hits[0]
    assert found["paired"].score == pytest.approx(found["alone"].score, rel=0.02)
    assert distance(found["paired"].matrix, found["alone"].matrix) < 1.5


def test_distinct_starts_are_the_best_ones_with_a_minimum_distance(texture):
    image = level(texture)
    rng = np.random.default_rng(0)
    found = [Proposal(affine_tensors.translation(*rng.uniform(-60, 60, 2)), 9 - i / 20) for i in range(120)]
    kept, least = correlation.distinct(found, 1000, image, image), correlation.DISTINCT * max(texture.shape)
    moves = torch.stack([hit.matrix[:, 2] for hit in kept])
    apart = torch.cdist(moves, moves) + 1000 * torch.eye(len(kept))
    assert float(apart.min()) > least
    for hit in found:  # each is kept, or close to a better one
        better = [one for one in kept if one.score >= hit.score]
        assert any(float((one.matrix - hit.matrix)[:, 2].norm()) <= least for one in better)
    assert correlation.distinct(found, 7, image, image) == kept[:7]
    assert correlation.distinct([], 7, image, image) == []


def test_a_true_start_behind_a_hundred_wrong_ones_is_found(texture, monkeypatch):
    fixed, moving, truth = views(texture, 140.0, 1.2, 0.8, "folded", False, seed=5)
    rng = np.random.default_rng(1)
    wrong = [
        Proposal(
            affine.compose(
                truth, affine_tensors.translation(*rng.choice([-1, 1], 2) * rng.uniform(60, 160, 2))
            ),
            6 - i / 100,
        )
        for i in range(300)
    ]
    near = Proposal(affine.compose(truth, affine_tensors.translation(6, -5)), wrong[-1].score - 0.1)
    assert correlation.MANY > len(correlation.distinct(wrong, 1000, level(fixed), level(moving))) > 60
    monkeypatch.setattr(features, "match", lambda *given, **options: None)
    monkeypatch.setattr(correlation, "candidates", lambda *given, **options: [*wrong, near])
    found = start(fixed, moving)
    assert distance(found.matrix, truth) < 1.0
    assert found.is_significant


def test_unrelated_images_have_no_significant_peak():
    assert not starts.Start(affine_tensors.identity(), 0.01, 0.04, above_chance=12.0).is_significant
    assert starts.Start(affine_tensors.identity(), 0.5, 1.3, above_chance=12.0).is_significant
    assert not starts.Start(affine_tensors.identity(), 0.5, 1.3, above_chance=4.0).is_significant


@pytest.mark.parametrize("angle", [0, 75, 180])
def test_features_find_a_small_overlap_at_another_scale(texture, angle):
    fixed, moving, truth = views(texture, angle, 1.6, 0.5, "plain", False, seed=3)
    found = features.match(level(fixed), level(moving))
    assert found is not None
    assert len(found.fixed) >= CERTAIN
    assert distance(found.matrix, truth) < 1.0


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("model", ["translation", "rigid", "similarity", "affine"])
def test_the_map_of_matches_is_of_its_model_in_pixels_of_the_originals(texture, model, mirrored):
    cut = texture[7:, 11:]
    fixed, moving = level(texture), level(cut[:, ::-1] if mirrored else cut)
    found, share = features._match(
        fixed, search_range.mirror(moving) if mirrored else moving, features.Detection(300, 1000), model
    )  # copies smaller than the images
    truth = affine_tensors.translation(-11, -7)
    if mirrored:
        truth = affine.compose(
            torch.tensor([[-1.0, 0.0, cut.shape[1] - 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64), truth
        )
    assert share > features.CLEAR
    assert distance(found.matrix, truth, 300) < 0.5
    if model in ("translation", "rigid"):
        assert float(affine.determinant(found.matrix).abs()) == pytest.approx(1, abs=1e-9)


def test_features_of_a_negative_match_those_of_the_image(texture):
    (at, described), (at_negative, of_negative) = (
        features._features(base(x), features.Detection(340, 300)) for x in (texture, 1 - texture)
    )
    expected = features._of_negative(described)
    for place, one in zip(at, expected, strict=True):
        same_place = of_negative[
            np.linalg.norm(at_negative - place, axis=1) < 0.01
        ]  # a place may have several directions
        assert np.abs(same_place - one).max(axis=1).min() < 0.02


def test_features_of_unrelated_images_do_not_match(texture):
    rng = np.random.default_rng(5)
    assert features.match(level(texture), level(rng.normal(size=texture.shape))) is None


def test_more_features_are_detected_where_few_agree(texture, monkeypatch):
    asked = SearchRange("affine", 30.0, 2)
    looked = []

    def agree(of_few, of_many):
        def match(fixed, moving, look, model, scale):
            looked.append(look)
            return {features.FEW: of_few, features.PLAIN: of_many}.get(look), 0.5

        monkeypatch.setattr(features, "_match", match)
        looked.clear()

    few, many = (
        Matches(torch.eye(3).double(), affine_tensors.identity(), *2 * [200 * torch.rand(n, 2).double()])
        for n in (14, 40)
    )
    agree(few, many)
    assert features.match(level(texture), level(texture)) is many
    agree(None, many)
    assert features.match(level(texture), level(texture)) is None
    assert looked == [features.FEW]
    looked.clear()
    monkeypatch.setattr(starts.Start, "is_significant", False)
    assert search.find(level(texture), level(texture), [asked]).matches is many
    assert looked == [features.FEW, features.PLAIN]
    agree(None, None)
    assert search.find(level(texture), level(texture), [asked]).matches is None
    assert looked == [features.FEW, features.PLAIN, features.TILTED]


@pytest.mark.parametrize("contrast", ["plain", "inverted"])
def test_a_mirrored_image_is_found_when_allowed(texture, contrast):
    fixed, moving, truth = views(texture, 30, 1.0, 0.9, contrast, True, seed=4)
    assert float(affine.determinant(truth)) < 0
    found = register.align(fixed, moving, allow_flip=True, preset="fast")
    assert found.quality["verdict"] == "ok"
    assert float(affine.determinant(found.transform.matrix)) < 0
    assert distance(torch.from_numpy(found.transform.matrix), truth) < 0.3
    assert found.transform.smallest_determinant() > 0


@pytest.mark.slow
def test_a_mirrored_image_is_tried_before_failed(texture):
    fixed, moving, truth = views(texture, 30, 1.0, 0.9, "plain", True, seed=4)
    found = register.align(fixed, moving, preset="fast")
    assert found.quality["verdict"] == "ok"
    assert distance(torch.from_numpy(found.transform.matrix), truth) < 0.3
    assert any("mirrored" in note for note in found.quality["notes"])


def test_rotation_and_scale_ranges_bound_the_search(texture):
    fixed, moving, truth = views(texture, 120, 1.0, 0.9, "plain", False, seed=6)
    assert distance(start(fixed, moving).matrix, truth) < 1.0
    assert abs(affine.decompose(start(fixed, moving, rotation=20.0).matrix).rotation) < 40
    assert affine.decompose(start(fixed, moving, scale=1.2).matrix).scale == pytest.approx(1, abs=0.25)


@pytest.mark.slow
def test_pixel_sizes_give_the_scale(texture):
    fixed, moving, truth = views(texture, 0, 2.0, 1.0, "inverted", False, seed=7)
    images = base(fixed), base(moving), (fixed.shape, moving.shape)
    settings = register.settings.check(preset="fast")
    found = pair.align(*images, settings, pixel_ratio=2.0)
    assert distance(torch.from_numpy(found.transform.matrix), truth) < 2.0
    wrong = pair.align(*images, settings, pixel_ratio=0.7)  # wrong: the entire range is searched
    assert distance(torch.from_numpy(wrong.transform.matrix), truth) < 2.0


def test_patches_fit_a_strong_perspective(texture):
    """Magnification varies by 1.7 across the image: no affine map is nearer than 9 pixels."""
    homography = np.array([[0.8, 0.05, 40.0], [-0.05, 0.85, 30.0], [-1e-3, 3e-4, 1.0]])
    grid = np.stack(np.meshgrid(np.arange(330), np.arange(300)), axis=2).astype(float)
    points = np.concatenate([grid, np.ones((300, 330, 1))], axis=2) @ homography.T
    truth = points[..., :2] / points[..., 2:]
    fixed = map_coordinates(texture, [truth[..., 1], truth[..., 0]], order=3, mode="reflect")
    found = register.align(fixed, texture)
    shown = ((truth >= 2) & (truth <= np.array(texture.shape[::-1]) - 3)).all(axis=2)
    errors = np.linalg.norm(found.transform.field().numpy() + grid - truth, axis=2)[shown]
    assert found.quality["verdict"] == "ok"
    assert np.median(errors) < 0.15
    assert np.percentile(errors, 95) < 1.0
