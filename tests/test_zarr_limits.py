"""OME-Zarr at its limits: chunks by their sizes, places, and what attributes state."""

import gzip
import zipfile
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
import zarr

from register.errors import FileError
from register.geometry.pixel_size import PixelSize
from register.io.images import ome_zarr, zarr_chunks, zarr_metadata, zarr_places, zarr_write
from register.io.images.lookup_tables import signed_colour
from register.io.images.model import Image, Selection
from register.io.images.open import open_image, write_image


def noise(shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def group(path, *levels, attributes=None, chunks=(1, 32, 40), **image):
    """A group of arrays (c, h, w) without compression."""
    sets = [{"path": str(n)} for n in range(len(levels))]
    described = {"axes": [{"name": axis} for axis in "cyx"], "datasets": sets, **image}
    root = zarr.create_group(
        path, zarr_format=3, attributes={"ome": {"multiscales": [described], **(attributes or {})}}
    )
    for n, level in enumerate(levels):
        root.create_array(str(n), data=level, chunks=chunks, compressors=None)
    return path


# --- chunks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "whole"),
    [
        ((slice(0, 1), slice(0, 64), slice(0, 90)), True),  # the second channel is damaged
        ((slice(1, 2), slice(0, 32), slice(0, 90)), True),
        ((slice(1, 2), slice(0, 33), slice(0, 90)), False),
        ((slice(1, 2), slice(32, 64), slice(0, 40)), True),
        ((slice(1, 2), slice(32, 64), slice(39, 41)), False),
        ((slice(1, 2), slice(63, 64), slice(79, 80)), False),
        ((slice(1, 2), slice(32, 64), slice(80, 90)), True),
        ((slice(0, 2), slice(40, 40), slice(0, 90)), True),
    ],
)
def test_only_windows_that_touch_a_damaged_chunk_fail(tmp_path, window, whole):
    pixels = noise((2, 64, 90))
    group(tmp_path / "a.zarr", pixels)
    chunk = tmp_path / "a.zarr" / "0" / "c" / "1" / "1" / "1"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    found = open_image(tmp_path / "a.zarr").pixels
    if whole:
        assert np.array_equal(found[window], pixels[window])
        return
    with pytest.raises(FileError, match=r"0.c.1.1.1: is cut off: the chunk has 1,279 of 1,280 bytes"):
        found[window]


def test_a_window_needs_the_memory_of_three_chunks(tmp_path, monkeypatch):
    needed = []
    monkeypatch.setattr(zarr_chunks, "check_memory", lambda place, size, advice: needed.append(size))
    group(tmp_path / "a.zarr", noise((2, 64, 90), np.uint16))
    _ = open_image(tmp_path / "a.zarr").pixels[:1, :5, :5]
    assert needed == [3 * 32 * 40 * 2]


def test_a_damaged_chunk_in_an_archive(tmp_path):
    pixels = noise((1, 64, 90))
    group(tmp_path / "a.zarr", pixels)
    with zipfile.ZipFile(tmp_path / "a.zarr.zip", "w") as file:
        for each in sorted(x for x in (tmp_path / "a.zarr").rglob("*") if x.is_file()):
            name = each.relative_to(tmp_path / "a.zarr").as_posix()
            file.writestr(name, each.read_bytes()[: 1279 if name == "0/c/0/1/1" else None])
    found = open_image(tmp_path / "a.zarr.zip").pixels
    assert np.array_equal(found[:, :32, :], pixels[:, :32])
    with pytest.raises(FileError, match=r"0.c.0.1.1: is cut off: the chunk has 1,279 of 1,280 bytes"):
        found[:, 32:33, :]


class Chunks:
    """A place of one chunk, of which the content is known and the size is stated."""

    remote = False

    def __init__(self, content, size=None):
        self.bytes, self.stated = content, len(content) if size is None else size

    def named(self, key):
        return key

    def size(self, key):
        return self.stated

    def content(self, key, most=None):
        return self.bytes[:most]


