"""What readers of slides and microscopes make of what a library states; stand-ins take its place."""

import struct
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from register.errors import FileError
from register.geometry.pixel_size import PixelSize
from register.images.pixels import EVERYTHING
from register.io.images import (
    czi_directory,
    leica,
    openslide_read,
    regions,
    slideio_probe,
    slideio_read,
)
from register.io.images.lookup_tables import signed_colour
from register.io.images.model import Selection

STACK = np.random.default_rng(0).integers(0, 60000, (2, 3, 4, 20, 30)).astype(np.uint16)  # (t, z, c, h, w)


class Scene:
    """A scene of SlideIO with two levels, the second of every second pixel."""

    def __init__(self, stack, names=("", ""), resolution=(0.5e-6, 0.25e-6)):
        self.stack, self.names, self.resolution = stack, names, resolution
        self.num_t_frames, self.num_z_slices, self.num_channels = stack.shape[:3]
        self.rect, self.num_zoom_levels = (5, 6, stack.shape[4], stack.shape[3]), 2

    def get_channel_data_type(self, channel):
        return self.stack[0, 0, channel].dtype

    def get_channel_name(self, channel):
        return self.names[channel]

    def get_zoom_level_info(self, level):
        height, width = self.stack[0, 0, 0, :: level + 1, :: level + 1].shape
        return SimpleNamespace(size=SimpleNamespace(width=width, height=height))

    def read_block_from_level(self, level, part, channel_indices, slices, frames):
        x, y, width, height = part
        assert (slices[1] - slices[0], frames[1] - frames[0]) == (1, 1)
        plane = self.stack[frames[0], slices[0], channel_indices, :: level + 1, :: level + 1]
        return np.moveaxis(plane[:, y : y + height, x : x + width], 0, 2)


XML = "<a><DisplaySetting><Channels>{}</Channels></DisplaySetting></a>"


def slide(monkeypatch, *scenes, metadata=""):
    file = SimpleNamespace(num_scenes=len(scenes), get_scene=scenes.__getitem__, raw_metadata=metadata)
    made = slideio_read._Slide("a.svs", None, file, None)
    monkeypatch.setattr(slideio_read, "_open", lambda path: made)
    return made


def test_scenes_of_slideio(tmp_path, monkeypatch):
    colours = "".join(
        f"<Channel><Color>{c}</Color></Channel>" for c in ("#FFFF0000", "#00FF00", "#FF010203", "#FF0000FF")
    )
    large = Scene(STACK, ("a", "b", "c", "d"))
    slide(monkeypatch, Scene(STACK[:1, :1, :2, :9]), large, metadata=XML.format(colours))
    found = slideio_read.read(tmp_path, Selection(plane="T=1,Z=2"))
    assert np.array_equal(found.pixels[EVERYTHING], STACK[1, 2])
    assert np.array_equal(found.pixels[1:3, 4:9, 7:20], STACK[1, 2, 1:3, 4:9, 7:20])
    assert np.array_equal(found.smaller[0][EVERYTHING], STACK[1, 2, :, ::2, ::2])
    assert found.pixel_size.xy == pytest.approx((0.5, 0.25), rel=1e-9)
    assert found.notes == ("series 1 of 2 was read, the largest",)
    assert (found.channel_names, found.colour) == (("a", "b", "c", "d"), "grey")
    assert found.channel_colours == tuple(
        signed_colour(*rgb) for rgb in ((255, 0, 0), (0, 255, 0), (1, 2, 3), (0, 0, 255))
    )
    one = slideio_read.read(tmp_path, Selection(plane="T=0,Z=0,C=2", level=1))
    assert np.array_equal(one.pixels[EVERYTHING], STACK[0, 0, 2:3, ::2, ::2])
    assert one.pixel_size == pytest.approx(PixelSize(1, 0.5, "µm"))
    assert (one.channel_names, one.channel_colours, one.smaller) == ((), (), ())
    small = slideio_read.read(tmp_path, Selection(series=0))
    assert (small.size, small.notes, small.channel_names, small.channel_colours) == ((9, 30), (), (), ())
    known = slideio_read.describe(tmp_path)
    assert (known.axes, known.levels) == ("TZCYX", 2)
    assert [(each.axes, each.shape) for each in known.series] == [
        ("CYX", (2, 9, 30)),
        ("TZCYX", (2, 3, 4, 20, 30)),
    ]


