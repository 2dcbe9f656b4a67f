"""Details of point files: limits, parts of edges, worst values of a region, columns by name."""

import json

import numpy as np
import pytest
import roifile

from register.errors import FileError
from register.io.points import bigwarp, table
from register.io.points.columns import place
from register.io.points.landmarks import LandmarkFiles, read_pairs
from register.io.points.model import as_lists, worst, worst_of
from register.io.points.open import read_point_file, read_points


def same(points):
    """A change that leaves points where they are, with two values for each."""
    return points, {"inside": points[:, 0] > 5, "expected_error": points[:, 1] / 8}


def rewritten(path, change=same, **options):
    """The path of a file that was read and written with a change."""
    out = path.with_name(f"out-{path.name}")
    read_point_file(path, **options).write(out, change)
    return out


def geojson(path, *geometries, properties=None):
    features = [{"type": "Feature", "geometry": each, "properties": properties} for each in geometries]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def geometry(kind, coordinates):
    return {"type": kind, "coordinates": coordinates}


@pytest.mark.parametrize("name", ["a.csv", "a.geojson"])
def test_a_coordinate_is_at_most_a_thousand_million(tmp_path, name):
    def written(x):
        if name.endswith("csv"):
            (tmp_path / name).write_text(f"x,y\n1,2\n3,{x}\n")
            return tmp_path / name
        return geojson(tmp_path / name, geometry("MultiPoint", [[1, 2], [3, x]]))

    assert read_point_file(written(1e9)).points[1].tolist() == [3, 1e9]
    assert read_point_file(written(-1e9)).points[1].tolist() == [3, -1e9]
    with pytest.raises(FileError, match=r"too large|larger than"):
        _ = read_point_file(written(1e9 + 1)).points


def divided(tmp_path, kind, coordinates, longest):
    path = geojson(tmp_path / "a.geojson", geometry(kind, coordinates))
    return read_point_file(path, densify=longest).points.tolist()


def test_only_longer_edges_are_divided_into_equal_parts(tmp_path):
    assert divided(tmp_path, "LineString", [[0, 0], [0, 12]], 5) == [
        [0, 0],
        [0, 4],
        [0, 8],
        [0, 12],
    ]
    assert divided(tmp_path, "LineString", [[0, 0], [0, 10], [4, 10]], 5) == [
        [0, 0],
        [0, 5],
        [0, 10],
        [4, 10],
    ]
    assert divided(tmp_path, "LineString", [[0, 0], [3, 4]], 5) == [[0, 0], [3, 4]]
    assert divided(tmp_path, "LineString", [[1, 1]], 5) == [[1, 1]]
    assert divided(tmp_path, "MultiPoint", [[0, 0], [0, 10]], 5) == [[0, 0], [0, 10]]
    assert divided(tmp_path, "MultiLineString", [[[0, 0], [2, 0]]], 1) == [[0, 0], [1, 0], [2, 0]]
    with pytest.raises(FileError, match="would be divided into more than 1e\\+06 parts"):
        divided(tmp_path, "LineString", [[0, 0], [1e6, 0]], 1)
    assert len(divided(tmp_path, "LineString", [[0, 0], [1e3, 0]], 1)) == 1001
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(FileError, match="--densify"):
        read_point_file(tmp_path / "a.csv", densify=1)


def test_positions_without_x_and_y_and_files_without_positions(tmp_path):
    for wrong in ([[1]], [["1", 2]], [[1, 2], [True, 2]], 5):
        with pytest.raises(FileError, match="cannot be read as GeoJSON"):
            read_points(geojson(tmp_path / "a.geojson", geometry("LineString", wrong)))
    with pytest.raises(FileError, match="holds no geometry with coordinates"):
        read_points(geojson(tmp_path / "a.geojson", geometry("LineString", []), geometry("Circle", [1, 2])))
    with pytest.raises(FileError, match="the properties '7' are not an object"):
        read_points(geojson(tmp_path / "a.geojson", geometry("Point", [1, 2]), properties=7))


