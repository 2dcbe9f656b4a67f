"""Sides of torn images, canvases, frames, a movie's transforms and units, against their definitions."""

from dataclasses import replace

import numpy as np
import pytest

from register.errors import FileError, RegisterError, TransformError
from register.geometry import affine
from register.geometry.pixel_size import PixelSize
from register.geometry.spline_map import SplineMap
from register.io.transforms.units import PIXELS, Units
from register.transforms.canvas import Canvas
from register.transforms.compose import compose
from register.transforms.frame import Frame
from register.transforms.movie import REFERENCE, FrameTransform, MovieTransforms, load_movie, without_folds
from register.transforms.quality import Verdict
from register.transforms.sides import Sides, labels_of
from register.transforms.transform import Transform


class Shifted:
    """The map of a side that is shifted along x."""

    def __init__(self, x):
        self.by = np.array([x, 0.0])

    def expand(self, points):
        return points + self.by, np.broadcast_to(np.eye(2), (len(points), 2, 2))

    def back(self, points):
        return points - self.by


LABELS = np.array([[1, 1, 2, 2], [1, -1, 2, 2]], np.int8)
TORN = Sides(LABELS, (40, 10), (Shifted(0.0), Shifted(8.0)))  # cells of 10 × 5 pixels


def test_the_side_of_a_point_is_that_of_its_cell():
    y, x = np.mgrid[0:10, 0:40]
    found = TORN.at(np.stack([x.ravel(), y.ravel()], 1).astype(float)).reshape(10, 40)
    assert np.array_equal(found, np.kron(LABELS, np.ones((5, 10), np.int8)))
    edges = [[-0.5, 0], [9.49, 4.49], [9.51, 4.51], [19.4, 0], [19.6, 0], [39.5, 9.5], [-50, 99], [999, -99]]
    assert TORN.at(np.array(edges)).tolist() == [1, 1, -1, 1, 2, 2, 1, 2]


def test_every_point_is_mapped_by_its_side_with_its_jacobian():
    points = np.array([[3.0, 2.0], [12.0, 7.0], [25.0, 3.0]])
    mapped, jacobian = TORN.expand(points)
    assert mapped.tolist() == [[3, 2], [12, 7], [33, 3]]
    assert np.array_equal(jacobian, np.broadcast_to(np.eye(2), (3, 2, 2)))
    assert [mine.tolist() for mine, _ in TORN.divided(points)] == [[True, True, False], [False, False, True]]
    assert [side.by[0] for _, side in TORN.divided(points[:2])] == [0.0]


def test_a_target_goes_back_by_the_side_that_reaches_it_and_in_a_gap_by_the_nearer_one():
    target = np.array([[3.0, 2.0], [33.0, 3.0], [20.5, 2.0], [27.0, 2.0]])
    fine = Sides(np.kron(LABELS, np.ones((5, 10), np.int8)), TORN.size, TORN.maps)  # cells of a pixel
    found = fine.inverse(target, Shifted.back)
    assert found.tolist() == [[3, 2], [25, 3], [20.5, 2], [19, 2]]  # the gap is 19.5 to 27.5


def test_where_two_sides_reach_a_target_that_with_a_counterpart_is_taken():
    both = Sides(LABELS, (40, 10), (Shifted(0.0), Shifted(-8.0)))
    target = np.array([[15.0, 2.0], [15.0, 7.0]])  # side 1 has no counterpart in the lower cell
    assert both.inverse(target, Shifted.back).tolist() == [[15, 2], [23, 7]]


def test_runs_are_the_labels():
    values = TORN.values(lambda side: side.by[0])
    assert values == {
        "columns": 4,
        "rows": 2,
        "runs": [1, 2, 2, 2, 1, 1, -1, 1, 2, 2],
        "transforms": [0.0, 8.0],
    }
    assert np.array_equal(labels_of(4, 2, values["runs"], 2), LABELS)
    changed = TORN.changed(Frame(80, 20), lambda side: Shifted(2 * side.by[0]))
    assert changed.at(np.array([[50.0, 1.0]])).tolist() == [2]
    assert [side.by[0] for side in changed.maps] == [0.0, 16.0]


