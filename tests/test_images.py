import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

import register
from register.errors import FileError
from register.geometry.pixel_size import PixelSize
from register.io.images.model import Image
from register.io.images.open import aligned_name
from register.io.images.working import Validity

RNG = np.random.default_rng(0)


def array(dtype, *shape):
    return (
        RNG.integers(0, 200, shape).astype(dtype)
        if np.dtype(dtype).kind != "f"
        else RNG.normal(size=shape).astype(dtype)
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(
    ("channels", "colour", "extra"), [(1, "grey", ()), (3, "rgb", ()), (4, "rgb", (2,)), (5, "grey", ())]
)
@pytest.mark.parametrize("kind", ["tiff", "ome"])
def test_tiff_round_trip(tmp_path, dtype, channels, colour, extra, kind):
    image = Image(
        array(dtype, channels, 30, 41),
        kind=kind,
        colour=colour,
        extra=extra,
        pixel_size=PixelSize(0.5, 0.25, "µm"),
    )
    path = tmp_path / ("a.ome.tif" if kind == "ome" else "a.tif")
    register.write_image(path, image)
    again = register.read_image(path)
    assert np.array_equal(again.pixels, image.pixels)
    assert again.pixels.dtype == dtype
    assert (again.kind, again.colour, again.extra) == (kind, colour, extra)
    assert again.pixel_size.xy == pytest.approx((0.5, 0.25), rel=1e-5)
    assert again.pixel_size.unit == "µm"
    assert again.pixel_unit == "µm"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_round_trip_keeps_sixteen_bits(tmp_path, dtype, channels):
    pixels = array(dtype, channels, 20, 31)
    if dtype == np.uint16:
        pixels = pixels * 257 + 1
    colour, extra = "rgb" if channels >= 3 else "grey", (2,) if channels == 4 else ()
    register.write_image(tmp_path / "a.png", Image(pixels, kind="png", colour=colour, extra=extra))
    again = register.read_image(tmp_path / "a.png")
    assert again.pixels.dtype == dtype
    assert np.array_equal(again.pixels, pixels)


def test_sixteen_bit_colour_png_is_not_reduced_to_eight(tmp_path):
    pixels = (RNG.random((12, 13, 3)) * 65535).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))
    assert np.array_equal(register.read_image(tmp_path / "a.png").pixels, np.moveaxis(pixels, 2, 0))


def test_pixel_size_is_read_from_tags_and_a_missing_one_stays_unknown(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif",
        array(np.uint8, 20, 20),
        resolution=(1e4 / 0.325, 1e4 / 0.325),
        resolutionunit="CENTIMETER",
    )
    tifffile.imwrite(tmp_path / "b.tif", array(np.uint8, 20, 20))
    assert register.read_image(tmp_path / "a.tif").pixel_size.xy == pytest.approx((0.325, 0.325), rel=1e-4)
    assert register.read_image(tmp_path / "b.tif").pixel_size is None


def test_exif_orientation_is_applied(tmp_path):
    picture = Pillow.fromarray(array(np.uint8, 10, 20))
    exif = Pillow.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert register.read_image(tmp_path / "a.jpg").size == (20, 10)


def test_opacity_and_nan_are_no_data():
    pixels = np.full((4, 8, 8), 200, np.uint8)
    pixels[3, :2] = 0
    whole = slice(0, 8), slice(0, 8)
    assert int(Validity(Image(pixels, colour="rgb", extra=(2,))).of(pixels, *whole).sum()) == 48
    assert Validity(Image(np.ones((1, 8, 8), np.uint8))).everywhere
    broken = np.array([[[1, np.nan, 3]]], np.float32)
    assert Validity(Image(broken), nodata=3.0).of(broken, *whole).tolist() == [[[True, False, False]]]


def test_the_file_of_the_aligned_image_has_the_format_of_the_moving_one():
    assert aligned_name(Image(array(np.uint8, 3, 9, 9), kind="png")) == "aligned.png"
    assert aligned_name(Image(array(np.uint8, 3, 9, 9), kind="ome")) == "aligned.ome.tif"
    assert aligned_name(Image(array(np.uint8, 3, 9, 9), kind="other")) == "aligned.tif"
    assert (
        aligned_name(Image(array(np.uint8, 3, 9, 9), smaller=(array(np.uint8, 3, 5, 5),)))
        == "aligned.ome.tif"
    )


def bad_files(folder):
    (folder / "empty.tif").write_bytes(b"")
    (folder / "text.png").write_text("hello")
    (folder / "folder.tif").mkdir()
    tifffile.imwrite(folder / "whole.tif", array(np.uint16, 200, 200), compression="zlib")
    (folder / "cut.tif").write_bytes((folder / "whole.tif").read_bytes()[:5000])
    tifffile.imwrite(folder / "stack.tif", array(np.uint8, 5, 30, 30), imagej=True, metadata={"axes": "ZYX"})
    return {
        "none.tif": "does not exist",
        "empty.tif": "is empty",
        "text.png": "not an image",
        "folder.tif": "is a folder",
        "cut.tif": "is cut off: 0 of 200 rows are left",
        "stack.tif": "axes ZYX",
    }


def test_bad_files_are_named_with_what_is_wrong(tmp_path):
    for name, what in bad_files(tmp_path).items():
        with pytest.raises(FileError, match=what) as error:
            register.read_image(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile.TiffWriter, "write", full)
    with pytest.raises(FileError, match="No space left"):
        register.write_image(tmp_path / "a.tif", Image(array(np.uint8, 1, 9, 9)))
    assert list(tmp_path.iterdir()) == []
