"""Transforms written into a SpatialData: the metadata by its format, and what the library reads from them."""

import json
import warnings

import numpy as np
import pytest
import zarr

from register.errors import RegisterError
from register.geometry import affine
from register.geometry.patch_grid import PatchGrid
from register.io.transforms import spatialdata
from register.io.transforms.export import export
from register.io.transforms.spatialdata_element import open_element
from register.transforms.frame import Frame
from register.transforms.transform import Link, Transform

MATRIX = np.array([[0.9, 0.2, 5.0], [-0.1, 1.1, -7.0]])
AFFINE = Transform("affine", Frame(60, 50), Frame(100, 80), MATRIX)
MICRONS = np.array([[0.5, 0.0, 3.0], [0.0, 0.25, 4.0]])
"""What the made file states of its fixed image: a scale of x and y, then a shift."""
CORNERS = np.array([[0.0, 0.0], [60.0, 0.0], [0.0, 50.0], [60.0, 50.0]])


def bent():
    grid = PatchGrid.cover(50, 60, 20)
    matrices = np.broadcast_to(MATRIX, (grid.rows, grid.columns, 2, 3)).copy()
    matrices[..., 1, 2] += np.arange(grid.columns) ** 2 * 0.5
    return Transform("local", Frame(60, 50), Frame(100, 80), MATRIX, grid, matrices)


def axes(names):
    return [{"name": n, "type": "channel" if n == "c" else "space"} for n in names]


def stated(names, system, **what):
    ends = {end: {"name": name, "axes": axes(names)} for end, name in (("input", names), ("output", system))}
    return what | ends


def add_image(root, version, kind, name, shape, transformations):
    names = "cyx" if len(shape) == 3 else "yx"
    image = {"axes": axes(names), "datasets": [{"path": "0"}], "coordinateTransformations": transformations}
    ome = {"multiscales": [image], "omero": {"channels": [{"label": "r"}]}}
    group = root.create_group(f"{kind}/{name}", attributes=ome if version == 2 else {"ome": ome})
    group.create_array("0", shape=shape, dtype="u1", chunks=shape)


@pytest.fixture(params=[2, 3], ids=["zarr 2", "zarr 3"])
def made(request, tmp_path):
    """A SpatialData of two images, labels and points: 50 × 60 fixed, 80 × 100 moving pixels."""
    version, path = request.param, tmp_path / "s.zarr"
    root = zarr.create_group(path, zarr_format=version)
    still = [stated("cyx", "global", type="identity")]
    steps = [
        stated("cyx", "a", type="scale", scale=[1.0, 0.25, 0.5]),
        stated("cyx", "a", type="translation", translation=[0.0, 4.0, 3.0]),
    ]
    known = [stated("cyx", "microns", type="sequence", transformations=steps)]
    add_image(root, version, "images", "fixed", (3, 50, 60), known)
    add_image(root, version, "images", "moving", (3, 80, 100), still)
    add_image(root, version, "labels", "cells", (80, 100), [stated("yx", "global", type="identity")])
    xyz = {"axes": ["x", "y", "z"], "coordinateTransformations": [stated("xyz", "global", type="identity")]}
    root.create_group("points/spots", attributes=xyz)
    with warnings.catch_warnings(action="ignore"):
        zarr.consolidate_metadata(path)
    return path


def moved(points):
    """Where points of the moving image, by their corner, lie in the fixed one."""
    return affine.apply(affine.invert(MATRIX), points - 0.5) + 0.5


