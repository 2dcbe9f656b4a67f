"""Levels as pages of a plain TIFF: read by OpenSlide and here, refused where a format has none."""

import numpy as np
import pytest
import tifffile

from register.cli.main import spelled_out
from register.errors import RegisterError
from register.geometry import affine
from register.geometry.pixel_size import PixelSize
from register.images.pixels import EVERYTHING
from register.io.images.model import Image
from register.io.images.open import open_image, write_image
from register.settings import check
from register.transforms.frame import Frame
from register.transforms.transform import Transform

SIZE = PixelSize(0.5, 0.25, "µm")
SHIFT = Transform("translation", Frame(1301, 1100), Frame(1301, 1100), affine.translation(3, 4))


def smooth(channels, dtype, height=1100, width=1301):
    """A picture with a ramp along each axis, another in each channel."""
    y, x = np.mgrid[:height, :width]
    most = np.iinfo(dtype).max
    planes = [(x / width * (n + 1) + y / height) / (channels + 1) * most for n in range(channels)]
    return np.stack(planes).astype(dtype)


@pytest.mark.parametrize("colour", ["rgb", "grey"])
@pytest.mark.parametrize("compression", ["deflate", "jpeg"])
def test_openslide_reads_every_level(tmp_path, colour, compression):
    openslide = pytest.importorskip("openslide")
    pixels = smooth(3 if colour == "rgb" else 1, np.uint8)
    image = Image(pixels, colour=colour, pixel_size=SIZE)
    write_image(tmp_path / "a.tif", image, compression=compression, pyramid=True, pages=True)
    with openslide.OpenSlide(tmp_path / "a.tif") as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert slide.level_dimensions == ((1301, 1100), (651, 550), (326, 275))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.25)
        for level, size in enumerate(slide.level_dimensions):
            found = np.moveaxis(np.asarray(slide.read_region((0, 0), level, size)), 2, 0)
            ours = open_image(tmp_path / "a.tif").smaller[level - 1][EVERYTHING] if level else pixels
            assert (found[3] == 255).all()
            assert np.abs(found[:3].astype(int) - ours).max() <= (0 if compression == "deflate" else 12)


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint16), (4, np.uint16), (2, np.uint8)])
def test_values_and_levels_are_read_back(tmp_path, channels, dtype):
    pixels = smooth(channels, dtype)
    for layout in ("", "pages") if channels > 1 else ("",):
        image = Image(pixels, layout=layout, kind="ome" if layout else "tiff")
        write_image(tmp_path / "a.tif", image, pyramid=True, pages=True)
        found = open_image(tmp_path / "a.tif")
        assert np.array_equal(found.pixels[EVERYTHING], pixels)
        assert [x.shape for x in found.smaller] == [(channels, 550, 651), (channels, 275, 326)]
        with tifffile.TiffFile(tmp_path / "a.tif") as tif:
            assert not tif.is_ome
            assert [(page.is_tiled, page.is_reduced) for page in tif.pages] == [
                (True, False), (True, True), (True, True),
            ]  # fmt: skip
            assert not any(page.subifds for page in tif.pages)


def test_a_geotiff_keeps_its_place(tmp_path):
    tag = (33550, 12, 3, (10.0, 10.0, 0.0))
    write_image(tmp_path / "a.tif", Image(smooth(1, np.uint8), geotags=(tag,)), pyramid=True, pages=True)
    assert open_image(tmp_path / "a.tif").geotags == (tag,)


def test_formats_without_such_levels_are_refused(tmp_path):
    image = Image(np.zeros((1, 600, 600), np.uint8))
    for name in ("a.ome.tif", "a.png", "a.ome.zarr"):
        with pytest.raises(RegisterError, match="is no plain TIFF"):
            write_image(tmp_path / name, image, pages=True)
    with pytest.raises(RegisterError, match="bits, which have no tiles"):
        write_image(tmp_path / "a.tif", Image(np.zeros((1, 600, 600), bool)), pages=True)
    assert not list(tmp_path.iterdir())
    for values in ({"format": "ome-tiff"}, {"format": "ome-zarr"}, {"pyramid": False}):
        with pytest.raises(RegisterError, match="pyramid_pages is not allowed"):
            check(pyramid_pages=True, **values)
    assert check(pyramid_pages=True).aligned_format == "tiff"


def test_the_option_with_its_value():
    assert spelled_out(["apply", "--pyramid", "pages", "a"]) == ["apply", "--pyramid-pages", "a"]
    assert spelled_out(["apply", "--pyramid=pages"]) == ["apply", "--pyramid-pages"]
    kept = ["apply", "--pyramid", "a.tif", "pages", "--pyramid"]
    assert spelled_out(kept) == kept


def test_apply_writes_pages(tmp_path, program):
    SHIFT.save(tmp_path / "t.json")
    names = {"Channel": {"Name": ["a", "b"]}, "axes": "CYX"}
    tifffile.imwrite(tmp_path / "m.ome.tif", smooth(2, np.uint8), photometric="minisblack", metadata=names)
    given = [tmp_path / "t.json", tmp_path / "m.ome.tif", "-o", tmp_path / "out", "--pyramid", "pages"]
    done = program("apply", *given)
    assert done.returncode == 0, done.stderr
    assert len(open_image(tmp_path / "out" / "m.tif").smaller) == 2
    for output, option in (("a.ome.tif", "--overwrite"), ("a.tif", "--no-pyramid")):
        done = program("apply", *given[:2], "-o", tmp_path / output, "--pyramid", "pages", option)
        assert done.returncode == 2
        assert "--pyramid pages: is not allowed" in done.stderr


def test_jpeg_of_colours_and_then_of_grey_values(tmp_path):
    for name, channels in (("a", 3), ("b", 1), ("c", 3)):  # one run writes them one after the other
        image = Image(smooth(channels, np.uint8, 100, 120), colour="rgb" if channels == 3 else "grey")
        write_image(tmp_path / f"{name}.tif", image, compression="jpeg")
        found = open_image(tmp_path / f"{name}.tif").pixels[EVERYTHING].astype(int)
        assert np.abs(found - image.pixels[EVERYTHING]).max() < 12