def test_the_largest_scene_of_slideio_has_most_pixels_of_a_plane(tmp_path, monkeypatch):
    """Not most rows, and not most depths."""
    tall, deep, wide = (
        Scene(STACK[:1, :1, :1, :, :5]),
        Scene(STACK[:, :, :2, :9, :9]),
        Scene(STACK[:1, :1, :2, :10]),
    )
    slide(monkeypatch, tall, deep, wide)
    assert slideio_read.read(tmp_path, Selection()).size == (10, 30)
    assert slideio_read.describe(tmp_path).axes == "CYX"
    slide(monkeypatch, tall, Scene(STACK[:, :, :2, :10]), deep)
    assert slideio_read.describe(tmp_path).axes == "TZCYX"


def test_three_channels_of_bytes_without_names_are_colours(tmp_path, monkeypatch):
    bytes_of = (STACK[:1, :1, :3] // 256).astype(np.uint8)
    for stack, names, colour in (
        (bytes_of, ("", "", ""), "rgb"),
        (bytes_of, ("", "", "x"), "grey"),
        (STACK[:1, :1, :3], ("", "", ""), "grey"),
        (bytes_of[:, :, :2], ("", ""), "grey"),
    ):
        slide(monkeypatch, Scene(stack, names))
        found = slideio_read.read(tmp_path, Selection())
        assert (found.colour, found.notes) == (colour, ())
    slide(monkeypatch, Scene(bytes_of, ("", "", ""), (0.0, 1.0)))
    assert slideio_read.read(tmp_path, Selection()).pixel_size is None


def test_opening_ends_well_or_with_an_error_that_is_raised_again(tmp_path, monkeypatch, capfd):
    (tmp_path / "a.czi").write_bytes(b"x")
    for number, (program, fault) in enumerate((("print('said')", None), ("raise OSError", None),
                                               ("import sys; sys.exit(2)", "ends with 2"))):  # fmt: skip
        monkeypatch.setattr(slideio_probe, "PROGRAM", program)
        (tmp_path / "a.czi").write_bytes(b"x" * (number + 2))  # another file
        found = slideio_probe.fault(tmp_path / "a.czi", "CZI")
        assert (found is None) if fault is None else fault in found
    assert capfd.readouterr() == ("", "")  # what the other process says is not shown


def directory(entries, size=20, count=None):
    """A CZI with nothing but its directory: entries of (name, start, size)."""
    content = b"".join(
        b"DV".ljust(28, b"\0") + struct.pack("<i", len(each))
        + b"".join(struct.pack("<4sii", name, start, n).ljust(size, b"\0") for name, start, n in each)
        for each in entries
    )  # fmt: skip
    body = struct.pack("<i", len(entries) if count is None else count).ljust(128, b"\0") + content
    segment = b"ZISRAWDIRECTORY".ljust(16, b"\0") + struct.pack("<q", len(body)).ljust(16, b"\0") + body
    return b"ZISRAWFILE".ljust(84, b"\0") + struct.pack("<q", 92) + segment + b"\0" * 160


PLANE = [(b"X", 0, 100), (b"Y", 0, 90)]


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([[*PLANE, (b"Z", n, 1)] for n in range(3)], None),
        ([[*PLANE, (b"Z", n * 64, 1)] for n in (0, 2)], None),  # 128 places for 2 entries
        ([[*PLANE, (b"Z", n, 1)] for n in (0, 129)], "2 entries lie at 130 places along Z"),
        ([[*PLANE, (b"Z", 0, 2)]], "has 2 elements from 0 along Z"),
        ([[*PLANE, (b"M", 0, 2)]], None),
        ([[(b"X", -(2**28), 2**28)]], None),
        ([[(b"X", -(2**28) - 1, 1)]], "elements from -268435457 along X"),
        ([[(b"X", 0, 2**28 + 1)]], "has 268435457 elements"),
        ([[(b"X", 0, 0)]], "has 0 elements"),
        ([[(b"7", 0, 1)]], "an axis without a name"),
        ([PLANE * 20], None),
        ([PLANE * 20 + PLANE[:1]], "has 41 dimensions"),
        ([[]], "has 0 dimensions"),
    ],
)
def test_entries_of_the_directory_of_a_czi(tmp_path, entries, problem):
    (tmp_path / "a.czi").write_bytes(directory(entries))
    if problem is None:
        czi_directory.check(tmp_path / "a.czi")
        return
    with pytest.raises(FileError, match=problem):
        czi_directory.check(tmp_path / "a.czi")


