"""Large tables pass through in blocks: the same bytes as in one, memory that does not grow, nothing half."""

import gzip
import tracemalloc

import numpy as np
import pytest

from register.errors import FileError
from register.files import compressed
from register.geometry import affine
from register.io.points import parquet as parquet_points
from register.io.points import table
from register.io.points.open import read_point_file, read_points
from register.transforms.frame import Frame
from register.transforms.transform import Transform
from register.workflows.points import map_points

SHIFT = Transform("translation", Frame(100, 80), Frame(100, 80), affine.translation(3, 4))


def write_rows(path, count, header="id,x,y,name", line="{n},{x},{y},gène {n}"):
    text = "\n".join([header, *(line.format(n=n, x=n % 90 + 0.25, y=n % 70) for n in range(count))])
    data = (text + "\n").encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize(
    ("name", "header", "line"),
    [
        ("a.csv", "id,x,y,name", "{n},{x},{y},gène {n}"),
        ("a.tsv", "id\tx\ty", "{n}\t{x}\t{y}"),
        ("quoted.csv", "x,y,note", '{x},{y},"two\nlines, ""{n}"""'),
        ("blank.csv", "x,y,id", "{x},{y},{n}\n\n , ,"),
        ("halo.csv", "XMin,XMax,YMin,YMax", "{x},3{x},{y},9{y}"),
        ("tissue_positions_list.csv", "first,1,0,16,300,100", "s{n},1,0,16,{y},{x}"),
    ],
)
@pytest.mark.parametrize("block", [1, 7, 40, 41])
def test_blocks_make_the_same_file(tmp_path, monkeypatch, name, header, line, block):
    write_rows(tmp_path / name, 40, header, line)
    whole = map_points(SHIFT, tmp_path / name, tmp_path / "whole" / name)
    points = read_points(tmp_path / name)
    monkeypatch.setattr(table, "BLOCK", block)
    assert map_points(SHIFT, tmp_path / name, tmp_path / "blocks" / name) == whole
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "blocks" / name).read_bytes()
    assert np.array_equal(read_points(tmp_path / name), points)
    assert len(points) == whole.count
    assert whole.count == {"halo.csv": 160, "tissue_positions_list.csv": 41}.get(name, 40)


def test_a_wrong_row_of_a_later_block_is_named_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "BLOCK", 10)
    path, out = tmp_path / "a.csv", tmp_path / "b.csv"
    write_rows(path, 50)
    for wrong, problem in ((b"33,x,", "no number"), (b"33,nan,", "not finite"), (b"33,1e30,", "too large")):
        (tmp_path / "w.csv").write_bytes(path.read_bytes().replace(b"\n33,33.25,", b"\n" + wrong))
        with pytest.raises(FileError, match=rf"w\.csv: line 35 has .*{problem}"):
            map_points(SHIFT, tmp_path / "w.csv", out)
    (tmp_path / "w.csv").write_bytes(path.read_bytes().replace("gène 40".encode(), b"g\xe8ne"))
    with pytest.raises(FileError, match=r"w\.csv: cannot be read as"):
        map_points(SHIFT, tmp_path / "w.csv", out)
    write_rows(tmp_path / "cut.csv.gz", 5000)
    data = (tmp_path / "cut.csv.gz").read_bytes()
    (tmp_path / "cut.csv.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(FileError, match=r"cut\.csv\.gz: cannot be read as"):
        map_points(SHIFT, tmp_path / "cut.csv.gz", out)
    assert sorted(x.name for x in tmp_path.iterdir()) == ["a.csv", "cut.csv.gz", "w.csv"]


def test_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "BLOCK", 500)
    monkeypatch.setattr(compressed, "BEGINNING", 1000)
    peaks = []
    for count in (2_000, 2_000, 20_000):  # the first run imports
        write_rows(tmp_path / "a.csv", count)
        tracemalloc.start()
        assert map_points(SHIFT, tmp_path / "a.csv", tmp_path / "b.csv", overwrite=True).count == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.2 * peaks[1]


@pytest.mark.parametrize(
    ("given", "made"), [("a.csv.gz", "b.csv.gz"), ("a.csv.gz", "b.csv"), ("a.csv", "b.csv.gz")]
)
def test_a_compressed_table(tmp_path, given, made):
    write_rows(tmp_path / given, 3)
    map_points(SHIFT, tmp_path / given, tmp_path / made)
    data = (tmp_path / made).read_bytes()
    text = (gzip.decompress(data) if made.endswith(".gz") else data).decode()
    assert text.splitlines()[1] == "0,3.25,4,gène 0,true,inf"
    with pytest.raises(FileError, match="ending of another kind"):
        map_points(SHIFT, tmp_path / given, tmp_path / "c.geojson.gz")


def test_a_table_without_rows_and_a_line_without_end(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("x,y\n")
    assert map_points(SHIFT, tmp_path / "a.csv", tmp_path / "b.csv").count == 0
    assert (tmp_path / "b.csv").read_text() == "x,y,inside,expected_error\n"
    (tmp_path / "a.csv").write_text("x,y\n1,2\n" + "3" * 2000)
    monkeypatch.setattr(compressed, "LONGEST_LINE", 1000)
    with pytest.raises(FileError, match="has a line of 1000 characters or more"):
        map_points(SHIFT, tmp_path / "a.csv", tmp_path / "c.csv")
    assert not (tmp_path / "c.csv").exists()


def test_parquet_is_mapped_block_by_block(tmp_path, monkeypatch):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    x, y = np.arange(100) * 0.5, np.arange(100) % 7.0
    parquet.write_table(arrow.table({"x": x, "y": y}), tmp_path / "a.parquet")
    monkeypatch.setattr(parquet_points, "BLOCK", 9)
    sizes, file = [], read_point_file(tmp_path / "a.parquet")
    file.write(tmp_path / "b.parquet", lambda points: (sizes.append(len(points)), (points + 1, {}))[1])
    assert sizes == [9] * 11 + [1]
    found = parquet.read_table(tmp_path / "b.parquet")
    assert np.array_equal(found["x"], x + 1)
    assert np.array_equal(found["y"], y + 1)
    x[70] = np.nan
    parquet.write_table(arrow.table({"x": x, "y": y}), tmp_path / "c.parquet")
    with pytest.raises(FileError, match=r"c\.parquet: holds a coordinate that is missing"):
        map_points(SHIFT, tmp_path / "c.parquet", tmp_path / "d.parquet")
    assert not (tmp_path / "d.parquet").exists()
    parquet.write_table(arrow.table({"x": ["a"], "y": [1]}), tmp_path / "e.parquet")
    with pytest.raises(FileError, match=r"e\.parquet: cannot be read as a Parquet table"):
        map_points(SHIFT, tmp_path / "e.parquet", tmp_path / "d.parquet")
