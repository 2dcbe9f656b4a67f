"""Files of instruments, written by their libraries: values, names, sizes, levels, planes.

Also what happens without the library.
"""

import importlib
import re
import struct

import numpy as np
import pytest

from benchmarks.instrument_files import write_imaris
from register.errors import FileError
from register.io.images import (
    fits,
    imaris,
    instruments,
    leica,
    nikon,
    olympus,
    openslide_read,
    slideio_probe,
    slideio_read,
)
from register.io.images.guard import guarded
from register.io.images.lookup_tables import signed_colour
from register.io.images.model import Image, Selection
from register.io.images.open import open_image
from register.io.images.regions import Regions
from register.transforms.frame import Frame
from register.transforms.transform import Transform

RNG = np.random.default_rng(6)
READERS = (openslide_read, slideio_read, imaris, nikon, leica, olympus, fits, instruments)


@pytest.fixture
def scene(texture):
    """Two channels (2, 300, 400) uint16."""
    return np.stack([texture[:300, :400], texture[50:350, 20:420]]) * 60000


def test_imaris(tmp_path, scene, program):
    stack = np.stack([scene, scene // 2], axis=1).astype(np.uint16)  # (c, z, h, w)
    pytest.importorskip("h5py")
    write_imaris(tmp_path / "a.ims", stack, (100.0, 150.0, 2.0))
    with pytest.raises(FileError, match=r"axes ZCYX .*--fixed-plane Z=0"):
        open_image(tmp_path / "a.ims")
    found = open_image(tmp_path / "a.ims", Selection(plane="Z=1"))
    assert np.array_equal(found.pixels[:, :, :], stack[:, 1])
    assert np.array_equal(found.pixels[1:2, 70:90, 100:170], stack[1:2, 1, 70:90, 100:170])
    assert (found.pixel_size, found.channel_names) == ((0.25, 0.5, "µm"), ("DAPI", "CD3"))
    assert found.channel_colours == (signed_colour(0, 0, 255), signed_colour(255, 128, 0))
    assert np.array_equal(found.smaller[0][:, :, :], stack[:, 1, ::2, ::2])
    assert open_image(tmp_path / "a.ims", Selection(level=1, plane="Z=0")).pixel_size == (0.5, 1.0, "µm")


def write_identity(path, height, width):
    Transform("affine", Frame(width, height), Frame(width, height), np.eye(2, 3)).save(path)


@pytest.mark.parametrize("command", ["align", "apply"])
def test_a_damaged_chunk_is_one_line_about_the_input(tmp_path, scene, program, command):
    h5py = pytest.importorskip("h5py")
    for name in ("a.ims", "bad.ims"):
        write_imaris(tmp_path / name, scene[:, None].astype(np.uint16), (100.0, 150.0, 1.0))
    write_identity(tmp_path / "t.json", 300, 400)
    for level in (0, 1):
        with h5py.File(tmp_path / "bad.ims") as file:
            data = file[f"DataSet/ResolutionLevel {level}/TimePoint 0/Channel 0/Data"]
            chunk = data.id.get_chunk_info(0)
        with open(tmp_path / "bad.ims", "rb+") as file:
            file.seek(chunk.byte_offset)
            file.write(b"\xff" * 20)
    first = "t.json" if command == "apply" else "a.ims"
    output = "out.tif" if command == "apply" else "out"
    done = program(command, tmp_path / first, tmp_path / "bad.ims", "--output", tmp_path / output)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith(f"error: {tmp_path / 'bad.ims'}: cannot be read as an image (")


@pytest.mark.parametrize(
    "raised", [RuntimeError("broken\nblock"), OSError(5, "no"), ValueError(), IndexError()]
)
def test_pixels_that_are_read_later_raise_one_line_about_their_file(raised):
    found = failing(raised)
    for level in (found.pixels, *found.smaller):
        with pytest.raises(FileError, match=r"^slide\.xyz: cannot be read as an image \([^\n]+complete$"):
            level[:, 2:4, :]


@pytest.mark.parametrize(
    "raised", [MemoryError(), RuntimeError("not enough memory"), KeyboardInterrupt(), FileError("a", "is b")]
)
def test_what_is_no_fault_of_a_file_is_raised_as_it_is(raised):
    with pytest.raises(type(raised)) as caught:
        failing(raised).pixels[:, :, :]
    assert caught.value is raised


def failing(error):
    """An image of two levels whose windows raise an error."""

    def read(*window):
        raise error

    levels = [Regions((1, size, size), np.dtype(np.uint8), read) for size in (8, 4)]
    return guarded(Image(levels[0], smaller=(levels[1],)), "slide.xyz")


def write_fits(path, values, **cards):
    astropy = pytest.importorskip("astropy.io.fits")
    unit = astropy.CompImageHDU if path.name.endswith(".fz") else astropy.PrimaryHDU
    options = {"compression_type": "RICE_1"} if path.name.endswith(".fz") else {}
    made = unit(values, **options)
    made.header.update(cards)
    made.writeto(path)


@pytest.mark.parametrize("name", ["a.fits", "a.fit", "a.fits.gz", "a.fits.fz"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
def test_fits_values_are_those_that_astropy_reads(tmp_path, name, dtype):
    values = (RNG.normal(size=(70, 90)) * 100).astype(dtype)
    if dtype == "uint16":
        values[0, :4] = 10, 30000, 33000, 60000
    if dtype == "int16":
        values[0, 0] = -5
    if dtype == "float32" and not name.endswith("fz"):
        values[3, 4] = np.nan
    write_fits(tmp_path / name, values)
    found = open_image(tmp_path / name)
    exact = not (dtype == "float32" and name.endswith("fz"))  # Rice quantises floats
    assert np.allclose(found.pixels[:, :, :][0], values, atol=0 if exact else 5, rtol=0, equal_nan=True)
    assert found.dtype == values.dtype
    assert np.array_equal(found.pixels[0:1, 5:9, 80:90], found.pixels[:, :, :][:, 5:9, 80:90])


def test_fits_cubes_scales_and_places_on_the_sky(tmp_path):
    fits_of = pytest.importorskip("astropy.io.fits")
    cube = RNG.integers(0, 99, (3, 40, 50)).astype(np.int16)
    sky = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 20.0, "CDELT1": -0.0002,
           "CDELT2": 0.0001, "CRPIX1": 1.0, "CRPIX2": 1.0}  # fmt: skip
    write_fits(tmp_path / "cube.fits", cube, **sky)
    with pytest.raises(FileError, match="axes ZYX"):
        open_image(tmp_path / "cube.fits")
    found = open_image(tmp_path / "cube.fits", Selection(plane="Z=2"))
    assert np.array_equal(found.pixels[:, :, :][0], cube[2])
    assert found.pixel_size.xy == pytest.approx((0.72, 0.36))
    assert found.pixel_size.unit == "arcsec"
    scaled = fits_of.PrimaryHDU(np.array([[1, 2], [3, -32768]], np.int16))
    scaled.header.update({"BZERO": 100.0, "BSCALE": 0.5, "BLANK": -32768})
    scaled.writeto(tmp_path / "scaled.fits")
    values = open_image(tmp_path / "scaled.fits").pixels[:, :, :][0]
    assert np.allclose(values, [[100.5, 101], [101.5, np.nan]], equal_nan=True)
    fits_of.PrimaryHDU().writeto(tmp_path / "none.fits")
    with pytest.raises(FileError, match="holds no image"):
        open_image(tmp_path / "none.fits")


def test_czi(tmp_path, scene):
    pytest.importorskip("slideio")
    czi = pytest.importorskip("pylibCZIrw.czi", reason="pylibCZIrw writes the file")
    planes = np.stack([scene, scene // 3]).astype(np.uint16)  # (z, c, h, w)
    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        for z in range(2):
            for c in range(2):
                file.write(planes[z, c][..., None], plane={"C": c, "Z": z, "T": 0}, location=(0, 0))
        file.write_metadata(
            document_name="a", channel_names={0: "DAPI", 1: "CD3"}, scale_x=0.25e-6, scale_y=0.25e-6
        )
    with pytest.raises(FileError, match="axes ZCYX"):
        open_image(tmp_path / "a.czi")
    found = open_image(tmp_path / "a.czi", Selection(plane="Z=1"))
    assert np.array_equal(found.pixels[:, :, :], planes[1])
    assert np.array_equal(found.pixels[1:2, 70:90, 100:170], planes[1, 1:2, 70:90, 100:170])
    assert found.pixel_size.xy == pytest.approx((0.25, 0.25))
    assert found.channel_names == ("DAPI", "CD3")


COMPRESSIONS = [
    "uncompressed:",
    "zstd0:ExplicitLevel=3",
    "zstd1:ExplicitLevel=3",
    "zstd1:PreProcess=HiLoByteUnpack",
]


def write_czi(path, planes, compression="uncompressed:", names=None, halves=False, scenes=1):
    """A CZI of channels (h, w) or (h, w, 3: blue, green, red), in scenes beside each other, and with every
    second pixel as a coarser level of each."""
    czi = pytest.importorskip("pylibCZIrw.czi", reason="pylibCZIrw writes the file")
    pytest.importorskip("slideio")
    with czi.create_czi(str(path), compression_options=compression) as file:
        for scene in range(scenes):
            for c, plane in enumerate(planes):
                place = {"plane": {"C": c, "Z": 0, "T": 0}, "location": (1000 * scene + 30, 20)}
                for part in (plane, plane[::2, ::2])[: 1 + halves]:
                    pixels = np.ascontiguousarray(part + scene)
                    number = {"scene": scene} if scenes > 1 else {}
                    file.write(pixels if pixels.ndim == 3 else pixels[..., None], **place, **number)
        file.write_metadata(document_name="a", channel_names=names or {}, scale_x=5e-7, scale_y=5e-7)
    if halves:
        make_coarser(path, planes[0].shape)


def make_coarser(path, shape):
    """Let blocks of half a size be a coarser level: their entries state the size that they cover."""
    content = bytearray(path.read_bytes())
    for at in (found.start() for found in re.finditer(b"DV", content)):
        if content[at + 32 : at + 36] in (b"X\0\0\0", b"C\0\0\0"):
            for n in range(struct.unpack_from("<i", content, at + 28)[0]):
                name, _, size = struct.unpack_from("<4sii", content, at + 32 + 20 * n)
                full = {b"Y": shape[0], b"X": shape[1]}.get(name[:1], 0)
                if size == full // 2:
                    struct.pack_into("<i", content, at + 32 + 20 * n + 8, full)
    path.write_bytes(content)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_czi_is_read_by_region_and_level_whatever_its_compression(tmp_path, scene, compression, dtype):
    planes = (scene / 60000 * (255 if dtype == "uint8" else 60000)).astype(dtype)
    write_czi(tmp_path / "a.czi", planes, compression, {0: "DAPI", 1: "CD3"}, halves=True)
    found = open_image(tmp_path / "a.czi")
    assert (found.colour, found.channel_names, found.dtype) == ("grey", ("DAPI", "CD3"), dtype)
    assert np.array_equal(found.pixels[:, :, :], planes)
    assert np.array_equal(found.pixels[1:2, 70:91, 101:170], planes[1:2, 70:91, 101:170])
    (small,) = found.smaller
    assert np.array_equal(small[:, :, :], planes[:, ::2, ::2])
    assert np.array_equal(small[0:1, 31:50, 11:60], planes[0:1, ::2, ::2][:, 31:50, 11:60])
    assert open_image(tmp_path / "a.czi", Selection(level=1)).pixel_size.xy == pytest.approx((1, 1))


def test_scenes_of_a_compressed_czi(tmp_path, scene):
    planes = scene[:1].astype(np.uint16)
    write_czi(tmp_path / "a.czi", planes, COMPRESSIONS[2], scenes=2)
    for number in range(2):
        found = open_image(tmp_path / "a.czi", Selection(series=number))
        assert np.array_equal(found.pixels[:, :, :], planes + np.uint16(number))


@pytest.mark.parametrize("compression", COMPRESSIONS[:3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_the_colours_of_a_czi_are_red_green_blue(tmp_path, scene, compression, dtype):
    blue_first = np.stack([scene[0], scene[0] / 2, scene[1]], axis=2)
    blue_first = (blue_first / 60000 * np.iinfo(dtype).max).astype(dtype)
    write_czi(tmp_path / "a.czi", [blue_first], compression, {0: "H&E"})
    found = open_image(tmp_path / "a.czi")
    assert (found.colour, found.channel_names) == ("rgb", ())
    assert np.array_equal(found.pixels[:, :, :], np.moveaxis(blue_first[..., ::-1], 2, 0))
    assert np.array_equal(found.pixels[0:1, 5:9, 7:20], blue_first[5:9, 7:20, 2][None])


@pytest.mark.parametrize("compression", COMPRESSIONS[:3])
@pytest.mark.parametrize("names", [{}, {0: "a:1", 1: "a:2", 2: "a:3"}])
def test_three_grey_channels_of_a_czi_are_no_colours(tmp_path, scene, compression, names):
    planes = [(scene[0] / 300).astype(np.uint8) // n for n in (1, 2, 3)]
    write_czi(tmp_path / "a.czi", planes, compression, names)
    found = open_image(tmp_path / "a.czi")
    assert (found.colour, len(found.channel_names)) == ("grey", 3)
    assert np.array_equal(found.pixels[:, :, :], np.stack(planes))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_the_colours_of_jpeg_xr_in_a_czi_are_red_green_blue(tmp_path, dtype):
    """SlideIO gives 16 bits red first and 8 bits blue first."""
    import imagecodecs

    picture = np.broadcast_to(np.array([200, 90, 20], dtype), (64, 64, 3)) * np.array(
        1 if dtype == "uint8" else 100
    )
    picture = picture.astype(dtype)
    data = bytearray(imagecodecs.jpegxr_encode(picture, level=100))
    red_first = data.index(bytes.fromhex("24c3dd6f034efe4bb1853d77768dc9")) + 15
    if dtype == "uint8":
        data[red_first] = 0x0C  # the bytes are in the other order, as Zeiss writes them
        picture = picture[..., ::-1]
    write_czi(tmp_path / "a.czi", [picture])
    replace_block(tmp_path / "a.czi", bytes(data), picture.nbytes, 4)
    found = open_image(tmp_path / "a.czi")
    assert found.colour == "rgb"
    expected = picture if dtype == "uint16" else picture[..., ::-1]
    assert np.array_equal(found.pixels[:, :, :], np.moveaxis(expected, 2, 0))


def replace_block(path, data, size, code):
    """Put other data and the code of their compression into the one block of a CZI."""
    content = bytearray(path.read_bytes())
    at = content.index(b"ZISRAWSUBBLOCK") + 32
    metadata, _, stored = struct.unpack_from("<iiq", content, at)
    assert len(data) <= size == stored
    start = at + max(256, 48 + 20 * struct.unpack_from("<i", content, at + 16 + 28)[0]) + metadata
    struct.pack_into("<q", content, at + 8, len(data))
    content[start : start + len(data)] = data
    for entry in (at + 16, content.rindex(b"DV")):
        struct.pack_into("<i", content, entry + 18, code)
    path.write_bytes(content)


@pytest.mark.parametrize(("code", "name"), [(1, "JPEG"), (2, "LZW"), (77, "method 77")])
def test_a_compression_that_nothing_decodes_is_named(tmp_path, scene, code, name, program):
    plane = scene[0].astype(np.uint16)
    write_czi(tmp_path / "a.czi", [plane])
    replace_block(tmp_path / "a.czi", b"data", plane.nbytes, code)
    done = program("info", tmp_path / "a.czi")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"a.czi: is a Zeiss CZI compressed by {name}, which register does not decode; save" in done.stderr


def test_a_damaged_block_of_a_compressed_czi_is_one_line(tmp_path, scene):
    plane = scene[0].astype(np.uint16)
    write_czi(tmp_path / "a.czi", [plane])
    replace_block(tmp_path / "a.czi", b"no Zstandard", plane.nbytes, 5)
    with pytest.raises(FileError, match=r"a\.czi: cannot be read as an image \([^\n]*(?i:zstd)"):
        open_image(tmp_path / "a.czi").pixels[:, :10, :]


class BlueFirst:
    """A scene of a ZVI in colour, as SlideIO describes it."""

    num_channels = 3

    def __init__(self, names):
        self.names = names

    def get_channel_name(self, number):
        return self.names[number]

    def get_channel_data_type(self, number):
        return np.uint8


@pytest.mark.parametrize(
    ("names", "order"),
    [(("blue", "green", "red"), [2, 1, 0]), (("", "", ""), [0, 1, 2]), (("DAPI", "FITC", "Cy5"), None)],
)
def test_colours_of_other_formats_of_slideio(names, order, tmp_path):
    slide = slideio_read._Slide(tmp_path, slideio_read.FORMATS[1], None, None)
    assert slide.order(BlueFirst(names)) == order


def ets(side=64, chunks=1, missing=0):
    """An ETS file of uncompressed tiles, of which some bytes are missing at the end."""
    tiles = bytes(side * side * chunks)
    second = struct.pack("<4s9I", b"ETS\0", 1, 2, 1, 1, 0, 0, side, side, 1).ljust(228, b"\0")
    table = 64 + len(second)
    first = table + 28 * chunks
    head = struct.pack("<4sIIIQIIQII", b"SIS\0", 64, 2, 2, 64, len(second), 0, table, chunks, 0).ljust(
        64, b"\0"
    )
    size = side * side
    rows = (struct.pack("<IiiQII", 0, n, 0, first + n * size, size, 0) for n in range(chunks))
    content = head + second + b"".join(rows) + tiles
    return content[: len(content) - missing]


def write_vsi(path, described):
    """A VSI, which is also a TIFF of its preview; with one tag of a description of its images or without."""
    tag = (
        struct.pack("<HHIqIIiiiI", 24, 21321, 0, 24, 1, 0, 0x40000006, 2000, 0, 7) if described else bytes(40)
    )
    pixels = RNG.integers(0, 255, (64, 64, 3)).astype(np.uint8).tobytes()
    bits = 8 + len(tag) + len(pixels)
    tags = [(256, 3, 1, 64), (257, 3, 1, 64), (258, 3, 3, bits), (259, 3, 1, 1), (262, 3, 1, 2),
            (273, 4, 1, 8 + len(tag)), (277, 3, 1, 3), (278, 3, 1, 64), (279, 4, 1, len(pixels)),
            (284, 3, 1, 1)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", *each) for each in tags)
    start = struct.pack("<2sHI", b"II", 42, bits + 6)
    content = start + tag + pixels + struct.pack("<3HH", 8, 8, 8, len(tags)) + entries + bytes(4)
    path.write_bytes(content)


BESIDE = {
    "nothing": (None, True, "that has no .ets in it; copy it too"),
    "an empty file": (b"", True, "where frame.ets is empty"),
    "garbage": (b"x", True, "where frame.ets is no ETS file"),
    "a signature": (b"SIS\0".ljust(64, b"\0"), True, "where frame.ets is damaged in its header"),
    "half a table": (ets(chunks=200)[:3000], True, "where frame.ets is cut off"),
    "half a tile": (ets(chunks=4, missing=100), True, "where frame.ets is cut off"),
    "pixels without a description": (
        ets(),
        False,
        "it does not describe that, and holds only a preview itself",
    ),
    "pixels of another image": (ets(), True, "no .ets there holds an image that it describes"),
}
"""What lies beside a VSI, whether the VSI has a description, and what is said."""


@pytest.mark.parametrize(("content", "described", "said"), BESIDE.values(), ids=BESIDE)
def test_the_preview_of_a_vsi_is_never_read_in_place_of_its_pixels(
    tmp_path, program, content, described, said
):
    pytest.importorskip("slideio")
    write_vsi(tmp_path / "a.vsi", described)
    if content is not None:
        (tmp_path / "_a_" / "stack1").mkdir(parents=True)
        (tmp_path / "_a_" / "stack1" / "frame.ets").write_bytes(content)
    done = program("info", tmp_path / "a.vsi")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "a.vsi: is an Olympus VSI, of which the pixels lie in the folder beside it" in done.stderr
    assert said in done.stderr
    assert "copy" in done.stderr


DAMAGES = {
    "beyond the end": (84, "<q", 10**9, "outside of the file"),
    "not a directory": (84, "<q", 544, "not where the file says"),
    "no dimensions": (-28, "<i", 0, "has 0 dimensions"),
    "an axis without a name": (-92, "<i", 1, "axis without a name"),
    "a plane far away": (-96, "<i", 10**8, "places along Z"),
    "a plane of many": (-100, "<i", 45, "has 45 elements from 0 along Z"),
    "a plane too wide": (-40, "<i", 2**30, "has 1073741824 elements from 0 along X"),
}
"""The byte at which a CZI of two planes is damaged (negative: in the last entry of its directory), the value
written there, and what is said."""


@pytest.mark.parametrize(("place", "kind", "value", "said"), DAMAGES.values(), ids=DAMAGES)
def test_the_directory_of_a_czi_is_checked(tmp_path, scene, place, kind, value, said):
    """SlideIO does not end on some of these."""
    pytest.importorskip("slideio")
    czi = pytest.importorskip("pylibCZIrw.czi", reason="pylibCZIrw writes the file")
    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        for c in range(2):
            file.write(scene[c].astype(np.uint16)[..., None], plane={"C": c, "Z": 0, "T": 0}, location=(0, 0))
    content = bytearray((tmp_path / "a.czi").read_bytes())
    if place < 0:
        place = content.rindex(b"DV") - place
    struct.pack_into(kind, content, place, value)
    (tmp_path / "a.czi").write_bytes(content)
    with pytest.raises(FileError, match=said):
        open_image(tmp_path / "a.czi")


@pytest.mark.parametrize(
    ("program", "said"),
    [("import os; os.abort()", "SlideIO ends with"), ("while True: pass", "does not open it in 1 s")],
)
def test_a_file_on_which_slideio_ends_the_process_is_damaged(tmp_path, monkeypatch, program, said):
    monkeypatch.setattr(slideio_probe, "PROGRAM", program)
    monkeypatch.setattr(slideio_probe, "SECONDS", 1)
    (tmp_path / "a.zvi").write_bytes(b"anything")
    assert said in slideio_probe.fault(tmp_path / "a.zvi", "ZVI")
    monkeypatch.setattr(slideio_probe, "PROGRAM", "raise ValueError")
    (tmp_path / "b.zvi").write_bytes(b"anything")
    assert slideio_probe.fault(tmp_path / "b.zvi", "ZVI") is None


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__.split(".")[-1])
def test_without_its_library_a_format_is_named_with_the_way_out(tmp_path, monkeypatch, program, reader):
    real = importlib.import_module

    def missing(name, *rest):
        if name.split(".")[0] in ("openslide", "slideio", "h5py", "nd2", "liffile", "oiffile", "astropy"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr("register.io.images.regions.import_module", missing)
    for known in reader.FORMATS:
        for suffix in known.suffixes:
            path = tmp_path / f"slide{suffix}"
            path.write_bytes(known.magic or b"anything")
            done = program("info", path)
            assert done.returncode == 1
            assert done.stderr.startswith(f"error: {path}: is {known.name}")
            assert done.stderr.count("\n") == 1
            assert known.advice in done.stderr
            assert ("pip install 'register-cli[" in done.stderr) == (reader is not instruments)
        if known.magic:
            (tmp_path / "renamed.dat").write_bytes(known.magic.ljust(40, b"\0"))
            with pytest.raises(FileError, match=known.name):
                open_image(tmp_path / "renamed.dat")


@pytest.mark.parametrize("reader", READERS[:6], ids=lambda reader: reader.__name__.split(".")[-1])
def test_damaged_files_are_refused_in_one_line(tmp_path, program, reader):
    library = {"openslide_read": "openslide", "slideio_read": "slideio", "imaris": "h5py", "nikon": "nd2",
               "leica": "liffile", "olympus": "oiffile"}  # fmt: skip
    pytest.importorskip(library[reader.__name__.split(".")[-1]])
    for known in reader.FORMATS:
        for suffix in known.suffixes:
            for content in (b"x", known.magic + RNG.bytes(3000)):
                (tmp_path / f"slide{suffix}").write_bytes(content)
                done = program("info", tmp_path / f"slide{suffix}")
                assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
                assert f"slide{suffix}: " in done.stderr
