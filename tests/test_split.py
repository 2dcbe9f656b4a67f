"""Transforms with sides that move apart: their map, file, inverse and exports; the alignment with a mask."""

import json

import numpy as np
import pytest
import tifffile
from scipy import ndimage

import register
from register.errors import FileError, RegisterError, TransformError
from register.geometry import affine
from register.images.split_mask import read_labels
from register.io.transforms.export import export
from register.transforms import compose
from register.transforms.frame import Frame
from register.transforms.quality import Quality, Verdict
from register.transforms.sides import Sides
from register.transforms.transform import Transform

FRAME = Frame(60, 40)
LEFT, RIGHT = affine.translation(1.0, 2.0), affine.translation(9.0, 2.0)


def torn(labels=None):
    """A transform of which the right half moves 8 pixels further to the right than the left half."""
    if labels is None:
        labels = np.ones((40, 60), np.int8)
        labels[:, 30:] = 2
    known = Quality(verdict=Verdict.OK, expected_error=0.1)
    maps = tuple(Transform("translation", FRAME, FRAME, matrix, quality=known) for matrix in (LEFT, RIGHT))
    return Transform("split", FRAME, FRAME, LEFT, sides=Sides(labels, (60, 40), maps))


def test_each_point_is_mapped_by_its_side():
    points = np.array([[0.0, 0.0], [29.4, 20.0], [29.6, 20.0], [90.0, -5.0]])
    assert torn().map(points) - points == pytest.approx(np.array([[1, 2], [1, 2], [9, 2], [9, 2]]))
    assert not torn().continuous
    assert torn().checked().map_grid([29, 30], [5])[0] == pytest.approx(np.array([[30, 7], [39, 7]]))


def test_a_file_holds_the_sides(tmp_path):
    made = torn()
    made.save(tmp_path / "t.json")
    read = Transform.load(tmp_path / "t.json")
    assert np.array_equal(read.sides.labels, made.sides.labels)
    assert read.values() == made.values()
    points = FRAME.sample_points(16)
    assert np.array_equal(read.map(points), made.map(points))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"runs": [1, 60]}, "do not fill"),
        ({"runs": [1, 1200, 3, 1200]}, "name a side"),
        ({"runs": [1, 1200, 0, 1200]}, "name a side"),
        ({"rows": 10**8}, "at most"),
        ({"transforms": []}, "2 to 16"),
    ],
)
def test_a_file_with_wrong_sides_is_refused_in_one_line(tmp_path, change, says):
    values = torn().values()
    values["sides"] |= change
    (tmp_path / "t.json").write_text(json.dumps(values))
    with pytest.raises(FileError, match=says):
        Transform.load(tmp_path / "t.json")


@pytest.mark.parametrize("model", ["local", "chain", "affine"])
def test_sides_belong_to_their_model(tmp_path, model):
    values = torn().values() | {"model": model}
    (tmp_path / "t.json").write_text(json.dumps(values))
    with pytest.raises(FileError, match=r"sides:|chain:"):
        Transform.load(tmp_path / "t.json")


def test_the_inverse_returns_and_knows_the_gap():
    made = torn()
    points = FRAME.sample_points(20)
    assert made.inverse().map(made.map(points)) == pytest.approx(points)
    back = compose.invert(made)
    assert back.map(made.map(points)) == pytest.approx(points)
    assert np.isfinite(back.expected_error(made.map(points))).all()
    gap = np.array([[34.0, 20.0]])  # between the sides in the moving image
    assert np.isfinite(back.map(gap)).all()
    assert back.expected_error(gap) == np.inf
    assert back.quality.round_trip_max < 1e-6


def test_a_point_without_counterpart_has_no_expected_error():
    labels = np.ones((40, 60), np.int8)
    labels[:, 30:] = 2
    labels[:, 28:33] *= -1
    errors = torn(labels).expected_error(np.array([[10.0, 5.0], [30.0, 5.0], [50.0, 5.0]]))
    assert errors.tolist() == [0.1, np.inf, 0.1]


def test_composition_and_scale_keep_the_sides():
    made, points = torn(), FRAME.sample_points(10)
    shift = Transform("translation", FRAME, FRAME, affine.translation(3.0, 0.0))
    assert compose.compose(made, shift).map(points) == pytest.approx(made.map(points) + np.array([3, 0]))
    assert not compose.compose(made, shift).continuous
    finer = made.at_scale(2.0)
    assert finer.map(2 * points + 0.5) == pytest.approx(2 * made.map(points) + 0.5)


def test_resampling_does_not_mix_the_sides():
    image = np.tile(np.arange(60.0), (40, 1))
    warped = register.warp(image, torn())
    assert warped[5, 20] == 21
    assert warped[5, 29] == 30
    assert warped[5, 30] == 39


def test_fields_hold_the_sides_and_splines_refuse_them(tmp_path):
    report = export(torn(), "npz", tmp_path / "field.npz")
    assert report.field_error_max > 3
    for name in ("itk", "elastix"):
        with pytest.raises(TransformError, match="displacement field"):
            export(torn(), name, tmp_path / "t.txt", spacing=10)