@pytest.mark.parametrize(
    ("columns", "rows", "runs", "sides", "said"),
    [
        (4, 2, [1, 4, 2], 2, "do not fill"),
        (4, 2, [1, 4, 2, 3], 2, "do not fill"),
        (4, 2, [1, 9, 2, -1], 2, "do not fill"),
        (4, 2, [1, 8, 2, 0], 2, "do not fill"),
        (4, 2, [1, 4, 3, 4], 2, "name a side"),
        (4, 2, [0, 4, 2, 4], 2, "name a side"),
        (4, 2, [1, 8], 1, "1 transforms on a raster"),
        (4097, 1, [1, 4097], 2, "at most 4096"),
        (1, 4097, [1, 4097], 2, "at most 4096"),
    ],
)
def test_runs_that_are_no_raster_of_sides_are_refused(columns, rows, runs, sides, said):
    with pytest.raises(TransformError, match=said):
        labels_of(columns, rows, runs, sides)


def shifting(x, y, fixed=(40, 30), moving=(50, 20), scale=1.0):
    matrix = affine.compose(affine.translation(x, y), np.array([[scale, 0, 0], [0, scale, 0.0]]))
    return Transform("affine", Frame(*fixed), Frame(*moving), matrix)


def test_the_union_holds_both_images_and_no_more():
    assert Canvas.union(shifting(0, 0)) == Canvas(0, 0, 50, 30)
    assert Canvas.union(shifting(7, -4)) == Canvas(-7, 0, 50, 30)
    assert Canvas.union(shifting(-7, 4)) == Canvas(0, -4, 57, 34)
    assert Canvas.union(shifting(0.25, 0)) == Canvas(-1, 0, 51, 30)
    assert Canvas.of(shifting(7, -4)) == Canvas(0, 0, 40, 30)
    with pytest.raises(RegisterError, match="the union of both images would be"):
        Canvas.union(shifting(2000, 2000))


def test_a_canvas_maps_its_pixels_and_its_border():
    canvas, transform = Canvas(-7, 2, 50, 30), shifting(7, -4)
    assert np.array_equal(canvas.map(transform, range(1, 3), range(4, 5))[:, 0], [[4, -1], [4, 0]])
    border = canvas.border(transform, range(4), range(3)).numpy()
    assert {tuple(point) for point in border.tolist()} == {
        (x, y - 2.0) for x in (0, 1, 2) for y in (0, 1, 2, 3) if x in (0, 2) or y in (0, 3)
    }


def test_a_frame_holds_its_pixels_with_their_edges():
    frame = Frame(40, 30)
    inside = [[-0.5, -0.5], [39.5, 29.5], [0, 0]]
    outside = [[-0.51, 0], [0, -0.51], [39.51, 0], [0, 29.51], [np.nan, 0]]
    assert frame.contains(np.array(inside)).all()
    assert not frame.contains(np.array(outside)).any()
    assert frame.sample_points(3).tolist()[::4] == [[0, 0], [19.5, 14.5], [39, 29]]


def test_the_transforms_of_a_movie_are_a_sequence_and_a_file(tmp_path):
    plain = SplineMap(30, 40, affine.translation(1, 2))
    bent = SplineMap(30, 40, affine.translation(3, 4), np.full((2, 5, 6), 0.25))
    frames = (
        FrameTransform(plain, Verdict.OK, (), 0.9, 0.1),
        FrameTransform(bent, Verdict.SUSPECT, ("one", "two"), 0.5, 2.0, 0),
    )
    MovieTransforms("local", frames, (-1, -2, 44, 33)).save(tmp_path / "t.npz")
    movie = load_movie(tmp_path / "t.npz")
    assert len(movie) == len(list(movie)) == 2
    assert movie.canvas == (-1, -2, 44, 33)
    assert [one.against for one in movie.frames] == [REFERENCE, 0]
    assert [one.reasons for one in movie.frames] == [(), ("one", "two")]
    assert [one.expected_error for one in movie.frames] == [0.1, 2.0]
    points = np.array([[10.0, 10.0]])
    assert np.allclose([movie[n].map(points)[0] for n in (0, 1)], [[11, 12], [13.25, 14.25]])
    assert np.allclose([movie[n].map(points)[0] for n in (-2, -1)], [[11, 12], [13.25, 14.25]])
    for beyond in (2, -3):
        with pytest.raises(IndexError, match="there are 2 frames"):
            movie[beyond]


