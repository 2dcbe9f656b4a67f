"""PNG, JPEG, JPEG 2000 and Netpbm at their limits: one less, exact, one more."""

import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Pillow

from register.errors import FileError
from register.io.images import jpeg2000, png, raster
from register.io.images.model import Image, Selection
from register.io.images.open import aligned_name, open_header, open_image, read_image, write_image
from register.io.images.raster_header import header
from register.io.images.reader import ImageReader
from register.io.images.storable import check_png
from register.registries import READERS


def noise(shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_header(width, height, depth, colour):
    return png.MAGIC + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def test_a_reader_is_given_the_first_32_bytes_of_a_file(tmp_path):
    (tmp_path / "a.toy").write_bytes(b"toy" + bytes(range(90)))
    seen = []

    def matches(path, head):
        seen.append(head)
        return head.startswith(b"toy")

    READERS.add("toy", ImageReader("toy", matches, lambda path, selection: Image(noise((1, 4, 5)))))
    try:
        assert open_image(tmp_path / "a.toy").size == (4, 5)
    finally:
        READERS.remove("toy")
    assert seen[0] == b"toy" + bytes(range(29))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_png_of_16_bits_has_its_channels_in_its_header(tmp_path, channels):
    pixels = noise((9, 7, channels) if channels > 1 else (9, 7), np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))
    known, read = header(tmp_path / "a.png", Selection()), read_image(tmp_path / "a.png")
    assert np.array_equal(np.squeeze(np.moveaxis(read.pixels, 0, 2)), pixels)
    for found in (known, read):
        assert (found.pixels.shape, found.dtype, found.kind) == ((channels, 9, 7), np.uint16, "png")
        assert found.colour == ("rgb" if channels > 2 else "grey")
        assert found.alpha == (channels in (2, 4))
    assert known.pixels.strides == (0, 0, 0)  # nothing is decoded


def test_a_png_that_is_cut_off_in_its_header_is_none_of_16_bits():
    head = png_header(9, 7, 16, 2)
    assert png.is_deep(head)
    assert png.is_deep(head[:26])  # the type of its colours is the 26th byte
    assert not png.is_deep(head[:25])
    assert not png.is_deep(png_header(9, 7, 8, 2))


@pytest.mark.parametrize("length", [8, 24, 25, 26, 33, 40])
def test_a_png_that_is_cut_off_is_one_error(tmp_path, length):
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(noise((9, 7, 3), np.uint16))[:length])
    for function in (open_image, open_header, read_image):
        if (function, length) in ((open_header, 26), (open_header, 33), (open_header, 40)):
            assert function(tmp_path / "a.png").size is not None  # the header is whole enough
            continue
        with pytest.raises(FileError, match=r"a\.png: "):
            function(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("turned", range(1, 9))
def test_a_header_knows_the_sides_of_a_turned_picture(tmp_path, suffix, turned):
    exif = Pillow.Exif()
    exif[0x0112] = turned
    Pillow.fromarray(noise((9, 7))).save(tmp_path / f"a{suffix}", exif=exif)
    known = header(tmp_path / f"a{suffix}", Selection())
    assert known.size == raster.read(tmp_path / f"a{suffix}", Selection()).size
    assert known.size == ((9, 7) if turned < 5 else (7, 9))


EXIF = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
"""EXIF of one entry: the picture is turned by a quarter."""
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>'
BEHIND = {
    "eXIf": chunk(b"eXIf", EXIF),
    "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    "a profile as text": chunk(
        b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n %d\n" % (len(EXIF) + 6)
                                                             + (b"Exif\0\0" + EXIF).hex().encode())
    ),
    "other text": chunk(b"tEXt", b"Comment\0XML:com.adobe.xmp"),
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize(("behind", "turned"), [(x, x not in ("other text", "nothing")) for x in BEHIND])
def test_an_orientation_behind_the_pixels_is_found(tmp_path, behind, turned):
    """Only decoding finds it, so such a file is decoded for its header."""
    made = imagecodecs.png_encode(noise((9, 7)))
    (tmp_path / "a.png").write_bytes(made[:-12] + BEHIND[behind] + made[-12:])
    known, read = (function(tmp_path / "a.png", Selection()) for function in (header, raster.read))
    assert known.size == read.size == ((7, 9) if turned else (9, 7))
    assert (known.pixels.strides == (0, 0, 0)) == (not turned)


