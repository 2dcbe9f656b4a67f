"""Point files that people have: known points by name, unit and order; the same kind comes out."""

import csv
import gzip
import json
import zipfile

import numpy as np
import pytest

from register import Transform
from register.errors import FileError
from register.geometry import affine
from register.geometry.pixel_size import PixelSize
from register.io.points.open import read_points
from register.transforms.transform import Frame
from register.workflows.points import map_points

SHIFT = np.array([3.0, -5.0])
FIXED, MOVING = PixelSize(0.5, 0.5, "µm"), PixelSize(0.25, 0.25, "µm")


@pytest.fixture
def transform():
    """Fixed (x, y) to moving (2 x + 3, 2 y − 5): the moving pixels are half as large."""
    matrix = np.array([[2.0, 0, SHIFT[0]], [0, 2.0, SHIFT[1]]])
    return Transform(
        "affine", Frame(1000, 800, FIXED), Frame(2000, 1600, MOVING), affine.identity() * 0 + matrix
    )


def mapped(transform, path, **options):
    """The path of the mapped file, in a folder beside the file."""
    out = path.parent / "out" / path.name
    map_points(transform, path, out, **options)
    return out


def rows(path, delimiter=","):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


@pytest.mark.parametrize(("name", "delimiter", "header", "unit", "corner"), [
    ("x,y", ",", ["id", "x", "y"], "px", False),
    ("x;y", ";", ["id", "X", "Y"], "px", False),
    ("Xenium", ",", ["cell_id", "x_centroid", "y_centroid"], "µm", True),
    ("QuPath", "\t", ["Image", "Centroid X µm", "Centroid Y µm"], "µm", True),
    ("QuPath in pixels", "\t", ["Image", "Centroid X px", "Centroid Y px"], "px", True),
    ("mcmicro", ",", ["CellID", "X_centroid", "Y_centroid"], "px", False),
    ("Visium", ",", ["barcode", "pxl_col_in_fullres", "pxl_row_in_fullres"], "px", False),
])  # fmt: skip
def test_tables_of_known_programs(tmp_path, transform, name, delimiter, header, unit, corner):
    pixel = np.array([[100.0, 40.0], [7.25, 300.5]])
    before = (pixel + (0.5 if corner else 0)) * (0.5 if unit == "µm" else 1)
    lines = [header] + [[f"cell {n}", *map(str, point)] for n, point in enumerate(before)]
    (tmp_path / "cells.csv").write_text("\n".join(delimiter.join(line) for line in lines))
    found = rows(mapped(transform, tmp_path / "cells.csv"), delimiter)
    expected = (2 * pixel + SHIFT + (0.5 if corner else 0)) * (0.25 if unit == "µm" else 1)
    assert np.allclose([[float(row[header[1]]), float(row[header[2]])] for row in found], expected, atol=1e-6)
    assert [row[header[0]] for row in found] == ["cell 0", "cell 1"]
    assert list(found[0]) == [*header, "inside", "expected_error"]


def test_visium_without_a_header_has_row_before_column(tmp_path, transform):
    path = tmp_path / "tissue_positions_list.csv"
    path.write_text("AAAC-1,1,0,16,300,100\nAAAG-1,0,2,18,310,120\n")
    found = [line.split(",") for line in mapped(transform, path).read_text().splitlines()]
    assert found[0][:6] == ["AAAC-1", "1", "0", "16", "595", "203"]
    assert len(found) == 2


def test_boxes_of_halo_become_boxes_around_their_corners(tmp_path, transform):
    (tmp_path / "a.csv").write_text("Object Id,XMin,XMax,YMin,YMax\n7,10,20,30,50\n")
    [row] = rows(mapped(transform, tmp_path / "a.csv"))
    corners = [float(row[name]) for name in ("XMin", "XMax", "YMin", "YMax")]
    assert np.allclose(corners, [22.5, 42.5, 54.5, 94.5])
    assert row["Object Id"] == "7"