@pytest.mark.parametrize("name", ["matrix", "coefficients"])
def test_numbers_of_a_movie_that_are_not_finite_are_refused(tmp_path, name):
    frame = FrameTransform(SplineMap(30, 40, np.eye(2, 3), np.zeros((2, 5, 6))), Verdict.OK)
    MovieTransforms("local", (frame,)).save(tmp_path / "t.npz")
    with np.load(tmp_path / "t.npz") as file:
        values = dict(file)
    values[name][0, 0, 0] = np.nan
    np.savez(tmp_path / "t.npz", **values)
    with pytest.raises(FileError, match="a number is not finite"):
        load_movie(tmp_path / "t.npz")


def test_a_deformation_that_folds_is_reduced_and_suspect():
    folded = np.zeros((2, 6, 8))
    folded[0] = -1.2 * np.arange(8) * 84 / 5
    of = FrameTransform(SplineMap(60, 84, np.eye(2, 3), folded), Verdict.OK, ("known",))
    less = without_folds(of)
    assert (less.verdict, less.reasons) == ("suspect", ("known", "the deformation folded and was reduced"))
    assert not less.map.folds
    assert without_folds(less) is less
    failed = FrameTransform(of.map, Verdict.FAILED)
    assert without_folds(failed).bad


@pytest.mark.parametrize(
    ("verdicts", "reasons", "worst", "why"),
    [
        (("ok", "suspect"), ((), ("a",)), "suspect", ("a",)),
        (("suspect", "suspect"), (("a",), ("b", "a")), "suspect", ("a", "b")),
        (("ok", "unknown"), (("a",), ()), "unknown", ("a source transform has no verdict",)),
        (("ok", "unknown"), (("a",), ("b",)), "unknown", ("b",)),
        (("ok", "ok"), ((), ()), "ok", ()),
    ],
)
def test_a_composed_transform_has_the_worst_verdict_of_its_sources(verdicts, reasons, worst, why):
    sources = []
    for verdict, reason in zip(verdicts, reasons, strict=True):
        one = shifting(1, 1, (40, 30), (40, 30))
        quality = replace(one.quality, verdict=Verdict(verdict), reasons=reason)
        sources.append(replace(one, quality=quality))
    made = compose(*sources)
    assert (made.quality.verdict, made.quality.reasons) == (worst, why)


def test_the_units_of_a_transform_are_those_of_its_pixel_sizes():
    def of(fixed, moving):
        fixed, moving = (Frame(40, 30, pixel_size=size) for size in (fixed, moving))
        return Units.of(Transform("affine", fixed, moving, np.eye(2, 3)))

    same = of(PixelSize(0.5, 0.25, "µm"), PixelSize(2, 1, "µm"))
    assert (same.fixed, same.moving, same.name) == ((0.5, 0.25), (2, 1), "µm")
    other = of(PixelSize(0.5, 0.25, "µm"), PixelSize(2, 1, "mm"))
    assert other.name == "µm"
    assert other.moving == pytest.approx((2000, 1000))
    map_units = of(PixelSize(10, 10, "deg"), PixelSize(20, 20, "deg"))
    assert (map_units.moving, map_units.name) == ((20, 20), "deg")
    sky = PixelSize(1, 1, "deg")
    for unknown in (
        (None, sky),
        (sky, None),
        (sky, PixelSize(1, 1, "µm")),
        (PixelSize(1, 1), PixelSize(1, 1)),
    ):
        assert of(*unknown) == PIXELS
    assert same.times(4).fixed == (2.0, 1.0)
    matrix = np.array([[1.0, 2, 3], [4, 5, 6]])
    point = np.array([7.0, 9.0])  # pixels; the matrix in units maps the same point, in units
    wanted = (matrix[:, :2] @ point + matrix[:, 2]) * same.moving
    made = same.matrix(matrix)
    assert np.allclose(made[:, :2] @ (point * same.fixed) + made[:, 2], wanted)
    assert same.description() == "µm, from the pixel sizes of both images"
    assert "the pixel sizes are not known" in PIXELS.description()
