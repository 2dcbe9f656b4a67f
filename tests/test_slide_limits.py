"""CZI, ETS and FITS at their limits: what their tables state, and where their pixels end."""

import gzip
import struct
from types import SimpleNamespace

import numpy as np
import pytest

from register.errors import FileError
from register.io.images import czi_directory, czi_pixels, fits, regions, slideio_read, vsi_pixels
from register.io.images.instrument_format import Format
from register.io.images.model import Selection
from register.io.images.open import describe_file, open_image

KIND = Format("a slide", ())


def directory(entries, length=None):
    """A CZI with nothing but its directory: entries of (type of pixels, compression, dimensions)."""
    content = b"".join(
        b"DV" + struct.pack("<i", kind).ljust(16, b"\1") + struct.pack("<i", compression).ljust(10, b"\1")
        + struct.pack("<i", count) + struct.pack("<4siiii", b"X", 0, 9, 0, 0) * count
        for kind, compression, count in entries
    )  # fmt: skip
    body = struct.pack("<i", len(entries)).ljust(128, b"\0") + content
    stated = len(body) if length is None else length
    segment = b"ZISRAWDIRECTORY".ljust(16, b"\0") + struct.pack("<q", stated).ljust(16, b"\0") + body
    return b"ZISRAWFILE".ljust(84, b"\0") + struct.pack("<q", 92) + segment + bytes(160)


def test_types_and_compressions_of_the_blocks_of_a_czi(tmp_path):
    (tmp_path / "a.czi").write_bytes(directory([(3, 4, 1), (1, 70_000, 3), (8, 0, 40)]))
    found = czi_directory.check(tmp_path / "a.czi")
    assert (found.types, found.compressions) == ({1, 3, 8}, {0, 4, 70_000})


def test_a_czi_without_blocks(tmp_path):
    (tmp_path / "a.czi").write_bytes(directory([]))
    assert czi_directory.check(tmp_path / "a.czi").types == set()
    (tmp_path / "a.czi").write_bytes(directory([], 127))
    with pytest.raises(FileError, match="not where the file says"):
        czi_directory.check(tmp_path / "a.czi")


@pytest.mark.parametrize(
    ("left", "said"),
    [(1, "is not one"), (31, "is not one"), (32, "has 1 dimensions"), (51, "has 1 dimensions"), (52, None)],
)
def test_a_czi_whose_directory_ends_in_an_entry(tmp_path, left, said):
    (tmp_path / "a.czi").write_bytes(directory([(3, 4, 1)], 128 + left))
    if said is None:
        assert czi_directory.check(tmp_path / "a.czi").types == {3}
        return
    with pytest.raises(FileError, match=f"entry 0( of 1)? {said}"):
        czi_directory.check(tmp_path / "a.czi")


