"""TIFF at its limits: where files end, what is stored how, and what is left of it."""

import logging
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from register.errors import FileError
from register.images.pixels import EVERYTHING
from register.io.images import (
    tiff_pixels,
)
from register.io.images.model import Selection
from register.io.images.open import open_image, read_image
from register.io.images.windows import Mapped, Segmented


def noise(shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


DESCRIPTION = b"a text of 30 bytes at the end.\0"


def small_tiff(order, big, pages=1):
    """Grey pages of 4 × 3 pixels: pixels, directories, and the description of each page behind it."""
    kind, count, entry, start, width = (
        ("Q", "Q", 20, 16, 8) if big else ("I", "H", 12, 8, 4)
    )  # of offsets and numbers of entries
    version = struct.pack(order + "HHH", 43, 8, 0) if big else struct.pack(order + "H", 42)
    content = (b"II" if order == "<" else b"MM") + version + struct.pack(order + kind, start + 12)
    content += bytes(range(12))
    for page in range(pages):
        tags = [(256, 3, 4), (257, 3, 3), (258, 3, 8), (259, 3, 1), (262, 3, 1), (270, 2, 0), (273, 4, start),
                (277, 3, 1), (278, 3, 3), (279, 4, 12)]  # fmt: skip
        own = struct.calcsize("=" + count) + entry * len(tags) + width
        behind = len(content) + own
        rows = b""
        for code, form, value in tags:
            number = len(DESCRIPTION) if code == 270 else 1
            stored = struct.pack(order + ("H" if form == 3 else kind), behind if code == 270 else value)
            form = 16 if big and form == 4 else form
            rows += struct.pack(order + "HH" + kind, code, form, number) + stored.ljust(width, b"\0")
        following = behind + len(DESCRIPTION) if page + 1 < pages else 0
        content += struct.pack(order + count, len(tags)) + rows + struct.pack(order + kind, following)
        content += DESCRIPTION
    return content


KINDS = [(order, big) for order in "<>" for big in (False, True)]


@pytest.mark.parametrize(("order", "big"), KINDS)
def test_a_tiff_that_ends_anywhere_is_cut_off(tmp_path, order, big):
    """Only the whole file is read; a shorter one says that it is cut off, at whichever byte it ends."""
    whole = small_tiff(order, big)
    path = tmp_path / "a.tif"
    path.write_bytes(whole)
    assert read_image(path).pixels[0].tolist() == np.arange(12).reshape(3, 4).tolist()
    (first,) = struct.unpack(order + ("Q" if big else "I"), whole[8:16] if big else whole[4:8])
    directory = len(whole) - len(DESCRIPTION) - (8 if big else 4)
    start, number = (16, 8) if big else (8, 2)
    limits = {at + n for at in (start, first, first + number, directory) for n in (-1, 0, 1)}
    for end in sorted({*range(4, len(whole), 9), *limits, len(whole) - len(DESCRIPTION), len(whole) - 1}):
        path.write_bytes(whole[:end])
        with pytest.raises(FileError, match="is cut off") as error:
            open_image(path)
        said = str(error.value).replace(",", "")
        if end < start:
            assert f"its directory ends at byte {start} of {end};" in said
        elif end < first + number:
            assert f"its directory ends at byte {first + number} of {end};" in said
        elif end < directory:
            assert f"its directory ends at byte {directory} of {end};" in said
        elif end < len(whole) - len(DESCRIPTION):
            assert "page 2 is" in said
        else:
            assert "its tag ImageDescription continues beyond its end" in said


@pytest.mark.parametrize(("order", "big"), KINDS)
def test_pages_before_the_end_of_a_tiff_are_left(tmp_path, order, big):
    whole, one = small_tiff(order, big, pages=2), small_tiff(order, big)
    path = tmp_path / "a.tif"
    path.write_bytes(whole)
    assert open_image(path, Selection(plane="I=1")).size == (3, 4)
    for end, plane in ((len(one), None), (len(one) + 1, None), (len(whole) - len(DESCRIPTION) - 1, "I=0")):
        path.write_bytes(whole[:end])
        with pytest.raises(FileError, match=r"is cut off: .* page [23] "):
            open_image(path)
        left = open_image(path, Selection(plane=plane, allow_truncated=True))
        assert left.pixels[EVERYTHING][0].tolist() == np.arange(12).reshape(3, 4).tolist()
        assert "is cut off" in left.notes[0]


@pytest.mark.parametrize("allowed", [False, True])
def test_a_tiff_whose_chain_of_pages_is_empty(tmp_path, allowed):
    (tmp_path / "a.tif").write_bytes(b"II*\0" + bytes(300_000))
    with pytest.raises(FileError, match="holds no image; the file is damaged or holds metadata only"):
        open_image(tmp_path / "a.tif", Selection(allow_truncated=allowed))


def test_what_tifffile_says_of_a_file_does_not_reach_the_log(tmp_path):
    records = []
    listener = logging.Handler()
    listener.emit = records.append
    (tmp_path / "a.tif").write_bytes(small_tiff("<", False, pages=2)[: len(small_tiff("<", False))])
    logging.getLogger().addHandler(listener)
    try:
        open_image(tmp_path / "a.tif", Selection(allow_truncated=True))
    finally:
        logging.getLogger().removeHandler(listener)
    assert not records


def test_planes_that_imagej_describes(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise((3, 4, 5)), imagej=True, metadata={"axes": "ZYX"})
    content = (tmp_path / "a.tif").read_bytes()
    assert open_image(tmp_path / "a.tif", Selection(plane="Z=2")).size == (4, 5)
    (tmp_path / "a.tif").write_bytes(
        content.replace(b"images=3", b"images=4").replace(b"slices=3", b"slices=4")
    )
    with pytest.raises(FileError, match=r"cut off|beyond"):
        open_image(tmp_path / "a.tif", Selection(plane="Z=2"))


# --- how pixels are stored -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1), (2, 1, 9), (9, 7)])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_images_of_one_row_or_column_stay_in_their_file(tmp_path, shape, compression):
    pixels = noise(shape, np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, compression=compression, photometric="minisblack",
                     metadata={"axes": "CYX"[-len(shape):]})  # fmt: skip
    found = open_image(tmp_path / "a.tif")
    assert isinstance(found.pixels.of, Segmented if compression else Mapped)
    assert np.array_equal(found.pixels[EVERYTHING], pixels.reshape(-1, *shape[-2:]))


def test_channels_of_one_column_that_tifffile_stores_as_one_page(tmp_path):
    pixels = noise((2, 9, 1))
    tifffile.imwrite(tmp_path / "a.tif", pixels, compression="zlib", photometric="minisblack",
                     metadata={"axes": "CYX"})  # fmt: skip
    assert np.array_equal(read_image(tmp_path / "a.tif").pixels, pixels)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("rows", [3, 4, 20, None])
def test_strips_of_any_height(tmp_path, planar, rows):
    pixels = noise((3, 20, 11), np.uint16)
    stored = np.moveaxis(pixels, 0, 2) if planar == "contig" else pixels
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, rowsperstrip=rows,
                     compression="zlib")  # fmt: skip
    found = open_image(tmp_path / "a.tif")
    assert isinstance(found.pixels.of, Segmented)
    assert np.array_equal(found.pixels[EVERYTHING], pixels)
    assert np.array_equal(found.pixels[1:, 3:9, 2:5], pixels[1:, 3:9, 2:5])
    assert found.layout == ("contig" if planar == "contig" else "planar")