@pytest.mark.parametrize(("size", "damaged"), [(2 * 64 * 80 * 2 + 9, False), (2 * 64 * 80 * 2 + 10, True)])
def test_files_of_chunks_are_at_most_twice_their_pixels_and_a_bit(monkeypatch, size, damaged):
    """A file of a shard holds its chunks, and anything else in it must be little."""
    monkeypatch.setattr(zarr_chunks, "MOST", 9)
    array = SimpleNamespace(
        shards=(1, 64, 80),
        chunks=(1, 32, 40),
        dtype=np.dtype("u2"),
        metadata=SimpleNamespace(encode_chunk_key=str),
    )
    place = Chunks(b"", size)
    spans = range(1), range(64), range(80)
    if not damaged:
        zarr_chunks.check(place, "0", array, spans)
        return
    with pytest.raises(FileError, match=f"the chunk has {size:,} bytes, {size - 1:,} at most are expected"):
        zarr_chunks.check(place, "0", array, spans)


def fault(content, codec, expected, size=None):
    place = Chunks(content, size)
    return zarr_chunks._fault(place, "c", place.stated, codec, expected)


def test_faults_of_chunks_by_their_codec(monkeypatch):
    assert fault(b"", "raw", 5) == fault(b"", "gzip", 5) == "is cut off: the chunk has no bytes"
    assert fault(b"12345", "raw", 5) is None
    assert fault(b"1234", "raw", 5) == "is cut off: the chunk has 4 of 5 bytes"
    assert fault(b"1234", "shard", 5) is None
    packed = imagecodecs.blosc_encode(bytes(range(100)))
    assert fault(packed, "blosc", 100) is None
    assert fault(packed, "blosc", 99) == "is damaged: the chunk inflates to 100 bytes, its shape needs 99"
    short = f"is cut off: the chunk has {len(packed) - 1} of {len(packed)} bytes"
    assert fault(packed[:-1], "blosc", 100) == short
    for length in (1, 4, 8, 12, 15):  # less than the header
        assert "is cut off" in fault(packed[:length], "blosc", 100)
    large = imagecodecs.zstd_encode(bytes(100))
    assert fault(large, "zstd", 100) is None
    assert fault(large, "zstd", 99) == "is damaged: the chunk inflates past the 99 bytes of its shape"
    for codec, encode in (("bz2", imagecodecs.bz2_encode), ("lzma", imagecodecs.lzma_encode)):
        assert fault(encode(bytes(100)), codec, 100) is None
        assert "inflates past the 99 bytes" in fault(encode(bytes(100)), codec, 99)