def test_the_plane_of_a_czi_without_depths_and_times_is_the_first(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(czi_pixels, "open_plane", lambda *given: asked.append(given))
    slide = slideio_read._Slide(tmp_path, KIND, None, czi_directory.Blocks(frozenset({1}), frozenset({5})))
    size = SimpleNamespace(size=SimpleNamespace(width=9, height=7))
    one = scene("a", dtype=np.uint16)
    one.rect, one.get_zoom_level_info = (5, 6, 9, 7), lambda level: size
    for chosen, plane in (({}, {"Z": 0, "T": 0}), ({"Z": 2}, {"Z": 2, "T": 0}), ({"T": 3}, {"Z": 0, "T": 3})):
        (level,) = slideio_read._levels(slide, one, range(1), chosen, [0])
        assert (level.shape, level.dtype) == ((1, 7, 9), np.uint16)
        assert asked.pop() == (tmp_path, KIND, (5, 6, 9, 7), plane, 1)


def test_the_length_of_the_directory_of_a_czi(tmp_path):
    whole = directory([(3, 4, 1)])
    for length, said in (
        (0, "not where the file says"),
        (len(whole) - 92, None),
        (len(whole) - 91, "not where the file says"),
        (-1, "not where the file says"),
    ):
        (tmp_path / "a.czi").write_bytes(directory([(3, 4, 1)], length))
        if said is None:
            czi_directory.check(tmp_path / "a.czi")
            continue
        with pytest.raises(FileError, match=said):
            czi_directory.check(tmp_path / "a.czi")
    for content, said in (
        (whole[:92], "is outside of the file"),
        (whole[:91], "it ends in its header"),
        (whole[:84] + struct.pack("<q", 1) + whole[92:], "not where the file says"),
        (whole[:84] + struct.pack("<q", len(whole) - 161) + whole[92:], "not where"),
    ):
        (tmp_path / "a.czi").write_bytes(content)
        with pytest.raises(FileError, match=said):
            czi_directory.check(tmp_path / "a.czi")


@pytest.mark.parametrize(
    ("code", "name"),
    [(0, None), (1, "JPEG"), (2, "LZW"), (3, "method 3"), (4, None), (5, None), (6, None), (7, "method 7")],
)
def test_compressions_of_a_czi_by_their_codes(tmp_path, code, name):
    if name is None:
        czi_pixels.check_compressions(tmp_path, KIND, frozenset({0, code}))
        return
    with pytest.raises(FileError, match=f"is a slide compressed by {name}, which register does not decode"):
        czi_pixels.check_compressions(tmp_path, KIND, frozenset({0, code}))


def scene(*names, dtype=np.uint8):
    return SimpleNamespace(num_channels=len(names), get_channel_name=names.__getitem__,
                           get_channel_data_type=lambda number: dtype)  # fmt: skip


@pytest.mark.parametrize("kind", range(15))
def test_types_of_pixels_of_a_czi_that_are_colours(tmp_path, kind):
    """Bgr24, Bgr48 and Bgr96Float."""
    slide = slideio_read._Slide(tmp_path, KIND, None, czi_directory.Blocks(frozenset({kind}), frozenset({0})))
    assert slide.order(scene("a:1", "a:2", "a:3")) == ([2, 1, 0] if kind in (3, 4, 8) else None)
    assert slide.order(scene("a:1", "b:2", "a:3")) is None
    assert slide.order(scene("a", "a", "a")) is None
    assert slide.order(scene("a:1", "a:2")) is None


@pytest.mark.parametrize("kind", [3, 4])
@pytest.mark.parametrize("codes", [{0}, {4}, {0, 4}, {5}, {6}, {0, 5}])
def test_what_slideio_decodes(tmp_path, kind, codes):
    slide = slideio_read._Slide(
        tmp_path, KIND, None, czi_directory.Blocks(frozenset({kind}), frozenset(codes))
    )
    assert slide.decoded == (codes <= {0, 4} and not (kind == 4 and 4 in codes))
    assert slideio_read._Slide(tmp_path, KIND, None, None).decoded


def ets(dimensions=2, chunks=2, size=64, second=64, ends=0):
    """An ETS file with its table of chunks at its end, and tiles of 50 bytes before it."""
    table = 64 + 3 + 50 * chunks
    head = struct.pack("<4sIIIQIIQII", b"SIS\0", size, 2, dimensions, second, 9, 0, table, chunks, 0)
    head = head.ljust(64, b"\0") + b"ETS" + bytes(50 * chunks)
    for n in range(chunks):
        place = 67 + 50 * n + (ends if n == chunks - 1 else 0)
        head += bytes(4 * (dimensions + 1)) + struct.pack("<QII", place, 50, 0)
    return head


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (ets(), None),
        (ets(dimensions=1), None),
        (ets(dimensions=16), None),
        (ets(dimensions=17), "is damaged in its header"),
        (ets(dimensions=0), "is damaged in its header"),
        (ets(size=65), "is damaged in its header"),
        (ets(second=65), "is damaged in its header"),
        (ets(second=10**6), "is cut off"),
        (ets(chunks=0), None),
        (ets()[:-1], "is cut off"),
        (ets(ends=2 * 28 + 50), "is cut off"),
        (ets(ends=2 * 28), None),
        (ets(ends=2 * 28 + 1), "is cut off"),
        (ets()[:47], "is no ETS file"),
        (ets()[:48], "is cut off"),
        (b"", "is empty"),
    ],
)
def test_the_tables_of_an_ets_file(tmp_path, content, said):
    (tmp_path / "a.ets").write_bytes(content)
    assert vsi_pixels._fault(tmp_path / "a.ets") == said


def test_what_a_library_says_is_cut():
    assert regions.why(ValueError("x" * 200)) == "x" * 200
    assert regions.why(ValueError("x" * 201)) == "x" * 200


# --- FITS ------------------------------------------------------------------------------------------------


