"""OME-Zarr of bioformats2raw, in zip archives and at addresses: values, series, only the chunks needed."""

import functools
import http.server
import json
import re
import shutil
import threading
import zipfile

import numpy as np
import pytest
import zarr

from register.errors import FileError
from register.files import remote
from register.geometry.pixel_size import PixelSize
from register.io.images.model import Image, Selection
from register.io.images.open import describe_file, open_image, write_image
from register.workflows.local_files import local_files

RNG = np.random.default_rng(4)
GIVEN = Image(
    RNG.integers(0, 65535, (2, 300, 400)).astype(np.uint16),
    kind="ome",
    pixel_size=PixelSize(0.25, 0.25, "µm"),
    channel_names=("DAPI", "CD3"),
)


def bioformats2raw(path, sizes, form, listed=True):
    """Images in the groups 0, 1, … and their list, as bioformats2raw writes them in 0.4 and 0.5."""
    layout = {"bioformats2raw.layout": 3}
    wrap = (lambda x: {"ome": {"version": "0.5", **x}}) if form == 3 else (lambda x: x)
    root = zarr.create_group(path, zarr_format=form, attributes=wrap(layout))
    names = [str(n) for n in range(len(sizes))]
    if listed:
        root.create_group("OME", attributes=wrap({"series": names}))
    made = []
    for name, (height, width) in zip(names, sizes, strict=True):
        axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "yx"]
        steps = [{"type": "scale", "scale": [1.0, 0.5, 0.5]}]
        image = {"version": "0.4", "axes": [{"name": "c", "type": "channel"}, *axes],
                 "datasets": [{"path": "0", "coordinateTransformations": steps}]}  # fmt: skip
        group = root.create_group(name, attributes=wrap({"multiscales": [image]}))
        made.append(RNG.integers(0, 65535, (2, height, width)).astype(np.uint16))
        group.create_array("0", data=made[-1], chunks=(1, 32, 32))
    return made


@pytest.mark.parametrize("form", [2, 3])
@pytest.mark.parametrize("listed", [True, False])
def test_images_of_bioformats2raw_are_series(tmp_path, form, listed):
    made = bioformats2raw(tmp_path / "a.zarr", [(40, 50), (60, 70), (20, 20)], form, listed)
    found = open_image(tmp_path / "a.zarr")
    assert np.array_equal(found.pixels[:, :, :], made[1])
    assert (found.pixel_size, found.notes) == ((0.5, 0.5, "µm"), ("series 1 of 3 was read, the largest",))
    assert np.array_equal(open_image(tmp_path / "a.zarr", Selection(series=2)).pixels[:, :, :], made[2])
    assert [each.shape for each in describe_file(tmp_path / "a.zarr").series] == [x.shape for x in made]
    with pytest.raises(FileError, match="has no series 3; it has 3"):
        open_image(tmp_path / "a.zarr", Selection(series=3))


@pytest.mark.parametrize(
    ("listed", "sizes"), [(["2", "0"], [30, 10]), ("all", [10, 20, 30]), (None, [10, 20, 30])]
)
def test_images_of_bioformats2raw_are_those_of_its_list(tmp_path, listed, sizes):
    root = zarr.create_group(
        tmp_path / "a.zarr", zarr_format=3, attributes={"ome": {"bioformats2raw.layout": 3}}
    )
    root.create_group("OME", attributes={"ome": {"series": listed}})
    for n in range(3):
        image = {"axes": ["c", "y", "x"], "datasets": [{"path": "0"}]}
        one = root.create_group(str(n), attributes={"ome": {"multiscales": [image]}})
        one.create_array("0", data=np.zeros((1, 10 * n + 10, 5), np.uint8))
    assert [each.shape[1] for each in describe_file(tmp_path / "a.zarr").series] == sizes


def test_a_plate_is_named(tmp_path):
    zarr.create_group(tmp_path / "a.zarr", zarr_format=2, attributes={"plate": {"wells": []}})
    with pytest.raises(
        FileError, match=r"is a plate of many images; name a field of a well, as .*a\.zarr/A/1/0"
    ):
        open_image(tmp_path / "a.zarr")


