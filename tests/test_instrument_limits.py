"""Imaris, LIF, ND2 and OIB at their limits: what their descriptions state, and where their pixels end."""

from dataclasses import replace
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

from register.errors import FileError
from register.io.images import (
    leica,
    nikon,
    olympus,
)
from register.io.images.lookup_tables import signed_colour
from register.io.images.model import Selection
from register.io.images.open import describe_file, open_image

# --- Imaris ----------------------------------------------------------------------------------------------


def write_imaris(path, stack, depths=(4, 2), colour="1.5 -0.5 0.25", extent=(30.0, 10.0), unit="um"):
    """An Imaris file of (t, c, z, h, w), of which the second level has half the rows, columns and depths."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for level, depth in enumerate(depths):
            for t, volume in enumerate(stack):
                for c, values in enumerate(volume):
                    part = values[:: max(len(values) // depth, 1), :: level + 1, :: level + 1]
                    group = file.create_group(f"DataSet/ResolutionLevel {level}/TimePoint {t}/Channel {c}")
                    for axis, size in zip("ZYX", part.shape, strict=True):
                        group.attrs[f"ImageSize{axis}"] = str(size)
                    group["Data"] = part
        info = file.create_group("DataSetInfo/Image").attrs
        info["Unit"] = unit
        for n, length in enumerate(extent):
            info[f"ExtMin{n}"], info[f"ExtMax{n}"] = "5", str(5 + length)
        for c in range(stack.shape[1]):
            file.create_group(f"DataSetInfo/Channel {c}").attrs["Color"] = colour


def test_times_depths_and_levels_of_imaris(tmp_path):
    stack = np.random.default_rng(0).integers(0, 999, (2, 2, 4, 10, 12)).astype(np.uint16)
    write_imaris(tmp_path / "a.ims", stack)
    assert describe_file(tmp_path / "a.ims").axes == "TZCYX"
    for t, z, c in ((0, 0, 0), (1, 1, 0), (1, 2, 1), (0, 3, 1)):
        found = open_image(tmp_path / "a.ims", Selection(plane=f"T={t},Z={z},C={c}"))
        assert np.array_equal(found.pixels[:, :, :], stack[t, c : c + 1, z])
        (small,) = found.smaller  # two planes of it for four
        assert np.array_equal(small[:, :, :], stack[t, c : c + 1, z // 2 * 2, ::2, ::2])
    assert found.pixel_size.xy == (30 / 12, 10 / 10)
    assert found.channel_colours == (signed_colour(255, 0, 64),)
    assert found.channel_names == ()
    with pytest.raises(FileError, match="has one series; leave out --series"):
        open_image(tmp_path / "a.ims", Selection(series=1, plane="T=0,Z=0"))
    assert open_image(tmp_path / "a.ims", Selection(series=0, plane="T=0,Z=0")).channels == 2


@pytest.mark.parametrize(
    ("extent", "unit", "size"),
    [((30.0, 10.0), "nm", (2.5, 1.0)), ((30.0, 0.0), "um", None), ((-1.0, 10.0), "um", None),
     ((0.5, 0.25), "m", (0.5 / 12, 0.025)), ((30.0, 10.0), "parsec", None)],
)  # fmt: skip
def test_a_plane_of_imaris_and_the_size_of_its_pixels(tmp_path, extent, unit, size):
    plane = np.random.default_rng(0).integers(0, 999, (1, 1, 1, 10, 12)).astype(np.uint8)
    write_imaris(tmp_path / "a.ims", plane, (1,), extent=extent, unit=unit, colour="1 0")
    found = open_image(tmp_path / "a.ims")
    assert np.array_equal(found.pixels[:, :, :], plane[0, :, 0])
    assert (found.smaller, found.channel_colours) == ((), ())
    assert found.pixel_size == (size and pytest.approx((*size, unit.replace("um", "µm"))))


# --- Leica -----------------------------------------------------------------------------------------------


def lif_image(dimensions, channels, dtype=np.uint8):
    """An image of a LIF: (kind, count, length, unit, step) of its axes, (step, tag, table, dye) of its
    channels."""
    root = ElementTree.Element("Element")
    path = ElementTree.SubElement(ElementTree.SubElement(root, "Data"), "Image")
    described = ElementTree.SubElement(path, "ImageDescription")
    for step, tag, table, dye in channels:
        listed = described.find("Channels")
        listed = ElementTree.SubElement(described, "Channels") if listed is None else listed
        one = ElementTree.SubElement(
            listed, "ChannelDescription", BytesInc=str(step), ChannelTag=str(tag), LUTName=table
        )
        stated = ElementTree.SubElement(one, "ChannelProperty")
        ElementTree.SubElement(stated, "Key").text, ElementTree.SubElement(stated, "Value").text = (
            "DyeName",
            dye,
        )
    listed = ElementTree.SubElement(described, "Dimensions")
    for kind, count, length, unit, step in dimensions:
        ElementTree.SubElement(listed, "DimensionDescription", DimID=str(kind), NumberOfElements=str(count),
                               Length=str(length), Unit=unit, BytesInc=str(step))  # fmt: skip
    return SimpleNamespace(xml_element=root, dtype=dtype, name="a")


PLANE = [(1, 9, 16e-6, "m", 1), (2, 5, 12e-6, "m", 9)]


@pytest.mark.parametrize(("number", "letter"), list(enumerate("ZTLANQEMP", 3)))
def test_axes_of_a_lif_by_their_numbers(number, letter):
    """As the description of the format numbers them."""
    found = leica._layout(lif_image([*PLANE, (number, 4, 1, "", 45)], [(0, 0, "", "a")]))
    assert found.described == (f"{letter}YX", (4, 5, 9))
    assert found.pixel_size.xy == pytest.approx((2, 3))  # from the first pixel to the last
    for wrong in (0, 12):
        with pytest.raises(ValueError, match="the dimensions of a are not known"):
            leica._layout(lif_image([*PLANE, (wrong, 4, 1, "", 45)], [(0, 0, "", "a")]))
    with pytest.raises(ValueError, match="the dimensions of a are not known"):
        leica._layout(lif_image([*PLANE, PLANE[0]], [(0, 0, "", "a")]))


def test_axes_of_a_lif_are_in_the_order_of_their_steps():
    times, depths = (4, 3, 2, "s", 180), (3, 4, 1, "m", 45)
    for dimensions in ([*PLANE, depths, times], [times, *PLANE, depths]):
        found = leica._layout(lif_image(dimensions, [(0, 0, "", "a")]))
        assert found.described == ("TZYX", (3, 4, 5, 9))


def test_axes_of_one_and_two_elements_of_a_lif():
    sides = [(1, 2, 16e-6, "m", 1), (2, 1, 12e-6, "m", 9), (3, 1, 0, "m", 45)]
    found = leica._layout(lif_image(sides, [(0, 0, "", "")]))
    assert found.described == ("YX", (1, 2))
    assert found.pixel_size.xy == pytest.approx((16, 12))
    assert leica._area(found) == 2
    line = leica._layout(lif_image([(1, 2, 16e-6, "m", 1), (4, 7, 3, "s", 2)], [(0, 0, "", "")]))
    assert (leica._area(line), line.pixel_size) == (0, None)


TABLES = {"Red": (255, 0, 0), "Green": (0, 255, 0), "Blue": (0, 0, 255), "Cyan": (0, 255, 255),
          "Magenta": (255, 0, 255), "Yellow": (255, 255, 0), "Gray": (255, 255, 255)}  # fmt: skip


def test_colours_and_order_of_the_channels_of_a_lif():
    channels = [(45 * n, 0, name, f"dye {n}") for n, name in enumerate(TABLES)]
    found = leica._layout(lif_image(PLANE, channels[::-1]))
    assert found.channels == tuple(45 * n for n in range(7))
    assert found.colours == tuple(signed_colour(*colour) for colour in TABLES.values())
    assert found.names == tuple(f"dye {n}" for n in range(7))
    assert found.described == ("CYX", (7, 5, 9))
    unknown = leica._layout(lif_image(PLANE, [*channels, (999, 0, "Fire", "")]))
    assert unknown.colours == ()
    rgb = leica._layout(lif_image(PLANE, [(2, 1, "Red", ""), (1, 2, "Green", ""), (0, 3, "Blue", "")]))
    assert (rgb.rgb, rgb.channels, rgb.colours, rgb.described) == (True, (2, 1, 0), (), ("SYX", (3, 5, 9)))


@pytest.mark.parametrize(
    ("start", "length", "steps", "whole"),
    [(0, 45, (9, 1), True), (5, 45, (9, 1), True), (6, 45, (9, 1), False), (-1, 45, (9, 1), False),
     (0, 44, (9, 1), False), (0, 45, (9, 0), False), (0, 45, (0, 1), False), (0, 50, (10, 1), True)],
)  # fmt: skip
def test_planes_of_a_lif_lie_within_their_block_and_file(tmp_path, start, length, steps, whole):
    (tmp_path / "a.lif").write_bytes(bytes(range(50)))
    layout = leica._layout(lif_image(PLANE, [(0, 0, "", "")]))
    layout = replace(layout, axes={"Y": (5, steps[0]), "X": (9, steps[1])})
    planes = leica._Planes(tmp_path / "a.lif", layout, start, length, (0,), ())
    if not whole:
        with pytest.raises(FileError, match="is cut off: its pixels continue beyond its end"):
            planes.check()
        return
    planes.check()
    found = planes(range(1), range(1, 5), range(2, 9))
    assert found[0].tolist() == [
        [start + y * steps[0] + x * steps[1] for x in range(2, 9)] for y in range(1, 5)
    ]


# --- Nikon and Olympus -----------------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [False, True])
def test_a_compressed_frame_needs_twice_its_memory(tmp_path, monkeypatch, compressed):
    values = np.arange(2 * 5 * 6, dtype=np.uint16)
    needed = []

    class File:
        dtype = np.uint16

        def __enter__(self):
            return self

        def __exit__(self, *rest):
            return None

        def read_frame(self, number):
            return np.frombuffer(values.tobytes(), np.uint16)

    monkeypatch.setattr(nikon, "_open", lambda path: File())
    monkeypatch.setattr(nikon, "check_memory", lambda path, size, advice: needed.append(size))
    frame = nikon._Frame(tmp_path, 0, (2, 5, 6, 1), (1, 0), False, compressed)
    wanted = values.reshape(2, 5, 6)[::-1]
    assert np.array_equal(frame(range(2), range(1, 4), range(2, 6)), wanted[:, 1:4, 2:6])
    assert needed == ([2 * values.nbytes] if compressed else [])


def test_axes_of_an_nd2_always_have_rows_and_columns():
    assert nikon._axes(SimpleNamespace(sizes={"Z": 3, "C": 2, "Y": 5, "X": 6})) == ("ZCYX", (3, 2, 5, 6))
    axes, shape = nikon._axes(SimpleNamespace(sizes={"C": 2, "X": 6}))
    assert dict(zip(axes, shape, strict=True)) == {"C": 2, "Y": 1, "X": 6}


def volume(**more):
    known = {"axesCalibrated": (True, True, False), "axesInterpretation": ("distance", "distance", "time"),
             "axesCalibration": (0.5, 0.25, 9.0)}  # fmt: skip
    return [SimpleNamespace(volume=SimpleNamespace(**(known | more)))]


def test_the_size_of_a_pixel_of_an_nd2_is_a_distance():
    assert nikon._pixel_size(volume()) == (0.5, 0.25, "µm")
    assert nikon._pixel_size(volume(axesCalibrated=(True, False, True))) is None
    assert nikon._pixel_size(volume(axesInterpretation=("distance", "time", "distance"))) is None
    assert nikon._pixel_size([]) is None


def settings(**more):
    known = {"WidthConvertValue": 0.5, "HeightConvertValue": 0.25, "WidthUnit": "um", "HeightUnit": "um"}
    return {"Reference Image Parameter": known | more}


@pytest.mark.parametrize(
    ("more", "size"),
    [
        ({}, (0.5, 0.25, "µm")),
        ({"HeightUnit": "nm"}, None),
        ({"WidthUnit": "s", "HeightUnit": "s"}, None),
        ({"ImageWidth": 60, "ImageHeight": 50}, (0.5, 0.25, "µm")),
        ({"ImageWidth": 61, "ImageHeight": 50}, None),
        ({"ImageWidth": 50, "ImageHeight": 60}, (0.5, 0.25, "µm")),
        ({"WidthConvertValue": 0}, None),
    ],
)
def test_the_size_of_a_pixel_of_an_oib_belongs_to_its_image(more, size):
    assert olympus._pixel_size(settings(**more), 60, 50) == size
    assert olympus._pixel_size({}, 60, 50) is None
    for lost in ("WidthConvertValue", "HeightConvertValue", "WidthUnit"):
        stated = settings()
        del stated["Reference Image Parameter"][lost]
        assert olympus._pixel_size(stated, 60, 50) is None


def test_dyes_of_an_oib_end_at_the_first_channel_that_is_missing():
    stated = {f"GUI Channel {n} Parameters": {"DyeName": f"dye {n}"} for n in (1, 2, 4)}
    assert olympus._names(stated) == ("dye 1", "dye 2")
    stated["GUI Channel 3 Parameters"] = {"CH Name": "third"}
    assert olympus._names(stated) == ("dye 1", "dye 2", "third", "dye 4")


def oib(monkeypatch, planes, shape, axes="CZ"):
    class Series(dict):
        pass

    series = Series.fromkeys(f"{n}.tif" for n in range(len(planes)))
    series.indices, series.shape, series.axes = list(np.ndindex(*shape))[: len(planes)], shape, axes
    file = SimpleNamespace(series=[series], asarray=lambda name: planes[int(name.split(".")[0])], mainfile={})

    class Opened:
        def __enter__(self):
            return file

        def __exit__(self, *rest):
            return None

    monkeypatch.setattr(olympus, "_open", lambda path: Opened())
    return file


def test_planes_of_an_oib(tmp_path, monkeypatch):
    needed = []
    monkeypatch.setattr(olympus, "check_memory", lambda path, size, advice: needed.append(size))
    planes = np.random.default_rng(0).integers(0, 999, (6, 5, 7)).astype(np.uint16)
    file = oib(monkeypatch, planes, (2, 3))
    found = olympus.read(tmp_path, Selection(plane="Z=2", series=0))
    assert np.array_equal(found.pixels[:, 1:4, 2:5], planes[[2, 5], 1:4, 2:5])
    assert needed == [2 * planes[:2].nbytes]  # each plane, and all of them as one array
    one = olympus.read(tmp_path, Selection(plane="Z=1,C=1"))
    assert np.array_equal(one.pixels[:, :, :], planes[4:5])
    with pytest.raises(FileError, match="has one series"):
        olympus.read(tmp_path, Selection(plane="Z=1", series=1))
    oib(monkeypatch, planes, (6,), "T")
    assert np.array_equal(olympus.read(tmp_path, Selection(plane="T=4")).pixels[:, :, :], planes[4:5])
    oib(monkeypatch, planes, (2, 1, 3), "TCZ")
    assert np.array_equal(olympus.read(tmp_path, Selection(plane="T=1,Z=2")).pixels[:, :, :], planes[5:])
    file = oib(monkeypatch, planes[:5], (2, 3))
    with pytest.raises(FileError, match="holds 5 of 6 planes: it is cut off"):
        olympus.read(tmp_path, Selection(plane="Z=0"))
    oib(monkeypatch, planes[:, None], (2, 3))
    with pytest.raises(FileError, match="holds planes of 3 axes"):
        olympus.read(tmp_path, Selection(plane="Z=0"))
    oib(monkeypatch, [*planes[:5], planes[5][:3]], (2, 3))
    with pytest.raises(FileError, match="holds planes of different sizes"):
        olympus.read(tmp_path, Selection(plane="Z=2")).pixels[:, :, :]
    file.series = []
    with pytest.raises(FileError, match="holds no image"):
        olympus._planes(tmp_path, file)
