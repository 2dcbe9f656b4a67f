"""Text wrong in type, count or size ends in one line that names the file, or is read as what it is."""

import copy
import gzip
import json
import tracemalloc

import numpy as np
import pytest
import tifffile
import zarr

from register.errors import FileError
from register.geometry import affine
from register.geometry.patch_grid import PatchGrid
from register.io.images.masks import read_mask
from register.io.images.open import read_image
from register.io.points.open import read_point_file
from register.io.transforms.start import read_start
from register.transforms.frame import Frame
from register.transforms.transform import Transform

HUGE = 10**400


def refused(call, path):
    with pytest.raises(FileError) as error:
        call()
    message = str(error.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < 500


RING = [[1, 1], [9, 1], [9, 9], [1, 1]]
FEATURE = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [RING]}}
GEOJSON = {
    "properties 5": [FEATURE | {"properties": 5}],
    "properties, measurements 5": [FEATURE | {"properties": {"objectType": "cell", "measurements": 5}}],
    "properties, measurements text": [FEATURE | {"properties": {"object_type": "cell", "measurements": "a"}}],
    "properties, measurements true": [FEATURE | {"properties": {"objectType": "cell", "measurements": True}}],
    "properties list": [FEATURE | {"properties": [1]}],
    "coordinates 5": [FEATURE | {"geometry": {"type": "Polygon", "coordinates": 5}}],
    "coordinates text": [FEATURE | {"geometry": {"type": "Polygon", "coordinates": "abc"}}],
    "coordinates null": [FEATURE | {"geometry": {"type": "Polygon", "coordinates": None}}],
    "a text number": [FEATURE | {"geometry": {"type": "Polygon", "coordinates": [[["1", 1], *RING[1:]]]}}],
    "a boolean": [FEATURE | {"geometry": {"type": "Polygon", "coordinates": [[[True, 1], *RING[1:]]]}}],
    "400 digits": [FEATURE | {"geometry": {"type": "Polygon", "coordinates": [[[HUGE, 1], *RING[1:]]]}}],
    "1e999": [FEATURE | {"geometry": {"type": "Polygon", "coordinates": [[[float("inf"), 1], *RING[1:]]]}}],
    "1e300": [FEATURE | {"geometry": {"type": "Polygon", "coordinates": [[[1e300, 1], *RING[1:]]]}}],
    "one number": [FEATURE | {"geometry": {"type": "Polygon", "coordinates": [[[1], *RING[1:]]]}}],
    "mixed depth": [FEATURE | {"geometry": {"type": "Polygon", "coordinates": [RING, 5]}}],
    "objects": [FEATURE | {"geometry": {"type": "Polygon", "coordinates": [[{"x": 1}, *RING[1:]]]}}],
    "type 5": [FEATURE | {"geometry": {"type": 5, "coordinates": [RING]}}],
    "geometry 5": [FEATURE | {"geometry": 5}],
    "a number": 5,
    "a text": "FeatureCollection",
    "features 5": {"type": "FeatureCollection", "features": 5},
    "features of numbers": {"type": "FeatureCollection", "features": [1, 2]},
    "null": None,
    "no features": {"type": "FeatureCollection", "features": []},
}


