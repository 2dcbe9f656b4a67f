"""Images that share little: small views both ways round, small overlaps, and the parts that are aligned."""

import numpy as np
import pytest
import torch

import register
from benchmarks import views
from register.engine.fit import parts
from register.engine.fit.parts import Box, Sides
from register.engine.fit.working_copy import working_copy
from register.engine.initial import shifts
from register.engine.initial.search_range import SearchRange, ShiftRange
from register.engine.quality import verdict
from register.geometry import affine, affine_tensors
from register.images import pyramid
from register.transforms.quality import Quality, Verdict


@pytest.fixture(scope="module")
def scene():
    return views.fields(330, np.random.default_rng(3))


def level(image):
    return working_copy(pyramid.base(torch.from_numpy(image).float()[None]), 2048, "fixed")


def test_a_small_view_is_found_both_ways_round(scene):
    """64 pixels of 330, without turn: found to a pixel, with patches on the view only."""
    for way in ("small fixed", "small moving"):
        row = views.view("fields", scene, 64, way, False, 1)
        assert row.right, row
        assert row.verdict == "ok", row


def test_a_view_with_few_stars_is_found_where_no_other_shift_comes_near():
    """Ten stars in 64 pixels of 1,500: too little to recognise regions, but one shift of two million stands
    out. It is suspect, because nothing else confirms it, and never a wrong place that is called ok."""
    sky = views.stars(1500, np.random.default_rng([7, *b"stars"]))
    row = views.view("stars", sky, 64, "small moving", False, 51)
    assert row.right, row
    assert row.verdict == "suspect", row


def test_a_small_overlap_without_recognised_regions_is_never_ok():
    """Of many small overlaps some are similar by chance; two entire images are compared only once."""
    assert verdict.probability_wrong(None, 12.0, 0, 0.2) >= verdict.SUSPECT_FROM
    assert verdict.probability_wrong(None, 12.0, 0, 0.9) < verdict.SUSPECT_FROM
    assert verdict.probability_wrong(None, 12.0, 40, 0.2) < verdict.SUSPECT_FROM


def test_patches_cover_only_what_the_moving_image_shows(scene):
    fixed, moving = scene, scene[100:170, 40:120]
    found = register.align(fixed, moving, preset="fast")
    assert found.quality.verdict == "ok"
    assert found.quality.overlap == pytest.approx(70 * 80 / 330**2, rel=0.05)
    grid = found.transform.grid
    far = np.array(grid.origin) + np.array(grid.spacing) * [grid.columns - 1, grid.rows - 1]
    assert (np.array(grid.origin) > [20, 80]).all()
    assert (far < [140, 190]).all()
    points = np.array([[41.0, 101.0], [80.0, 130.0], [118.0, 168.0]])
    assert np.abs(found.transform.map(points) - points + [40, 100]).max() < 0.1
    assert np.isfinite(found.expected_error(points)).all()
    assert np.isinf(found.expected_error([[300.0, 300.0]])).all()  # nothing is known where nothing is seen


@pytest.mark.parametrize("share", [0.07, 0.15])
def test_a_shift_is_found_where_neighbours_hardly_overlap(scene, share):
    row = views.overlap("fields", scene, share, "stage", 2)
    assert row.right, row
    assert row.verdict != "failed"


def test_the_correlation_at_a_small_overlap_is_far_above_all_other_shifts(scene):
    one, other = scene[:160, :170], scene[20:180, 155:]
    found = next(shifts.rounds(level(one), level(other), SearchRange("local", 180.0, 5)))
    assert affine.apply(found[0].matrix, torch.zeros(1, 2).double())[0].tolist() == [-155.0, -20.0]
    wrong = [one.score for one in found if abs(float(one.matrix[0, 2]) + 155) > 3]
    assert found[0].score > 15
    assert found[0].score > 1.5 * max(wrong, default=0.0)


def test_unrelated_images_have_no_shift_that_decides():
    one, other = (views.fields(300, np.random.default_rng(seed)) for seed in (11, 12))
    found = next(shifts.rounds(level(one), level(other), SearchRange("local", 180.0, 5)))
    assert max((each.score for each in found), default=0.0) < 15