def read(path, element, consolidated=True):
    """The affine maps (2, 3) of an element to its coordinate systems."""
    group = zarr.open_group(path, mode="r", use_consolidated=consolidated)[element]
    attributes = group.attrs.asdict()
    holder = attributes if "points" in element else attributes.get("ome", attributes)["multiscales"][0]
    found = {}
    for each in holder["coordinateTransformations"]:
        names = [axis["name"] for axis in each["input"]["axes"]]
        rows = np.array(each["affine"]) if each["type"] == "affine" else np.eye(len(names), len(names) + 1)
        places = [names.index("x"), names.index("y")]
        other = [n for n in range(len(names)) if n not in places]
        assert np.array_equal(rows[other], np.eye(*rows.shape)[other])
        assert not rows[np.ix_(places, other)].any()
        found[each["output"]["name"]] = rows[np.ix_(places, [*places, len(names)])]
    return found


@pytest.mark.parametrize("element", ["images/moving", "labels/cells", "points/spots"])
def test_an_affine_transform_is_written_exactly(made, element):
    report = export(AFFINE, "spatialdata", made / element)
    assert report.coordinate_systems == ("fixed",)
    found = read(made, element)
    assert list(found) == ["global", "fixed"]
    assert np.array_equal(found["global"], np.eye(2, 3))
    assert affine.apply(found["fixed"], CORNERS) == pytest.approx(moved(CORNERS), abs=1e-12)
    export(AFFINE, "spatialdata", made / element)  # the same again changes nothing
    assert list(read(made, element, consolidated=False)) == ["global", "fixed"]


def test_into_the_coordinate_systems_of_the_fixed_element(made):
    export(AFFINE, "spatialdata", made / "images/moving", fixed_element="images/fixed")
    found = read(made, "images/moving")["microns"]
    assert affine.apply(found, CORNERS) == pytest.approx(affine.apply(MICRONS, moved(CORNERS)), abs=1e-12)
    export(AFFINE, "spatialdata", made / "points/spots", fixed_element="images/fixed")
    assert np.allclose(read(made, "points/spots")["microns"], found, rtol=0, atol=1e-12)
    attributes = zarr.open_group(made, mode="r")["images/moving"].attrs.asdict()
    assert attributes.get("ome", attributes)["omero"]["channels"] == [{"label": "r"}]  # nothing is lost


@pytest.mark.parametrize(
    "steps",
    [
        [stated("cyx", "a", type="affine", affine=[[1, 0, 0, 0], [0, 0.25, 0, 4], [0, 0, 0.5, 3]])],
        [
            stated("cyx", "cyx", type="identity"),
            stated("cyx", "p", type="mapAxis", mapAxis={"x": "y", "y": "x"})
            | {"output": {"name": "p", "axes": axes("xy")}},
            stated("xy", "q", type="affine", affine=[[0.25, 0, 4], [0, 0.5, 3]])
            | {"output": {"name": "q", "axes": axes("yx")}},
        ],
    ],
)
def test_transformations_of_other_kinds_and_orders_of_axes_are_followed(made, steps):
    group = open_element(made / "images/fixed").group
    attributes = group.attrs.asdict()
    image = attributes.get("ome", attributes)["multiscales"][0]
    image["coordinateTransformations"] = [stated("cyx", "microns", type="sequence", transformations=steps)]
    group.attrs.update(attributes)
    found = open_element(made / "images/fixed").systems()["microns"]
    assert affine.apply(found, CORNERS) == pytest.approx(affine.apply(MICRONS, CORNERS))


def test_a_transformation_that_mixes_other_axes_into_x_is_refused(made):
    group = open_element(made / "images/fixed").group
    attributes = group.attrs.asdict()
    image = attributes.get("ome", attributes)["multiscales"][0]
    rows = [[1, 0, 0, 0], [0, 1, 0, 0], [2, 0, 1, 0]]
    image["coordinateTransformations"] = [stated("cyx", "a", type="affine", affine=rows)]
    group.attrs.update(attributes)
    with pytest.raises(RegisterError, match="in which other axes change x and y"):
        open_element(made / "images/fixed").systems()