def test_columns_and_unit_as_the_user_names_them(tmp_path, transform, program):
    (tmp_path / "a.csv").write_text("x,y,cx,cy\n1,2,0.05,0.02\n")
    transform.save(tmp_path / "t.json")
    done = program(
        "points", tmp_path / "t.json", tmp_path / "a.csv", "-o", tmp_path / "b.csv",
        "--columns", "cx,cy", "--unit", "mm",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [row] = rows(tmp_path / "b.csv")
    assert (row["x"], row["y"]) == ("1", "2")
    assert np.allclose([float(row["cx"]), float(row["cy"])], (np.array([100, 40]) * 2 + SHIFT) * 0.00025)
    done = program(
        "points", tmp_path / "t.json", tmp_path / "a.csv", "-o", tmp_path / "c.csv", "--columns", "cx,cz"
    )
    assert "a.csv: has no column 'cz'; it has x, y, cx, cy" in done.stderr


def test_lengths_need_pixel_sizes(tmp_path, transform):
    (tmp_path / "a.csv").write_text("x_centroid,y_centroid\n1,2\n")
    unknown = Transform("affine", Frame(1000, 800), Frame(2000, 1600, MOVING), transform.matrix)
    with pytest.raises(
        FileError, match=r"a\.csv: has coordinates in µm, and the pixel size of image of 1000"
    ):
        mapped(unknown, tmp_path / "a.csv")


def feature(x, y, **properties):
    ring = [[x, y], [x + 4, y], [x + 4, y + 4], [x, y]]
    inner = {
        "type": "Polygon",
        "coordinates": [[[x + 1, y + 1], [x + 2, y + 1], [x + 1, y + 2], [x + 1, y + 1]]],
    }
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "nucleusGeometry": inner,
        "properties": {"objectType": "cell", **properties},
    }


def test_cells_of_qupath_get_measurements(tmp_path, transform):
    tree = {"type": "FeatureCollection", "features": [
        feature(10, 10, measurements={"Area": 7.5}),
        feature(900, 10, measurements=[{"name": "Area", "value": 7}]),
        feature(5000, 10),
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2, 9]}, "properties": None},
    ]}  # fmt: skip
    (tmp_path / "a.geojson").write_text(json.dumps(tree))
    first, second, third, point = json.loads(mapped(transform, tmp_path / "a.geojson").read_text())[
        "features"
    ]
    corner = lambda x, y: [2 * (x - 0.5) + 3.5, 2 * (y - 0.5) - 4.5]  # noqa: E731
    assert first["geometry"]["coordinates"][0][:2] == [corner(10, 10), corner(14, 10)]
    assert first["nucleusGeometry"]["coordinates"][0][1] == corner(12, 11)
    assert point["geometry"]["coordinates"] == [*corner(1, 2), 9]
    assert (first["properties"]["inside"], third["properties"]["inside"]) == (True, False)
    assert first["properties"]["measurements"] == {"Area": 7.5, "inside": 1.0}
    assert {"name": "inside", "value": 1.0} in second["properties"]["measurements"]
    assert "measurements" not in point["properties"]


@pytest.mark.parametrize("name", [[1], {"a": 1}, None, 5])
def test_measurements_of_qupath_whose_names_are_no_texts_stay(name, tmp_path, transform):
    (tmp_path / "a.geojson").write_text(json.dumps([feature(10, 10, measurements=[{"name": name}, 7])]))
    (found,) = json.loads(mapped(transform, tmp_path / "a.geojson").read_text())
    assert found["properties"]["measurements"] == [{"name": name}, 7, {"name": "inside", "value": 1.0}]


@pytest.mark.parametrize("name", ["a.geojson.gz", "a.geojson.zip", "a.zip"])
def test_compressed_geojson_comes_out_compressed(tmp_path, transform, name):
    text = json.dumps({"type": "FeatureCollection", "features": [feature(10, 10)]})
    if name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))
    else:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("annotations.geojson", text)
    out = mapped(transform, tmp_path / name)
    if name.endswith(".gz"):
        found = gzip.decompress(out.read_bytes())
    else:
        with zipfile.ZipFile(out) as archive:
            [inner] = archive.namelist()
            assert inner.endswith(".geojson")
            found = archive.read(inner)
    assert json.loads(found)["features"][0]["geometry"]["coordinates"][0][0] == [22.5, 14.5]


def test_parquet_keeps_other_columns_and_types(tmp_path, transform):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"cell_id": ["a", "b"], "x_centroid": [50.25, 60.25], "y_centroid": [20.25, 30.25],
                         "genes": [3, 5]})  # fmt: skip
    parquet.write_table(table, tmp_path / "cells.parquet")
    found = parquet.read_table(mapped(transform, tmp_path / "cells.parquet"))
    assert found.column_names == [*table.column_names, "inside", "expected_error"]
    assert np.allclose(found["x_centroid"].to_numpy(), (2 * np.array([100, 120]) + 3.5) * 0.25)
    assert found["genes"].to_pylist() == [3, 5]
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(FileError, match=r"bad\.parquet: cannot be read as a Parquet table"):
        mapped(transform, tmp_path / "bad.parquet")