def test_the_range_of_the_inverse_maps_holds_the_inverses():
    shift = ShiftRange((50.0, 40.0), (130.0, 70.0), 12.0)
    within = SearchRange("similarity", 40.0, 5, scale=1.3, middle=2.0, shift=shift)
    for angle, scale, x, held in (
        (0.3, 2.1, 128.0, True),
        (1.2, 2.0, 130.0, False),
        (0.1, 2.0, 160.0, False),
    ):
        matrix = affine_tensors.similarity(angle, scale, torch.tensor([50.0, 40.0]), torch.tensor([x, 70.0]))
        assert within.contains(matrix) is held
        assert within.inverted().contains(affine.invert(matrix)) is held


def test_parts_are_what_both_images_show_with_a_margin():
    matrix = affine_tensors.translation(-400.0, 10.0)
    boxes = parts.common(Box(0, 0, 500, 300), Box(0, 0, 500, 300), matrix)
    assert boxes is not None
    assert boxes[0].left < 400 < boxes[0].left + 40
    assert boxes[0].right == 500
    assert boxes[1].left == 0
    assert 100 < boxes[1].right < 140
    assert parts.common(Box(0, 0, 50, 50), Box(0, 0, 50, 50), affine_tensors.translation(60, 0)) is None


def test_a_part_of_a_level_is_at_its_place():
    image = torch.arange(2400.0).reshape(1, 40, 60)
    part = parts.window(pyramid.base(image), Box(5, 3, 17, 12))
    assert part.size == (9, 12)
    assert torch.equal(part.image, image[:, 3:12, 5:17])
    place = affine.apply(part.original_from_level, torch.zeros(1, 2).double())[0]
    assert place.tolist() == [5.0, 3.0]
    coarse = parts.window(pyramid.shrink(pyramid.base(image), 2), Box(5, 3, 17, 12))
    corner = affine.apply(coarse.original_from_level, torch.tensor([[-0.5, -0.5]]).double())[0]
    assert corner.tolist() == [3.5, 1.5]


def test_images_that_show_most_of_each_other_have_no_parts(scene):
    sides = Sides.of(level(scene), level(scene))
    assert sides.under(affine_tensors.translation(60.0, 40.0)) is None
    assert sides.under(affine_tensors.translation(240.0, 40.0)) is not None


@pytest.mark.parametrize(
    ("overlap", "most", "area", "demanded", "reasons"),
    [
        (0.01, 0.012, 1.0, 1.0, 0),  # a view of a hundredth of the fixed image
        (0.001, 0.02, 1.0, 1.0, 1),
        (0.9, 1.0, 16.0, 1.0, 0),  # a scale of four
        (0.9, 1.0, 60.0, 64.0, 0),  # as pixel sizes demand
        (0.9, 1.0, 1.0, 64.0, 1),
    ],
)
def test_overlap_and_areas_are_judged_against_what_can_be(overlap, most, area, demanded, reasons):
    quality = Quality(probability_wrong=0.01, overlap=overlap, det_global=area, back_and_forth=0.1)
    called, found = verdict.verdict(quality, (), verdict.Expected(500.0, most, demanded))
    assert len(found) == reasons, found
    assert called == (Verdict.SUSPECT if reasons else Verdict.OK)


def test_a_search_without_time_takes_its_first_start_and_says_so():
    one, other = (views.fields(120, np.random.default_rng(seed)) for seed in (11, 12))
    found = register.align(one, other, search_budget=1e-6, preset="fast", model="affine")
    assert any("time was over" in note for note in found.quality.notes)
    assert found.quality.verdict != "ok"


@pytest.mark.parametrize(("height", "width", "along"), [(17, 900, 310), (10, 100, 35)])
def test_strips_and_profiles_are_aligned(height, width, along):
    scene = views.fields(width + along, np.random.default_rng(5))[:height]
    fixed, moving = scene[:, :width], scene[:, along:]
    found = register.align(fixed, moving, rotation_range=0, scale_range=1, model="translation")
    points = np.array([[along + 5.0, 4.0], [width - 5.0, 8.0]])
    assert np.abs(found.transform.map(points) - points + [along, 0]).max() < 0.2
    assert found.quality.verdict != "failed"