def test_another_transformation_is_replaced_only_when_told(made):
    export(AFFINE, "spatialdata", made / "images/moving")
    other = Transform("translation", Frame(60, 50), Frame(100, 80), affine.translation(1, 2))
    with pytest.raises(RegisterError, match="has a transformation to 'fixed' already; use --overwrite"):
        export(other, "spatialdata", made / "images/moving")
    export(other, "spatialdata", made / "images/moving", overwrite=True)
    assert np.allclose(read(made, "images/moving")["fixed"], affine.translation(-1, -2))


@pytest.mark.parametrize(("most", "shape"), [(500, (14, 16)), (895, (14, 16)), (896, (26, 31))])
def test_a_grid_has_no_more_samples_than_fit_into_memory(made, monkeypatch, most, shape):
    """14 × 16 samples 4 pixels apart: half as far apart they are four times as many, 896."""
    monkeypatch.setattr(spatialdata, "MOST", most)
    report = export(bent(), "spatialdata", made / "images/moving", tolerance=1e-9)
    assert report.field_error_max > 1e-9  # and says how far off it is
    assert zarr.open_group(made, mode="r")["images/moving_displacements/s0"].shape == (2, *shape)


def test_a_grid_is_no_finer_than_a_pixel(made):
    export(bent(), "spatialdata", made / "images/moving", tolerance=1e-9)
    held = zarr.open_group(made, mode="r")["images/moving_displacements/s0"]
    assert held.shape == (2, 50, 60)
    straight = Transform("chain", AFFINE.fixed, AFFINE.moving, MATRIX, chain=(Link(AFFINE),))
    export(straight, "spatialdata", made / "images/moving", overwrite=True)
    held = zarr.open_group(made, mode="r")["images/moving_displacements/s0"]
    assert held.shape == (2, 2, 2)  # a coarse one is exact
    attributes = zarr.open_group(made, mode="r")["images/moving_displacements"].attrs.asdict()
    (image,) = attributes.get("ome", attributes)["multiscales"]
    (level,) = image["datasets"]
    assert level["coordinateTransformations"] == [{"type": "scale", "scale": [1, 1, 1]}]
    assert ("ome" in attributes) == (zarr.open_group(made, mode="r").metadata.zarr_format == 3)
    assert "version" in attributes.get("ome", image)
    export(bent(), "spatialdata", made / "images/moving", overwrite=True, spacing=0.1)
    held = zarr.open_group(made, mode="r")["images/moving_displacements/s0"]
    assert (held.shape, held.chunks) == ((2, 491, 591), (2, 491, 512))


def test_another_transform_becomes_a_grid(made):
    before = read(made, "images/moving")
    report = export(
        bent(), "spatialdata", made / "images/moving", fixed_element="images/fixed", tolerance=0.1
    )
    assert "reads no non-linear transformation" in report.note
    assert 0 < report.field_error_max <= 0.1
    assert read(made, "images/moving").keys() == before.keys()
    name = "images/moving_displacements"
    group = zarr.open_group(made, mode="r")[name]
    vectors, place = group["s0"][:], read(made, name)["microns"]
    rows, columns = np.mgrid[: vectors.shape[1], : vectors.shape[2]]
    middles = np.stack([columns.ravel(), rows.ravel()], 1) + 0.5  # of the grid's pixels, by the corner
    fixed = affine.apply(affine.invert(MICRONS), affine.apply(place, middles))
    there = fixed + vectors.reshape(2, -1).T
    assert there == pytest.approx(bent().map(fixed - 0.5) + 0.5, abs=1e-9)
    with pytest.raises(RegisterError, match="exists already"):
        export(bent(), "spatialdata", made / "images/moving")
    export(bent(), "spatialdata", made / "images/moving", spacing=20, overwrite=True)
    assert zarr.open_group(made, mode="r")[name]["s0"].shape == (2, 4, 4)