@pytest.mark.parametrize("kind", ["objectType", "object_type", "other"])
def test_objects_of_qupath_get_numbers_as_measurements(tmp_path, kind):
    given = {
        kind: "cell",
        "measurements": [{"name": "Length", "value": 9}, {"name": "Area", "value": 7}],
    }
    path = geojson(tmp_path / "a.geojson", geometry("MultiPoint", [[6, 8], [9, 16]]), properties=given)
    [found] = json.loads(rewritten(path).read_text())["features"]
    properties = found["properties"]
    assert (properties["inside"], properties["expected_error"]) == (True, 2.0)
    added = [{"name": "inside", "value": 1.0}, {"name": "expected error", "value": 2.0}]
    expected = [*given["measurements"], *added]
    assert properties["measurements"] == (given["measurements"] if kind == "other" else expected)
    unknown = lambda points: (points, {"expected_error": np.full(len(points), np.inf)})  # noqa: E731
    [found] = json.loads(rewritten(path, unknown).read_text())["features"]
    assert found["properties"]["expected_error"] is None
    assert found["properties"]["measurements"] == given["measurements"]


def test_a_feature_in_a_feature_is_part_of_it(tmp_path):
    inner = {"type": "Feature", "geometry": geometry("Point", [1, 1]), "properties": {}}
    outer = {"type": "Feature", "geometry": geometry("Point", [9, 9]), "properties": {"inner": inner}}
    (tmp_path / "a.geojson").write_text(json.dumps({"features": [outer, outer | {"properties": {}}]}))
    first, second = json.loads(rewritten(tmp_path / "a.geojson").read_text())["features"]
    assert (first["properties"]["inside"], second["properties"]["inside"]) == (False, True)
    assert "inside" not in first["properties"]["inner"]["properties"]


def test_the_worst_of_values_is_false_or_the_largest_that_is_known():
    assert (worst([True, False]), worst([True, True]), worst([])) == (False, True, None)
    assert (worst([1.0, 3.0, 2.0]), worst([1.0, None]), worst([None])) == (3.0, 1.0, None)
    assert worst([0.12345678]) == 0.123457
    assert worst([1.0, np.inf]) is None
    assert as_lists({"a": np.array([1, 2]), "b": [True]}) == {"a": [1, 2], "b": [True]}


@pytest.mark.parametrize("dtype", [float, bool])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_worst_of_ranges_is_that_of_each_range(dtype, count):
    values = np.random.default_rng(0).uniform(0, 2, count).astype(dtype)
    starts, ends = (np.array(x) for x in zip(*[(a, b) for a in range(count) for b in range(a, count + 1)],
                                             strict=True))  # fmt: skip
    found = worst_of(values, starts, ends)
    assert found.tolist() == [worst(values[a:b].tolist()) for a, b in zip(starts, ends, strict=True)]
    assert worst_of(np.array([1.0, np.inf]), np.array([0, 0]), np.array([1, 2])).tolist() == [1.0, None]
    assert worst_of(np.array([1.0, np.nan]), np.array([0]), np.array([2])).tolist() == [1.0]


def test_a_unit_that_is_not_the_pixel_is_refused_where_pixels_are_needed(tmp_path):
    (tmp_path / "a.csv").write_text("x_centroid,y_centroid\n1,2\n")
    with pytest.raises(FileError, match="has coordinates in µm; convert them to pixels"):
        read_points(tmp_path / "a.csv")
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / "a.zarr" / "points" / "p"
    folder.mkdir(parents=True)
    parquet.write_table(arrow.table({"x": [1.0], "y": [2.0]}), folder / "points.parquet")
    with pytest.raises(FileError, match="has coordinates in an unknown unit"):
        read_points(folder)
    (folder / ".zattrs").write_text(json.dumps({"coordinateTransformations": [{"type": "identity"}]}))
    assert read_points(folder).tolist() == [[0.5, 1.5]]  # from the corner of the pixel
    (folder / ".zattrs").write_text(json.dumps({"coordinateTransformations": [5]}))
    with pytest.raises(FileError, match="is damaged"):
        read_points(folder)
    with pytest.raises(FileError, match="--densify"):
        read_point_file(folder, densify=1)
    (tmp_path / "b.zarr" / "points").mkdir(parents=True)
    with pytest.raises(FileError, match="holds 0 elements of points or shapes; name an element"):
        read_points(tmp_path / "b.zarr")


def cells(path):
    return [line.split(",") for line in path.read_text().splitlines()]


def test_rows_of_a_table_get_values_and_short_rows_empty_cells(tmp_path):
    (tmp_path / "a.csv").write_text("x,y,note,more\n6,8\n1.50,16,hello\n\n7,2,a,b\n")
    assert cells(rewritten(tmp_path / "a.csv")) == [
        ["x", "y", "note", "more", "inside", "expected_error"],
        ["6", "8", "", "", "true", "1"],
        ["1.5", "16", "hello", "", "false", "2"],
        ["7", "2", "a", "b", "true", "0.25"],
    ]
    (tmp_path / "b.csv").write_text("inside,x,y\nold,6,8\n")
    assert cells(rewritten(tmp_path / "b.csv"))[1] == ["true", "6", "8", "1"]