def test_what_is_loaded_at_once_needs_twice_its_memory(tmp_path, monkeypatch):
    needed = []
    monkeypatch.setattr(tiff_pixels, "check_memory", lambda path, size, advice: needed.append(size))
    pixels = noise((1, 20, 11), np.uint16)
    assert tiff_pixels.upright(tmp_path, pixels, 6).shape == (1, 11, 20)
    assert needed.pop() == 2 * 20 * 11 * 2
    tifffile.imwrite(tmp_path / "a.tif", noise((3, 16, 32), np.uint16), volumetric=True, tile=(1, 16, 16),
                     compression="zlib", photometric="minisblack", metadata={"axes": "ZYX"})  # fmt: skip
    open_image(tmp_path / "a.tif", Selection(plane="Z=1"))
    assert needed.pop() in (2 * 3 * 16 * 32 * 2, 3 * 16 * 16 * 2)
    tifffile.imwrite(tmp_path / "b.tif", noise((20, 11, 3), np.uint16), rowsperstrip=5, compression="zlib",
                     photometric="rgb")  # fmt: skip
    open_image(tmp_path / "b.tif")
    assert needed == [3 * 5 * 11 * 3 * 2]  # three copies of one strip


@pytest.mark.parametrize(("contig", "axes"), [(True, "YXS"), (False, "CYX")])
def test_rows_and_channels_that_are_left_of_mapped_pixels(tmp_path, contig, axes):
    pixels = noise((3, 10, 7), np.uint16)
    stored = np.ascontiguousarray(np.moveaxis(pixels, 0, 2)) if contig else pixels
    (tmp_path / "a").write_bytes(b"head" + stored.tobytes())
    whole = Mapped(tmp_path / "a", 4, stored.shape, np.dtype("<u2"), tiff_pixels._View(axes, ()))
    rows = {0: 10, 1: 9, 42: 9, 43: 8, 145: 6, 280: 3, 281: 3}
    channels = {
        0: (3, 10),
        1: (2, 10),
        42: (2, 10),
        43: (2, 10),
        140: (2, 10),
        145: (1, 10),
        280: (1, 10),
        281: (1, 9),
    }
    for cut, part in {n: (3, left) for n, left in rows.items()}.items() if contig else channels.items():
        (tmp_path / "a").write_bytes((b"head" + stored.tobytes())[: 4 + 420 - cut])
        left = tiff_pixels._mapped(whole, Selection(allow_truncated=True))
        assert left.shape == (*part, 7), cut
        assert np.array_equal(left[EVERYTHING], pixels[: part[0], : part[1]])
        if cut:
            with pytest.raises(FileError, match="is cut off"):
                tiff_pixels._mapped(whole, Selection())