def test_a_grey_png_with_a_transparent_value_has_opacity(tmp_path):
    picture = Pillow.fromarray(np.array([[3, 4], [5, 3]], np.uint8))
    picture.save(tmp_path / "a.png", transparency=3)
    known, read = (function(tmp_path / "a.png", Selection()) for function in (header, raster.read))
    assert (known.channels, known.extra) == (read.channels, read.extra) == (2, (2,))
    assert read.pixels[1].tolist() == [[0, 255], [255, 0]]


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"RIFF\1\0\0\0WEBPVP8 ", True),
        (b"RIFF\1\0\0\0WAVEfmt ", False),
        (b"RIFX\1\0\0\0WEBPVP8 ", False),
        (b"GIF89a", True),
        (b"\xff\x4f\xff\x51\0\0", True),
        (b"P5\n1 1", True),
        (b"P5x1 1", False),
        (b"P7\n1 1", False),
    ],
)
def test_formats_by_their_first_bytes(tmp_path, head, found):
    assert raster.matches(tmp_path, head) == found


def test_pixels_of_more_than_two_gigabytes_are_not_decoded_at_once(tmp_path, monkeypatch):
    needed = []
    monkeypatch.setattr(raster, "check_memory", lambda path, size, advice: needed.append(size))
    raster._check_size(tmp_path, 2**16, 2**15, 1)
    raster._check_size(tmp_path, 2**14, 2**15, 4)
    for size in ((2**16, 2**15 + 1, 1), (2**14, 2**15, 5)):
        with pytest.raises(FileError, match=f"is {size[0]} × {size[1]} pixels, too large for a format"):
            raster._check_size(tmp_path, *size)
    assert len(needed) == 2


@pytest.mark.parametrize(("channels", "copies"), [(1, (1, 1, 1, 1)), (3, (4, 4, 3, 3, 3))])
def test_the_memory_in_which_a_picture_is_decoded(tmp_path, monkeypatch, channels, copies):
    """Pillow's picture and its upright copy, of one or four bytes, and copies of all channels as arrays."""
    needed = []
    monkeypatch.setattr(raster, "check_memory", lambda path, size, advice: needed.append(size))
    png.write(tmp_path / "a.png", noise((channels, 9, 7)), None)
    raster.read(tmp_path / "a.png", Selection())
    assert needed == [9 * 7 * sum(copies)]


@pytest.mark.parametrize("kind", ["png", "ppm", "pgm", "jp2"])
def test_colours_of_16_bits_count_as_four_values_of_two_bytes(tmp_path, monkeypatch, kind):
    pixels = noise((5, 6) if kind == "pgm" else (5, 6, 3), np.uint16)
    encoded = {"png": imagecodecs.png_encode, "jp2": lambda x: imagecodecs.jpeg2k_encode(x, level=0)}
    content = b"P%d 6 5 65535\n" % (5 if kind == "pgm" else 6) + pixels.astype(">u2").tobytes()
    (tmp_path / "a").write_bytes(encoded[kind](pixels) if kind in encoded else content)
    bytes_each = {"png": 8, "jp2": 8, "ppm": 12, "pgm": 4}[kind]
    monkeypatch.setattr(raster, "LARGEST", 5 * 6 * bytes_each)
    read = raster.read(tmp_path / "a", Selection())
    assert np.array_equal(np.squeeze(np.moveaxis(read.pixels, 0, 2)), pixels)
    assert (read.colour, read.kind) == (
        "grey" if kind == "pgm" else "rgb",
        "png" if kind == "png" else "other",
    )
    monkeypatch.setattr(raster, "LARGEST", 5 * 6 * bytes_each - 1)
    with pytest.raises(FileError, match="is 6 × 5 pixels, too large"):
        raster.read(tmp_path / "a", Selection())


