"""AnnData, SpatialData, GeoParquet, Parquet in blocks, pairs of BigWarp, divided edges.

The points are known, and nothing is lost.
"""

import json
import shutil

import numpy as np
import pytest

from register.errors import FileError
from register.geometry import affine
from register.geometry.patch_grid import PatchGrid
from register.geometry.pixel_size import PixelSize
from register.io.points import parquet as parquet_points
from register.io.points.landmarks import read_pairs
from register.io.points.open import read_point_file, read_points
from register.transforms.frame import Frame
from register.transforms.transform import Transform
from register.workflows.evaluate import evaluate
from register.workflows.points import map_points

SIZE = PixelSize(0.5, 0.5, "µm")
SHIFT = Transform(
    "translation", Frame(100, 80, SIZE), Frame(100, 80, SIZE), np.array([[1.0, 0.0, 3.0], [0.0, 1.0, 4.0]])
)
CELLS = np.array([[10.0, 20.0], [30.5, 40.25], [99.0, 1.0]])


def bent():
    """A transform that bends straight lines: the columns of patches shift down by their place."""
    grid = PatchGrid.cover(80, 100, 20)
    matrices = np.broadcast_to(affine.identity(), (grid.rows, grid.columns, 2, 3)).copy()
    matrices[..., 1, 2] = np.arange(grid.columns) ** 2 * 0.5
    return Transform("local", Frame(100, 80), Frame(100, 80), affine.identity(), grid, matrices)