def test_the_chosen_planes_that_are_left_of_mapped_pixels(tmp_path):
    """Of planes (t, c, h, w) at the second time, of which the last channel is not whole."""
    pixels = noise((2, 3, 10, 7))
    (tmp_path / "a").write_bytes(pixels.tobytes()[:-8])
    view = tiff_pixels._View("TCYX", (("T", 1),))
    left = tiff_pixels._mapped(
        Mapped(tmp_path / "a", 0, pixels.shape, pixels.dtype, view), Selection(allow_truncated=True)
    )
    assert np.array_equal(left[EVERYTHING], pixels[1, :2])


@pytest.mark.parametrize(
    ("axes", "shape"), [("Y", (4,)), ("X", (4,)), ("CY", (2, 4)), ("YX", (4,)), ("", ())]
)
def test_axes_that_are_no_image(tmp_path, axes, shape):
    page = SimpleNamespace(bitspersample=8, sampleformat=1)
    series = SimpleNamespace(axes=axes, shape=shape, dtype=np.dtype(np.uint8), keyframe=page)
    with pytest.raises(FileError, match=f"has axes {axes} and is not an image"):
        tiff_pixels.open_pixels(tmp_path, series, Selection())


def test_levels_are_reduced_copies_of_a_whole_factor(tmp_path):
    sizes = (16, 8, 5)  # the last is no level: 16 / 5 is no whole number
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for size in sizes:
            file.write(
                noise((size, size)), subfiletype=int(size < 16), photometric="minisblack", metadata=None
            )
    found = open_image(tmp_path / "a.tif")
    assert [level.shape[1:] for level in found.smaller] == [(8, 8)]
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        for height, width in ((16, 16), (8, 16)):
            file.write(noise((height, width)), subfiletype=int(height < 16), photometric="minisblack",
                       metadata=None)  # fmt: skip
    assert open_image(tmp_path / "b.tif", Selection(series=0)).smaller == ()
    with tifffile.TiffWriter(tmp_path / "c.tif") as file:
        for size in (8, 64):  # not marked as reduced
            file.write(noise((size, size)), photometric="minisblack", metadata=None)
    assert open_image(tmp_path / "c.tif").smaller == ()
    for wrong in (3, -1):
        with pytest.raises(FileError, match=f"has no series {wrong}; it has 2, from 0"):
            open_image(tmp_path / "b.tif", Selection(series=wrong))
    with pytest.raises(FileError, match="has no level 2; it has 2, from 0"):
        open_image(tmp_path / "a.tif", Selection(level=2))


PLANES = """<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">
<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="20" SizeY="10" SizeC="3" SizeZ="1" SizeT="1">
<Channel ID="Channel:0:0"/><Channel ID="Channel:0:1"/><Channel ID="Channel:0:2"/>
<TiffData FirstC="0" IFD="0" PlaneCount="1"/><TiffData FirstC="2" IFD="1" PlaneCount="1"/>
</Pixels></Image></OME>"""
"""OME-XML of three channels that places only the first and the last."""


def test_a_channel_that_ome_metadata_place_nowhere_is_missing(tmp_path):
    pixels = noise((3, 10, 20))
    options = {"photometric": "minisblack", "metadata": None, "compression": "zlib"}
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, description=PLANES, **options)
    with pytest.raises(FileError, match="is cut off: 1 of 3 channels are missing"):
        open_image(tmp_path / "a.ome.tif")
    left = read_image(tmp_path / "a.ome.tif", Selection(allow_truncated=True))
    assert np.array_equal(left.pixels, [pixels[0], pixels[0] * 0, pixels[1]])
