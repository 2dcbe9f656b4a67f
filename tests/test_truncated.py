"""Files that end too early: they are said to be cut off, and what is left of them is what was written."""

import gzip
import re
import time

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from conftest import TISSUE
from PIL import Image as Pillow

from register.errors import FileError, RegisterError
from register.geometry import affine
from register.io.images import tiff_extent, zarr_chunks
from register.io.images.model import Selection
from register.io.images.open import open_image, read_image
from register.io.movies.layout import Layout
from register.io.movies.open import open_stack
from register.transforms.frame import Frame
from register.transforms.transform import Transform

RNG = np.random.default_rng(0)
GREY = RNG.integers(1, 65535, (3, 64, 80), np.uint16)
COLOUR = RNG.integers(1, 255, (64, 80, 3), np.uint8)
ALLOWED = Selection(allow_truncated=True)

TIFFS = {
    "contiguous": (GREY[0], {}, {}),
    "interleaved": (COLOUR, {}, {"photometric": "rgb"}),
    "planar": (np.moveaxis(COLOUR, 2, 0), {}, {"photometric": "rgb", "planarconfig": "separate"}),
    "planar zlib": (
        np.moveaxis(COLOUR, 2, 0),
        {},
        {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib", "rowsperstrip": 16},
    ),
    "strips": (GREY[0], {}, {"compression": "zlib", "rowsperstrip": 8}),
    "tiles": (GREY[0], {}, {"compression": "zlib", "tile": (16, 16)}),
    "uncompressed tiles": (GREY[0], {}, {"tile": (16, 16)}),
    "big endian BigTIFF": (GREY[0], {"bigtiff": True, "byteorder": ">"}, {}),
    "OME": (GREY, {"ome": True}, {"metadata": {"axes": "CYX"}}),
    "OME zlib": (GREY, {"ome": True}, {"metadata": {"axes": "CYX"}, "compression": "zlib"}),
    "ImageJ": (GREY, {"imagej": True}, {"metadata": {"axes": "CYX"}}),
    "pages": (GREY, {}, {"metadata": None, "contiguous": False, "photometric": "minisblack"}),
}


def write(path, kind):
    data, writer, options = TIFFS[kind]
    with tifffile.TiffWriter(path, **writer) as tif:
        tif.write(data, **options)
    return path.read_bytes()


@pytest.mark.parametrize("kind", TIFFS)
def test_a_tiff_that_ends_too_early_is_said_to_be_cut_off(kind, tmp_path):
    """At sixty lengths: never pixels that are not there, and what is left equals what was written."""
    path = tmp_path / "cut.tif"
    whole = write(path, kind)
    data = np.atleast_3d(TIFFS[kind][0].T).T if TIFFS[kind][0] is not COLOUR else np.moveaxis(COLOUR, 2, 0)
    some = 0
    for length in range(9, len(whole) - 1, max(len(whole) // 60, 1)):
        path.write_bytes(whole[:length])
        message, image = outcome(path, Selection())
        if image is not None:
            assert length > len(whole) - 100  # a tag of the last page is missing, which adds nothing
            assert np.array_equal(image.pixels, data)
            continue
        assert re.fullmatch(r".* is cut off: .*; copy the file again.*", message)
        message, left = outcome(path, ALLOWED)
        if left is None:
            assert "cut off" in message or "is a stack" in message
            continue
        c, h, w = left.pixels.shape
        assert np.array_equal(left.pixels, data[:c, :h, :w])
        assert "cut off" in left.notes[-1]
        some += 1
    assert some > 10


def outcome(path, selection):
    """The message of an error, or an image."""
    try:
        return None, read_image(path, selection)
    except FileError as error:
        return str(error), None


def test_a_whole_tiff_is_read_whole_when_less_would_do(tmp_path):
    for kind in TIFFS:
        if kind != "pages":  # a stack of unnamed planes
            write(tmp_path / "a.tif", kind)
            left, image = (read_image(tmp_path / "a.tif", x) for x in (ALLOWED, Selection()))
            assert np.array_equal(left.pixels, image.pixels)
            assert left.notes == image.notes == ()


@pytest.mark.parametrize("kind", ["OME zlib", "ImageJ", "pages"])
def test_a_series_of_frames_that_is_cut_off(kind, tmp_path):
    path = tmp_path / "cut.tif"
    data, writer, options = TIFFS[kind]
    options = {**options, "metadata": {"axes": "TYX"}} if options["metadata"] else options
    with tifffile.TiffWriter(path, **writer) as tif:
        tif.write(data, **options)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(0.9 * len(whole))])
    with pytest.raises(FileError, match="is cut off"):
        open_stack(str(path))
    path.write_bytes(whole)
    assert len(open_stack(str(path))) == 3


def test_whole_frames_are_left_of_a_series(tmp_path):
    path = tmp_path / "cut.tif"
    with tifffile.TiffWriter(path) as tif:
        for frame in GREY:
            tif.write(frame, compression="zlib", contiguous=False, metadata=None)
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    stack = open_stack(str(path), Layout(allow_truncated=True))
    assert len(stack) == 2
    assert np.array_equal(stack.frame(1)[0], GREY[1])
    stack.close()


def test_ome_metadata_of_more_planes_than_pages_are_no_image_of_one_channel(tmp_path):
    """A program that is killed while it writes leaves pages that end properly, and too few of them."""
    text = tmp_path / "three.ome.tif"
    tifffile.imwrite(text, GREY, photometric="minisblack", metadata={"axes": "CYX"})
    with tifffile.TiffFile(text) as tif:
        description = tif.ome_metadata
    tifffile.imwrite(tmp_path / "one.tif", GREY[0], description=description.encode(), metadata=None)
    with pytest.raises(FileError, match="describe 3 planes and it holds 1"):
        read_image(tmp_path / "one.tif")
    left = read_image(tmp_path / "one.tif", ALLOWED)
    assert np.array_equal(left.pixels[0], GREY[0])
    assert "3 planes" in left.notes[0]


def test_the_program_names_the_file_and_the_way_out(program, tmp_path):
    path = tmp_path / "cut.tif"
    whole = write(path, "contiguous")
    path.write_bytes(whole[: len(whole) // 2])
    done = program("align", TISSUE[0], path, "-o", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {path}: is cut off: 31 of 64 rows are left;")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


ZARR = {
    "raw": (2, {"compressors": None}),
    "blosc": (2, {}),
    "raw 3": (3, {"compressors": None}),
    "zstd": (3, {}),
    "gzip": (3, {"compressors": zarr.codecs.GzipCodec()}),
    "blosc 3": (3, {"compressors": zarr.codecs.BloscCodec()}),
    "crc32c": (3, {"compressors": [zarr.codecs.Crc32cCodec()]}),
    "shards": (3, {"shards": (32, 80)}),
}


def write_zarr(path, kind):
    form, options = ZARR[kind]
    scale = [{"type": "scale", "scale": [1, 1]}]
    image = {
        "axes": [{"name": name, "type": "space"} for name in "yx"],
        "datasets": [{"path": "0", "coordinateTransformations": scale}],
    }
    attributes = {"multiscales": [image | {"version": "0.4"}]}
    if form == 3:
        attributes = {"ome": {"version": "0.5", **attributes}}
    root = zarr.create_group(path, zarr_format=form, attributes=attributes)
    root.create_array("0", shape=GREY[0].shape, dtype=GREY.dtype, chunks=(32, 40), **options)[:] = GREY[0]
    return sorted(x for x in (path / "0").rglob("*") if x.is_file() and not x.name.startswith((".z", "zarr")))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ZARR)
def test_a_chunk_that_is_cut_short_is_not_read_as_zeros(kind, tmp_path):
    chunk = write_zarr(tmp_path / "a.zarr", kind)[-1]
    whole = chunk.read_bytes()
    for length in (0, 3, len(whole) // 3, len(whole) - 1):
        chunk.write_bytes(whole[:length])
        with pytest.raises(FileError, match="--allow-truncated"):
            read_image(tmp_path / "a.zarr")
        left = read_image(tmp_path / "a.zarr", ALLOWED)
        assert np.array_equal(left.pixels[0], GREY[0, :32])
        assert "the first 32 of 64 rows" in left.notes[0]
    chunk.write_bytes(whole)
    assert np.array_equal(read_image(tmp_path / "a.zarr", ALLOWED).pixels[0], GREY[0])


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["blosc", "zstd", "gzip"])
def test_a_chunk_that_inflates_past_its_shape_is_refused_before_it_does(kind, tmp_path, monkeypatch):
    """Zeros of 16 MiB in a chunk of 32 × 40 pixels."""
    chunk = write_zarr(tmp_path / "a.zarr", kind)[-1]
    encode = {"blosc": imagecodecs.blosc_encode, "zstd": imagecodecs.zstd_encode, "gzip": gzip.compress}
    chunk.write_bytes(encode[kind](bytes(2**24)))
    monkeypatch.setattr(zarr_chunks, "MOST", 2**20)
    with pytest.raises(FileError, match=r"inflates (past|to)"):
        read_image(tmp_path / "a.zarr")


@pytest.mark.parametrize("channels", [2, 3])
def test_the_leading_channels_of_an_ome_tiff_whose_description_was_at_its_end(channels, program, tmp_path):
    data = RNG.integers(1, 65535, (channels, 64, 80), np.uint16)
    path = tmp_path / "cut.ome.tif"
    options = {"metadata": {"axes": "CYX"}, "compression": "zlib", "photometric": "minisblack"}
    tifffile.imwrite(path, data, **options)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(0.6 * len(whole) if channels == 2 else 0.9 * len(whole))])
    image = read_image(path, ALLOWED)
    assert np.array_equal(image.pixels, data[: channels - 1])
    assert any("pages are taken for channels" in note for note in image.notes)
    Transform("affine", Frame(80, 64), Frame(80, 64), affine.identity()).save(tmp_path / "t.json")
    given = [tmp_path / "t.json", path, "-o", tmp_path / "out.tif"]
    assert "is cut off" in program("apply", *given).stderr
    done = program("apply", *given, "--allow-truncated")
    assert done.returncode == 0, done.stderr
    assert f"what is left was read: {channels - 1} × 80 × 64" in done.stdout
    assert np.array_equal(read_image(tmp_path / "out.tif").pixels, data[: channels - 1])


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "webp", "jp2"])
def test_formats_of_which_no_part_is_read_say_so(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    Pillow.fromarray(COLOUR).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    with pytest.raises(RegisterError, match=r"(?s)^((?!allow-truncated).)*$"):
        read_image(path)
    with pytest.raises(FileError, match="--allow-truncated works for TIFF and OME-Zarr only"):
        read_image(path, ALLOWED)
    path.write_bytes(whole)
    assert read_image(path, ALLOWED).size == (64, 80)


def test_rows_of_a_directory_that_states_billions_of_tiles_are_counted_at_once():
    """Only the tiles that it lists are looked at."""
    begin = time.monotonic()
    stored = [100, 200, 300, 400], [100, 100, 100, 100]
    assert tiff_extent.segment_rows(stored, (2**28, 2), 16, 2**32, 500, 1) == [32]
    assert tiff_extent.segment_rows(stored, (2**28, 2), 16, 2**32, 450, 1) == [16]
    assert tiff_extent.segment_rows(stored, (2, 1), 16, 30, 350, 2) == [30, 0]
    assert tiff_extent.segment_rows(stored, (2, 1), 16, 30, 450, 2) == [30, 16]
    assert tiff_extent.segment_rows(stored, (2, 1), 16, 30, 500, 3) == [30, 30, 0]
    assert time.monotonic() - begin < 1


FITS = {
    "uint8": ("a.fits", np.uint8, 1),
    "int16": ("a.fits", np.int16, 1),
    "uint16": ("a.fits", np.uint16, 1),
    "float64": ("a.fits", np.float64, 1),
    "cube": ("a.fits", np.float32, 3),
    "two images": ("two.fits", np.int16, 1),
    "Rice": ("a.fits.fz", np.int16, 1),
    "gzip": ("a.fits.gz", np.float32, 1),
}
"""The name of a file, the type of its pixels and the number of its planes."""


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("kind", FITS)
@pytest.mark.parametrize("command", ["info", "apply", "align"])
def test_a_fits_file_that_ends_too_early_is_one_line(kind, share, command, tmp_path, program, recwarn):
    """Not even a warning of astropy is shown beside it."""
    fits = pytest.importorskip("astropy.io.fits")
    name, dtype, planes = FITS[kind]
    values = np.squeeze(RNG.integers(0, 255, (planes, 200, 160)).astype(dtype))
    unit = fits.CompImageHDU(values) if kind == "Rice" else fits.PrimaryHDU(values)
    units = [unit, fits.ImageHDU(values)] if kind == "two images" else [unit]
    fits.HDUList(units if kind != "Rice" else [fits.PrimaryHDU(), unit]).writeto(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    assert open_image(tmp_path / name, Selection(plane="Z=1" if planes > 1 else None)).size == (200, 160)
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    frame = Frame(160, 200)
    Transform("affine", frame, frame, np.eye(2, 3)).save(tmp_path / "t.json")
    arguments = {"info": [], "apply": [tmp_path / "t.json"], "align": [tmp_path / name]}[command]
    output = [] if command == "info" else ["--output", tmp_path / ("o" if command == "align" else "o.tif")]
    done = program(command, *arguments, tmp_path / name, *output)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith(f"error: {tmp_path / name}: is a FITS file that is cut off: ")
    assert not recwarn.list


def test_a_fits_file_without_padding_is_whole(tmp_path):
    fits = pytest.importorskip("astropy.io.fits")
    fits.PrimaryHDU(GREY[0]).writeto(tmp_path / "a.fits")
    content = (tmp_path / "a.fits").read_bytes()
    (tmp_path / "a.fits").write_bytes(content[: 2880 + GREY[0].nbytes])
    assert np.array_equal(read_image(tmp_path / "a.fits").pixels[0], GREY[0])
