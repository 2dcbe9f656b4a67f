"""Public functions give a right answer or one ``RegisterError`` for whatever Python code gives them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TISSUE
from PIL import Image as Pillow

import register
from register.errors import FileError
from register.geometry import affine
from register.geometry.patch_grid import PatchGrid
from register.transforms.frame import Frame
from register.transforms.transform import Transform

RNG = np.random.default_rng(0)
POINTS = RNG.uniform(0, 40, (7, 2))


def local():
    grid = PatchGrid.cover(40, 50, 20)
    matrices = affine.identity() + RNG.normal(0, 0.01, (grid.rows, grid.columns, 2, 3))
    return Transform("local", Frame(50, 40), Frame(50, 40), affine.identity(), grid, matrices)


TRANSFORM = local()
FUNCTIONS = {
    "map": TRANSFORM.map,
    "inverse": TRANSFORM.inverse().map,
    "expected error": TRANSFORM.expected_error,
    "global": Transform("affine", Frame(9, 9), Frame(9, 9), affine.scaling(2, 3)).map,
}
WRONG = {
    "three columns": np.zeros((5, 3)),
    "a number": 3.0,
    "one axis of three": [1, 2, 3],
    "none": np.zeros((0,)),
    "ragged": [[1, 2], [3]],
    "text": [["1", "2"]],
    "a word": "points",
    "complex": np.zeros((2, 2), complex),
    "complex tensor": torch.zeros(2, 2, dtype=torch.complex64),
    "sparse tensor": torch.zeros(2, 2).to_sparse(),
    "structured": np.zeros(3, [("x", float), ("y", float)]),
    "objects": np.array([[None, 1]]),
    "dates": np.zeros((2, 2), "datetime64[s]"),
    "a dictionary": {"x": 1, "y": 2},
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("wrong", WRONG)
def test_points_that_are_none_are_refused(function, wrong):
    with pytest.raises(register.RegisterError, match=r"^points (have shape|must be real numbers)") as error:
        FUNCTIONS[function](WRONG[wrong])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_kind_of_points_gives_the_same_numbers(function):
    compute = FUNCTIONS[function]
    expected = compute(POINTS)
    wide = np.zeros((7, 4))
    wide[:, ::2] = POINTS
    readonly = POINTS.copy()
    readonly.flags.writeable = False
    for same in (
        POINTS.tolist(),
        [tuple(point) for point in POINTS],
        np.asfortranarray(POINTS),
        wide[:, ::2],
        POINTS[:, ::-1].copy()[:, ::-1],
        POINTS[::-1].copy()[::-1],
        readonly,
        POINTS.astype(">f8"),
        POINTS.astype(object),
        np.ma.masked_array(POINTS),
    ):
        assert np.array_equal(compute(same), expected)
    tensor = torch.from_numpy(POINTS)
    for same in (tensor, tensor.clone().requires_grad_(), tensor.T.contiguous().T, tensor[None]):
        found = compute(same)
        assert isinstance(found, torch.Tensor)
        assert np.array_equal(found.reshape(expected.shape), expected)
    flipped = compute(POINTS[:, ::-1])
    assert np.array_equal(flipped, compute(POINTS[:, ::-1].copy()))
    assert compute(POINTS[0]).shape == expected.shape[1:]
    assert compute(POINTS[:0]).shape == (0, *expected.shape[1:])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_points_that_are_not_finite_give_nan_and_the_others_their_values(function):
    compute, points = FUNCTIONS[function], POINTS.copy()
    expected = compute(points)
    points[1, 0], points[3, 1], points[5] = np.nan, np.inf, -np.inf
    found = compute(points)
    assert np.isnan(found[[1, 3, 5]]).all()
    assert np.array_equal(found[[0, 2, 4, 6]], expected[[0, 2, 4, 6]])


def test_masked_points_stay_masked():
    hidden = np.zeros((7, 2), bool)
    hidden[2, 1] = True
    found = TRANSFORM.map(np.ma.masked_array(POINTS, hidden))
    assert found.mask.tolist() == [[n == 2] * 2 for n in range(7)]
    assert np.array_equal(found[3].data, TRANSFORM.map(POINTS)[3])


def test_an_inverse_is_saved_as_a_transform(tmp_path):
    TRANSFORM.inverse().save(tmp_path / "t.json")
    again = Transform.load(tmp_path / "t.json")
    assert np.allclose(again.map(POINTS), TRANSFORM.inverse().map(POINTS), atol=1e-6)
    assert again.quality.round_trip_max < 1e-4


def test_positions_of_a_grid_are_checked():
    for wrong in ([[0, 1]], [1, 0], [0, np.nan], [], "ab"):
        with pytest.raises(register.RegisterError, match=r"^x must be"):
            TRANSFORM.map_grid(wrong, [0, 1])


IMAGE = np.asarray(Pillow.open(TISSUE[0]).convert("L"))[100:300, 100:340]
MOVED = IMAGE[5:, 3:]
FAST = {"preset": "fast", "model": "translation"}


@pytest.fixture(scope="module")
def shift():
    return register.align(IMAGE, MOVED, **FAST).transform.matrix[:, 2]


def test_every_kind_of_image_gives_the_same_alignment(shift, tmp_path):
    assert shift == pytest.approx([-3, -5], abs=0.05)
    Pillow.fromarray(IMAGE).save(tmp_path / "f.png")
    Pillow.fromarray(MOVED).save(tmp_path / "m.png")
    tensor = torch.from_numpy(MOVED.copy())
    kinds = {
        "negative strides": (IMAGE[::-1].copy()[::-1], MOVED[:, ::-1].copy()[:, ::-1]),
        "lists": (IMAGE.tolist(), MOVED.tolist()),
        "paths": (tmp_path / "f.png", str(tmp_path / "m.png")),
        "a path and an array": (tmp_path / "f.png", MOVED),
        "gradients": (torch.from_numpy(IMAGE.copy()), tensor.float().requires_grad_()),
        "half precision": (IMAGE, tensor.to(torch.bfloat16)),
        "masked": (np.ma.masked_array(IMAGE), MOVED),
        "read only": (np.asarray(IMAGE), np.broadcast_to(MOVED[..., None], (*MOVED.shape, 3))),
    }
    for kind, pair in kinds.items():
        found = register.align(*pair, **FAST).transform.matrix[:, 2]
        assert found == pytest.approx(shift, abs=0.02), kind


def test_the_callers_defaults_of_pytorch_do_not_matter(shift):
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            alignment = register.align(torch.from_numpy(IMAGE.copy()), MOVED, **FAST)
            aligned = register.warp(MOVED, alignment.transform)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert alignment.transform.matrix[:, 2].tolist() == shift.tolist()
    assert aligned.shape == IMAGE.shape


def test_paths_give_the_frames_of_the_files_and_take_their_settings(tmp_path):
    Pillow.fromarray(IMAGE).save(tmp_path / "f.png")
    Pillow.fromarray(np.full_like(IMAGE, 255)).save(tmp_path / "mask.png")
    found = register.align(
        tmp_path / "f.png", MOVED, fixed_mask=tmp_path / "mask.png", fixed_level=0, **FAST
    ).transform
    assert (found.fixed.path, found.moving.path) == (str(tmp_path / "f.png"), None)
    aligned = register.warp(
        str(tmp_path / "f.png"), Transform("affine", *[found.fixed] * 2, affine.identity())
    )
    assert np.array_equal(aligned, IMAGE)
    with pytest.raises(FileError, match="does not exist"):
        register.align(tmp_path / "none.png", MOVED)


BAD_IMAGES = {
    "complex": np.zeros((9, 9), complex),
    "complex tensor": torch.zeros(9, 9, dtype=torch.complex64),
    "structured": np.zeros((9, 9), [("r", "u1")]),
    "text": np.full((9, 9), "a"),
    "ragged": [[1, 2], [3]],
    "one axis": np.zeros(9),
    "four axes": np.zeros((2, 3, 9, 9)),
    "no pixels": np.zeros((0, 9)),
    "nothing": None,
    "a set": {1, 2},
    "dates": np.zeros((9, 9), "datetime64[s]"),
}


@pytest.mark.parametrize("bad", BAD_IMAGES)
def test_images_that_are_none_are_refused_by_name(bad):
    for call in (lambda x: register.align(IMAGE, x), lambda x: register.warp(x, TRANSFORM)):
        with pytest.raises(register.RegisterError, match=r"^the (moving )?image ") as error:
            call(BAD_IMAGES[bad])
        assert "\n" not in str(error.value)


def test_masked_pixels_are_masked_where_they_have_weight():
    shifted = Transform("translation", Frame(8, 6), Frame(8, 6), np.array([[1.0, 0, 0.5], [0, 1, 0]]))
    image = np.ma.masked_array(np.arange(48.0).reshape(6, 8), np.zeros((6, 8), bool))
    image[2, 3] = np.ma.masked
    warped = register.warp(image, shifted)
    assert np.argwhere(warped.mask).tolist() == [[2, 2], [2, 3]]
    assert warped[0, 0] == 0.5


def test_wrong_arguments_of_the_other_functions_are_refused():
    for call, message in (
        (lambda: register.warp(np.zeros((40, 50)), np.eye(3)), "register.Transform"),
        (
            lambda: register.warp(np.zeros((40, 50)), TRANSFORM, interpolation="cubic"),
            "interpolation 'cubic'",
        ),
        (lambda: register.write_image("x.tif", np.zeros((40, 50))), r"register\.Image"),
        (lambda: register.read_image(np.zeros(3)), "a path"),
    ):
        with pytest.raises(register.RegisterError, match=message):
            call()


CLIENT = """
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import assert_type