def test_less_than_a_gib_may_inflate_past_its_shape():
    """A chunk of as few bytes as can inflate to more than 1 GiB is looked at."""
    bomb, least = gzip.compress(bytes(20_000)), -(-(2**30 + 1) // 1032)
    assert fault(bomb, "gzip", 50, size=least - 1) is None
    assert "inflates past" in fault(bomb, "gzip", 50, size=least)


@pytest.mark.parametrize(("expected", "most"), [(10 * 1032, 0), (50, 10 * 1032)])
def test_deflate_is_looked_at_where_it_might_inflate_past_a_limit(monkeypatch, expected, most):
    """It inflates to at most 1032 times its size."""
    monkeypatch.setattr(zarr_chunks, "MOST", most)
    bomb = gzip.compress(bytes(20_000))
    assert fault(bomb, "gzip", expected, size=10) is None
    assert "inflates past" in fault(bomb, "gzip", expected, size=11)


@pytest.mark.parametrize(("codec", "looked_at"), [("blosc", True), ("raw", False)])
def test_chunks_at_an_address_are_looked_at_only_where_their_codec_does_not(monkeypatch, codec, looked_at):
    place, asked = Chunks(bytes(9)), []
    place.remote = True
    place.size = lambda key: asked.append(key)
    monkeypatch.setattr(zarr_chunks, "_codec", lambda array: codec)
    named = SimpleNamespace(encode_chunk_key=lambda at: "/".join(map(str, at)))
    array = SimpleNamespace(shards=None, chunks=(4, 5), dtype=np.dtype("u1"), metadata=named)
    zarr_chunks.check(place, "0", array, (range(3, 5), range(5, 10)))
    assert asked == (["0/0/1", "0/1/1"] if looked_at else [])


# --- places ----------------------------------------------------------------------------------------------


def test_files_of_a_folder_and_at_an_address(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    place = zarr_places.Folder(tmp_path)
    assert [place.size(key) for key in ("a", "b")] == [5, None]
    assert [place.content("a", most) for most in (None, 2)] == [b"12345", b"12"]
    assert (place.named(""), place.named("a")) == (tmp_path, tmp_path / "a")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("b/zarr.json", "")
        file.writestr("b/a", b"12345")
    archive = zarr_places.Archive(tmp_path / "a.zip")
    assert [archive.size(key) for key in ("a", "b")] == [5, None]
    assert [archive.content("a", most) for most in (None, 2)] == [b"12345", b"12"]
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe("/limits/a", b"12345")
    (tmp_path / "link").write_bytes(zarr_places.ZARR_MARK.rstrip() + b"\nmemory://limits\n")
    far = zarr_places.Address(tmp_path / "link")
    assert [far.size(key) for key in ("a", "b")] == [5, None]
    assert [far.content("a", most) for most in (None, 2)] == [b"12345", b"12"]
    assert far.store()[0].read_only
    assert (far.named(""), far.named("a")) == ("memory://limits", "memory://limits/a")


# --- attributes that are read ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "image", "units", "size"),
    [
        ([{"type": "scale", "scale": [1, 0.5, 0.25]}], [], ("micrometer",) * 2, (0.25, 0.5, "µm")),
        ([{"type": "scale", "scale": [1, 0.5, 0.25]}], [{"type": "scale", "scale": [9, 2, 4]}],
         ("nanometer",) * 2, (1, 1, "nm")),
        ([{"type": "translation", "translation": [1, 2, 3]}], [], ("millimeter",) * 2, (1, 1, "mm")),
        ([{"type": "scale", "scale": [0.5, 0.25]}], [], ("micrometer",) * 2, None),
        ([{"type": "scale", "path": "scale"}], [], ("micrometer",) * 2, None),
        ([], [], ("micrometer", "millimeter"), None),
        ([], [], ("parsec", "parsec"), None),
        ([], [], (None, None), None),
    ],
)  # fmt: skip
def test_sizes_of_pixels_of_ome_zarr(steps, image, units, size):
    axes = [{"name": "c"}, *({"name": name, "unit": unit} for name, unit in zip("yx", units, strict=True))]
    described = {"axes": axes, "coordinateTransformations": image}
    found = ome_zarr.pixel_size_of(described, {"coordinateTransformations": steps}, "CYX")
    assert found == size


def test_axes_of_old_versions():
    assert ome_zarr.axes_of({}) == "TCZYX"
    assert ome_zarr.axes_of({"axes": ["c", "y", "x"]}) == "CYX"
    assert ome_zarr.axes_of({"axes": [{"name": "time"}, {"name": "y"}, {"name": "x"}]}) == "TYX"


@pytest.mark.parametrize(
    ("labels", "colours", "dtype", "colour"),
    [
        (("", "", ""), ("FF0000", "00FF00", "0000FF"), np.uint8, "rgb"),
        (("red", "G", "b"), ("#FF0000", "00FF00FF", "0000FF"), np.uint8, "rgb"),
        (("red", "G", "DAPI"), ("FF0000", "00FF00", "0000FF"), np.uint8, "grey"),
        (("", "", ""), ("FF0000", "00FF00", "0000FF"), np.uint16, "grey"),
        (("", "", ""), ("FF0000", "00FF00", "0000FE"), np.uint8, "grey"),
        (("", ""), ("FF0000", "00FF00"), np.uint8, "grey"),
        (("", "", ""), ("FF0000", "", "0000FF"), np.uint8, "grey"),
    ],
)
def test_channels_that_are_the_colours_of_a_picture(tmp_path, labels, colours, dtype, colour):
    channels = [{"label": label, "color": c} for label, c in zip(labels, colours, strict=True)]
    group(
        tmp_path / "a.zarr", noise((len(labels), 9, 8), dtype), attributes={"omero": {"channels": channels}}
    )
    found = open_image(tmp_path / "a.zarr")
    assert found.colour == colour
    assert found.channel_names == (labels if any(labels) and colour == "grey" else ())
    known = colour == "grey" and all(colours)
    rgb = [bytes.fromhex(each.lstrip("#")[:6]) for each in colours]
    assert found.channel_colours == (tuple(signed_colour(*each) for each in rgb) if known else ())


@pytest.mark.parametrize(
    ("marks", "colour"), [((True, True), "inverted"), ((True, False), "grey"), ((), "grey")]
)
def test_channels_of_which_0_is_white(tmp_path, marks, colour):
    channels = [{"inverted": mark} for mark in marks]
    group(tmp_path / "a.zarr", noise((2, 9, 8)), attributes={"omero": {"channels": channels}})
    assert open_image(tmp_path / "a.zarr").colour == colour


def test_levels_and_series_of_ome_zarr_are_counted_from_0(tmp_path):
    levels = noise((1, 40, 50)), noise((1, 20, 25), seed=1)
    group(tmp_path / "a.zarr", *levels)
    assert np.array_equal(open_image(tmp_path / "a.zarr", Selection(level=1)).pixels[:, :, :], levels[1])
    assert open_image(tmp_path / "a.zarr", Selection(series=0)).smaller[0].shape == (1, 20, 25)
    for selection, said in ((Selection(level=2), "has no level 2; it has 2, from 0"),
                            (Selection(series=1), "has no series 1; it has 1, from 0")):  # fmt: skip
        with pytest.raises(FileError, match=said):
            open_image(tmp_path / "a.zarr", selection)


def test_the_largest_image_of_bioformats2raw_has_most_pixels_of_a_plane(tmp_path):
    zarr.create_group(tmp_path / "a.zarr", zarr_format=3, attributes={"ome": {"bioformats2raw.layout": 3}})
    for name, shape in (("0", (9, 20, 20)), ("1", (1, 40, 30)), ("2", (1, 8, 100))):
        group(tmp_path / "a.zarr" / name, noise(shape))
    found = open_image(tmp_path / "a.zarr")
    assert (found.size, found.notes) == ((40, 30), ("series 1 of 3 was read, the largest",))
    assert open_image(tmp_path / "a.zarr", Selection(series=0)).notes == ()
    group(tmp_path / "a.zarr" / "4", noise((1, 99, 99)))  # the numbers have a gap
    assert open_image(tmp_path / "a.zarr").size == (40, 30)


def test_rows_that_are_left_of_a_damaged_hierarchy(tmp_path):
    pixels = noise((2, 70, 50))
    group(tmp_path / "a.zarr", pixels, pixels[:, ::2, ::2])
    folder = tmp_path / "a.zarr" / "0" / "c" / "1"
    (folder / "2" / "0").write_bytes(b"x")
    left = open_image(tmp_path / "a.zarr", Selection(allow_truncated=True))
    assert np.array_equal(left.pixels[:, :, :], pixels[:, :64])
    assert left.notes == ("the folder is cut off or damaged: the first 64 of 70 rows were read",)
    assert left.smaller == ()
    whole = open_image(tmp_path / "a.zarr", Selection(plane="C=0", allow_truncated=True))
    assert np.array_equal(whole.pixels[:, :, :], pixels[:1])
    assert (whole.notes, len(whole.smaller)) == ((), 1)
    (folder / "0" / "0").write_bytes(b"x")
    with pytest.raises(FileError, match="is damaged in its first rows; nothing is left"):
        open_image(tmp_path / "a.zarr", Selection(allow_truncated=True))


@pytest.mark.parametrize(
    ("value", "found"), [("nan", "nan"), ("0.1", 0.1), (7, 7), ("x", None), (None, None)]
)
def test_the_no_data_value_beside_the_attributes(value, found):
    stated = ome_zarr._nodata({"register": {"nodata": value}})
    assert str(stated) == "nan" if found == "nan" else stated == found
    assert ome_zarr._nodata({}) is ome_zarr._nodata({"register": 3}) is None


# --- attributes that are written -------------------------------------------------------------------------


def test_colours_and_names_of_channels_that_have_none():
    made = zarr_metadata._channels(Image(noise((9, 4, 4)), channel_names=("a",)))
    assert [each["label"] for each in made] == ["a"] + [""] * 8
    colours = [each["color"] for each in made]
    assert len(set(colours[:7])) == 7
    assert colours[7:] == colours[:2]
    part = zarr_metadata._channels(Image(noise((3, 4, 4)), channel_colours=(signed_colour(1, 2, 3),)))
    assert [each["color"] for each in part] == ["010203", *colours[1:3]]
    rgba = zarr_metadata._channels(Image(noise((4, 4, 4)), colour="rgb", extra=(2,)))
    assert [each["label"] for each in rgba] == ["red", "green", "blue", "alpha"]
    grey = zarr_metadata._channels(Image(noise((1, 4, 4)), colour="inverted"))
    assert [(each["color"], each["inverted"]) for each in grey] == [("FFFFFF", True)]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.float32])
