"""ND2, LIF, OIB, OIF and Trestle, as their makers write them.

Values, names, sizes, planes, and what is missing.
"""

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from benchmarks import instrument_files
from register.errors import FileError
from register.io.images.lookup_tables import signed_colour
from register.io.images.model import Selection
from register.io.images.open import describe_file, open_image

RNG = np.random.default_rng(7)
NAMES = ("DAPI", "CD3")
STACK = RNG.integers(0, 65535, (2, 3, 40, 50)).astype(np.uint16)  # (c, z, h, w)


def write_nd2(path, stack, names, size):
    instrument_files.write_nd2(path, stack.transpose(1, 0, 2, 3), names, size)


def write_lif(path, stack, names, size):
    small = np.ascontiguousarray(stack[:, :1, :20, :30])
    instrument_files.write_lif(path, [small, stack], names, size)


WRITERS = {
    "a.nd2": (write_nd2, "nd2"),
    "a.lif": (write_lif, "liffile"),
    "a.oib": (instrument_files.write_oib, "oiffile"),
    "a.oif": (instrument_files.write_oif, "oiffile"),
}


@pytest.fixture(params=WRITERS)
def written(request, tmp_path):
    """A file of two channels and three planes."""
    write, library = WRITERS[request.param]
    pytest.importorskip(library)
    write(tmp_path / request.param, STACK, NAMES, 0.25)
    return tmp_path / request.param


def test_planes_windows_names_and_sizes(written):
    with pytest.raises(FileError, match=r"is a stack with axes [CZ]+YX .*--fixed-plane Z=0"):
        open_image(written)
    found = open_image(written, Selection(plane="Z=2"))
    assert np.array_equal(found.pixels[:, :, :], STACK[:, 2])
    assert np.array_equal(found.pixels[1:2, 7:19, 30:50], STACK[1:2, 2, 7:19, 30:50])
    assert found.dtype == np.uint16
    assert found.pixel_size.xy == pytest.approx((0.25, 0.25))
    assert (found.pixel_unit, found.channel_names, found.kind) == ("µm", NAMES, "ome")
    one = open_image(written, Selection(plane="Z=0,C=1"))
    assert np.array_equal(one.pixels[:, :, :], STACK[1:, 0])
    assert one.channel_names == ("CD3",)
    known = describe_file(written)
    assert (set(known.axes), known.levels, {each.levels for each in known.series}) in (
        (set("CZYX"), 1, {1}),
        (set("CZYX"), 1, set()),
    )


@pytest.mark.parametrize("selection", [Selection(series=9, plane="Z=0"), Selection(level=1, plane="Z=0")])
def test_series_and_levels_that_a_file_does_not_have(written, selection):
    with pytest.raises(FileError, match=r"series|level"):
        open_image(written, selection)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_files_that_are_cut_off_are_refused(written, share):
    whole = written.read_bytes()
    if written.suffix == ".oif":
        plane = next(Path(f"{written}.files").glob("*C002Z003.tif"))
        plane.unlink()
    else:
        written.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(FileError):
        open_image(written, Selection(plane="Z=2")).in_memory()


def test_a_frame_that_an_nd2_has_lost_is_not_black(tmp_path):
    """The library gives zeros in place of it."""
    pytest.importorskip("nd2")
    write_nd2(tmp_path / "a.nd2", STACK, NAMES, 0.25)
    content = (tmp_path / "a.nd2").read_bytes()
    at = content.rindex(b"ImageDataSeq|1!")
    (tmp_path / "a.nd2").write_bytes(content[:at] + b"ImageDataSeq|7!" + content[at + 15 :])
    assert open_image(tmp_path / "a.nd2", Selection(plane="Z=0")).pixels[:, :, :].any()
    with pytest.raises(FileError, match="has no frame 1"):
        open_image(tmp_path / "a.nd2", Selection(plane="Z=1")).in_memory()