def test_points_are_written_as_the_kind_that_they_were(tmp_path, transform):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(FileError, match=r"b\.geojson: has the ending of another kind of file.*use \.csv"):
        map_points(transform, tmp_path / "a.csv", tmp_path / "b.geojson")


def test_columns_of_a_table_that_have_the_names_of_the_new_ones_stay(tmp_path, transform, program):
    (tmp_path / "a.csv").write_text("x,y,inside,expected_error,expected_error_2\n10,20,tumour,a,b\n")
    transform.save(tmp_path / "t.json")
    done = program("points", tmp_path / "t.json", tmp_path / "a.csv", "-o", tmp_path / "b.csv")
    assert done.returncode == 0, done.stderr
    assert "the new ones are inside_2 and expected_error_3" in done.stdout
    (row,) = rows(tmp_path / "b.csv")
    assert [row[name] for name in ("inside", "expected_error", "expected_error_2")] == ["tumour", "a", "b"]
    assert row["inside_2"] == "true"
    assert row["expected_error_3"]


def test_properties_of_geojson_that_have_the_names_of_the_new_ones_stay(tmp_path, transform):
    tree = [feature(10, 10, inside="tumour"), feature(10, 10, measurements={"expected error": 4.0})]
    (tmp_path / "a.geojson").write_text(json.dumps(tree))
    first, second = json.loads(mapped(transform, tmp_path / "a.geojson").read_text())
    assert (first["properties"]["inside"], first["properties"]["inside_2"]) == ("tumour", True)
    assert second["properties"]["measurements"] == {"expected error": 4.0, "inside 2": 1.0}


@pytest.mark.parametrize("kind", ["csv", "parquet", "geojson", "roi", "h5ad"])
def test_points_mapped_there_and_back_keep_the_columns_of_the_way_there(kind, tmp_path, transform):
    path = tmp_path / f"a.{kind}"
    if kind == "csv":
        path.write_text("x,y\n1,2\n")
    elif kind == "parquet":
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(arrow.table({"x": [1.0], "y": [2.0]}), path)
    elif kind == "geojson":
        path.write_text(json.dumps({"type": "Point", "coordinates": [1, 2]}))
    elif kind == "roi":
        pytest.importorskip("roifile").ImagejRoi.frompoints(np.array([[1.0, 2], [3, 2]])).tofile(path)
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            file["obsm/spatial"] = np.array([[1.0, 2]])
            file.create_group("obs").attrs["column-order"] = np.array([], h5py.string_dtype())
    map_points(transform, path, tmp_path / f"b.{kind}")
    done = map_points(transform, tmp_path / f"b.{kind}", tmp_path / f"c.{kind}", inverse=True)
    if kind == "geojson":  # a geometry alone has no properties
        assert done.columns == ("inside", "expected_error")
        return
    assert done.columns == ("inside_2", "expected_error_2")
    again = map_points(transform, tmp_path / f"c.{kind}", tmp_path / f"d.{kind}")
    assert again.columns == ("inside_3", "expected_error_3")


def test_columns_are_refused_for_files_that_have_none(tmp_path, transform, program):
    transform.save(tmp_path / "t.json")
    point = {"type": "Point", "coordinates": [1, 2]}
    (tmp_path / "a.geojson").write_text(json.dumps(point))
    (tmp_path / "l.csv").write_text('"Pt-0","true","1","2","3","4"\n')
    names = ["a.geojson", "l.csv"]
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file["obsm/spatial"] = np.array([[1.0, 2]])
        file.create_group("obs").attrs["column-order"] = np.array([], h5py.string_dtype())
    for name in (*names, "a.h5ad"):
        out = tmp_path / f"b{name}"
        done = program("points", tmp_path / "t.json", tmp_path / name, "-o", out, "--columns", "a,b")
        assert done.returncode == 2, name
        assert f"{tmp_path / name}: is " in done.stderr
        assert "where no columns are chosen; leave out --columns" in done.stderr
        assert done.stderr.count("\n") == 1
        assert not out.exists()
    done = program(
        "points", tmp_path / "t.json", tmp_path / "l.csv", "-o", tmp_path / "b.csv", "--densify", "3"
    )
    assert done.returncode == 2


@pytest.mark.parametrize("ending", [".geojson.zip2", ".zip2", "", ".txt2", ".gz", ".xlsx", ".csv"])
def test_an_unknown_ending_of_the_output_is_refused(ending, tmp_path, transform):
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "Point", "coordinates": [1, 2]}))
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    for name, known in (("a.geojson", r"\.geojson, \.json"), ("a.csv", r"\.csv, \.tsv, \.txt")):
        if name.endswith(ending or "?"):
            continue
        with pytest.raises(FileError, match=rf"has the ending of .*; use {known}"):
            map_points(transform, tmp_path / name, tmp_path / f"b{ending}")
        assert not (tmp_path / f"b{ending}").exists()