@pytest.mark.parametrize("case", GEOJSON)
def test_geojson_of_wrong_types_is_refused_as_points_and_as_a_mask(case, tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(GEOJSON[case]))

    def mask():
        return read_mask(str(path), (20, 20))[:, :, :]

    def points():
        file = read_point_file(path)
        file.write(tmp_path / "b.geojson", lambda points: (points, {"inside": [True] * len(points)}))

    if "properties" not in case:  # which a mask does not read
        refused(mask, path)
    refused(points, path)
    assert not (tmp_path / "b.geojson").exists()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 50_000,
        '{"type": "Point", "type": "Polygon", "coordinates": [1, 2]}',
        '{"type": "Point", "coordinates": [' + "9" * 5000 + ", 2]}",
        '{"type": "Point", "coordinates": [1, 2]',
        "{'type': 'Point'}",
    ],
)
def test_text_that_is_hardly_json(text, tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(text)
    refused(lambda: read_point_file(path), path)
    refused(lambda: read_mask(str(path), (20, 20)), path)
    path = tmp_path / "t.json"
    path.write_text(text)
    refused(lambda: Transform.load(path), path)


STARTS = {
    "no parameters": "#Insight Transform File V1.0\nTransform: AffineTransform_double_2_2\nParameters: \n",
    "too few": "Transform: AffineTransform_double_2_2\nParameters: 1 0 0\nFixedParameters: 0 0\n",
    "one": "Transform: Euler2DTransform_double_2_2\nParameters: 1\nFixedParameters: 0 0\n",
    "one centre": "Transform: Euler2DTransform_double_2_2\nParameters: 1 2 3\nFixedParameters: 5\n",
    "words": "Transform: Euler2DTransform_double_2_2\nParameters: a b c\nFixedParameters: 0 0\n",
    "infinite": "Transform: Euler2DTransform_double_2_2\nParameters: 0 1e999 0\nFixedParameters: 0 0\n",
    "overflow": "Transform: AffineTransform_double_2_2\nParameters: 1e308 0 0 1e308 1e308 0\n"
    "FixedParameters: 1e308 1\n",
    "singular": "Transform: AffineTransform_double_2_2\nParameters: 1 1 1 1 0 0\nFixedParameters: 0 0\n",
    "no kind": "Transform: \nParameters: 1 2 3\n",
    "nothing": "Transform",
    "elastix, too few": '(Transform "AffineTransform")\n(TransformParameters 1)\n'
    "(CenterOfRotationPoint 0 0)\n",
    "elastix, none": '(Transform "AffineTransform")\n(TransformParameters)\n',
    "elastix, words": '(Transform "EulerTransform")\n(TransformParameters a b c)\n'
    "(CenterOfRotationPoint 0 0)\n",
    "elastix, one centre": '(Transform "EulerTransform")\n(TransformParameters 0 1 2)\n'
    "(CenterOfRotationPoint 5)\n",
    "elastix, empty": "()",
    "elastix, no kind": "(TransformParameters 0 1 2)",
}


@pytest.mark.parametrize("case", STARTS)
def test_starts_of_other_programs_with_wrong_parameters(case, tmp_path):
    path = tmp_path / "start.tfm"
    path.write_text(STARTS[case])
    refused(lambda: read_start(path), path)


def local_values():
    grid = PatchGrid.cover(40, 50, 20)
    matrices = np.broadcast_to(affine.identity(), (grid.rows, grid.columns, 2, 3))
    return Transform("local", Frame(50, 40), Frame(50, 40), affine.identity(), grid, matrices).values()


def changed(place, value):
    values = copy.deepcopy(json.loads(json.dumps(local_values())))
    *before, last = place
    at = values
    for key in before:
        at = at[key]
    at[last] = value
    return values


SINGULAR = [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]
OVERFLOW = [[1e308, 0.0, 0.0], [0.0, 1e308, 0.0]]
TRANSFORMS = {
    "singular": (("global", "matrix"), SINGULAR),
    "nearly singular": (("global", "matrix"), [[1e-200, 0.0, 0.0], [0.0, 1e-200, 0.0]]),
    "overflow": (("global", "matrix"), OVERFLOW),
    "far away": (("global", "matrix"), [[1.0, 0.0, 1e300], [0.0, 1.0, 0.0]]),
    "400 digits": (("global", "matrix", 0, 0), HUGE),
    "singular patch": (("patches", "matrices", 0), SINGULAR),
    "overflow of a patch": (("patches", "matrices", 0), OVERFLOW),
    "width 1e30": (("fixed", "width"), 10**30),
    "width true": (("fixed", "width"), True),
    "height -1": (("moving", "height"), -1),
    "width text": (("moving", "width"), "50"),
    "negative pixel size": (("fixed", "pixel_size"), [-1.0, 1.0]),
    "pixel size 0": (("fixed", "pixel_size"), [0.0, 0.0]),
    "version true": (("version",), True),
    "version 1.0": (("version",), "1"),
    "columns 1e9": (("patches", "columns"), 10**9),
    "spacing 1e-300": (("patches", "spacing"), [1e-300, 1e-300]),
    "spacing 1e300": (("patches", "spacing"), [1e300, 1e300]),
    "origin 1e308": (("patches", "origin"), [1e308, 0.0]),
    "matrix of text": (("global", "matrix"), [["1", "0", "0"], ["0", "1", "0"]]),
    "matrix of booleans": (("global", "matrix"), [[True, False, False], [False, True, False]]),
    "quality 5": (("quality",), 5),
    "provenance list": (("provenance",), []),
    "path 5": (("fixed", "path"), 5),
    "model 5": (("model",), 5),
    "confidence text": (("patches", "confidence"), ["a"]),
}


@pytest.mark.parametrize("case", TRANSFORMS)
def test_transforms_that_fold_overflow_or_have_wrong_types(case, tmp_path):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(changed(*TRANSFORMS[case])))

    def used():
        loaded = Transform.load(path)
        loaded.map_grid([0.0, 1.0], [0.0, 1.0])
        loaded.inverse().map([[1.0, 1.0]])

    refused(used, path)


def test_a_transform_as_written_is_read(tmp_path):
    (tmp_path / "t.json").write_text(json.dumps(local_values()))
    assert np.allclose(Transform.load(tmp_path / "t.json").map([[1.0, 2.0]]), [[1, 2]])


@pytest.mark.parametrize("key", ["version", "width", "model"])
def test_a_key_that_is_there_twice_is_refused(key, tmp_path):
    values = local_values()
    text = json.dumps(values)
    place = text.index(f'"{key}":')
    path = tmp_path / "t.json"
    path.write_text(text[:place] + f'"{key}": 7, ' + text[place:])
    refused(lambda: Transform.load(path), path)


