"""TIFF at its limits: where files end, what is stored how, and what pages state."""

import struct
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from register.errors import FileError
from register.geometry.pixel_size import PixelSize
from register.images.pixels import EVERYTHING
from register.io.images import (
    openslide_read,
    tiff_blocks,
    tiff_colours,
    tiff_extent,
    tiff_metadata,
    tiff_pixels,
    tiff_tags,
    tiff_vendors,
    tiff_write,
)
from register.io.images.instrument_format import Format
from register.io.images.model import Image, Selection
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
    for end in range(4, len(whole)):
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
    for wrong in (3, -1):
        with pytest.raises(FileError, match=f"has no series {wrong}; it has 2, from 0"):
            open_image(tmp_path / "b.tif", Selection(series=wrong))
    with pytest.raises(FileError, match="has no level 2; it has 2, from 0"):
        open_image(tmp_path / "a.tif", Selection(level=2))


# --- writing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width", "big"), [(2**16, 65024, False), (2**16, 65025, True)])
def test_files_of_almost_4_gib_are_bigtiff(tmp_path, monkeypatch, height, width, big):
    """A TIFF holds 4 GiB; 32 MiB of them are left to directories and metadata."""
    assert (2**32 - height * width >= 2**25) == (not big)
    asked = []

    class Stopped(Exception):
        pass

    def writer(path, **options):
        asked.append(options["bigtiff"])
        raise Stopped

    monkeypatch.setattr(tifffile, "TiffWriter", writer)
    pixels = np.broadcast_to(np.zeros((), np.uint8), (1, height, width))
    with pytest.raises(Stopped):
        tiff_write.write(tmp_path / "a.tif", Image(pixels))
    with pytest.raises(Stopped):  # with levels it is a third larger
        tiff_write.write(tmp_path / "a.tif", Image(pixels[:, : 3 * height // 4 + 99]), pyramid=True)
    assert asked == [big, True]


def test_four_blocks_are_computed_ahead():
    from concurrent.futures import ThreadPoolExecutor

    begun = []

    class Counted:
        def __getitem__(self, key):
            begun.append(key[1].start)
            return np.zeros((1, 4, 4))

    windows = iter([(slice(n, n + 4), slice(0, 4)) for n in range(0, 40, 4)])
    with ThreadPoolExecutor(1) as pool:
        next(tiff_blocks.computed(pool, Counted(), slice(0, 1), windows))
    assert begun == [0, 4, 8, 12, 16]


@pytest.mark.parametrize("dtype", [np.uint32, np.int32, np.int8, np.float64])
def test_means_of_large_values_are_exact(dtype):
    block = (np.random.default_rng(0).uniform(0, 1, (1, 6, 8)) * (100 if dtype == np.int8 else 2e9)).astype(
        dtype
    )
    wanted = block.reshape(1, 3, 2, 4, 2).astype(np.float64).mean((2, 4))
    found = tiff_blocks.smaller_block(block, sampled=False)
    assert found.dtype == dtype
    wanted = wanted if dtype == np.float64 else np.rint(wanted)
    assert np.abs(found.astype(np.float64) - wanted).max() <= 1e-6


@pytest.mark.parametrize("field", ["palette", "bits", "nearest", "mean"])
def test_levels_of_indices_and_bits_are_sampled(tmp_path, field):
    pixels = noise((1, 600, 700))
    image = {
        "palette": Image(pixels, colour="palette", palette=noise((3, 256), np.uint16)),
        "bits": Image(pixels > 99),
    }.get(field, Image(pixels))
    tiff_write.write(tmp_path / "a.tif", image, pyramid=True, nearest=field == "nearest")
    found = open_image(tmp_path / "a.tif")
    wanted = tiff_blocks.smaller_block(np.asarray(image.pixels), sampled=field != "mean")
    assert np.array_equal(found.smaller[0][EVERYTHING], wanted)
    assert np.array_equal(found.pixels[EVERYTHING], image.pixels)


def test_a_tile_beyond_64_million_pixels_is_damage(tmp_path):
    for length, whole in ((2**13, True), (2**13 + 16, False)):
        tifffile.imwrite(tmp_path / "a.bif", noise((40, 40)), tile=(16, 16))
        with tifffile.TiffFile(tmp_path / "a.bif", mode="r+") as tif:
            tif.pages[0].tags[322].overwrite(2**13)
            tif.pages[0].tags[323].overwrite(length)
        if whole:
            openslide_read._check_tiles(tmp_path / "a.bif", Format("a slide", ()))
            continue
        with pytest.raises(FileError, match="is a slide with tiles of 67239936 pixels: it is damaged"):
            openslide_read._check_tiles(tmp_path / "a.bif", Format("a slide", ()))


# --- what pages state ------------------------------------------------------------------------------------


def test_the_position_of_all_planes_is_written(tmp_path):
    image = Image(noise((3, 4, 5)), kind="ome", position=(1.5, 2.5, "µm"), pixel_size=PixelSize(1, 2, "µm"))
    tiff_write.write(tmp_path / "a.ome.tif", image)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        text = tif.ome_metadata
    assert text.count('PositionX="1.5"') == text.count('PositionY="2.5"') == 3
    assert read_image(tmp_path / "a.ome.tif").position == (1.5, 2.5, "µm")
    one = Image(noise((4, 5, 3)).transpose(2, 0, 1), kind="ome", colour="rgb", position=(1.5, 2.5, "µm"))
    tiff_write.write(tmp_path / "b.ome.tif", one)
    with tifffile.TiffFile(tmp_path / "b.ome.tif") as tif:
        assert tif.ome_metadata.count('PositionX="1.5"') == 1


def test_metadata_of_gdal_come_back(tmp_path):
    xml = '<GDALMetadata><Item name="season">sprïng</Item></GDALMetadata>'
    tiff_write.write(tmp_path / "a.tif", Image(noise((1, 4, 5)), gdal=xml, nodata=0.1))
    found = read_image(tmp_path / "a.tif")
    assert (found.gdal, found.nodata) == (xml, 0.1)


def test_the_scale_along_z_and_further_tie_points_of_a_coarser_level():
    def tag(code, value):
        return SimpleNamespace(code=code, dtype=12, count=len(value), value=value)

    page = SimpleNamespace()
    page.tags = {
        33550: tag(33550, (10.0, 20.0, 5.0)),
        33922: tag(33922, (2.0, 4.0, 6.0, 100.0, 200.0, 300.0, 8.0, 16.0, 7.0, 1.0, 2.0, 3.0)),
        34264: tag(34264, tuple(float(n) for n in range(1, 17))),
    }
    scale, tie, matrix = (each[3] for each in tiff_metadata.geotags(page, (2, 4)))
    assert scale == (20, 80, 5)
    assert tie == (1, 1, 6, 100, 200, 300, 4, 4, 7, 1, 2, 3)
    assert matrix == (2, 8, 3, 4, 10, 24, 7, 8, 18, 40, 11, 12, 26, 56, 15, 16)


def test_channels_of_a_qptiff_up_to_200_pages():
    def page(number):
        text = f"<PerkinElmer><Name>stain {number}</Name><Color>{number},0,0</Color></PerkinElmer>"
        own = SimpleNamespace(description=text)
        own.aspage = lambda: own
        return own

    for count, known in ((1, True), (200, True), (201, False)):
        series = SimpleNamespace(pages=[page(n) for n in range(count)])
        stated = tiff_vendors._qpi(None, series)
        assert len(stated.names) == len(stated.colours) == (count if known else 0)


@pytest.mark.parametrize(
    ("x", "y", "known"),
    [(1, 2, True), (0, 2, False), (1, 0, False), (-1, 2, False), (1e6, 2, False), (1, 1e6, False)],
)
def test_sizes_of_pixels_are_more_than_zero_and_less_than_a_metre(x, y, known):
    assert (tiff_vendors._size(x, y) is not None) == known


def test_tables_that_show_values():
    grey = np.stack([np.arange(256, dtype=np.uint16) * 257] * 3)
    red = grey * np.array([[1], [0], [0]], np.uint16)
    assert tiff_colours._is_display(red, np.dtype(np.uint8))
    assert not tiff_colours._is_display(red, np.dtype(np.uint16))
    assert not tiff_colours._is_display(red[:, :16], np.dtype(np.uint8))
    assert tiff_colours._is_display(np.repeat(red, 256, 1), np.dtype(np.uint16))
    assert not tiff_colours._is_display(grey, np.dtype(np.uint8))
    assert not tiff_colours._is_display(grey[:, ::-1], np.dtype(np.uint8))
    assert tiff_colours._full(red[:, :16]).shape == (3, 256)
    assert tiff_colours._full(np.repeat(red, 2, 1)[:, :257]).shape == (3, 65536)
    for channels, dtype, shown in ((1, np.uint8, True), (2, np.uint8, False), (1, np.uint16, False)):
        image = Image(noise((channels, 4, 4), dtype), lut=red)
        assert (tiff_tags._display(image) is not None) == shown


def test_rows_that_are_left_of_an_image_that_is_stored_rotated(tmp_path):
    assert tiff_extent.rows_within(tmp_path, [1], 10, allow_truncated=True).rows == 1
    tifffile.imwrite(tmp_path / "a.tif", noise((40, 30)), extratags=[(274, 3, 1, 6, True)])
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[:-300])
    with pytest.raises(FileError, match="is cut off: its rows are stored rotated"):
        open_image(tmp_path / "a.tif", Selection(allow_truncated=True))
