"""Limits and details of transforms, canvases, sides, movies and resampling, against their definitions."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from register.errors import FileError, RegisterError, TransformError
from register.geometry import affine
from register.geometry.patch_grid import PatchGrid
from register.geometry.pixel_size import PixelSize
from register.geometry.spline_map import SplineMap
from register.images.pixels import EVERYTHING
from register.transforms import compose, group_schema, resample, schema, solve
from register.transforms.canvas import Canvas
from register.transforms.frame import Frame
from register.transforms.minority import doubted
from register.transforms.movie import REFERENCE, FrameTransform, MovieTransforms, load_movie, transform_of
from register.transforms.quality import PatchFigures, Provenance, Quality, Verdict
from register.transforms.resample import ValidMask, Warped, warp_pixels
from register.transforms.sides import Sides, labels_of
from register.transforms.transform import Inverse, Link, Transform

TURN = np.array([[0.9, 0.2, 3.0], [-0.1, 1.1, -2.0]])


def of(matrix, fixed=(40, 30), moving=(50, 20), model="affine", **more):
    return Transform(model, Frame(*fixed), Frame(*moving), np.asarray(matrix, float), **more)


def bent(fixed=(40, 30), moving=(50, 40), by=1.0):
    grid = PatchGrid.cover(fixed[1], fixed[0], 10)
    matrices = np.broadcast_to(TURN, (grid.rows, grid.columns, 2, 3)).copy()
    matrices[..., 0, 2] += by * np.random.default_rng(1).uniform(-1, 1, matrices.shape[:2])
    return of(TURN, fixed, moving, "local", grid=grid, matrices=matrices)


# --- the output grid -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("linear", "moving", "most"),
    [(1, (10, 10), 70), (0.5, (10, 10), 190 - 10), (2, (10, 10), 75)],
)
def test_a_union_has_at_most_four_times_the_pixels_of_both_images(linear, moving, most):
    """10 × 10 fixed pixels, and as many moving ones, or four times as many where those are larger.

    The moving image is shifted to the left: its left side is further away than its own width.
    """
    matrix = np.array([[linear, 0, 0], [0, linear, 0]], float)
    width = round(10 / linear)

    def union(left):
        shift = affine.compose(
            affine.compose(matrix, affine.translation(0.5, 0.5)), affine.translation(left, 0)
        )
        return Canvas.union(of(affine.compose(affine.translation(-0.5, -0.5), shift), (10, 10), moving))

    height = max(width, 10)
    both = 100 + 100 * max(1, 1 / linear**2)
    left = int(4 * both / height) - 10
    found = union(left)
    assert (found.left, found.top, found.width, found.height) == (-left, 0, 10 + left, height)
    with pytest.raises(RegisterError, match="far from each other"):
        union(left + 1)


def test_a_hundredth_of_a_pixel_beyond_the_edge_adds_no_row():
    for by, more in ((0.009, 0), (0.011, 1)):
        for x, y in ((by, 0), (0, by), (-by, 0), (0, -by)):
            found = Canvas.union(of(affine.translation(x, y), (40, 30), (40, 30)))
            place = -more if x > 0 else 0, -more if y > 0 else 0
            assert (found.left, found.top) == place
            assert (found.width, found.height) == (40 + more * (x != 0), 30 + more * (y != 0))


def check_union(found, transform, moving, step):
    """Check that a canvas is the smallest one around a fixed image (40, 30) and all of the moving one, whose
    points are taken at a ``step`` in pixels."""
    axes = (np.linspace(-0.5, side - 0.5, round(side / step) + 1) for side in moving)
    back = transform.inverse().map(np.stack(np.meshgrid(*axes), -1)).reshape(-1, 2)
    low, high = np.minimum(np.floor(back.min(0) + 0.5), 0), np.maximum(np.ceil(back.max(0) + 0.5), (40, 30))
    assert (found.left, found.top) == tuple(low)
    assert (found.left + found.width, found.top + found.height) == tuple(high)


def test_a_union_holds_every_pixel_of_a_bent_image():
    transform = bent(moving=(60, 50), by=2)
    found = Canvas.union(transform)
    check_union(found, transform, (60, 50), step=0.25)


@pytest.mark.parametrize(
    ("row", "column", "x", "y"), [(0, 2, 0, 9), (3, 2, 0, -9), (1, 0, 9, 0), (1, 4, -9, 0)]
)
def test_a_union_holds_an_edge_that_bulges(row, column, x, y):
    """The patch in the middle of an edge moves into the image, so that what lies there comes from outside."""
    grid = PatchGrid.cover(30, 40, 10)
    matrices = np.broadcast_to(affine.identity(), (grid.rows, grid.columns, 2, 3)).copy()
    matrices[row, column, :, 2] = x, y
    transform = of(affine.identity(), (40, 30), (40, 30), "local", grid=grid, matrices=matrices)
    found = Canvas.union(transform)
    check_union(found, transform, (40, 30), step=0.1)
    assert (found.width, found.height) != (40, 30)


@pytest.mark.parametrize("cell", [1, 3])
def test_the_distance_to_a_side_is_known_to_a_factor_of_two(cell):
    labels = np.ones((8, 200), np.int8)
    labels[:, 100:] = 2
    sides = Sides(labels, (200 * cell, 8 * cell), (of(TURN), of(TURN)))
    x = np.array([99.0, 97, 90, 70, 20, -300])
    away = sides._away(np.stack([x * cell, np.full(6, 3.0 * cell)], 1), 2)
    assert (away >= (100 - x) / 2).all()
    assert (away <= 2 * (100 - x)).all()
    assert sides._away(np.array([[150.0 * cell, 1]]), 2).tolist() == [0]
    assert sides._away(np.array([[-1e6, 1.0]]), 2).tolist() == [2.0**12]


def test_a_frame_at_another_scale_has_at_least_a_pixel():
    small = Frame(40, 30, PixelSize(2, 4, "µm"), "a.tif", "00").at_scale(0.25)
    assert small == Frame(10, 8, PixelSize(8, 16, "µm"))
    assert Frame(3, 2).at_scale(0.01) == Frame(1, 1)
    assert Frame(3, 2).pixel_unit is None
    assert small.pixel_unit == "µm"


# --- files -----------------------------------------------------------------------------------------------


def values_of(transform):
    return copy.deepcopy(transform.values())


def read(values):
    return Transform.of(schema.parse(values)).checked()


@pytest.mark.parametrize(
    ("place", "good", "wrong"),
    [
        (("fixed", "width"), 10**9, 10**9 + 1),
        (("fixed", "width"), 1, 0),
        (("fixed", "width"), 1, 1.5),
        (("fixed", "width"), 1, "1"),
        (("global", "matrix", 0, 2), 1e9, 1.1e9),
        (("global", "matrix", 0, 2), -1e9, -1.1e9),
        (("global", "matrix", 0, 2), 0.5, "0.5"),
        (("patches", "spacing", 0), 1e9, 2e9),
        (("patches", "spacing", 0), 1e-3, 0.9e-3),
        (("patches", "spacing", 0), 10.0, "10"),
        (("patches", "origin", 0), -1e9, -1.1e9),
        (("version",), 1, 2),
        (("version",), 1, True),
        (("version",), 1, 0),
        (("model",), "local", "unknown"),
    ],
)
def test_limits_of_the_numbers_of_a_file(place, good, wrong):
    def changed(value):
        values = inner = values_of(bent(by=0))
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        return values

    schema.parse(changed(good))
    with pytest.raises(TransformError, match=str(place[0])):
        schema.parse(changed(wrong))


def test_lists_of_a_file_have_their_lengths():
    plain = values_of(of(TURN))
    for matrix in (TURN[:1], TURN[:, :2], np.vstack([TURN, TURN[:1]]), np.hstack([TURN, TURN[:, :1]])):
        with pytest.raises(TransformError, match=r"global\.matrix"):
            schema.parse(plain | {"global": {"matrix": matrix.tolist()}})
    for size in ([1.0], [1.0, 1.0, 1.0], [0.0, 1.0], [1.0, float("inf")], ["1", 1.0]):
        with pytest.raises(TransformError, match=r"fixed\.pixel_size"):
            schema.parse(plain | {"fixed": plain["fixed"] | {"pixel_size": size}})
    local = values_of(bent())
    for key in ("origin", "spacing"):
        for pair in ([1.0], [1.0, 1.0, 1.0]):
            with pytest.raises(TransformError, match=f"patches.{key}"):
                schema.parse(local | {"patches": local["patches"] | {key: pair}})
    for key in ("columns", "rows"):
        with pytest.raises(TransformError, match=f"patches.{key}"):
            schema.parse(local | {"patches": local["patches"] | {key: 1}})
    narrow = local["patches"] | {"columns": 2, "rows": 2, "matrices": [TURN.tolist()] * 4}
    assert read(local | {"patches": narrow}).grid.count == 4


def test_a_map_of_almost_no_area_is_refused():
    for size in (1.1e-6, 0.9e6):
        assert of(np.diag([size, size]) @ np.eye(2, 3)).checked()
    for size in (0.9e-6, 1.1e6, 0.0):
        with pytest.raises(TransformError, match="cannot be inverted"):
            of(np.diag([size, size]) @ np.eye(2, 3)).checked()
    with pytest.raises(TransformError, match="not finite"):
        of([[1, 0, np.nan], [0, 1, 0]]).checked()
    with pytest.raises(TransformError, match="the patches have shape"):
        replace(bent(), matrices=bent().matrices[:-1]).checked()


def test_units_and_unknown_keys_come_back(tmp_path):
    values = values_of(of(TURN)) | {"more": [1]}
    values["fixed"] |= {"pixel_unit": "mm", "scanner": "x"}
    values["moving"] |= {"pixel_size": [0.5, 0.25], "pixel_unit": "mm"}
    values["global"] |= {"note": "y"}
    found = read(values)
    assert (found.fixed.pixel_size, found.moving.pixel_size) == (None, PixelSize(0.5, 0.25, "mm"))
    again = found.values()
    assert again["fixed"] == values["fixed"]
    assert (again["moving"], again["global"], again["more"]) == (values["moving"], values["global"], [1])
    schema.write(again, tmp_path / "a.json")
    assert Transform.load(tmp_path / "a.json").values() == again
    with pytest.raises(FileError, match=r"b\.json: cannot be opened"):
        Transform.load(tmp_path / "b.json")


def test_a_chain_or_sides_belong_to_their_model_at_any_depth():
    chain = Transform("chain", Frame(40, 30), Frame(50, 20), TURN, chain=(Link(of(TURN)),))
    assert read(values_of(chain)).chain[0].inverse is False
    values = values_of(Transform("chain", chain.fixed, chain.moving, TURN, chain=(Link(chain, True),)))
    assert read(values).chain[0].inverse
    values["chain"][0]["transform"]["chain"] = []
    with pytest.raises(TransformError, match="needs a list of at least one link"):
        schema.parse(values)
    labels = np.array([[1, 2]], np.int8)
    torn = of(TURN, (40, 30), (40, 30), "split", sides=Sides(labels, (40, 30), (of(TURN), of(TURN))))
    assert read(values_of(torn)).sides.labels.tolist() == [[1, 2]]
    values = values_of(torn)
    values["sides"]["transforms"][1] = values_of(chain)
    with pytest.raises(TransformError, match="the transform of a side is of the model 'chain'"):
        schema.parse(values)


def test_there_are_2_to_16_sides_with_a_raster_of_at_most_4096():
    for sides in (2, 16):
        assert labels_of(4096, 1, [1, 4095, sides, 1], sides)[0, -1] == sides
    for sides in (1, 17):
        with pytest.raises(TransformError, match="2 to 16 and at most 4096"):
            labels_of(4, 1, [1, 4], sides)
    assert labels_of(2, 1, [-1, 1, 1, 1], 2).tolist() == [[-1, 1]]
    with pytest.raises(TransformError, match="do not fill"):
        labels_of(2, 1, [1, 2, 1, 0], 2)


GROUP = {
    "format": "register-group", "version": 1, "frame": {"width": 1, "height": 1}, "reference": None,
    "order": [], "groups": [], "notes": [],
    "images": [{"id": "a", "path": "a", "transform": None, "verdict": "ok", "reasons": [], "group": 0}],
    "links": [{"fixed": "a", "moving": "b", "verdict": "ok", "reasons": [], "weight": 0.0, "folder": "x",
               "expected_error": None, "residual": None}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("part", "key", "good", "wrong"),
    [
        ("images", "group", (0, 3), (-1,)),
        ("links", "weight", (0.0, 1.0), (-0.1, 1.1)),
        ("links", "residual", (0.5, None), (float("inf"), "1")),
    ],
)
def test_limits_of_the_numbers_of_a_group(part, key, good, wrong):
    for value in (*good, *wrong):
        values = copy.deepcopy(GROUP)
        values[part][0][key] = value
        if value in good:
            assert getattr(getattr(group_schema.checked(values), part)[0], key) == value
        else:
            with pytest.raises(ValueError, match=rf"{part}\.0\.{key}"):
                group_schema.checked(values)


def test_a_group_of_a_later_version_says_so(tmp_path):
    (tmp_path / "group.json").write_text(schema.text(GROUP | {"version": 2}))
    with pytest.raises(FileError, match="has version 2; this program reads version 1; install a newer"):
        group_schema.read(tmp_path / "group.json")
    for text in ("[]", schema.text(GROUP | {"version": 0}), schema.text(GROUP | {"frame": {"width": 0}})):
        (tmp_path / "group.json").write_text(text)
        with pytest.raises(FileError, match="is not a group file"):
            group_schema.read(tmp_path / "group.json")
    (tmp_path / "group.json").write_text(schema.text(GROUP))
    assert group_schema.read(tmp_path / "group.json").frame.width == 1


# --- figures ---------------------------------------------------------------------------------------------


def test_the_channels_that_were_compared_in_words():
    assert Quality().compared() == Quality(fixed_grey="gray", moving_grey="gray").compared() == ""
    assert Quality(fixed_grey="gray").compared() == Quality(moving_grey="gray").compared() == ""
    assert Quality(fixed_grey="DAPI", moving_grey="gray").compared() == "DAPI with gray"
    shared = Quality(fixed_grey="DAPI", moving_grey="DAPI", shared_channels=("DAPI", "CD3"))
    assert shared.compared() == "DAPI with DAPI; both images name DAPI, CD3"


def test_the_keys_of_a_record_are_those_that_were_given():
    made = Quality.of({"overlap": 0.5, "new": 1, "reasons": "no list", "folds": True, "verdict": "ok"})
    assert list(made) == ["overlap", "new", "reasons", "folds", "verdict"]
    assert (made.reasons, made.folds, made["reasons"], made["folds"]) == ((), None, "no list", True)
    assert len(made) == 5
    with pytest.raises(KeyError):
        made["det_min"]
    assert dict(Quality()) == {}
    assert Quality.of({"rejected_matrix": None}).rejected_matrix is None
    assert Quality.of({"rejected_matrix": [[1, 0], [0, 1]]}).rejected_matrix == ((1, 0), (0, 1))
    assert Quality.of({"rejected_matrix": [1]})["rejected_matrix"] == [1]
    assert PatchFigures.of({"expected_error": [1.0, None]}).expected_error == (1.0, None)
    assert Provenance.of({"compiled": None, "threads": 2}).compiled is None
    assert Provenance.of({"compiled": 1}).others == {"compiled": 1}
    assert list(replace(made, det_min=0.5)).index("det_min") < list(made).index("folds") + 1


@pytest.mark.parametrize(
    ("verdicts", "similar", "changes"),
    [("okok", 1, False), ("okfailed", 1, False), ("okfailedfailed", 1, True), ("okfailedfailed", 0, False)],
)
def test_transforms_to_the_mean_of_a_minority_are_doubted(verdicts, similar, changes):
    """Half is no minority, and constant frames, which have no similarity, are not counted."""
    kinds = [Verdict.OK] * verdicts.count("ok") + [Verdict.FAILED] * verdicts.count("failed")
    still = SplineMap(9, 9, np.eye(2, 3))
    given = [FrameTransform(still, each, (), 0.5 if each == "ok" else 0.5 * similar) for each in kinds]
    found = doubted(given)
    assert (found != given) == changes
    if changes:
        assert [one.verdict for one in found] == ["suspect", "failed", "failed"]
        assert found[0].reasons == ("the mean shows what only 1 of 3 frames with content show",)
        assert found[1] is given[1]


def test_what_a_frame_of_a_movie_says_of_itself():
    plain = SplineMap(30, 40, affine.translation(1.23456, 2))
    found = transform_of("local", FrameTransform(plain, Verdict.OK, (), 0.1234567, np.inf, REFERENCE), 7)
    assert (found.model, found.quality.expected_error, found.quality.similarity_after) == (
        "affine",
        None,
        0.12346,
    )
    assert found.quality.shift == pytest.approx(np.round(plain.shift, 4), abs=1e-12)
    assert (found.provenance.frame, found.provenance.against) == (7, "reference")
    assert (found.fixed.width, found.fixed.height) == (40, 30)
    other = transform_of("rigid", FrameTransform(plain, Verdict.OK, (), 0.5, 0.25, 3))
    assert (other.model, other.quality.expected_error, other.provenance.against) == ("rigid", 0.25, 3)
    assert other.provenance.frame is None
    curved = FrameTransform(SplineMap(30, 40, np.eye(2, 3), np.zeros((2, 5, 6))), Verdict.OK)
    assert transform_of("local", curved).model == "local"
    assert (curved.similarity, curved.expected_error, curved.against) == (0.0, np.inf, REFERENCE)


def test_the_file_of_a_movie_states_its_version(tmp_path):
    still = FrameTransform(SplineMap(30, 40, np.eye(2, 3)), Verdict.OK)
    MovieTransforms("rigid", (still, still)).save(tmp_path / "t.npz")
    with np.load(tmp_path / "t.npz") as file:
        values = dict(file)
    assert (values["version"], values["size"].tolist(), values["frame"].tolist()) == (1, [30, 40], [0, 1])
    assert values["coefficients"].shape == (2, 2, 0, 0)
    assert values["against"].tolist() == [-1, -1]  # the reference
    movie = load_movie(tmp_path / "t.npz")
    assert (movie.canvas, movie.frames[0].map.coefficients) == (None, None)
    for change in ({"version": np.array(2)}, {"format": np.array("other")}):
        np.savez(tmp_path / "u.npz", **values | change)
        with pytest.raises(FileError, match="is not version 1 of register-movie"):
            load_movie(tmp_path / "u.npz")
    with pytest.raises(FileError, match="does not exist"):
        load_movie(tmp_path / "none.npz")
    for content in (b"", b"PK\x03\x04 and nothing else"):
        (tmp_path / "u.npz").write_bytes(content)
        with pytest.raises(FileError, match="is not a file of a movie's transforms"):
            load_movie(tmp_path / "u.npz")


# --- maps ------------------------------------------------------------------------------------------------


def test_points_are_mapped_in_batches():
    for count, sizes in ((0, [0]), (1, [1]), (16384, [16384]), (16385, [16384, 1])):
        assert [len(some) for some in solve.batches(np.zeros((count, 2)))] == sizes
    assert bent().map(np.empty((0, 2))).shape == (0, 2)


def test_the_first_guess_of_the_inverse_is_that_of_the_nearest_patch():
    """At the mapped centre of a patch the blend is the map of that patch alone."""
    transform = bent(by=0.5)
    centres = transform.grid.centres().reshape(-1, 2)
    guess = solve._nearest_inverse(transform, transform.map(centres))
    assert guess == pytest.approx(centres, abs=1e-9)
    outside = np.array([[-60.0, -70.0], [200.0, 150.0]])
    corners = transform.matrices[[0, -1], [0, -1]]
    expected = [affine.apply(affine.invert(m), p[None])[0] for m, p in zip(corners, outside, strict=True)]
    assert solve._nearest_inverse(transform, outside) == pytest.approx(np.array(expected))


def test_the_inverse_stops_at_its_tolerance_or_after_its_steps():
    transform, points = bent(by=1.5), Frame(38, 28).sample_points(12)
    there = transform.map(points)

    def off(**options):
        return np.linalg.norm(transform.map(transform.inverse().map(there, **options)) - there, axis=1).max()

    assert off(tolerance=1e-12) < 1e-11
    assert off() <= 1e-6
    assert off(steps=0) > 1e-3
    guess = solve._nearest_inverse(transform, there)
    assert transform.inverse().map(there, steps=0) == pytest.approx(guess)
    assert 1e-6 < off(tolerance=0.3) <= 0.3


def test_errors_of_a_chain_add_as_independent_ones_do():
    """A link that doubles lengths doubles the error before it."""
    first = replace(of(TURN, (40, 30), (40, 30)), quality=Quality(expected_error=0.3))
    double = np.array([[2.0, 0.0, 1.0], [0.0, 2.0, 1.0]])
    second = replace(of(double, (40, 30), (90, 70)), quality=Quality(expected_error=0.8))
    made = compose.compose(first, second)
    chain = Transform("chain", first.fixed, second.moving, made.matrix, chain=(Link(first), Link(second)))
    middle = np.array([[19.5, 14.5]])
    assert chain.expected_error(middle) == pytest.approx(np.hypot(0.6, 0.8))
    assert made.quality.expected_error == pytest.approx(1.0)
    assert made.expected_error(middle) == pytest.approx(1.0)
    back = Link(second, inverse=True)
    assert back.expected_error(middle) == pytest.approx(0.4)  # in pixels half as fine
    assert back.reversed() == Link(second)
    points, jacobian = back.expand(np.array([[3.0, 5.0]]))
    assert points == pytest.approx(np.array([[1.0, 2.0]]))
    assert jacobian == pytest.approx(np.eye(2)[None] / 2)


def test_composed_maps_of_global_models_have_the_smallest_common_one():
    def named(model, matrix):
        return of(matrix, (40, 30), (40, 30), model)

    shift, turn = (
        named("translation", affine.translation(1, 2)),
        named("rigid", affine.similarity(0.1, 1, (5, 5), (6, 6))),
    )
    made = compose.compose(shift, turn)
    assert (made.model, made.chain) == ("rigid", ())
    points = made.fixed.sample_points(4)
    assert made.map(points) == pytest.approx(turn.map(shift.map(points)))
    assert compose.invert(turn).model == "rigid"
    assert compose.invert(turn).map(turn.map(points)) == pytest.approx(points)
    mixed = compose.compose(shift, bent((40, 30), (50, 40)))
    assert (mixed.model, len(mixed.chain)) == ("chain", 2)
    assert (mixed.moving.width, mixed.fixed.width) == (50, 40)
    assert 0 <= mixed.quality.round_trip_median <= mixed.quality.round_trip_max < 1e-5
    assert made.provenance.sources[0]["fixed"] is None
    for other in ((41, 30), (40, 31)):
        with pytest.raises(TransformError, match="the first transform maps to an image of 40 × 30 pixels"):
            compose.compose(shift, of(TURN, other))


def test_the_round_trip_is_measured_where_the_moving_image_is():
    points = of(TURN).fixed.sample_points(64)
    inside = Frame(50, 20).contains(of(TURN).map(points)).sum()
    assert len(compose.round_trip(of(TURN))) == inside < 64**2
    assert len(compose.round_trip(of(TURN), side=3)) <= 9
    away = of(affine.translation(500, 0))
    assert len(compose.round_trip(away, side=5)) == 25


def test_the_inverse_has_the_frames_the_other_way_round():
    back = of(TURN).inverse()
    assert isinstance(back, Inverse)
    assert (back.fixed, back.moving) == (Frame(50, 20), Frame(40, 30))
    x, y = np.arange(0, 50, 7.0), np.arange(0, 20, 5.0)
    points = affine.points_at(x, y)
    assert back.map_grid(x, y) == pytest.approx(affine.apply(affine.invert(TURN), points))
    units = (2.0, 3.0), (1.0, -1.0)
    assert back.map_grid(x, y, units) == pytest.approx(back.map_grid(x, y) * units[0] + units[1])
    chain = Transform("chain", Frame(40, 30), Frame(50, 20), TURN, chain=(Link(of(TURN)),))
    assert chain.map_grid(x, y, units) == pytest.approx(of(TURN).map_grid(x, y, units))
    assert chain.inverse().map(points) == pytest.approx(back.map(points))


def test_determinants_of_mirrored_maps_and_chains_are_relative_to_the_global_map():
    mirror = np.array([[-1.0, 0.0, 39.0], [0.0, 2.0, 0.0]])
    assert of(mirror).smallest_determinant() == 2
    grid = PatchGrid.cover(30, 40, 10)
    many = np.broadcast_to(mirror, (grid.rows, grid.columns, 2, 3))
    local = of(mirror, model="local", grid=grid, matrices=many)
    assert local.smallest_determinant() == pytest.approx(2)
    chain = of(mirror, model="chain", chain=(Link(local),))
    assert chain.smallest_determinant() == pytest.approx(2)
    torn = of(
        mirror, model="split", sides=Sides(np.array([[1, 2]], np.int8), (40, 30), (of(mirror), of(TURN)))
    )
    assert torn.smallest_determinant() == pytest.approx(0.9 * 1.1 + 0.1 * 0.2)
    assert not torn.continuous
    assert not of(mirror, model="chain", chain=(Link(torn),)).continuous
    assert chain.continuous
    scaled = torn.at_scale(2)
    assert (scaled.fixed.width, scaled.sides.size, scaled.moving.height) == (80, (80, 60), 40)


# --- resampling ------------------------------------------------------------------------------------------


def image(shape=(2, 40, 50), dtype=np.float64):
    found = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape), (0, 2, 2))
    return (found * 900 + 500).astype(dtype)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("make", [bent, lambda: of(TURN, (40, 30), (50, 40)), lambda: bent().inverse()])
def test_a_tile_of_too_many_pixels_is_computed_in_quarters(monkeypatch, interpolation, make):
    transform = make()
    pixels = image((2, transform.moving.height, transform.moving.width))
    whole = warp_pixels(pixels, transform, interpolation=interpolation)
    monkeypatch.setattr(resample, "LARGEST_WINDOW", 400)
    quarters = warp_pixels(pixels, transform, interpolation=interpolation)
    assert quarters == pytest.approx(whole, nan_ok=True, abs=1e-9)


def test_bilinear_values_are_those_of_scipy():
    transform, pixels = bent(by=0.5), image()
    found = warp_pixels(pixels, transform, fill=-7.0)
    x, y = np.moveaxis(transform.map_grid(np.arange(40.0), np.arange(30.0)), -1, 0)
    inside = (x >= -0.5) & (x <= 49.5) & (y >= -0.5) & (y <= 39.5)
    for plane, mine in zip(pixels, found, strict=True):
        theirs = ndimage.map_coordinates(plane, [y, x], order=1, mode="nearest")
        assert mine == pytest.approx(np.where(inside, theirs, -7.0), abs=1e-9)
    assert 0 < inside.mean() < 1


def test_what_lies_outside_gets_the_fill_and_opacity_none():
    pixels = np.full((4, 20, 30), 200, np.uint8)
    right = of(affine.translation(25, 0), (30, 20), (30, 20))
    for alpha, last in ((False, 9), (True, 0)):
        found = Warped(pixels, right, fill=9, alpha=alpha)[EVERYTHING]
        assert found[:, 0, 4].tolist() == [200] * 4
        assert found[:, 0, 5].tolist() == [9, 9, 9, last]
        part = Warped(pixels, right, fill=9, alpha=alpha)[1:3, 3:5, 4:7]
        assert np.array_equal(part, found[1:3, 3:5, 4:7]) or alpha
        assert part[:, 0, 1].tolist() == [9, 9]
        away = Warped(pixels, of(affine.translation(99, 0), (30, 20), (30, 20)), fill=9, alpha=alpha)[
            EVERYTHING
        ]
        assert away[:, 7, 7].tolist() == [9, 9, 9, last]
    assert warp_pixels(pixels, right)[0, 0, 5] == 0
    assert np.isnan(warp_pixels(pixels.astype(np.float32), right)[0, 0, 5])
    assert warp_pixels(pixels > 5, right).dtype == bool
    assert warp_pixels(pixels > 5, right)[0, 0].tolist() == [True] * 5 + [False] * 25


def test_valid_pixels_are_255():
    right = of(affine.translation(25.25, 0), (30, 20), (30, 20))
    found = ValidMask(right)
    assert (found.shape, found.dtype) == ((1, 20, 30), np.uint8)
    assert found[EVERYTHING][0, 3].tolist() == [255] * 5 + [0] * 25
    assert found[:, 2:4, 3:8][0, 1].tolist() == [255, 255, 0, 0, 0]
    valid = np.full((1, 20, 30), 255, np.uint8)
    valid[:, :, 28] = 0
    assert ValidMask(right, valid)[EVERYTHING][0, 3, :6].tolist() == [255, 255, 255, 0, 255, 0]
    canvas = Canvas(-1, -2, 8, 9)
    assert ValidMask(right, canvas=canvas).shape == Warped(valid, right, canvas=canvas).shape == (1, 9, 8)
    assert ValidMask(right, canvas=canvas)[EVERYTHING][0, :3, 1].tolist() == [0, 0, 255]


def test_rounding_of_integers_and_of_positions_between_two_pixels():
    pixels = np.array([[[10, 11, 13, 250]]], np.uint8)
    half = of(affine.translation(0.5, 0), (3, 1), (4, 1))
    assert warp_pixels(pixels, half, interpolation="nearest")[0, 0].tolist() == [11, 13, 250]
    assert warp_pixels(pixels, half)[0, 0].tolist() == [10, 12, 132]  # half to even, as NumPy
    fifth = of(affine.translation(0.2, 0), (3, 1), (4, 1))
    assert warp_pixels(pixels.astype(np.int16) * -100, fifth)[0, 0].tolist() == [-1020, -1140, -6040]


def test_cubic_values_stay_within_their_sixteen_pixels():
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 2, (1, 30, 40)).astype(np.float64)
    pixels[0, :, 20:] += 5
    transform = of(affine.translation(0.3, 0.4), (36, 26), (40, 30))
    found = warp_pixels(pixels, transform, interpolation="bicubic")[0]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(pixels[0], (1, 2), mode="edge"), (4, 4))
    low, high = (f(windows, axis=(2, 3))[:26, :36] for f in (np.min, np.max))
    weights = [np.array([keys(1 + t), keys(t), keys(1 - t), keys(2 - t)]) for t in (0.3, 0.4)]
    cubic = np.einsum("yxij,i,j->yx", windows[:26, :36], weights[1], weights[0])
    assert found == pytest.approx(cubic.clip(low, high))
    assert (found == high).sum() > 20
    assert (found == low).sum() > 20
    wide = warp_pixels(pixels, of(affine.translation(4.3, 3.4), (36, 27), (40, 30)), interpolation="bicubic")[
        0
    ]
    assert wide[:26, :35] == pytest.approx(cubic_at(pixels[0], 4.3, 3.4)[:26, :35])


def cubic_at(plane, x, y):
    """Cubic values, within their sixteen pixels, at pixels shifted by x and y; beyond the edge it repeats."""
    (left, t), (top, u) = ((int(np.floor(v)), v - np.floor(v)) for v in (x, y))
    padded = np.pad(plane, 9, mode="edge")[8 + top :, 8 + left :]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (4, 4))
    weights = [np.array([keys(1 + v), keys(v), keys(1 - v), keys(2 - v)]) for v in (t, u)]
    found = np.einsum("yxij,i,j->yx", windows, weights[1], weights[0])
    return found.clip(windows.min((2, 3)), windows.max((2, 3)))


def keys(x, a=-0.75):
    """The cubic convolution kernel of Keys (1981)."""
    x = abs(x)
    return (a + 2) * x**3 - (a + 3) * x**2 + 1 if x <= 1 else a * (x**3 - 5 * x**2 + 8 * x - 4)


def test_tiles_cover_an_image_once():
    for height, width, side in ((10, 7, 4), (8, 8, 4), (1, 1, 4)):
        seen = np.zeros((height, width), int)
        for rows, columns in resample.tiles(height, width, side):
            seen[rows, columns] += 1
            assert rows.stop <= height
            assert columns.stop <= width
        assert (seen == 1).all()