@pytest.mark.parametrize(("channels", "colour"), [(1, "grey"), (2, "grey"), (3, "rgb"), (4, "rgb")])
def test_channels_of_a_deep_jpeg_2000(tmp_path, channels, colour):
    pixels = noise((9, 7, channels) if channels > 1 else (9, 7), np.uint16)
    (tmp_path / "a.jp2").write_bytes(imagecodecs.jpeg2k_encode(pixels, level=0))
    found = read_image(tmp_path / "a.jp2")
    assert (found.channels, found.colour) == (channels, colour)
    assert np.array_equal(np.squeeze(np.moveaxis(found.pixels, 0, 2)), pixels)


@pytest.mark.parametrize(
    ("depths", "deep"),
    [((7,), False), ((8,), True), ((0x87,), True), ((7, 8), True), ((7,) * 256 + (8,), True)],
)
def test_the_sizes_that_a_jpeg_2000_states(tmp_path, depths, deep):
    """Depths are stored less one, the highest bit is the sign; the image begins at an offset of its grid."""
    fields = struct.pack(">HHIIII", 0, 0, 107, 259, 7, 59) + bytes(16) + struct.pack(">H", len(depths))
    components = b"".join(bytes((depth, 1, 1)) for depth in depths)
    (tmp_path / "a.j2k").write_bytes(b"\xff\x4f\xff\x51" + fields + components + b"\x08\xff\xff\xff")
    assert jpeg2000.size(tmp_path / "a.j2k") == (100, 200)
    assert jpeg2000.is_deep(tmp_path / "a.j2k") == deep


@pytest.mark.parametrize("width", [1, 7, 8, 9, 16, 17])
def test_rows_of_bits_fill_whole_bytes(tmp_path, width):
    wanted = noise((3, width)) > 127
    packed = np.packbits(~wanted, axis=1).tobytes()
    (tmp_path / "a.pbm").write_bytes(b"P4\n%d 3\n" % width + packed)
    assert np.array_equal(read_image(tmp_path / "a.pbm").pixels[0], wanted)
    (tmp_path / "a.pbm").write_bytes((b"P4\n%d 3\n" % width + packed)[:-1])
    with pytest.raises(FileError, match="its pixels are incomplete"):
        read_image(tmp_path / "a.pbm")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"P1 2 1 12", "larger than the largest"),
        (b"P1 2 1 1", "incomplete"),
        (b"P5 0 5 255\n", "without pixels .0 × 5."),
        (b"P5 5 0 255\n", "without pixels .5 × 0."),
        (b"P6 2 1 255\n" + bytes(5), "incomplete"),
    ],
)
def test_netpbm_of_wrong_or_no_values(tmp_path, content, said):
    (tmp_path / "a.pnm").write_bytes(content)
    with pytest.raises(FileError, match=said):
        open_image(tmp_path / "a.pnm")


@pytest.mark.parametrize("content", [b"P2 3 1 255\n0 1 255", b"P5 3 1 255\n\0\1\xff"])
def test_netpbm_holds_0_and_its_largest_value(tmp_path, content):
    (tmp_path / "a.pgm").write_bytes(content)
    assert read_image(tmp_path / "a.pgm").pixels.tolist() == [[[0, 1, 255]]]