def zipped(folder, path, top="", way=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", way) as file:
        for each in sorted(folder.rglob("*")):
            if each.is_file():
                file.write(each, f"{top}{each.relative_to(folder)}")


@pytest.mark.parametrize(("name", "top"), [("a.zarr.zip", ""), ("a.ozx", ""), ("b.zip", "a.ome.zarr/")])
@pytest.mark.parametrize("way", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives(tmp_path, name, top, way):
    write_image(tmp_path / "a.ome.zarr", GIVEN, chunks=64)
    zipped(tmp_path / "a.ome.zarr", tmp_path / name, top, way)
    found = open_image(tmp_path / name)
    assert np.array_equal(found.pixels[:, :, :], GIVEN.pixels)
    assert np.array_equal(found.pixels[1:, 70:90, 60:200], GIVEN.pixels[1:, 70:90, 60:200])
    assert (found.pixel_size, found.channel_names) == (GIVEN.pixel_size, GIVEN.channel_names)


def test_archives_without_an_image_and_damaged_ones(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a.txt", "x")
    with pytest.raises(FileError, match=r"a\.zip: is not an image in a format that register reads"):
        open_image(tmp_path / "a.zip")
    write_image(tmp_path / "a.ome.zarr", GIVEN, chunks=64)
    zipped(tmp_path / "a.ome.zarr", tmp_path / "a.zarr.zip")
    whole = (tmp_path / "a.zarr.zip").read_bytes()
    (tmp_path / "a.zarr.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileError, match=r"a\.zarr\.zip: is a damaged zip archive"):
        open_image(tmp_path / "a.zarr.zip")


@pytest.fixture
def served(tmp_path):
    """A folder, its address, and the list of the paths that were asked for."""
    pytest.importorskip("aiohttp", reason="fsspec reads http with aiohttp: the extra 'remote'")
    folder, asked = tmp_path / "served", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):  # with ranges, as servers of files have them and Python's own has not
            asked.append(self.path)
            span = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            path = folder / self.path.lstrip("/")
            if not span or not path.is_file():
                super().do_GET()
                return
            whole = path.read_bytes()
            first, last = span.groups()
            start = int(first) if first else len(whole) - int(last)
            part = whole[start : int(last) + 1 if first and last else None]
            self.send_response(206)
            self.send_header("Content-Length", str(len(part)))
            self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(whole)}")
            self.end_headers()
            self.wfile.write(part)

        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_a_window_at_an_address_fetches_its_chunks_only(served):
    folder, address, asked = served
    write_image(folder / "a.ome.zarr", GIVEN, chunks=16)  # shards of 64
    with local_files() as local:
        link = local.path(f"{address}/a.ome.zarr")
        assert link.stat().st_size < 10_000
        found = open_image(link)
        assert (found.size, found.pixel_size, found.channel_names) == (
            (300, 400),
            GIVEN.pixel_size,
            ("DAPI", "CD3"),
        )
        asked.clear()
        assert np.array_equal(found.pixels[1:, 70:90, 70:120], GIVEN.pixels[1:, 70:90, 70:120])
        assert {path for path in asked if "/c/" in path} == {"/a.ome.zarr/0/c/1/1/1"}
        again = local.path(f"{address}/a.ome.zarr/")
        assert again.read_bytes() == link.read_bytes()  # its hash is that of the address and the metadata
        with pytest.raises(FileError, match=f"{address}/none.zarr: cannot be read"):
            local.path(f"{address}/none.zarr")


def test_a_hierarchy_in_a_bucket(tmp_path):
    """``memory://`` stands for ``s3://``: the same calls of fsspec."""
    write_image(tmp_path / "a.ome.zarr", GIVEN, chunks=64)
    system, path = remote.file_system("memory://own/a.ome.zarr")
    system.put(str(tmp_path / "a.ome.zarr"), path, recursive=True)
    shutil.rmtree(tmp_path / "a.ome.zarr")
    with local_files() as local:
        found = open_image(local.path("memory://own/a.ome.zarr"))
        assert np.array_equal(found.pixels[:, :, :], GIVEN.pixels)
        system.pipe(f"{path}/zarr.json", json.dumps({"zarr_format": 3, "node_type": "group"}).encode())
        with pytest.raises(FileError, match=r"memory://own/a\.ome\.zarr: is a zarr group without"):
            open_image(local.path("memory://own/a.ome.zarr"))
