"""TIFF as it is written, and what its pages state, at the limits."""

from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from register.errors import FileError
from register.geometry.pixel_size import PixelSize
from register.images.pixels import EVERYTHING
from register.io.images import (
    geotiff,
    openslide_read,
    tiff_blocks,
    tiff_colours,
    tiff_extent,
    tiff_metadata,
    tiff_tags,
    tiff_vendors,
    tiff_write,
)
from register.io.images.instrument_format import Format
from register.io.images.model import Image, Selection
from register.io.images.open import open_image, read_image, write_image


def noise(shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


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


def test_the_name_and_colour_of_a_single_channel(tmp_path):
    image = Image(noise((1, 4, 5)), kind="ome", channel_names=("DAPI",), channel_colours=(65535,))
    write_image(tmp_path / "a.ome.tif", image)
    found = read_image(tmp_path / "a.ome.tif")
    assert (found.channel_names, found.channel_colours) == (("DAPI",), (65535,))


@pytest.mark.parametrize(
    ("scale", "known"),
    [((1.0, 2.0), True), ((0.0, 2.0), False), ((1.0, 0.0), False), ((float("inf"), 1.0), False),
     ((1.0, float("nan")), False), ((-1.0, 2.0), True), ((1.0,), False)],
)  # fmt: skip
def test_sides_of_pixels_on_a_map_are_finite_and_not_zero(scale, known):
    page = SimpleNamespace(tags=SimpleNamespace(valueof={geotiff.PIXEL_SCALE: scale}.get))
    found = geotiff.pixel_size(SimpleNamespace(geotiff_metadata=None), page)
    assert found == ((abs(scale[0]), scale[1], None) if known else None)


def test_a_place_on_the_map_is_written_to_the_first_page_only(tmp_path):
    tags = ((33550, 12, 3, (1.0, 2.0, 0.0)), (33922, 12, 6, (0.0, 0.0, 0.0, 5.0, 6.0, 0.0)))
    xml = "<GDALMetadata><Item>x</Item></GDALMetadata>"
    image = Image(noise((3, 4, 5)), layout="pages", geotags=tags, nodata=7.0, gdal=xml)
    tiff_write.write(tmp_path / "a.tif", image)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        found = [[code in page.aspage().tags for code in (33550, 33922, 42112, 42113)] for page in tif.pages]
    assert found == [[True] * 4, [False] * 4, [False] * 4]
    again = read_image(tmp_path / "a.tif")
    assert (again.geotags, again.nodata, again.gdal) == (tags, 7, xml)


def test_the_tags_of_a_projection_with_parameters_are_kept(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    profile = {"driver": "GTiff", "width": 6, "height": 5, "count": 1, "dtype": "uint8"}
    place = rasterio.transform.Affine(10, 0, 500, 0, -10, 900)
    system = "+proj=laea +lat_0=12 +lon_0=34 +ellps=GRS80 +units=m"
    with rasterio.open(tmp_path / "a.tif", "w", crs=system, transform=place, **profile) as file:
        file.write(noise((1, 5, 6)))
    tags = read_image(tmp_path / "a.tif").geotags
    assert {code for code, *_ in tags} == {33550, 33922, 34735, 34736, 34737}  # GeoTIFF 1.1, annex B
    tiff_write.write(tmp_path / "b.tif", read_image(tmp_path / "a.tif"))
    with rasterio.open(tmp_path / "a.tif") as one, rasterio.open(tmp_path / "b.tif") as other:
        assert (one.crs, one.transform) == (other.crs, other.transform)
        assert "lat_0=12" in other.crs.to_proj4() or "12" in other.crs.to_wkt()


@pytest.mark.parametrize(
    ("code", "unit"), [(9101, "rad"), (9102, "°"), (9122, "°"), (9103, None), (9123, None)]
)
def test_units_of_angles_by_the_codes_of_epsg(code, unit):
    assert geotiff._unit({"GTModelTypeGeoKey": 2, "GeogAngularUnitsGeoKey": code}) == unit


@pytest.mark.parametrize(
    ("x", "y", "size"),
    [
        ((10_000, 2), (5000, 1), (2, 2)),
        ((10_000, 1), (5000, 1), (1, 2)),
        ((0, 1), (5000, 1), None),
        ((10_000, 1), (5000, 0), None),
        ((10_000, 1), (5000, 1, 1), None),
        (10_000.0, 5000.0, None),
        ((10_000, 1), None, None),
    ],
)
def test_resolutions_that_are_fractions(x, y, size):
    """They are pixels per centimetre; any other value is no resolution."""
    tags = {"XResolution": x, "YResolution": y}
    tags = {name: SimpleNamespace(value=value) for name, value in tags.items() if value is not None}
    page, tif = SimpleNamespace(tags=tags, resolutionunit=3), SimpleNamespace(is_imagej=False)
    assert tiff_metadata._resolution(tif, page).pixel_size == (size and (*size, "µm"))


def test_a_series_without_an_image_of_its_own_in_ome_metadata_has_the_first():
    text = '<OME><Image><Pixels PhysicalSizeX="{}"><Channel Name="{}"/></Pixels></Image>{}</OME>'
    one = SimpleNamespace(ome_metadata=text.format(1, "a", ""))
    both = SimpleNamespace(ome_metadata=text.format(1, "a", text.format(2, "b", "")[5:-6]))
    for tif, index, size, name in ((one, 0, 1, "a"), (one, 1, 1, "a"), (both, 0, 1, "a"), (both, 1, 2, "b")):
        found = tiff_metadata._ome(tif, index, 1)
        assert (found.pixel_size, found.channel_names) == ((size, size, "µm"), (name,))