def test_a_side_of_more_than_16_million_pixels_is_a_damaged_size(tmp_path):
    (tmp_path / "a.png").write_bytes(png_header(2**24, 1, 16, 0))
    assert open_header(tmp_path / "a.png").size == (1, 2**24)
    (tmp_path / "a.png").write_bytes(png_header(1, 2**24 + 1, 16, 0))
    with pytest.raises(FileError, match="states a size of 1 × 16777217 pixels"):
        open_header(tmp_path / "a.png")


def test_chunks_of_a_png_that_ends_in_one():
    data = png_header(9, 7, 8, 0)
    assert [name for name, _ in png._chunks(data + chunk(b"IDAT", b"x"))] == [b"IHDR"]
    assert png._chunks(data + chunk(b"tEXt", b"abc"))[1:] == [(b"tEXt", b"abc")]
    assert png._chunks(data + chunk(b"IEND", b"")[:8])[1:] == [(b"IEND", b"")]


@pytest.mark.parametrize("entries", [256, 65536])
def test_a_table_of_256_entries_is_stored_in_a_png(tmp_path, entries):
    values = np.arange(entries) * 65535 // (entries - 1)
    table = np.stack([values, values * 0, values * 0]).astype(np.uint16)
    image = Image(noise((1, 5, 6), np.uint8 if entries == 256 else np.uint16), kind="png", lut=table)
    raster.write_png(tmp_path / "a.png", image)
    again = read_image(tmp_path / "a.png")
    assert np.array_equal(again.pixels, image.pixels)
    assert (again.lut is not None) == (entries == 256)


def test_names_of_channels_in_a_message_are_eight_at_most():
    names = tuple(f"stain {n}" for n in range(9))
    for count, shown in ((9, names[:8]), (8, names[:8]), (7, names[:7])):
        image = Image(noise((count, 4, 4)), channel_names=names[:count])
        with pytest.raises(FileError) as error:
            check_png("a.png", image, "advice")
        assert f"not {count} grey channels ({', '.join(shown)})" in str(error.value)
    with pytest.raises(FileError, match="not 1 cmyk channel;"):
        check_png("a.png", Image(noise((1, 4, 4)), colour="cmyk"), "advice")
    with pytest.raises(FileError, match="PNG cannot hold 2 channels of bool"):
        check_png("a.png", Image(noise((2, 4, 4)) > 9), "advice")
    check_png("a.png", Image(noise((1, 4, 4)) > 9), "advice")
    check_png("a.png", Image(noise((2, 4, 4)), extra=(2,)), "advice")
    check_png("a.png", Image(noise((4, 4, 4)), colour="rgb", extra=(2,)), "advice")
    check_png("a.png", Image(noise((1, 4, 4)), colour="inverted"), "advice")


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.ome.png"])
def test_names_of_images_that_are_not_written(tmp_path, name):
    said = "has not the ending of a format that register writes; "
    said += "use .ome.tif, .ome.tiff, .tif, .tiff, .btf, .png, .ome.zarr or .zarr"
    if name.endswith(".ome.png"):
        said = "has the ending .ome.png, and PNG holds no OME metadata; name a .ome.tif or .png"
    with pytest.raises(FileError) as error:
        write_image(tmp_path / name, Image(noise((1, 4, 5))))
    assert str(error.value) == f"{tmp_path / name}: {said}"


def test_names_of_aligned_images():
    grey = Image(noise((4, 5, 6)), kind="png")
    assert aligned_name(grey) == "aligned.png"
    assert aligned_name(Image(noise((5, 5, 6)), kind="png")) == "aligned.tif"
    assert aligned_name(Image(noise((1, 5, 6)), channel_colours=(7,))) == "aligned.tif"
    assert aligned_name(Image(noise((2, 5, 6)), channel_colours=(7, 8))) == "aligned.ome.tif"
    assert aligned_name(Image(noise((1, 5, 6)), channel_names=("a",), gdal="<a/>")) == "aligned.tif"
    assert aligned_name(Image(noise((1, 5, 6)), lut=noise((3, 256), np.uint16))) == "aligned.ome.tif"
