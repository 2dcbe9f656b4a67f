import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import reference
import SimpleITK
import torch
from hypothesis import given
from hypothesis import strategies as st

import register
from benchmarks.synthetic import warped_pair
from register.errors import FileError, TransformError
from register.geometry import affine
from register.geometry.pixel_size import PixelSize
from register.io.points.open import read_points
from register.transforms import compose, schema
from register.transforms.frame import Frame
from register.transforms.sides import Sides


@pytest.fixture(scope="module")
def transform(texture):
    pair = warped_pair(texture, 0.02, seed=1)
    return register.align(pair.fixed, pair.moving, preset="fast").transform


@pytest.fixture
def file(transform, tmp_path):
    transform.save(tmp_path / "t.json")
    return tmp_path / "t.json"


def points(n=50):
    return torch.rand(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [455.0, 395.0]
    )


def test_map_is_the_blend_written_out_from_the_file_alone(transform, file):
    content = json.loads(file.read_text())
    for (x, y), mapped in zip(points().tolist(), transform.map(points()).tolist(), strict=True):
        assert mapped == pytest.approx(reference.blend(content, x, y), abs=1e-9)


def test_field_is_map_minus_the_pixels(transform):
    field = transform.field()
    assert field.shape == (400, 460, 2)
    assert torch.allclose(
        field[37, 121],
        transform.map(torch.tensor([[121.0, 37.0]]))[0] - torch.tensor([121.0, 37.0]),
        atol=1e-10,
    )


def test_inverse_undoes_within_a_millipixel(transform):
    there = transform.map(points(500))
    assert float((transform.inverse().map(there) - points(500)).norm(dim=1).max()) < 1e-3


def test_a_file_comes_back_bit_for_bit(transform, file, tmp_path):
    again = register.Transform.load(file)
    assert np.array_equal(again.matrix, transform.matrix)
    assert np.array_equal(again.matrices, transform.matrices)
    again.save(tmp_path / "u.json")
    assert (tmp_path / "u.json").read_bytes() == file.read_bytes()


def test_the_shipped_schema_is_the_readers_and_files_pass_it(file):
    shipped = json.loads((schema.Path(schema.__file__).parent / "transform.schema.json").read_text())
    assert shipped == schema.schema()
    jsonschema.validate(json.loads(file.read_text()), shipped)


def test_a_file_of_version_1_is_read():
    """A committed file, and the points to which it mapped these points when it was written."""
    golden = register.Transform.load(Path(__file__).parent / "golden" / "transform-1.json")
    at = torch.tensor([[0, 0], [10, 5], [33.25, 12.5], [39, 19]], dtype=torch.float64)
    taken = [[2.49390625, 1.25625], [12.3719375, 6.67334375], [35.71, 14.804578125], [41.09365, 21.2495375]]
    assert golden.map(at).numpy() == pytest.approx(np.array(taken), abs=1e-9)
    assert (golden.fixed.pixel_size, golden.moving.pixel_size) == (PixelSize(0.5, 0.5, "µm"), None)
    assert golden.patch_figures.expected_error[2] is None
    assert golden.quality.verdict == "ok"


def test_unknown_keys_are_kept(file, tmp_path):
    content = json.loads(file.read_text())
    content["mine"], content["fixed"]["scanner"], content["patches"]["colour"] = {"a": [1]}, "x", "red"
    file.write_text(json.dumps(content))
    register.Transform.load(file).save(tmp_path / "u.json")
    again = json.loads((tmp_path / "u.json").read_text())
    assert (again["mine"], again["fixed"]["scanner"], again["patches"]["colour"]) == ({"a": [1]}, "x", "red")


@pytest.mark.parametrize(("change", "what"), [
    (lambda c: c.update(format="other"), "not 'register-transform'"),
    (lambda c: c.update(version=2), "version 2"),
    (lambda c: c.update(version="one"), "version"),
    (lambda c: c.pop("global"), "global"),
    (lambda c: c["global"].update(matrix=[[1, 0, 0]]), "global.matrix"),
    (lambda c: c["fixed"].update(width=0), "fixed.width"),
    (lambda c: c["patches"].update(columns=3), "rows need"),
    (lambda c: c["patches"]["matrices"].pop(), "rows need"),
    (lambda c: c["patches"]["confidence"].pop(), "patches.confidence has"),
    (lambda c: c["patches"].update(blend="magic"), "patches.blend"),
    (lambda c: c["patches"].update(spacing=[0, 1]), "patches.spacing"),
    (lambda c: c["patches"]["matrices"][5][0].__setitem__(2, float("nan")), "patches.matrices.5.0.2"),
    (lambda c: c["patches"]["matrices"][5][0].__setitem__(2, 9999.0), "folds"),
    (lambda c: c.update(model="magic"), "model"),
    (lambda c: c.update(model="chain"), "chain"),
    (lambda c: c.update(version=1.5), "version"),
    (lambda c: c.pop("fixed"), "fixed"),
    (lambda c: c["moving"].update(height="tall"), "moving.height"),
    (lambda c: c["moving"].update(pixel_size=[0.5]), "moving.pixel_size"),
    (lambda c: c["patches"].update(rows=1), "patches.rows"),
    (lambda c: c["patches"].update(origin=[0, None]), "patches.origin"),
    (lambda c: c["patches"]["status"].append("ok"), "patches.status has"),
    (lambda c: c["patches"].update(matrices={}), "patches.matrices"),
    (lambda c: c.update(quality=[]), "quality"),
])  # fmt: skip
def test_a_damaged_file_is_an_error_that_names_the_problem(file, change, what):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(FileError, match=what) as error:
        register.Transform.load(file)
    assert str(file) in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", "\x00\x01"])