def test_the_contrast_is_that_of_the_middle(tmp_path, dtype):
    """Of 4096 columns, the middle 2048 lie between 40 and 80, and the others are 0."""
    pixels = np.zeros((1, 4, 4096), dtype)
    pixels[0, :, 1024:3072] = np.linspace(40, 80, 2048).round()
    write_image(tmp_path / "a.zarr", Image(pixels), pyramid=False)
    (channel,) = zarr.open_group(tmp_path / "a.zarr").attrs["ome"]["omero"]["channels"]
    shown = channel["window"]
    assert 40 <= shown["start"] <= 40.1
    assert 79.9 <= shown["end"] <= 80
    limits = {np.uint8: (0, 255), np.int16: (-32768, 32767)}.get(dtype, (shown["start"], shown["end"]))
    assert (shown["min"], shown["max"]) == limits


@pytest.mark.parametrize(("height", "width"), [(1, 700), (700, 1), (1, 1), (513, 512)])
def test_arrays_of_few_rows_have_chunks_of_them(tmp_path, height, width):
    pixels = noise((1, height, width))
    write_image(tmp_path / "a.zarr", Image(pixels, nodata=3.0), pyramid=False)
    array = zarr.open_group(tmp_path / "a.zarr")["0"]
    assert array.chunks == (1, min(height, 512), min(width, 512))
    assert array.shards == tuple(
        -(-n // side) * side for n, side in zip((1, height, width), array.chunks, strict=True)
    )
    assert array.fill_value == 3
    assert np.array_equal(array[:], pixels)


@pytest.mark.parametrize(
    ("dtype", "nodata", "fill"),
    [(np.uint8, 7.0, 7), (np.uint8, 7.5, 0), (np.float32, 7.0, 0), (np.int16, -7.0, -7), (np.uint8, None, 0)],
)
def test_what_is_not_written_is_no_data(tmp_path, dtype, nodata, fill):
    image = Image(noise((1, 4, 4), np.uint8).astype(dtype), nodata=nodata)
    made = zarr_write.arrays(tmp_path / "a.zarr", image, [image.size], zarr_write.ChunkLayout())
    assert made["0"].fill_value == fill


def test_places_of_planes_that_are_written():
    steps = zarr_metadata._dataset(
        Image(noise((1, 4, 4)), pixel_size=PixelSize(0.5, 0.25, "µm"), position=(10.0, 20.0, "mm")),
        (8, 8), (4, 2), 1, zarr_metadata.Depth(5, 3.0),
    )["coordinateTransformations"]  # fmt: skip
    assert steps[0]["scale"] == [1, 3, 0.5, 2]
    assert steps[1]["translation"] == [0, 0, 0.125, 0.75]  # a position in another unit is left out
    alone = zarr_metadata._dataset(Image(noise((1, 4, 4))), (8, 8), (8, 8), 0, zarr_metadata.Depth(5))
    assert alone["coordinateTransformations"] == [{"type": "scale", "scale": [1, 1, 1, 1]}]