def write_anndata(path, positions):
    """A file of cells as AnnData writes it."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=np.eye(3))
        obs = file.create_group("obs")
        obs.attrs.update({"encoding-type": "dataframe", "_index": "_index"})
        obs.attrs["column-order"] = np.array(["area"], h5py.string_dtype())
        obs.create_dataset("area", data=[1.0, 2.0, 3.0])
        made = file.create_group("obsm").create_dataset("spatial", data=positions)
        made.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})


@pytest.mark.parametrize("dtype", ["float64", "int64"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_anndata(tmp_path, dtype, dimensions):
    h5py = pytest.importorskip("h5py")
    given = np.hstack([CELLS, np.full((3, 1), 7.0)])[:, :dimensions].astype(dtype)
    write_anndata(tmp_path / "a.h5ad", given)
    assert np.array_equal(read_points(tmp_path / "a.h5ad"), given[:, :2])
    done = map_points(SHIFT, tmp_path / "a.h5ad", tmp_path / "b.h5ad")
    assert (done.count, done.inside) == (3, 2)
    with h5py.File(tmp_path / "b.h5ad") as file:
        assert np.allclose(file["obsm/spatial"][:, :2], given[:, :2] + (3, 4))
        assert np.array_equal(file["obsm/spatial"][:, 2:], given[:, 2:])
        assert dict(file["obsm/spatial"].attrs)["encoding-type"] == "array"
        assert file["obs/inside"][:].tolist() == [True, True, False]
        assert list(file["obs"].attrs["column-order"]) == ["area", "inside", "expected_error"]
        assert np.array_equal(file["X"][:], np.eye(3))
    lengths = map_points(SHIFT, tmp_path / "a.h5ad", tmp_path / "c.h5ad", unit="µm")
    assert lengths.count == 3
    with h5py.File(tmp_path / "c.h5ad") as file:
        assert np.allclose(file["obsm/spatial"][:, :2], given[:, :2] + (1.5, 2.0))


def test_anndata_without_positions_and_a_damaged_one(tmp_path):
    h5py = pytest.importorskip("h5py")
    write_anndata(tmp_path / "a.h5ad", CELLS)
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        del file["obsm/spatial"]
    with pytest.raises(FileError, match=r"has no obsm\['spatial'\]"):
        read_points(tmp_path / "a.h5ad")
    (tmp_path / "b.h5ad").write_bytes((tmp_path / "a.h5ad").read_bytes()[:900])
    with pytest.raises(FileError, match="cannot be read as AnnData"):
        read_points(tmp_path / "b.h5ad")


def write_geoparquet(path, geometries, crs=None):
    shapely, arrow = pytest.importorskip("shapely"), pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    column = {"encoding": "WKB", "geometry_types": []} | ({"crs": crs} if crs else {"crs": None})
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    table = arrow.table(
        {"name": [f"c{n}" for n in range(len(geometries))], "geometry": shapely.to_wkb(geometries)}
    )
    parquet.write_table(table.replace_schema_metadata({"geo": json.dumps(geo)}), path)


def test_geoparquet(tmp_path):
    shapely = pytest.importorskip("shapely")
    import pyarrow.parquet as parquet

    shapes = [shapely.Point(10, 20), shapely.box(1, 2, 5, 6), shapely.LineString([[0, 0], [99, 1]])]
    write_geoparquet(tmp_path / "a.parquet", shapes)
    assert read_point_file(tmp_path / "a.parquet").corner
    done = map_points(SHIFT, tmp_path / "a.parquet", tmp_path / "b.parquet")
    assert done.count == 1 + 5 + 2
    table = parquet.read_table(tmp_path / "b.parquet")
    found = shapely.from_wkb(table["geometry"].to_numpy())
    expected = [shapely.Point(13, 24), shapely.box(4, 6, 8, 10), shapely.LineString([[3, 4], [102, 5]])]
    assert all(shapely.equals_exact(a, b, 1e-9) for a, b in zip(found, expected, strict=True))
    assert table["name"].to_pylist() == ["c0", "c1", "c2"]
    assert table["inside"].to_pylist() == [True, True, False]  # the worst of a geometry's vertices
    assert json.loads(table.schema.metadata[b"geo"])["primary_column"] == "geometry"
    write_geoparquet(tmp_path / "earth.parquet", shapes, {"id": {"authority": "EPSG", "code": 4326}})
    with pytest.raises(FileError, match="holds coordinates of a map"):
        read_points(tmp_path / "earth.parquet")


def element(root, kind, name, transformations=({"type": "identity"},)):
    """The group of an element of SpatialData, without its table."""
    folder = root / kind / name
    folder.mkdir(parents=True)
    attributes = {"coordinateTransformations": list(transformations), "encoding-type": f"ngff:{kind}"}
    content = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    (folder / "zarr.json").write_text(json.dumps(content))
    return folder


def test_points_and_shapes_of_spatialdata(tmp_path):
    shapely, arrow = pytest.importorskip("shapely"), pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    root = tmp_path / "a.zarr"
    parts = element(root, "points", "transcripts") / "points.parquet"
    parts.mkdir()
    for n, rows in enumerate((CELLS[:2], CELLS[2:])):
        columns = {"x": rows[:, 0], "y": rows[:, 1], "gene": ["A"] * len(rows)}
        parquet.write_table(arrow.table(columns), parts / f"part.{n}.parquet")
    map_points(SHIFT, root, tmp_path / "b.zarr")  # its only element
    found = parquet.read_table(tmp_path / "b.zarr" / "points.parquet")
    assert np.allclose(np.stack([found["x"], found["y"]], 1), CELLS + np.array([3, 4]))
    assert found["gene"].to_pylist() == ["A"] * 3
    assert found["inside"].to_pylist() == [True, True, False]
    assert (tmp_path / "b.zarr" / "zarr.json").read_text() == (
        root / "points/transcripts/zarr.json"
    ).read_text()
    shapes = element(root, "shapes", "cells")
    write_geoparquet(shapes / "shapes.parquet", [shapely.box(1, 2, 5, 6)])
    with pytest.raises(
        FileError, match=r"holds 2 elements .*name one of them: points/transcripts, shapes/cells"
    ):
        read_points(root)
    map_points(SHIFT, shapes, tmp_path / "c.zarr")
    made = shapely.from_wkb(parquet.read_table(tmp_path / "c.zarr" / "shapes.parquet")["geometry"].to_numpy())
    assert shapely.equals_exact(made[0], shapely.box(4, 6, 8, 10), 1e-9)


def test_an_element_with_a_transformation_needs_its_unit(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    scale = {"type": "scale", "scale": [2.0, 2.0]}
    folder = element(tmp_path / "a.zarr", "points", "p", [scale])
    parquet.write_table(arrow.table({"x": CELLS[:, 0], "y": CELLS[:, 1]}), folder / "points.parquet")
    with pytest.raises(FileError, match=r"states a transformation.*--unit px"):
        map_points(SHIFT, folder, tmp_path / "b.zarr")
    assert not (tmp_path / "b.zarr").exists()
    map_points(SHIFT, folder, tmp_path / "b.zarr", unit="µm")
    found = parquet.read_table(tmp_path / "b.zarr" / "points.parquet")
    assert np.allclose(found["x"].to_numpy(), CELLS[:, 0] + 1.5)


def test_a_large_table_passes_in_blocks(tmp_path, monkeypatch):
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    monkeypatch.setattr(parquet_points, "BLOCK", 7)
    monkeypatch.setattr("register.workflows.points.BLOCK", 5)
    x = np.arange(50, dtype=np.float32)
    table = arrow.table({"name": [str(n) for n in range(50)], "x": x, "inside": [False] * 50, "y": x + 1})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=20)
    map_points(bent(), tmp_path / "a.parquet", tmp_path / "b.parquet")
    found = parquet.read_table(tmp_path / "b.parquet")
    expected = bent().map(np.stack([x, x + 1], 1).astype(np.float64))
    assert np.allclose(np.stack([found["x"], found["y"]], 1), expected, atol=1e-5)
    assert found.column_names == ["name", "x", "inside", "y", "inside_2", "expected_error"]
    assert (found["name"].to_pylist(), found["x"].type) == ([str(n) for n in range(50)], arrow.float32())
    assert all(found["inside_2"].to_pylist())
    assert not any(found["inside"].to_pylist())
    parquet.write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    assert map_points(SHIFT, tmp_path / "empty.parquet", tmp_path / "c.parquet").count == 0
    assert parquet.read_table(tmp_path / "c.parquet").column_names == found.column_names


PAIRS = (
    '"Pt-0","true","13","24","10","20"\n'
    '"Pt-1","false","Infinity","0","1","1"\n'
    '"Pt-2","true","33.5","44","30.5","40"\n'
)


def test_pairs_of_bigwarp(tmp_path, program):
    path = tmp_path / "landmarks.csv"
    path.write_text(PAIRS)
    fixed, moving = read_pairs(str(path))
    assert np.array_equal(moving - fixed, [[3, 4], [3, 4]])
    assert evaluate(SHIFT, path, None)["after"]["tre"]["max"] == 0
    path.write_text(PAIRS.replace('"13","24"', '"0","0"'))
    assert map_points(SHIFT, path, tmp_path / "mapped.csv").count == 2
    assert (tmp_path / "mapped.csv").read_text().splitlines() == [
        '"Pt-0","true","13.000000","24.000000","10","20"',
        '"Pt-1","false","Infinity","0","1","1"',
        '"Pt-2","true","33.500000","44.000000","30.5","40"',
    ]
    path.write_text(PAIRS.replace('"10","20"', '"0","0"'))
    map_points(SHIFT, path, tmp_path / "back.csv", inverse=True)
    assert (tmp_path / "back.csv").read_text().splitlines()[
        0
    ] == '"Pt-0","true","13","24","10.000000","20.000000"'
    SHIFT.save(tmp_path / "t.json")
    path.write_text(PAIRS)
    done = program("evaluate", tmp_path / "t.json", path)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "2 landmarks, 100% nearer than before")


def test_a_start_from_pairs_of_bigwarp(tmp_path):
    from register.io.transforms.initial import initial_matrix
    from register.settings import Settings

    (tmp_path / "landmarks.csv").write_text(PAIRS)
    found = initial_matrix(
        Settings(init=str(tmp_path / "landmarks.csv"), model="translation"), (80, 100), (80, 100)
    )
    assert np.allclose(found, SHIFT.matrix)
    (tmp_path / "landmarks.csv").write_text("x,y\n1,2\n")
    with pytest.raises(FileError, match="line 1 is no landmark of BigWarp"):
        initial_matrix(Settings(init=str(tmp_path / "landmarks.csv")), (80, 100), (80, 100))


def test_divided_edges_follow_the_deformation(tmp_path):
    line = {"type": "LineString", "coordinates": [[0.5, 10.5, 7], [90.5, 10.5, 7]]}
    dot = {"type": "MultiPoint", "coordinates": [[1.5, 1.5], [90.5, 60.5]]}
    tree = {"type": "GeometryCollection", "geometries": [line, dot]}
    (tmp_path / "a.geojson").write_text(json.dumps(tree))
    map_points(bent(), tmp_path / "a.geojson", tmp_path / "coarse.geojson")
    done = map_points(bent(), tmp_path / "a.geojson", tmp_path / "fine.geojson", densify=1)
    assert done.count == 91 + 2
    coarse, fine = (
        json.loads((tmp_path / f"{x}.geojson").read_text())["geometries"] for x in ("coarse", "fine")
    )
    assert len(fine[1]["coordinates"]) == 2
    assert (
        fine[0]["coordinates"][0] == coarse[0]["coordinates"][0]
    )  # its own positions stay, with their height
    assert fine[0]["coordinates"][-1] == coarse[0]["coordinates"][-1]
    own = np.stack([np.arange(91.0), np.full(91, 10.0)], 1)
    assert np.allclose([x[:2] for x in fine[0]["coordinates"]], bent().map(own) + 0.5, atol=1e-6)
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(FileError, match="holds points, which have no edges; leave out --densify"):
        map_points(bent(), tmp_path / "a.csv", tmp_path / "b.csv", densify=1)


def test_divided_edges_of_geoparquet(tmp_path):
    shapely = pytest.importorskip("shapely")
    write_geoparquet(tmp_path / "a.parquet", [shapely.LineString([[0.5, 10.5], [90.5, 10.5]])])
    assert map_points(bent(), tmp_path / "a.parquet", tmp_path / "b.parquet", densify=2).count == 46
    shutil.copy(tmp_path / "a.parquet", tmp_path / "cut.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    with pytest.raises(FileError, match="cannot be read as a Parquet table"):
        read_points(tmp_path / "cut.parquet")