def test_places_of_the_directory_of_a_czi(tmp_path):
    whole = directory([PLANE])
    for content, problem in (
        (whole[:91], "it ends in its header"),
        (whole[:84] + struct.pack("<q", 0) + whole[92:], "it is outside of the file"),
        (whole[:84] + struct.pack("<q", len(whole) - 160) + whole[92:], "it is outside of the file"),
        (whole[:84] + struct.pack("<q", 93) + whole[92:], "not where the file says"),
        (directory([PLANE], count=2)[:-160], r"is outside|entry 1 of 2 is not one"),
    ):
        (tmp_path / "a.czi").write_bytes(content)
        with pytest.raises(FileError, match=problem):
            czi_directory.check(tmp_path / "a.czi")


class Slide:
    """A slide of OpenSlide with two levels, three quarters opaque."""

    level_count, level_downsamples = 2, (1.0, 2.0)

    def __init__(self, picture, **properties):
        self.picture, self.properties = picture, {f"openslide.{k}": v for k, v in properties.items()}
        height, width = picture.shape[:2]
        self.level_dimensions = (width, height), (width // 2, height // 2)

    def read_region(self, corner, level, size):
        step = level + 1
        assert corner[0] % step == corner[1] % step == 0
        x, y = corner[0] // step, corner[1] // step
        return self.picture[::step, ::step][y : y + size[1], x : x + size[0]]


def test_levels_of_openslide_lie_over_the_background(tmp_path, monkeypatch):
    picture = np.random.default_rng(1).integers(0, 256, (20, 30, 4)).astype(np.uint8)
    made = Slide(picture, **{"mpp-x": "0.5", "mpp-y": "0.25", "background-color": "102030"})
    monkeypatch.setattr(openslide_read, "_open", lambda *rest: made)
    found = openslide_read.read_trestle(tmp_path, Selection())
    assert (found.channels, found.size, found.smaller[0].shape) == (3, (20, 30), (3, 10, 15))
    share = picture[..., 3:] / 255
    wanted = picture[..., :3] * share + np.array([0x10, 0x20, 0x30]) * (1 - share)
    assert np.abs(np.moveaxis(found.pixels[EVERYTHING], 0, 2) - wanted).max() <= 0.5 + 1e-9
    assert np.array_equal(found.pixels[1:2, 4:9, 6:20], found.pixels[EVERYTHING][1:2, 4:9, 6:20])
    assert np.array_equal(found.smaller[0][EVERYTHING], found.pixels[EVERYTHING][:, ::2, ::2])
    assert found.pixel_size == PixelSize(0.5, 0.25, "µm")
    coarse = openslide_read.read_trestle(tmp_path, Selection(level=1))
    assert coarse.pixel_size == PixelSize(1, 0.5, "µm")
    assert coarse.smaller == ()
    made.properties = {}
    plain = openslide_read.read_trestle(tmp_path, Selection())
    white = picture[..., :3] * share + 255 * (1 - share)
    assert np.abs(np.moveaxis(plain.pixels[EVERYTHING], 0, 2) - white).max() <= 0.5 + 1e-9
    assert plain.pixel_size is None
    with pytest.raises(FileError, match="has one series"):
        openslide_read.read_trestle(tmp_path, Selection(series=1))
    with pytest.raises(FileError, match="has no level 2; it has 2, from 0"):
        openslide_read.read_trestle(tmp_path, Selection(level=2))


def lif(tmp_path, monkeypatch, *layouts):
    """A file whose images have some layouts; the pixels of each begin at its first byte."""
    (tmp_path / "a.lif").write_bytes(STACK.tobytes())
    block = SimpleNamespace(offset=0, size=STACK.nbytes)
    images = [SimpleNamespace(layout=each, memory_block=block) for each in layouts]

    class File:
        def __enter__(self):
            return SimpleNamespace(images=images)

        def __exit__(self, *rest):
            return None

    monkeypatch.setattr(leica, "_open", lambda path: File())
    monkeypatch.setattr(leica, "_layout", lambda image: image.layout)
    return tmp_path / "a.lif"


LAYOUT = leica._Layout(
    {"Z": (3, 4 * 1200), "Y": (20, 60), "X": (30, 2)}, (0, 1200, 2400, 3600), np.dtype("<u2"), False,
    ("a", "b", "c", "d"), (1, 2, 3, 4), PixelSize(1, 2, "µm"),
)  # fmt: skip


def test_planes_of_a_lif_lie_where_its_steps_say(tmp_path, monkeypatch):
    path = lif(tmp_path, monkeypatch, LAYOUT, replace(LAYOUT, axes={"Y": (2, 60), "X": (30, 2)}))
    found = leica.read(path, Selection(plane="Z=2"))
    assert (found.channels, found.size) == (4, (20, 30))
    assert np.array_equal(found.pixels[EVERYTHING], STACK[0, 2])
    assert np.array_equal(found.pixels[1:3, 5:9, 3:7], STACK[0, 2, 1:3, 5:9, 3:7])
    assert (found.channel_names, found.channel_colours) == (("a", "b", "c", "d"), (1, 2, 3, 4))
    assert found.notes == ("series 0 of 2 was read, the largest",)
    one = leica.read(path, Selection(plane="Z=0,C=2", series=0))
    assert np.array_equal(one.pixels[EVERYTHING], STACK[0, 0, 2:3])
    assert (one.channel_names, one.channel_colours, one.notes) == (("c",), (3,), ())
    colour = replace(LAYOUT, rgb=True, channels=(0, 1200, 2400), names=("", "", "x"), colours=())
    path = lif(tmp_path, monkeypatch, colour)
    picture = leica.read(path, Selection(plane="Z=0"))
    assert (picture.colour, picture.channel_names, picture.notes) == ("rgb", (), ())
    unnamed = replace(LAYOUT, names=("a", "b"), colours=())
    path = lif(tmp_path, monkeypatch, unnamed)
    assert leica.read(path, Selection(plane="Z=0")).channel_names == ()


def test_planes_of_a_lif_lie_within_its_block(tmp_path, monkeypatch):
    last = STACK.nbytes - 1200
    leica.read(lif(tmp_path, monkeypatch, replace(LAYOUT, axes=PLAIN, channels=(last,))), Selection())
    for wrong in ((last + 2,), (-2,)):
        path = lif(tmp_path, monkeypatch, replace(LAYOUT, axes=PLAIN, channels=wrong))
        with pytest.raises(FileError, match="is cut off"):
            leica.read(path, Selection())
    path = lif(tmp_path, monkeypatch, replace(LAYOUT, axes={"X": (30, 2)}, channels=(0,)))
    with pytest.raises(FileError, match="no picture of rows and columns as series 0"):
        leica.read(path, Selection())


PLAIN = {"Y": (20, 60), "X": (30, 2)}


def test_the_size_of_a_pixel_of_a_lif_is_in_metres():
    assert leica._pixel_size({"X": (2e-6, "m"), "Y": (3e-6, "m")}).xy == pytest.approx((2, 3), rel=1e-9)
    for wrong in ({"X": (2e-6, "m")}, {"X": (2e-6, "m"), "Y": (3e-6, "s")}):
        assert leica._pixel_size(wrong) is None


def test_series_and_levels_are_counted_from_0(tmp_path):
    assert regions.checked_series(tmp_path, Selection(), [3, 9, 9]) == 1
    assert regions.checked_series(tmp_path, Selection(series=2), [3, 9, 9]) == 2
    with pytest.raises(FileError, match="has no series 3; it has 3, from 0"):
        regions.checked_series(tmp_path, Selection(series=3), [3, 9, 9])
    with pytest.raises(FileError, match="holds no image"):
        regions.checked_series(tmp_path, Selection(), [])
    assert regions.checked_level(tmp_path, Selection(level=1), 2) == 1
    assert regions.why(ValueError(" a \n b")) == "a b"
    assert regions.why(ValueError()) == "ValueError"
    empty = regions.Regions((1, 4, 5), np.dtype("u2"), lambda *spans: 1 / 0)
    assert empty[:, 2:2, :].shape == (1, 0, 5)