@pytest.mark.parametrize(
    ("element", "fixed", "problem"),
    [
        ("images/fixed", None, r"has 60 × 50 pixels, the moving image of the transform 100 × 80"),
        ("images/moving", "labels/cells", r"has 100 × 80 pixels, the fixed image of the transform 60 × 50"),
        ("images/none", None, "cannot be read as an element"),
        ("", None, "is no element of a SpatialData; name one"),
        ("images/moving", "images/moving", "pixels, the fixed image"),
    ],
)
def test_elements_that_do_not_fit_are_refused(made, element, fixed, problem):
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    with pytest.raises(RegisterError, match=problem):
        export(AFFINE, "spatialdata", made / element, fixed_element=fixed)
    assert before == {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}


def test_points_in_other_units_and_transformations_of_other_kinds(made):
    export(AFFINE, "spatialdata", made / "points/spots")
    with pytest.raises(RegisterError, match="numbers may be no pixels"):
        export(AFFINE, "spatialdata", made / "points/spots", fixed_element="images/fixed")
    group = open_element(made / "images/fixed").group
    attributes = group.attrs.asdict()
    image = attributes.get("ome", attributes)["multiscales"][0]
    image["coordinateTransformations"] = [stated("cyx", "global", type="displacements", path="x")]
    group.attrs.update(attributes)
    with pytest.raises(RegisterError, match="has a transformation of the kind displacements"):
        export(AFFINE, "spatialdata", made / "images/moving", fixed_element="images/fixed")
    with pytest.raises(RegisterError, match="--fixed-element is for --to spatialdata"):
        export(AFFINE, "itk", made.parent / "t.tfm", fixed_element="images/fixed")


def test_the_command(made, tmp_path, program):
    AFFINE.save(tmp_path / "t.json")
    target = made / "images/moving"
    done = program("export", tmp_path / "t.json", "--to", "spatialdata", "-o", target, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["coordinate_systems"] == ["fixed"]
    bent().save(tmp_path / "u.json")
    done = program("export", tmp_path / "u.json", "--to", "spatialdata", "-o", target)
    assert done.returncode == 0, done.stderr
    assert "reads no non-linear transformation" in " ".join(done.stdout.split())


@pytest.mark.filterwarnings("ignore")
def test_spatialdata_reads_what_was_written(tmp_path):
    library = pytest.importorskip("spatialdata", reason="spatialdata pins another dask")
    from spatialdata import models, transformations

    parse = models.Image2DModel.parse
    scale = transformations.Scale([0.5, 0.25], axes=("x", "y"))
    images = {
        "fixed": parse(np.zeros((1, 50, 60), np.uint8), transformations={"microns": scale}),
        "moving": parse(np.zeros((1, 80, 100), np.uint8), scale_factors=[2]),
    }
    path = tmp_path / "s.zarr"
    library.SpatialData(images=images).write(path)
    export(AFFINE, "spatialdata", path / "images/moving", fixed_element="images/fixed")
    export(bent(), "spatialdata", path / "images/moving", fixed_element="images/fixed", spacing=10)
    found = library.read_zarr(path)
    got = transformations.get_transformation(found["moving"], "microns").to_affine_matrix(
        input_axes=("x", "y"), output_axes=("x", "y")
    )
    expected = moved(CORNERS) * [0.5, 0.25]
    assert affine.apply(got[:2], CORNERS) == pytest.approx(expected, abs=1e-12)
    extent = library.get_extent(found["fixed"], coordinate_system="microns")
    assert extent["x"] == (0, 30)  # coordinates begin at the corner of a pixel
    grid = found["moving_displacements"]
    assert list(grid.coords["c"].values) == ["dx", "dy"]
    middle = transformations.get_transformation(grid, "microns").to_affine_matrix(("x", "y"), ("x", "y"))
    assert affine.apply(middle[:2], np.array([[0.5, 0.5]])) == pytest.approx(np.array([[0.25, 0.125]]))
    there = bent().map(np.array([[20.0, 10.0]]))[0] - (20, 10)
    assert grid.sel(x=2.5, y=1.5).values == pytest.approx(there)