def test_a_table_of_errors_is_not_replaced(tmp_path, transform, program):
    transform.save(tmp_path / "t.json")
    (tmp_path / "f.csv").write_text("x,y\n1,2\n3,9\n")
    (tmp_path / "old.csv").write_text("notes")
    files = [tmp_path / "t.json", tmp_path / "f.csv", tmp_path / "f.csv", "-o", tmp_path / "old.csv"]
    done = program("evaluate", *files)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{tmp_path / 'old.csv'}: exists already; use --overwrite" in done.stderr
    assert (tmp_path / "old.csv").read_text() == "notes"
    assert program("evaluate", *files, "--overwrite").returncode == 0
    assert "TRE" in (tmp_path / "old.csv").read_text()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", " ", "|", "  "])
def test_the_delimiter_of_a_table_is_found(delimiter, tmp_path, transform):
    lines = (("my id", "x", "y", "note"), ("a b", "10.5", "20", ""), ("c,d", "1", "2.25", 'he said "e"'))
    quoted = [[f'"{x}"' if not x or any(c in x for c in ' ,"') else x for x in line] for line in lines]
    quoted[2][3] = '"he said ""e"""'
    (tmp_path / "a.csv").write_text("".join(f"{delimiter.join(line)}\n" for line in quoted))
    out = mapped(transform, tmp_path / "a.csv")
    with open(out, newline="") as file:
        found = list(csv.DictReader(file, delimiter=delimiter[0]))
    assert [(row["my id"], row["x"], row["y"], row["note"]) for row in found] == [
        ("a b", "24", "35", ""),
        ("c,d", "5", "-0.5", 'he said "e"'),
    ]
    assert [row["inside"] for row in found] == ["true", "true"]
    back = mapped(transform, out, inverse=True)  # a table that was written can be read
    assert len(back.read_text().splitlines()) == 3


def test_spaces_in_names_do_not_separate_and_rows_may_be_indented(tmp_path, transform):
    (tmp_path / "a.csv").write_text("the first id,x y,a b c d,y,x\n1,2,3,20,10\n")
    (row,) = rows(mapped(transform, tmp_path / "a.csv"))
    assert (row["x"], row["y"], row["x y"]) == ("23", "35", "2")
    (tmp_path / "b.txt").write_text("   x    y\n  10   20\n 100    2.5\n")
    found = rows(mapped(transform, tmp_path / "b.txt"), " ")
    assert [(row["x"], row["y"]) for row in found] == [("23", "35"), ("203", "0")]


@pytest.mark.parametrize("delimiter", [";", "\t", " ", "|"])
def test_decimal_commas_are_read_and_written(delimiter, tmp_path, transform):
    lines = ["X Y n", "7 8 a", "10,5 20,25 1,5"]
    (tmp_path / "a.csv").write_text("\n".join(line.replace(" ", delimiter) for line in lines) + "\n")
    out = mapped(transform, tmp_path / "a.csv")
    found = rows(out, delimiter)
    assert [(row["X"], row["Y"], row["n"]) for row in found] == [("17", "11", "a"), ("24", "35,5", "1,5")]
    assert "." not in out.read_text()
    assert np.allclose(read_points(tmp_path / "a.csv"), [[7, 8], [10.5, 20.25]])


def test_a_line_that_is_wrong_is_quoted_as_it_is(tmp_path, transform):
    for text, line in (
        ("X;Y;n\n10;5;a\n10,5;;b\n", "10,5;;b"),
        ("X;Y;n\n10,5;20;a\n10;20.5;b\n", "10;20.5;b|10,5;20;a"),
        ('x,y\n"10,5",3\n', "10,5,3"),
        ("x y\n1 2\n1 a\n", "1 a"),
    ):
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(FileError, match=rf"line \d has no number under x or y: '({line})'"):
            map_points(transform, tmp_path / "a.csv", tmp_path / "b.csv")
    (tmp_path / "a.csv").write_text("a;b\n1;2\n")
    with pytest.raises(FileError, match="its first line is 'a;b'"):
        map_points(transform, tmp_path / "a.csv", tmp_path / "b.csv")


def test_a_cell_that_is_too_long_for_a_table_is_refused(tmp_path, transform):
    (tmp_path / "a.csv").write_text(f"x;y\n{'1' * 200_000};2\n")
    with pytest.raises(FileError, match="cannot be read as CSV"):
        map_points(transform, tmp_path / "a.csv", tmp_path / "b.csv")