@pytest.mark.parametrize("size", ["-1", "0", "nan", "1e999", "abc", "1e-300"])
def test_pixel_sizes_of_ome_that_are_none_are_unknown(size, tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path,
        np.zeros((20, 30), np.uint8),
        metadata={"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5},
    )
    with tifffile.TiffFile(path) as tif:
        text = tif.ome_metadata
    text = text.replace('PhysicalSizeX="0.5"', f'PhysicalSizeX="{size}"')
    assert size in text
    tifffile.imwrite(path, np.zeros((20, 30), np.uint8), description=text.encode(), metadata=None)
    image = read_image(path)
    assert image.pixel_size is None
    assert image.size == (20, 30)


def ome_zarr(path, **changes):
    scale = [{"type": "scale", "scale": [0.5, 0.5]}]
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    image = {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    image |= changes
    root = zarr.create_group(path, zarr_format=2, attributes={"multiscales": [image]})
    array = root.create_array("0", shape=(20, 30), dtype="uint16", chunks=(10, 10))
    array[:] = np.arange(600).reshape(20, 30)


ZARR = {
    "datasets 5": {"datasets": 5},
    "no datasets": {"datasets": []},
    "path 5": {"datasets": [{"path": 5}]},
    "no path": {"datasets": [{}]},
    "path outside": {"datasets": [{"path": "../../../etc"}]},
    "axes 5": {"axes": 5},
    "axes of numbers": {"axes": [1, 2]},
    "too many axes": {"axes": [{"name": name} for name in "tczyx"]},
    "no y": {"axes": [{"name": "x"}, {"name": "z"}]},
    "axis without name": {"axes": [{}, {}]},
}


@pytest.mark.parametrize("case", ZARR)
def test_metadata_of_a_zarr_of_wrong_types(case, tmp_path):
    ome_zarr(tmp_path / "a.zarr", **ZARR[case])
    refused(lambda: read_image(tmp_path / "a.zarr"), tmp_path / "a.zarr")


@pytest.mark.parametrize("scale", ["[-1, 0.5]", "[0, 0]", '["a", "b"]', "[0.5]", "5", "[Infinity, 1]"])
def test_scales_of_a_zarr_that_are_none_are_unknown_or_refused(scale, tmp_path):
    steps = [{"type": "scale", "scale": 7777}]
    ome_zarr(tmp_path / "a.zarr", datasets=[{"path": "0", "coordinateTransformations": steps}])
    metadata = tmp_path / "a.zarr" / ".zattrs"
    assert metadata.read_text().count("7777") == 1
    metadata.write_text(metadata.read_text().replace("7777", scale))  # zarr itself does not write all of them
    try:
        image = read_image(tmp_path / "a.zarr")
    except FileError:
        return
    assert image.pixel_size is None


@pytest.mark.parametrize(
    ("height", "said"),
    [(2**31, "states a size of 30 × 2147483648"), (2**23, "needs 0.5 GiB of memory at once")],
)
def test_a_zarr_of_which_hardly_a_chunk_is_there_does_not_fill_the_memory(
    tmp_path, monkeypatch, height, said
):
    """Chunks that are missing are zero, so that a few bytes of metadata state any size."""
    monkeypatch.setattr("register.compute.free_memory.free_memory", lambda: 2**29)
    ome_zarr(tmp_path / "a.zarr")
    described = tmp_path / "a.zarr" / "0" / ".zarray"
    values = json.loads(described.read_text())
    described.write_text(json.dumps(values | {"shape": [height, 30]}))
    with pytest.raises(FileError, match=said):
        read_image(tmp_path / "a.zarr")


def test_a_zarr_with_a_chunk_larger_than_any_memory_is_refused(tmp_path):
    ome_zarr(tmp_path / "a.zarr")
    described = tmp_path / "a.zarr" / "0" / ".zarray"
    values = json.loads(described.read_text())
    described.write_text(json.dumps(values | {"chunks": [10**9, 10**9], "shape": [10**9, 10**9]}))
    refused(lambda: read_image(tmp_path / "a.zarr"), tmp_path / "a.zarr")


CSVS = [
    "x,y\n1,1e999\n",
    "x,y\nnan,1\n",
    "x,y\n1\n",
    "x,y\n\x001,2\n",
    "y\n1\n",
    "x,y\n1,1e300\n",
    '"x,y\n1,2',
    "x,y,x\n1,2,3\n",
]


@pytest.mark.parametrize("text", CSVS)
def test_tables_of_points_that_are_none(text, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(text)
    refused(lambda: read_point_file(path).points, path)


def test_a_small_compressed_text_takes_little_memory(tmp_path):
    """It took 8 GiB at once, the most that a text may have, and ended with MemoryError under a limit."""
    file = tmp_path / "points.geojson.gz"
    file.write_bytes(gzip.compress(b'{"type": "Point", "coordinates": [1, 2]}'))
    tracemalloc.start()
    try:
        points = read_point_file(file).points
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(points) == 1
    assert most < 200e6