import register

fixed: NDArray[np.uint8] = np.zeros((40, 50), np.uint8)
moving: NDArray[np.float32] = np.zeros((40, 50, 3), np.float32)
points: NDArray[np.float64] = np.zeros((3, 2))
tensor = torch.zeros(3, 40, 50)

alignment = register.align(fixed, moving, model="local", preset="fast")
register.align(tensor, moving)
register.align("fixed.png", Path("moving.png"), fixed_mask="mask.png")
aligned = register.warp(moving, alignment.transform)
assert_type(aligned, NDArray[Any])
assert_type(register.warp(tensor, alignment.transform), torch.Tensor)
assert_type(register.warp("moving.png", alignment.transform, fill=0), NDArray[Any])
assert_type(alignment.transform.map(points), NDArray[np.float64])
assert_type(alignment.transform.map([[1, 2], [3, 4]]), NDArray[np.float64])
assert_type(alignment.transform.map(torch.zeros(3, 2)), torch.Tensor)
assert_type(alignment.transform.inverse().map(points), NDArray[np.float64])
assert_type(alignment.expected_error(points), NDArray[np.float64])
assert_type(alignment.expected_error(torch.zeros(3, 2)), torch.Tensor)
alignment.transform.save("transform.json")
alignment.transform.inverse().save(Path("back.json"))
loaded = register.Transform.load("transform.json")
print(alignment.quality["verdict"], alignment.quality.reasons, loaded.matrix.shape)
image = register.read_image(Path("f.tif"))
register.write_image("g.tif", image, compression="none")
"""


@pytest.mark.slow
def test_a_client_program_passes_mypy_in_strict_mode(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "client.py").write_text(CLIENT)
    root = Path(register.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", root / ".mypy_cache", "client.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        env={"MYPYPATH": str(root), "PATH": "", "PYTHONPATH": str(root)},
    )
    assert done.stdout.startswith("Success"), done.stdout + done.stderr


@pytest.mark.parametrize("path", [None, 3, b"a.json", ["a.json"]])
def test_a_path_that_is_none_is_one_error_that_says_what_is_taken(path):
    for call in (
        TRANSFORM.save,
        TRANSFORM.inverse().save,
        Transform.load,
        register.MovieTransforms.load,
        register.load_movie,
        register.read_image,
        lambda name: register.write_image(name, register.Image(np.zeros((1, 4, 5), np.uint8))),
    ):
        with pytest.raises(register.RegisterError, match="is named by a path"):
            call(path)