def test_series_of_a_fits_file(tmp_path):
    made = pytest.importorskip("astropy.io.fits")
    rng = np.random.default_rng(0)
    units = [made.PrimaryHDU(), made.ImageHDU(rng.integers(0, 9, (4, 5)).astype(np.int16)),
             made.ImageHDU(rng.integers(0, 9, 99).astype(np.int16)), made.ImageHDU(rng.random((3, 6, 7))),
             made.ImageHDU(rng.integers(0, 9, (2, 1, 2, 2, 9)).astype(np.uint8))]  # fmt: skip
    units[1].header["BLANK"] = 7
    made.HDUList(units).writeto(tmp_path / "a.fits")
    known = describe_file(tmp_path / "a.fits")
    assert (known.axes, known.levels) == ("ZYX", 1)
    assert [(each.axes, each.shape, each.dtype, each.levels) for each in known.series] == [
        ("YX", (4, 5), "float32", 1), ("ZYX", (3, 6, 7), "float64", 1)]  # fmt: skip
    found = open_image(tmp_path / "a.fits", Selection(plane="Z=1"))
    assert np.array_equal(found.pixels[:, :, :][0], units[3].data[1])
    assert (found.notes, found.nodata) == (("series 1 of 2 was read, the largest",), None)
    first = open_image(tmp_path / "a.fits", Selection(series=0))
    assert (first.notes, first.nodata, first.pixel_size) == ((), None, None)
    assert np.array_equal(np.isnan(first.pixels[:, :, :][0]), units[1].data == 7)
    for selection, said in ((Selection(series=2), "has no series 2"), (Selection(level=1), "has no level 1")):
        with pytest.raises(FileError, match=said):
            open_image(tmp_path / "a.fits", selection)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.parametrize("name", ["a.fits", "a.fits.gz", "a.fits.fz"])
def test_no_data_of_unsigned_integers_in_fits(tmp_path, dtype, name):
    """They are stored less an offset, and the mark of no data too."""
    made = pytest.importorskip("astropy.io.fits")
    values = np.arange(20).reshape(4, 5).astype(dtype)
    unit = made.CompImageHDU(values) if name.endswith("fz") else made.PrimaryHDU(values)
    unit.header["BLANK"] = 3 - (np.iinfo(dtype).max // 2 + 1)
    unit.writeto(tmp_path / name)
    found = open_image(tmp_path / name)
    assert (found.nodata, found.dtype) == (3, dtype)
    assert np.array_equal(found.pixels[:, :, :][0], values)


@pytest.mark.parametrize("compressed", [False, True])
def test_the_last_byte_of_a_fits_file(tmp_path, compressed):
    made = pytest.importorskip("astropy.io.fits")
    values = np.arange(20, dtype=np.int16).reshape(4, 5)
    unit = made.CompImageHDU(values) if compressed else made.PrimaryHDU(values)
    unit.writeto(tmp_path / "a.fits")
    whole = (tmp_path / "a.fits").read_bytes()
    end = len(whole) if compressed else 2880 + values.nbytes
    (tmp_path / "a.fits").write_bytes(whole[:end])
    assert np.array_equal(open_image(tmp_path / "a.fits").pixels[:, :, :][0], values)
    (tmp_path / "a.fits").write_bytes(whole[: end - 1])
    with pytest.raises(FileError, match=f"cut off: its pixels need {end:,} bytes, and it has {end - 1:,}"):
        open_image(tmp_path / "a.fits")


def test_an_image_of_a_fits_file_before_the_one_that_is_cut_off(tmp_path):
    made = pytest.importorskip("astropy.io.fits")
    values = np.arange(2000, dtype=np.int16).reshape(40, 50)
    made.HDUList([made.PrimaryHDU(values), made.ImageHDU(values)]).writeto(tmp_path / "a.fits")
    whole = (tmp_path / "a.fits").read_bytes()
    (tmp_path / "a.fits").write_bytes(whole[: len(whole) - 2880])
    first = open_image(tmp_path / "a.fits", Selection(series=0))
    assert np.array_equal(first.pixels[:, :, :][0], values)
    for selection in (Selection(), Selection(series=1)):
        with pytest.raises(FileError, match="is cut off"):
            open_image(tmp_path / "a.fits", selection)


@pytest.mark.parametrize("name", ["a.fits", "a.fits.gz"])
def test_a_fits_archive_is_decompressed_once(tmp_path, name):
    made = pytest.importorskip("astropy.io.fits")
    made.PrimaryHDU(np.zeros((4, 5))).writeto(tmp_path / name)
    assert isinstance(open_image(tmp_path / name).pixels, np.ndarray) == name.endswith("gz")


def test_archives_that_end_too_early(tmp_path):
    whole = gzip.compress(np.random.default_rng(0).bytes(20_000))
    for name, content, cut in (("a.fits.gz", whole, False), ("a.fits.gz", whole[:-1], True),
                               ("a.fits.gz", whole[:9000], True), ("a.fits", whole[:9000], False),
                               ("a.fits.gz", b"no archive", False)):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        assert fits._is_cut_archive(tmp_path / name) == cut


def test_a_part_of_a_fits_file_that_leads_back_ends(tmp_path):
    written = pytest.importorskip("astropy.io.fits")
    path = tmp_path / "a.fits"
    written.PrimaryHDU(np.ones((40, 50), np.int16)).writeto(path)
    width, negative = b"NAXIS1  =                   50", b"NAXIS1  =  -                50"
    path.write_bytes(path.read_bytes().replace(width, negative))
    with pytest.raises(FileError, match="one of its parts has no end"):
        open_image(path)