def line_mask(*, to=59, thickness=1, size=(40, 60)):
    mask = np.zeros(size, np.uint8)
    for y in range(min(to + 1, size[0])):
        mask[y, 25 + y // 8 : 25 + y // 8 + thickness] = 255
    return mask[None]


def test_a_line_separates_what_lies_beside_it():
    found = read_labels(line_mask())
    assert set(np.unique(found)) == {1, 2}
    assert len({found[0, 5], found[39, 5]}) == 1
    assert found[20, 5] != found[20, 50]
    assert np.array_equal(found, read_labels(255 - line_mask()))


def test_a_crack_is_extended_to_the_border():
    found = read_labels(line_mask(to=20))
    assert found[2, 5] != found[2, 50]
    assert found[38, 5] != found[38, 50]
    assert abs(np.argmax(found[38] != found[38, 0]) - (25 + 38 // 8)) < 4


def test_a_thick_line_has_no_counterpart():
    found = read_labels(line_mask(thickness=6))
    assert ((found < 0) == (line_mask(thickness=6)[0] > 0)).all()


def test_regions_have_a_value_each():
    mask = np.full((30, 40), 7, np.uint8)
    mask[:, 25:] = 9
    mask[20:, :] = 200
    found = read_labels(mask[None])
    assert np.array_equal(found, np.select([mask == 7, mask == 9], [1, 2], 3))


def test_two_regions_need_no_line():
    mask = np.zeros((40, 60), np.uint8)
    mask[:, 30:] = 1
    found = read_labels(mask[None])
    assert found[5, 5] != found[5, 50]


def test_a_large_mask_keeps_its_thin_line():
    mask = np.zeros((1, 5000, 300), np.uint8)
    mask[0, 2501, :] = 1
    found = read_labels(mask)
    assert found.shape[0] == 1667
    assert found[0, 0] != found[-1, 0]


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (np.zeros((20, 20), np.uint8), "1 different values"),
        (np.arange(400, dtype=np.uint16).reshape(20, 20), "different values"),
    ],
)
def test_a_mask_that_separates_nothing_is_refused(mask, says):
    with pytest.raises(RegisterError, match=says):
        read_labels(mask[None])


def torn_pair(side=220):
    """A pair whose right part moves 9 px to the right and 3 px down beyond what the left part does."""
    generator = np.random.default_rng(5)
    scene = sum(
        ndimage.gaussian_filter(generator.normal(size=(side + 60, side + 60)), s) * s for s in (1.5, 3, 8)
    )
    scene = (scene - scene.min()) / np.ptp(scene)
    y, x = np.mgrid[:side, :side].astype(float)
    right = x > 0.6 * side + 0.1 * y
    fixed = scene[30:-30, 30:-30]
    moving = np.full((side, side), 0.02)
    for dx, dy, mine in ((1.3, 0.4, ~right), (10.3, 3.4, right)):
        view = ndimage.map_coordinates(scene, [y + 30 - dy, x + 30 - dx], order=3)
        inside = ndimage.shift(mine.astype(float), (dy, dx), order=1, mode="nearest") > 0.5
        moving[inside] = view[inside]
    truth = np.where(right[..., None], [10.3, 3.4], [1.3, 0.4]) + np.stack([x, y], 2)
    return fixed, moving, right, truth


def near_errors(transform, truth, right):
    """The errors within 8 px of the line, on both sides, where the truth is inside the moving image."""
    side = len(right)
    distance = ndimage.distance_transform_edt(right) + ndimage.distance_transform_edt(~right)
    points = np.stack(np.meshgrid(np.arange(side), np.arange(side)), 2).astype(float)
    errors = np.linalg.norm(transform.map(points) - truth, axis=2)
    shown = (distance <= 8) & ((truth > 6) & (truth < side - 7)).all(2)
    return errors[shown & right], errors[shown & ~right]


def test_a_split_mask_aligns_both_sides_up_to_the_line():
    fixed, moving, right, truth = torn_pair()
    whole = register.align(fixed, moving, preset="fast", init="identity")
    assert max(map(np.median, near_errors(whole.transform, truth, right))) > 0.5
    made = register.align(fixed, moving, preset="fast", init="identity", split_mask=right)
    assert made.quality.verdict == "ok"
    assert max(map(np.median, near_errors(made.transform, truth, right))) < 0.3
    assert made.transform.model == "split"
    assert register.warp(moving, made.transform).shape == fixed.shape


def test_a_bad_split_mask_gets_one_line(tmp_path):
    fixed, moving = torn_pair(96)[:2]
    for name, image in (("f", fixed), ("m", moving), ("mask", np.zeros((96, 96)))):
        tifffile.imwrite(tmp_path / f"{name}.tif", (255 * image).astype(np.uint8))
    files = [str(tmp_path / f"{name}.tif") for name in ("f", "m", "mask")]
    with pytest.raises(FileError, match=r"mask\.tif.*1 different values"):
        register.align(files[0], files[1], split_mask=files[2], preset="fast")
    with pytest.raises(RegisterError, match="split_mask has the shape"):
        register.align(fixed, moving, split_mask=np.zeros((3, 3)))