def test_a_box_has_the_worst_value_of_its_corners(tmp_path):
    (tmp_path / "a.csv").write_text("XMin,XMax,YMin,YMax\n4,7,10,12\n6,7,10,20\n")
    file = read_point_file(tmp_path / "a.csv")
    assert file.points[:4].tolist() == [[4, 10], [4, 12], [7, 10], [7, 12]]
    assert cells(rewritten(tmp_path / "a.csv"))[1:] == [
        ["4", "7", "10", "12", "false", "1.5"],
        ["6", "7", "10", "20", "true", "2.5"],
    ]
    turned = lambda points: (points[:, ::-1] * [1, -1], {})  # noqa: E731
    assert cells(rewritten(tmp_path / "a.csv", turned))[1] == ["10", "12", "-7", "-4"]
    unknown = lambda points: (points, {"error": np.full(len(points), np.inf)})  # noqa: E731
    assert cells(rewritten(tmp_path / "a.csv", unknown))[1][-1] == ""


def test_a_table_of_numbers_is_read_at_once(tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError

    monkeypatch.setattr(table.Table, "_row_by_row", never)
    (tmp_path / "a.csv").write_text("x,y\n1,2\n\n3,4\n")
    assert read_points(tmp_path / "a.csv").tolist() == [[1, 2], [3, 4]]
    (tmp_path / "b.csv").write_text("x,y\n")
    assert read_points(tmp_path / "b.csv").shape == (0, 2)


@pytest.mark.parametrize(
    ("line", "problem"),
    [("3", "no number under x or y"), ("3,inf", "not finite"), ("1e10,3", "too large"), ("a,1", "no number")],
)
def test_the_line_that_is_wrong_is_named_by_its_number(tmp_path, line, problem):
    (tmp_path / "a.csv").write_text(f"x,y\n1,2\n , \n{line}\n")
    with pytest.raises(FileError, match=f"line 4 has .*{problem}"):
        read_points(tmp_path / "a.csv")
    (tmp_path / "tissue_positions_list.csv").write_text(f"s,1,0,0,2,1\ns,1,0,0,{line}\n")
    with pytest.raises(FileError, match=f"line 2 has .*{problem}"):
        read_points(tmp_path / "tissue_positions_list.csv")


def test_a_list_of_spots_has_no_header_only_where_its_second_cell_is_a_flag(tmp_path):
    path = tmp_path / "tissue_positions_list.csv"
    for flag in "01":
        path.write_text(f"s,{flag},0,16,300,100\n")
        assert read_points(path).tolist() == [[100, 300]]  # row before column
    path.write_text("id,flag,x,y,other,more\ns,1,5,6,300,100\n")
    assert read_points(path).tolist() == [[5, 6]]
    path.write_text("1,1,0,16,300\n")
    with pytest.raises(FileError, match="has no columns x and y"):
        read_points(path)
    (tmp_path / "other.csv").write_text("s,1,0,16,300,100\n")
    with pytest.raises(FileError, match="has no columns x and y"):
        read_points(tmp_path / "other.csv")


def test_the_delimiter_is_the_most_frequent_of_the_first_line(tmp_path):
    for name, text in (
        ("a.txt", "x;y;a,b\n1;2;3\n"),
        ("b.txt", "x\ty\n1\t2\n"),
        ("c.txt", "y,x,a;b\n2,1,3\n"),
    ):
        (tmp_path / name).write_text(text)
        assert read_points(tmp_path / name).tolist() == [[1, 2]]


def test_columns_are_found_by_their_names():
    def found(header, named=None):
        made = place("a.csv", header.split(","), named)
        return made.x, made.y, made.unit, made.corner

    assert found("id, Y ,X") == ((2,), (1,), "px", False)
    assert found("index,axis-0,axis-1,axis-2") == ((3,), (2,), "px", False)  # of napari: …, row, column
    assert found("axis-1,axis-0") == ((0,), (1,), "px", False)
    assert found("x_centroid,y_centroid") == ((0,), (1,), "µm", True)
    assert found("X_centroid,Y_centroid") == ((0,), (1,), "px", False)
    assert found("a,Centroid X um,Centroid Y um") == ((1,), (2,), "µm", True)
    assert found("Centroid X px,Centroid Y px") == ((0,), (1,), "px", True)
    assert found("YMax,YMin,XMax,XMin") == ((3, 2), (1, 0), "px", True)
    assert found("x,y,u,v", "v, u") == ((3,), (2,), "px", False)
    for header, named, problem in (
        ("x,y,X", None, "has 2 columns called x"),
        ("axis-0,b", None, "has no columns x and y"),
        ("x_centroid,b", None, r"its first line is 'x_centroid,b'"),
        ("a,b", "a", "cannot be read by --columns a"),
        ("a,b", "a,", "cannot be read by --columns a,"),
        ("a,b", "a,b,a", "cannot be read by --columns a,b,a"),
        ("a,b", "a,c", "has no column 'c'; it has a, b"),
    ):
        with pytest.raises(FileError, match=problem):
            found(header, named)


def roi(kind, points, **attributes):
    made = roifile.ImagejRoi.frompoints(points, name=kind)
    made.roitype = roifile.ROI_TYPE[kind]
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def test_regions_of_imagej_keep_their_kind_and_attributes(tmp_path):
    ring = [[1.5, 2.5], [7.5, 2.5], [7.5, 9.25]]
    kept = {"position": 3, "c_position": 1, "z_position": 2, "t_position": 4, "stroke_width": 5, "group": 6}
    colours = {"stroke_color": b"\xff\x01\x02\x03", "fill_color": b"\xff\x04\x05\x06"}
    polygon = roi("POLYGON", np.array(ring, np.float32), **kept, **colours)
    dots = roi("POINT", np.array([[6, 8], [8, 24]], np.int32))
    roifile.roiwrite(tmp_path / "a.zip", [polygon, dots], mode="w")
    assert read_points(tmp_path / "a.zip") == pytest.approx(np.array([*ring, [6.5, 8.5], [8.5, 24.5]]) - 0.5)
    first, second = roifile.roiread(rewritten(tmp_path / "a.zip"))
    assert {name: getattr(first, name) for name in (*kept, *colours)} == kept | colours
    assert first.coordinates().tolist() == ring
    assert [line.split(": ") for line in first.props.splitlines()] == [
        ["inside", "false"],
        ["expected_error", "1.15625"],
    ]
    assert second.props.splitlines() == ["inside: true", "expected_error: 3.0625"]
    assert (second.roitype, second.coordinates().tolist()) == (
        roifile.ROI_TYPE.POINT,
        [[6.5, 8.5], [8.5, 24.5]],
    )
    polygon.tofile(tmp_path / "b.roi")
    assert roifile.ImagejRoi.fromfile(rewritten(tmp_path / "b.roi")).coordinates().tolist() == ring
    roifile.roiwrite(tmp_path / "one.zip", [polygon], mode="w")
    again = rewritten(tmp_path / "one.zip")
    assert again.read_bytes()[:2] == b"PK"  # an archive of one region stays an archive
    assert roifile.roiread(again)[0].coordinates().tolist() == ring


@pytest.mark.parametrize("kind", ["RECT", "OVAL"])
def test_a_rectangle_of_imagej_becomes_a_polygon(tmp_path, kind):
    region = roifile.ImagejRoi(roitype=roifile.ROI_TYPE[kind], left=2, top=3, right=10, bottom=9, name="r")
    region.tofile(tmp_path / "a.roi")
    found = read_point_file(tmp_path / "a.roi")
    low, high = found.points.min(0), found.points.max(0)
    assert (low.tolist(), high.tolist()) == ([2, 3], [10, 9])
    made = roifile.ImagejRoi.fromfile(rewritten(tmp_path / "a.roi"))
    assert made.roitype == roifile.ROI_TYPE.POLYGON
    assert made.coordinates() == pytest.approx(found.points, abs=1e-5)


SOLID = '"a","true","1","2","3","4","5","6"\n"b","false","0","0","0","Infinity","0","0"\n'


def test_pairs_of_bigwarp_in_three_dimensions(tmp_path):
    path = tmp_path / "landmarks.csv"
    path.write_text(SOLID)
    fixed, moving = read_pairs(str(path))
    assert (fixed.tolist(), moving.tolist()) == ([[4, 5]], [[1, 2]])
    shifted = lambda points: (points + np.array([10, 20]), {})  # noqa: E731
    first, second = cells(rewritten(path, shifted))
    assert first == ['"a"', '"true"', '"14.000000"', '"25.000000"', '"3"', '"4"', '"5"', '"6"']
    assert second == [f'"{x}"' for x in ("b", "false", "0", "0", "0", "Infinity", "0", "0")]
    first, _ = cells(rewritten(path, shifted, moving=True))
    assert first == ['"a"', '"true"', '"1"', '"2"', '"3"', '"11.000000"', '"22.000000"', '"6"']
    for text in ('"a","true","1","2","3"\n', '"a","maybe","1","2","3","4"\n', "", "x,y\n1,2\n"):
        assert not bigwarp.is_bigwarp(text)
    assert bigwarp.is_bigwarp(' a , TRUE ,"1","2","3","4"\n')
    for wrong in ("Infinity", "one"):
        path.write_text(f'"a","true","1","2","3","4"\n"b","true","1","2","3","{wrong}"\n')
        with pytest.raises(FileError, match="line 2 has no number where a coordinate is"):
            read_pairs(str(path))
    path.write_text('"a","true","1","2","3","4"\n"b","true","1"\n')
    with pytest.raises(FileError, match="line 2 is no landmark of BigWarp"):
        read_pairs(str(path))


def test_two_files_of_landmarks_have_the_same_number_of_different_points(tmp_path):
    for name, text in (("one", "1,2"), ("two", "1,2\n3,4"), ("same", "1,2\n1,2"), ("none", "")):
        (tmp_path / f"{name}.csv").write_text(f"x,y\n{text}\n")

    def read(first, second):
        return read_pairs(f"{tmp_path / first}.csv, {tmp_path / second}.csv")

    assert [side.tolist() for side in read("two", "two")] == [[[1, 2], [3, 4]]] * 2
    for first, second, problem in (
        ("one", "two", r"two\.csv: holds 2 points and .*one\.csv holds 1"),
        ("same", "two", r"same\.csv: holds the same point twice"),
        ("two", "same", r"same\.csv: holds the same point twice"),
        ("none", "none", "holds no landmarks"),
    ):
        with pytest.raises(FileError, match=problem):
            read(first, second)
    assert LandmarkFiles.parse("a.csv") is None
    assert LandmarkFiles.parse("a.csv,") is None
    assert LandmarkFiles.parse("a,b,c") is None
    assert str(LandmarkFiles.parse(" a , b ")) == "a,b"


def test_parquet_keeps_the_kind_of_numbers_and_of_columns(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"inside": ["old"] * 2, "Y": arrow.array([8, 16], arrow.int32()),
               "x": arrow.array([6.0, 9.0], arrow.float32()), "gene": ["A", "A"]}  # fmt: skip
    parquet.write_table(
        arrow.table(columns).replace_schema_metadata({"made": "here"}), tmp_path / "a.parquet"
    )
    assert read_points(tmp_path / "a.parquet").tolist() == [[6, 8], [9, 16]]
    file = parquet.ParquetFile(rewritten(tmp_path / "a.parquet", lambda p: (p + 0.25, same(p)[1])))
    found = file.read()
    assert found.column_names == ["inside", "Y", "x", "gene", "expected_error"]
    assert found["x"].to_pylist() == [6.25, 9.25]
    assert found["Y"].to_pylist() == [8.25, 16.25]  # not cut to an integer
    assert (found["x"].type, found["Y"].type) == (arrow.float32(), arrow.float64())
    assert found["inside"].to_pylist() == [True, True]
    assert found.schema.metadata[b"made"] == b"here"
    encodings = [file.metadata.row_group(0).column(n).encodings for n in (2, 3)]
    assert ["RLE_DICTIONARY" in each for each in encodings] == [False, True]
    parquet.write_table(
        arrow.table({"XMin": [1], "XMax": [2], "YMin": [1], "YMax": [2]}), tmp_path / "b.parquet"
    )
    with pytest.raises(FileError, match="holds boxes; write them as CSV"):
        read_points(tmp_path / "b.parquet")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.zeros(3), "no table of x and y"),
        (np.zeros((3, 4)), "no table of x and y"),
        (np.zeros((3, 1)), "no table of x and y"),
        (np.zeros((3, 2), "S2"), "no table of x and y"),
        (np.full((3, 2), np.nan), "missing or not finite"),
    ],
)
def test_positions_of_anndata_are_a_table_of_numbers(tmp_path, values, problem):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file.create_group("obs").attrs["column-order"] = np.array([], h5py.string_dtype())
        file["obsm/spatial"] = values
    with pytest.raises(FileError, match=problem):
        read_points(tmp_path / "a.h5ad")