def test_colours_of_nd2_and_its_pixel_size_that_is_not_calibrated(tmp_path):
    pytest.importorskip("nd2")
    write_nd2(tmp_path / "a.nd2", STACK, NAMES, 0.25)
    known = open_image(tmp_path / "a.nd2", Selection(plane="Z=0"))
    assert known.channel_colours == (signed_colour(255, 0, 0), signed_colour(0, 255, 0))
    content = (tmp_path / "a.nd2").read_bytes()
    here = b'bCalibrated runtype="bool" value="true"'
    (tmp_path / "a.nd2").write_bytes(content.replace(here, here[:-5] + b'nono"'))
    assert open_image(tmp_path / "a.nd2", Selection(plane="Z=0")).pixel_size is None
    stored = np.stack([STACK[0, :1], STACK[0, 1:2], STACK[0, 2:]])  # blue, green, red
    write_nd2(tmp_path / "rgb.nd2", stored, ("colour",), 0.25)
    picture = open_image(tmp_path / "rgb.nd2")
    assert (picture.colour, picture.channels) == ("rgb", 3)
    assert (picture.channel_names, picture.channel_colours) == ((), ())
    assert np.array_equal(picture.pixels[:, :, :], STACK[0, ::-1])


def test_series_of_a_lif_and_the_largest(tmp_path):
    pytest.importorskip("liffile")
    write_lif(tmp_path / "a.lif", STACK, NAMES, 0.25)
    assert open_image(tmp_path / "a.lif", Selection(plane="Z=0")).notes == (
        "series 1 of 2 was read, the largest",
    )
    small = open_image(tmp_path / "a.lif", Selection(series=0))
    assert np.array_equal(small.pixels[:, :, :], STACK[:, 0, :20, :30])
    assert small.channel_colours == (signed_colour(0, 0, 255), signed_colour(0, 255, 0))
    assert [each.shape for each in describe_file(tmp_path / "a.lif").series] == [(2, 20, 30), (3, 2, 40, 50)]


def test_an_oif_without_its_folder_and_an_oir(tmp_path):
    pytest.importorskip("oiffile")
    instrument_files.write_oif(tmp_path / "a.oif", STACK, NAMES, 0.25)
    Path(tmp_path / "a.oif.files").rename(tmp_path / "lost")
    with pytest.raises(FileError, match=r"a\.oif: is an Olympus OIF, .*storage path not found"):
        open_image(tmp_path / "a.oif")
    (tmp_path / "a.oir").write_bytes(b"OLYMPUSRAWFORMAT")
    with pytest.raises(
        FileError, match="is an Olympus OIR, which register does not read; convert it with bfconvert"
    ):
        open_image(tmp_path / "a.oir")


def test_tiles_of_trestle_overlap(tmp_path):
    pytest.importorskip("openslide")
    picture = RNG.integers(0, 255, (112, 144, 3)).astype(np.uint8)
    instrument_files.write_trestle(tmp_path / "a.tif", picture, 32, 16)
    assert tifffile.imread(tmp_path / "a.tif").shape == (192, 256, 3)
    found = open_image(tmp_path / "a.tif")
    height, width = found.size
    assert np.array_equal(found.pixels[:, :, :], np.moveaxis(picture[:height, :width], 2, 0))
    assert found.pixel_size == (0.5, 0.25, "µm")
    assert describe_file(tmp_path / "a.tif").axes == "YXS"
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        tag = tif.pages[0].tags["TileLength"]
    struct.pack_into("<HI", content, tag.offset + 2, 4, 1)  # one LONG
    struct.pack_into("<I", content, tag.offset + 8, 2**31 + 32)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(FileError, match="tiles of 68719477760 pixels: it is damaged"):
        open_image(tmp_path / "a.tif")


def test_directories_that_form_a_circle_end(tmp_path):
    pytest.importorskip("openslide")
    picture = RNG.integers(0, 255, (112, 144, 3)).astype(np.uint8)
    path = tmp_path / "a.tif"
    instrument_files.write_trestle(path, picture, 32, 16)
    content = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    (tags,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * tags, first)  # the next directory is the first again
    path.write_bytes(content)
    with pytest.raises(FileError, match="is a Trestle slide"):
        open_image(path)