def test_a_file_without_a_transform_is_refused(tmp_path, text):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(FileError):
        register.Transform.load(tmp_path / "t.json")


def test_a_fold_cannot_be_made(transform):
    from dataclasses import replace

    broken = transform.matrices.copy()
    broken[2, 2, 0, 2] += 500
    with pytest.raises(TransformError, match="folds"):
        replace(transform, matrices=broken).checked()


def test_simpleitk_warps_to_the_same_image(transform, texture):
    """The displacement field, given to another program, makes the same picture."""
    moving = (texture * 255).astype(np.uint8)
    field = SimpleITK.GetImageFromArray(transform.field().numpy(), isVector=True)
    other = SimpleITK.Resample(
        SimpleITK.GetImageFromArray(moving.astype(np.float64)),
        field,
        SimpleITK.DisplacementFieldTransform(SimpleITK.Image(field)),
        SimpleITK.sitkLinear,
        0.0,
    )
    ours = register.warp(moving, transform).astype(float)
    at = transform.field() + torch.from_numpy(np.stack(np.meshgrid(np.arange(460.0), np.arange(400.0)), 2))
    inner = ((at - torch.tensor([230.0, 200.0])).abs() < torch.tensor([225.0, 195.0])).all(-1).numpy()
    assert np.abs(SimpleITK.GetArrayFromImage(other) - ours)[inner].max() <= 0.51


def test_simpleitk_maps_points_by_the_global_matrix(transform):
    affine = SimpleITK.AffineTransform(2)
    affine.SetMatrix(transform.matrix[:, :2].flatten().tolist())
    affine.SetTranslation(transform.matrix[:, 2].tolist())
    ours = transform.matrix[:, :2] @ [12.5, 80.25] + transform.matrix[:, 2]
    assert affine.TransformPoint((12.5, 80.25)) == pytest.approx(ours.tolist())


def test_landmark_files(tmp_path):
    (tmp_path / "a.csv").write_text(",X,Y\n1,2.5,3\n\n2,4,5e0\n")
    assert read_points(tmp_path / "a.csv").tolist() == [[2.5, 3.0], [4.0, 5.0]]
    for text, what in (
        ("a,b\n1,2\n", "no columns x and y"),
        ("x,y\n1,two\n", "line 2"),
        ("x,y\n1,nan\n", "not finite"),
        ("", "no columns"),
    ):
        (tmp_path / "b.csv").write_text(text)
        with pytest.raises(FileError, match=what):
            read_points(tmp_path / "b.csv")


PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(VALUES)
def test_a_written_transform_reads_back(value):
    text = schema.text(value)
    assert json.dumps(json.loads(text)) == json.dumps(value)


def test_lists_of_numbers_have_a_line_and_others_one_for_each_item():
    value = {"a": [1.5, 2, None], "b": [[0.1, 0.2], [3.0]], "c": ["x", "[1, 2]"], "d": [], "e": {}}
    assert schema.text(value) == (
        '{\n "a": [ 1.5, 2, null ],\n "b": [\n  [ 0.1, 0.2 ],\n  [ 3.0 ]\n ],\n'
        ' "c": [\n  "x",\n  "[1, 2]"\n ],\n "d": [],\n "e": {}\n}'
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        schema.text([1.0, float("nan")])


def test_a_transform_followed_by_an_affine_map_is_their_product(transform):
    matrix, some = np.array([[0.0, 2.0, 1.0], [-1.0, 0.5, 7.0]]), points().numpy()
    sides = Sides(
        np.array([[1, 2]], np.int8), (transform.fixed.width, transform.fixed.height), (transform, transform)
    )
    split = replace(transform, model="split", grid=None, matrices=None, sides=sides)
    for one in (transform, compose.invert(compose.invert(transform)), split):
        made = compose.followed_by(one, matrix, Frame(50, 60))
        assert np.allclose(made.map(some), affine.apply(matrix, one.map(some)), atol=1e-4)
        assert (made.moving.width, made.moving.height) == (50, 60)
