"""Details of image files against other programs, plain loops and the definitions of the formats."""

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
import rasterio
import tifffile
import zarr
from matplotlib.path import Path as Outline
from PIL import Image as Pillow
from rasterio.transform import Affine

from register.errors import FileError
from register.geometry import affine
from register.geometry.pixel_size import PixelSize
from register.images import pixels as images_pixels
from register.images.pixels import EVERYTHING
from register.io.images import (
    colours,
    geotiff,
    jpeg2000,
    levels,
    lookup_tables,
    map_files,
    masks,
    netpbm,
    png,
    raster,
    tiff_blocks,
    tiff_extent,
    tiff_metadata,
    tiff_pixels,
    tiff_tags,
    tiff_vendors,
    tiff_write,
    windows,
    working,
    zarr_chunks,
    zarr_metadata,
    zarr_write,
)
from register.io.images.model import Image, Selection
from register.io.images.open import open_image, read_image
from register.io.images.raster_header import header
from register.io.images.working import Validity


def noise(shape, dtype=np.uint8, seed=0):
    limit = np.iinfo(dtype).max if np.dtype(dtype).kind in "iu" else 1
    return (np.random.default_rng(seed).uniform(0, limit, shape)).astype(dtype)


# --- georeference ----------------------------------------------------------------------------------------


def write_geotiff(path, transform, system=None, **more):
    profile = {"driver": "GTiff", "width": 6, "height": 5, "count": 2, "dtype": "uint8", **more}
    with rasterio.open(path, "w", crs=system, transform=transform, **profile) as file:
        file.write(noise((2, 5, 6)))
        file.descriptions = ("red", "near infrared")
        file.update_tags(ns="", AREA_OR_POINT=more.get("kind", "Area"))
        file.update_tags(STATISTICS_MEAN="3", TIFFTAG_SOFTWARE="x", season="spring")


PLAIN, TURNED = Affine(10.0, 0, 500_000, 0, -20.0, 4_000_000), Affine(3.0, 1.0, 500_000, 4.0, -2.0, 4_000_000)


@pytest.mark.parametrize("transform", [PLAIN, TURNED], ids=["plain", "turned"])
@pytest.mark.parametrize("kind", ["Area", "Point"])
@pytest.mark.filterwarnings("ignore")
def test_pixels_lie_on_the_map_where_rasterio_places_them(tmp_path, transform, kind):
    write_geotiff(tmp_path / "a.tif", transform, "EPSG:32633", kind=kind)
    found = geotiff.map_from_pixel(read_image(tmp_path / "a.tif").geotags)
    with rasterio.open(tmp_path / "a.tif") as file:
        wanted = [file.transform * (x + 0.5, y + 0.5) for x, y in ((0, 0), (5, 0), (0, 4), (3, 2))]
    assert affine.apply(found, np.array([[0.0, 0], [5, 0], [0, 4], [3, 2]])) == pytest.approx(
        np.array(wanted)
    )
    assert geotiff.map_from_pixel(()) is None


@pytest.mark.parametrize(
    ("system", "unit"),
    [
        ("EPSG:32633", "m"),
        ("EPSG:4326", "°"),
        ("EPSG:2263", "US survey ft"),
        ("EPSG:3857", "m"),
        (None, None),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_the_size_of_a_pixel_is_in_the_unit_of_the_map(tmp_path, system, unit):
    write_geotiff(tmp_path / "a.tif", PLAIN, system)
    assert read_image(tmp_path / "a.tif").pixel_size == PixelSize(10, 20, unit)
    write_geotiff(tmp_path / "a.tif", TURNED, system)
    size = read_image(tmp_path / "a.tif").pixel_size
    assert (size.x, size.y, size.unit) == pytest.approx((5, 5**0.5, unit))


@pytest.mark.filterwarnings("ignore")
def test_bands_have_their_descriptions_and_statistics_are_left_out(tmp_path):
    write_geotiff(tmp_path / "a.tif", PLAIN, "EPSG:32633", nodata=7)
    image = read_image(tmp_path / "a.tif")
    assert image.channel_names == ("red", "near infrared")
    assert image.nodata == 7
    assert "spring" in image.gdal
    assert "STATISTICS" not in image.gdal
    assert geotiff.band_names(None, 2) == ()
    item = '<GDALMetadata><Item sample="{}" role="description">{}</Item></GDALMetadata>'
    assert geotiff.band_names(item.format(1, "b"), 2) == ("", "b")
    assert geotiff.band_names(item.format(2, "b"), 2) == geotiff.band_names(item.format(-1, "b"), 2) == ()
    assert geotiff.band_names(item.format(0, ""), 2) == ()


METRIC = 32601, 32660, 32701, 32760, 25828, 25838, 3857
OTHERS = 32600, 32661, 32700, 32761, 25827, 25839, 3858, 3856
"""Codes beside those of projections in metres."""


@pytest.mark.parametrize(
    ("keys", "unit"),
    [
        ({}, None),
        ({"GTModelTypeGeoKey": 2}, "°"),
        ({"GTModelTypeGeoKey": 2, "GeogAngularUnitsGeoKey": 9101}, "rad"),
        ({"GTModelTypeGeoKey": 2, "GeogAngularUnitsGeoKey": 1}, None),
        ({"GTModelTypeGeoKey": 3, "ProjLinearUnitsGeoKey": 9001}, None),
        ({"GTModelTypeGeoKey": 1}, None),
        ({"GTModelTypeGeoKey": 1, "ProjLinearUnitsGeoKey": 9002}, "ft"),
        ({"GTModelTypeGeoKey": 1, "ProjLinearUnitsGeoKey": 9036}, "km"),
        *[({"GTModelTypeGeoKey": 1, "ProjectedCSTypeGeoKey": n}, "m") for n in METRIC],
        *[({"GTModelTypeGeoKey": 1, "ProjectedCSTypeGeoKey": n}, None) for n in OTHERS],
    ],
)  # fmt: skip
def test_units_by_the_codes_of_epsg(keys, unit):
    assert geotiff._unit(keys) == unit


def tag(code, value):
    return SimpleNamespace(code=code, dtype=12, count=len(value), value=value)


def test_tags_of_a_coarser_level_place_it_at_the_same_corner():
    page = SimpleNamespace()
    page.tags = {33550: tag(33550, (10.0, 20.0, 0.0)), 33922: tag(33922, (2.0, 4.0, 0.0, 100.0, 200.0, 0.0))}
    fine, coarse = (geotiff.map_from_pixel(tiff_metadata.geotags(page, f)) for f in ((1, 1), (2, 4)))
    corners = affine.apply(fine, np.array([[-0.5, -0.5], [7.5, 7.5]]))
    assert affine.apply(coarse, np.array([[-0.5, -0.5], [3.5, 1.5]])) == pytest.approx(corners)
    rows = (10.0, 1.0, 0.0, 100.0, 2.0, -20.0, 0.0, 200.0, *([0.0] * 8))
    page.tags = {34264: tag(34264, rows)}
    fine, coarse = (geotiff.map_from_pixel(tiff_metadata.geotags(page, f)) for f in ((1, 1), (2, 4)))
    corners = affine.apply(fine, np.array([[-0.5, -0.5], [7.5, 7.5]]))
    assert affine.apply(coarse, np.array([[-0.5, -0.5], [3.5, 1.5]])) == pytest.approx(corners)


@pytest.mark.parametrize(
    ("points", "degrees"),
    [
        ([[7.12345, 50.12345], [7.12346, 50.12347], [7.12341, 50.12342]], True),
        ([[7.12345, 50.12345], [7.12346, 50.12347]], False),  # too few
        ([[7.12345, 50.12345], [7.12346, 50.12347], [8.2, 50.12342]], False),  # further apart than a degree
        ([[7.123, 50.123], [7.124, 50.125], [7.126, 50.121]], False),  # three decimals
        ([[-70.12345, 50.12345], [-75.12346, 50.12347], [-89.12341, 50.12342]], True),
        ([[-70.12345, 50.12345], [-75.12346, 50.12347], [-91.12341, 50.12342]], False),  # 20 degrees apart
        ([[-0.12345, 50.12345], [-0.5, 58.12347], [-0.9, 50.12342]], False),  # the half of a pixel is no sign
        ([[170.12345, 91.12345], [170.12346, 91.12347], [170.12341, 91.12342]], False),
        ([[181.12345, 50.12345], [181.12346, 50.12347], [181.12341, 50.12342]], False),
        ([[180.0, 90.0], [179.99991, 89.99991], [179.99992, 89.99992]], True),
    ],
)
def test_points_that_can_only_be_degrees_are_refused(points, degrees):
    if degrees:
        with pytest.raises(FileError, match="longitude and latitude"):
            map_files.refuse_map_coordinates("a.geojson", {}, points)
    else:
        map_files.refuse_map_coordinates("a.geojson", {}, points)


def test_the_system_of_map_files_is_named(tmp_path):
    (tmp_path / "a.prj").write_text('PROJCS["WGS 84 / UTM 33N",GEOGCS["x"]]')
    for name, system in (("a.shp", "WGS 84 / UTM 33N"), ("b.shp", "unknown system"), ("c.kml", "WGS 84"),
                         ("d.GML", "unknown system"), ("e.gpkg", "unknown system")):  # fmt: skip
        with pytest.raises(FileError, match=rf"in map coordinates \({system}\)"):
            map_files.refuse_map_file(tmp_path / name)
    map_files.refuse_map_file(tmp_path / "a.geojson")
    for crs, name in (({"properties": {"name": "EPSG:1"}}, "EPSG:1"), ({"properties": {"href": "u"}}, "u"),
                      ("EPSG:2", "EPSG:2")):  # fmt: skip
        with pytest.raises(FileError, match=f"has coordinates in {name}, not in pixels"):
            map_files.refuse_map_coordinates("a.geojson", {"crs": crs}, [[1, 2]])


# --- masks -----------------------------------------------------------------------------------------------


def test_pixels_in_polygons_are_those_of_matplotlib():
    rng = np.random.default_rng(5)
    rings = [tuple(map(tuple, rng.uniform(-3, 33, (n, 2)))) for n in (3, 4, 7, 12)]
    y, x = np.mgrid[:24, :30] + 0.5
    centres = np.stack([x.ravel(), y.ravel()], 1)
    for outer, hole in zip(rings, rings[1:] + rings[:1], strict=True):
        made = masks.Polygons((24, 30), ((outer, hole),))
        even = [np.zeros(720, int) for _ in range(2)]
        for counts, ring in zip(even, (outer, hole), strict=True):
            for a, b in zip(ring, ring[1:] + ring[:1], strict=True):  # crossings to the left of each centre
                if a[1] != b[1]:
                    at = a[0] + (centres[:, 1] - a[1]) * (b[0] - a[0]) / (b[1] - a[1])
                    within = (min(a[1], b[1]) <= centres[:, 1]) & (centres[:, 1] < max(a[1], b[1]))
                    counts += within & (at <= centres[:, 0])
        wanted = ((even[0] % 2 == 1) & (even[1] % 2 == 0)).reshape(24, 30)
        assert np.array_equal(made[EVERYTHING][0] == 255, wanted)
        assert np.array_equal(made[:, 5:9, 7:20], made[EVERYTHING][:, 5:9, 7:20])
    triangle = masks.Polygons((24, 30), ((rings[0],),))
    assert np.array_equal(
        triangle[EVERYTHING][0] > 0, Outline(rings[0]).contains_points(centres).reshape(24, 30)
    )
    assert (triangle.shape, triangle.dtype) == ((1, 24, 30), np.uint8)


# --- levels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("large", "small", "factor"),
    [(100, 50, 2), (101, 51, 2), (101, 50, 2), (100, 33, 100 / 33), (7, 7, 1), (9, 2, 4),
     (1000, 130, 1000 / 130)],
)  # fmt: skip
def test_the_factor_of_a_level_is_a_power_of_two_where_the_sizes_allow_it(large, small, factor):
    assert levels.level_factor(large, small) == pytest.approx(factor)
    assert levels.level_factors((large, 8), (small, 4)) == pytest.approx((2, factor))


@pytest.mark.parametrize("shape", [(2, 6, 8), (1, 5, 7), (3, 1, 1), (1, 4, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_level_of_half_the_size_has_the_means_of_the_pixels_that_exist(shape, dtype):
    block = noise(shape, dtype)
    half = tiff_blocks.smaller_block(block, sampled=False)
    assert half.shape[1:] == tiff_blocks.halved(shape[1:]) == ((shape[1] + 1) // 2, (shape[2] + 1) // 2)
    for c, y, x in np.ndindex(*half.shape):
        mean = block[c, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].astype(float).mean()
        assert half[c, y, x] == pytest.approx(np.rint(mean) if dtype != np.float32 else mean, rel=1e-6)
    assert np.array_equal(tiff_blocks.smaller_block(block, sampled=True), block[:, ::2, ::2])
    assert half.dtype == dtype


@pytest.mark.parametrize("size", [(512, 513), (513, 512), (2048, 100)])
def test_pyramids_end_at_512_pixels(size):
    coarser = tiff_write._level_sizes(size)
    assert zarr_write.level_sizes(size) == [size, *coarser]
    assert max(coarser[-1]) <= 512 < max([size, *coarser][-2])
    assert tiff_write._level_sizes((512, 512)) == []


@pytest.mark.parametrize("pages", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_tifffile_reads_tiles_and_levels_of_any_size(tmp_path, pages, channels):
    pixels = noise((channels, 1030, 2100), np.uint16)
    image = Image(pixels, colour="rgb" if channels == 3 else "grey")
    ticks = []
    tiff_write.write(tmp_path / "a.tif", image, pyramid=True, pages=pages, tick=ticks.append)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        series = tif.series[0]
        first = series.asarray()
        assert np.array_equal(np.moveaxis(first, 2, 0) if channels == 3 else first[None], pixels)
        page = tif.pages.first
        assert (page.tilewidth, page.tilelength) == (512, 512)
        assert len(page.subifds or ()) == (0 if pages else 3)
        shapes = [level.shape for level in series.levels]
        second = series.levels[1].asarray() if len(shapes) > 1 else tif.pages[1].asarray()
    assert np.array_equal(np.moveaxis(second, 2, 0) if channels == 3 else second[None],
                          tiff_blocks.smaller_block(pixels, sampled=False))  # fmt: skip
    sizes = [(1030, 2100), (515, 1050), (258, 525), (129, 263)]
    assert sum(ticks) == channels * sum(h * w for h, w in sizes)
    assert len(shapes) == (4 if not pages or len(shapes) > 1 else 1)
    found = open_image(tmp_path / "a.tif")
    assert [level.shape for level in found.smaller] == [(channels, *size) for size in sizes[1:]]
    assert not list(tmp_path.glob("*.level*"))


def test_blocks_are_computed_in_order_and_a_few_ahead():
    class Counted:
        shape, dtype, begun = (1, 40, 4), np.dtype(int), 0

        def __getitem__(self, key):
            Counted.begun += 1
            return np.full((1, 4, 4), key[1].start)

    spans = [(slice(n, n + 4), slice(0, 4)) for n in range(0, 40, 4)]
    with ThreadPoolExecutor(1) as pool:
        found = tiff_blocks.computed(pool, Counted(), slice(0, 1), iter(spans))
        (rows, _), block = next(found)
        assert (rows.start, block[0, 0, 0]) == (0, 0)
    with ThreadPoolExecutor(1) as pool:
        Counted.begun = 0
        rest = list(tiff_blocks.computed(pool, Counted(), slice(0, 1), iter(spans)))
        assert [int(block[0, 0, 0]) for _, block in rest] == list(range(0, 40, 4))
        assert Counted.begun == 10


# --- TIFF ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resolution", "unit", "size"),
    [
        ((10_000, 5_000), "CENTIMETER", (1, 2)),
        ((25_400, 50_800), "INCH", (1, 0.5)),
        ((72, 72), "INCH", None),  # how large to print it
        ((508.1, 508.1), "INCH", (25400 / 508.1, 25400 / 508.1)),
        ((507, 507), "INCH", None),
        ((72, 72), "CENTIMETER", (1e4 / 72, 1e4 / 72)),
        ((10_000, 10_000), "NONE", None),
        ((1, 1), "CENTIMETER", None),
        ((0.02, 0.02), "CENTIMETER", (5e5, 5e5)),
        ((0.005, 0.005), "CENTIMETER", None),
        ((5e7, 5e7), "CENTIMETER", (2e-4, 2e-4)),
        ((2e8, 2e8), "CENTIMETER", None),
    ],
)
def test_resolutions_are_sizes_of_pixels_in_micrometres(tmp_path, resolution, unit, size):
    tifffile.imwrite(tmp_path / "a.tif", noise((4, 5)), resolution=resolution, resolutionunit=unit)
    found = read_image(tmp_path / "a.tif").pixel_size
    if size is None:
        assert found is None
    else:
        assert (found.x, found.y, found.unit) == (
            pytest.approx(size[0], rel=1e-4),
            pytest.approx(size[1], rel=1e-4),
            "µm",
        )


def test_resolutions_of_imagej_have_its_unit(tmp_path):
    units = {
        "nm": 1e-3,
        "mm": 1e3,
        "inch": 25400,
        "\\u00B5m": 1,
        "um": 1,
        "cm": 1e4,
        "micron": 1,
        "furlong": None,
    }
    for unit, factor in units.items():
        tifffile.imwrite(
            tmp_path / "a.tif", noise((4, 5)), imagej=True, resolution=(4, 2), metadata={"unit": unit}
        )
        found = read_image(tmp_path / "a.tif").pixel_size
        assert found == (
            None if factor is None else pytest.approx(PixelSize(0.25 * factor, 0.5 * factor, "µm"))
        )


@pytest.mark.parametrize("unit", ["µm", "nm", "mm", "cm", "inch"])
def test_sizes_of_pixels_come_back(tmp_path, unit):
    image = Image(noise((1, 4, 5)), pixel_size=PixelSize(0.5, 0.25, unit))
    tiff_write.write(tmp_path / "a.tif", image)
    found = read_image(tmp_path / "a.tif").pixel_size
    factor = {"µm": 1, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "inch": 25400}[unit]
    assert (found.x, found.y) == pytest.approx((0.5 * factor, 0.25 * factor), rel=1e-5)
    assert tiff_tags.resolution_options(PixelSize(1, 1, "deg")) == tiff_tags.resolution_options(None) == {}


OME = ('<OME><Image><Pixels DimensionOrder="XYCZT" SizeX="4" SizeY="4" SizeC="{c}" SizeZ="{z}" SizeT="{t}">'
       "{channels}</Pixels></Image></OME>")  # fmt: skip


@pytest.mark.parametrize(
    ("c", "z", "t", "samples", "planes"),
    [(2, 3, 4, (1, 1), 24), (3, 2, 1, (3,), 2), (4, 1, 1, (3, 1), 2), (2, 3, 1, (), 6), (3, 1, 1, (2,), 3),
     (0, 1, 1, (), 0), (1, -1, 1, (1,), 0), (1, 1, 1, (0,), 0)],
)  # fmt: skip
def test_planes_that_ome_metadata_describe(c, z, t, samples, planes):
    channels = "".join(f'<Channel SamplesPerPixel="{n}"/>' for n in samples)
    text = OME.format(c=c, z=z, t=t, channels=channels)
    assert tiff_extent._ome_planes(text) == planes
    assert tiff_extent._ome_planes(text.replace("<Image>", '<Image><UUID FileName="b.tif"/>')) == 0
    assert tiff_extent._ome_planes(text.replace("XYCZT", "magic")) == 0
    assert tiff_extent._ome_planes(text[:-3]) == tiff_extent._ome_planes("") == 0
    assert (
        tiff_extent._ome_planes(text.replace("<Image>", "<Image/><Image>").replace("</OME>", text[5:]))
        == 2 * planes
    )


def test_complete_rows_of_segments_within_a_file():
    """Two planes of 3 × 2 segments of 10 bytes and 4 rows, of an image of 10 rows."""
    stored = list(range(0, 120, 10)), [10] * 12

    def rows(end, stored=stored):
        return tiff_extent.segment_rows(stored, (3, 2), 4, 10, end, 2)

    assert rows(120) == [10, 10]
    assert rows(119) == [10, 8]
    assert rows(80) == [10, 4]
    assert rows(79) == [10, 0]
    assert rows(39) == [4, 0]
    assert rows(0) == [0, 0]
    assert rows(120, (stored[0][:11], stored[1][:11])) == [10, 8]
    assert rows(999, (stored[0] + [500], stored[1] + [10])) == [10, 10]


def test_what_is_left_of_channels(tmp_path):
    def left(rows, allow=True):
        found = tiff_extent.rows_within(tmp_path, rows, 10, allow_truncated=allow)
        return found.channels, found.rows

    assert left([10, 10]) == left([10, 10], False) == (2, 10)
    assert left([10, 4, 10]) == (1, 10)
    assert left([4, 4]) == (1, 4)
    for rows, allow, what in (
        ([10, 4, 10], False, "1 of 3 channels are left"),
        ([4, 4], False, "4 of 10 rows are left"),
        ([4, 3], False, "4 of 10 rows of the first of 2 channels are left"),
        ([0, 0], True, "0 of 10 rows are left; copy the file again$"),
        ([4, 4], False, "4 of 10 rows are left; copy the file again, or read what is left with"),
    ):
        with pytest.raises(FileError, match=what):
            left(rows, allow)


def test_layouts_of_channels():
    def stored(channels, **more):
        return tiff_tags.layout(Image(noise((channels, 4, 4)), **more))

    assert stored(1, layout="planar") == stored(1) == ""
    assert (
        stored(3, colour="rgb")
        == stored(2, extra=(2,))
        == stored(3, colour="rgb", layout="pages")
        == "contig"
    )
    assert stored(3) == stored(3, layout="planar", kind="ome") == "planar"
    assert stored(3, kind="ome") == stored(3, layout="pages") == "pages"
    assert stored(3, layout="contig") == "contig"


def test_a_view_takes_chosen_elements_and_puts_channels_first():
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    view = tiff_pixels._View("TCYX", (("T", 1),))
    assert np.array_equal(view(array), array[1])
    assert view.planes(array.shape) == ([3, 4, 5], (4, 5))
    both = tiff_pixels._View("TCYX", (("T", 1), ("C", 2)))
    assert np.array_equal(both(array), array[1, 2][None])
    assert both.planes(array.shape) == ([5], (4, 5))
    last = tiff_pixels._View("TYXS", (("T", 0),))
    rgb = array.reshape(2, 4, 5, 3)
    assert np.array_equal(last(rgb), np.moveaxis(rgb[0], 2, 0))
    assert last.planes(rgb.shape) == ([0], (4, 5, 3))
    with pytest.raises(ValueError, match="are not stored plane by plane"):
        tiff_pixels._View("YXT", (("T", 0),)).planes((4, 5, 2))
    assert np.array_equal(tiff_pixels._Planes((1, 0))(array[0]), array[0, [1, 0]])
    assert np.array_equal(tiff_pixels._Planes((2,))(array[0]), array[0, 2][None])
    assert np.array_equal(tiff_pixels._Planes((1,))(rgb), np.moveaxis(rgb[1], 2, 0))


@pytest.mark.parametrize("code", range(10))
def test_the_orientation_of_a_tiff_is_from_1_to_8(tmp_path, code):
    tifffile.imwrite(tmp_path / "a.tif", noise((4, 5)), extratags=[(274, 3, 1, code, True)])
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tiff_metadata.orientation(tif.pages.first) == (code if 1 <= code <= 8 else 1)


UPRIGHT = {
    1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: np.transpose,
    6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).T, 8: np.rot90,
}  # fmt: skip


@pytest.mark.parametrize("code", UPRIGHT)
def test_pixels_are_upright_and_their_windows_too(tmp_path, code):
    stored = noise((40, 70))
    for tile in (None, (16, 16)):
        tifffile.imwrite(tmp_path / "a.tif", stored, extratags=[(274, 3, 1, code, True)], tile=tile)
        found, wanted = open_image(tmp_path / "a.tif"), UPRIGHT[code](stored)
        assert np.array_equal(found.pixels[EVERYTHING][0], wanted)
        assert np.array_equal(found.pixels[:, 3:20, 5:31][0], wanted[3:20, 5:31])


# --- windows ---------------------------------------------------------------------------------------------


def segmented(path, pixels, side, *, samples=1, missing=()):
    """Pixels (c, h, w) as zlib-compressed segments, one plane of segments per group of channels."""
    channels, height, width = pixels.shape
    data, offsets, lengths = b"", [], []
    for c in range(0, channels, samples):
        for y in range(0, height, side[0]):
            for x in range(0, width, side[1]):
                block = np.moveaxis(pixels[c : c + samples, y : y + side[0], x : x + side[1]], 0, 2)
                packed = zlib.compress(struct.pack("HHH", *block.shape) + block.tobytes())
                offsets.append(len(data))
                lengths.append(0 if len(offsets) - 1 in missing else len(packed))
                data += packed
    path.write_bytes(data)

    def decode(content, index):
        raw = zlib.decompress(content)
        return np.frombuffer(raw[6:], pixels.dtype).reshape(struct.unpack("HHH", raw[:6]))

    return windows.Segmented(
        path, pixels.shape, pixels.dtype, side, channels // samples, samples, ((offsets, lengths),), decode
    )


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("side", [(7, 9), (50, 60), (4, 3)])
def test_windows_of_segments_are_those_of_the_image(tmp_path, samples, side):
    pixels = noise((4, 23, 31), np.uint16)
    made = segmented(tmp_path / "a", pixels, side, samples=samples)
    rng = np.random.default_rng(1)
    for _ in range(12):
        key = tuple(slice(*np.sort(rng.integers(0, n + 1, 2)).tolist()) for n in pixels.shape)
        assert np.array_equal(made[key], pixels[key])
    assert np.array_equal(made[EVERYTHING], pixels)


def test_segments_are_cached_within_a_limit_and_missing_ones_are_zero(tmp_path, monkeypatch):
    pixels = noise((1, 20, 20), np.uint16) | 1
    made = segmented(tmp_path / "a", pixels, (10, 10), missing=(1,))
    found = made[EVERYTHING]
    assert not found[:, :10, 10:].any()
    assert np.array_equal(found[:, 10:], pixels[:, 10:])
    (tmp_path / "a").write_bytes(b"")
    assert np.array_equal(made[EVERYTHING], found)  # from the cache
    other = segmented(tmp_path / "b", pixels, (10, 10))
    monkeypatch.setattr(windows, "CACHE_BYTES", 2 * 10 * 10 * 2)
    _ = other[EVERYTHING]
    assert sorted(other._cache) == [(0, 1, 0), (0, 1, 1)]  # the last two
    _ = other[:, 10:, :10]
    _ = other[:, :10, :10]
    assert sorted(other._cache) == [(0, 0, 0), (0, 1, 0)]  # the least recently used one is forgotten
    (tmp_path / "b").write_bytes(b"")
    with pytest.raises(FileError, match="cannot be read at row 0, column 10"):
        _ = other[:, 3:5, 12:13]


def test_many_segments_of_a_quarter_of_a_megabyte_stay_in_memory(tmp_path):
    pixels = np.broadcast_to(np.uint8(7), (1, 2048, 2048))
    made = segmented(tmp_path / "a", pixels, (512, 512))
    _ = made[EVERYTHING]
    assert len(made._cache) == 16


def test_mapped_pixels_are_read_from_their_offset(tmp_path):
    stored = noise((3, 4, 5), ">u2")
    (tmp_path / "a").write_bytes(b"head" + stored.tobytes())
    made = windows.Mapped(tmp_path / "a", 4, (3, 4, 5), np.dtype(">u2"), lambda x: x[:, ::-1])
    assert (made.shape, made.dtype) == ((3, 4, 5), np.uint16)
    assert np.array_equal(made[1:, 1:3, 2:], stored[:, ::-1][1:, 1:3, 2:])
    assert made[EVERYTHING].dtype.isnative
    (tmp_path / "a").write_bytes(b"head")
    with pytest.raises(FileError, match="cannot be read any more"):
        _ = made[EVERYTHING]


# --- the working image -----------------------------------------------------------------------------------


def test_a_working_level_has_the_means_of_blocks_of_valid_pixels(monkeypatch):
    pixels = noise((1, 61, 90), np.float32) + 1
    pixels[0, 10:13, 20:26] = np.nan
    pixels[0, 30, 40] = 9.0  # of no data
    validity = Validity(Image(pixels), nodata=9.0)
    for band in (images_pixels.BAND, 1):
        monkeypatch.setattr(images_pixels, "BAND", band)
        level, _ = working.working_level(validity.image, validity, 30)
        assert level.image.shape == (1, 20, 30)
        for row, column in np.ndindex(20, 30):
            block = pixels[0, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
            good = np.isfinite(block) & (block != 9)
            assert float(level.mask[0, row, column]) == pytest.approx(good.mean(), abs=1e-6)
            if good.any():
                assert float(level.image[0, row, column]) == pytest.approx(block[good].mean(), rel=1e-5)
    part = working.working_part(validity.image, validity, 30, slice(12, 42), slice(30, 60))
    assert part.image.shape == (1, 30, 30)
    assert np.allclose(part.image[0, 0, 0], pixels[0, 12, 30])


@pytest.mark.parametrize(("size", "scale"), [(30, 2), (31, 1), (15, 4), (16, 2), (60, 1), (20, 2)])
def test_the_coarsest_level_that_is_large_enough_is_read(size, scale):
    pixels = noise((1, 40, 60))
    image = Image(pixels, smaller=(pixels[:, ::2, ::2], pixels[:, ::4, ::4]))
    level, _ = working.working_level(image, Validity(image), size)
    assert level.original_from_level.numpy() == pytest.approx(affine.scaling(scale, scale))
    assert level.image.shape[1:] == (40 // scale, 60 // scale)


def test_pixels_are_valid_by_their_opacity_values_and_mask():
    pixels = np.full((2, 4, 4), 5, np.uint8)
    pixels[1, 0], pixels[0, 1], pixels[0, 2, 2] = 0, 7, 8
    mask = np.full((1, 4, 4), 255, np.uint8)
    mask[0, 3, 3] = 0
    image = Image(pixels, extra=(2,), nodata=7.0)
    wanted = np.ones((4, 4), bool)
    wanted[:2], wanted[2, 2], wanted[3, 3] = False, False, False
    found = Validity(image, 8.0, mask).pixels()
    assert (found.shape, found.dtype) == ((1, 4, 4), np.uint8)
    assert np.array_equal(found[EVERYTHING][0], wanted * 255)
    assert np.array_equal(found[:, 1:3, 2:4][0], wanted[1:3, 2:4] * 255)
    assert Validity(Image(pixels)).everywhere
    for unsure in (Validity(image), Validity(Image(pixels), 3.0), Validity(Image(pixels), None, mask),
                   Validity(Image(pixels.astype(np.float32)))):  # fmt: skip
        assert not unsure.everywhere
    assert Validity(Image(pixels), float("nan")).everywhere


def test_a_mask_of_a_coarser_level_is_that_of_the_nearest_pixels():
    mask = noise((1, 40, 60))
    found = working._nearest(mask, slice(2, 8), slice(3, 9), (4.0, 5.0))
    wanted = mask[0, np.arange(2, 8) * 4 + 2][:, np.arange(3, 9) * 5 + 2]
    assert np.array_equal(found[0], wanted)
    assert np.array_equal(working._nearest(mask, slice(9, 11), slice(0, 60), (4.0, 1.0))[0, 1], mask[0, 39])


def test_a_large_image_is_sampled_in_windows_and_a_small_one_read_whole():
    pixels = np.broadcast_to(np.arange(3000, dtype=np.uint16), (1, 300, 3000))
    found, valid = working.sample(Image(pixels), Validity(Image(pixels)))
    assert found.shape == (1, 300, 1024)
    assert valid.all()
    starts = [int(found[0, 0, n]) for n in (0, 256, 512, 768)]
    assert starts == [0, 914, 1829, 2744]
    small = pixels[:, :, :1024]
    assert working.sample(Image(small), Validity(Image(small)))[0].shape == (1, 300, 1024)
    coarse = pixels[:, :, :600]
    image = Image(pixels, smaller=(pixels[:, :, :1500], coarse))
    assert working.sample(image, Validity(image))[0].shape == (1, 300, 600)
    image = Image(pixels, smaller=(pixels[:, :, :511],))
    assert working.sample(image, Validity(image))[0].shape == (1, 300, 1024)


# --- pictures --------------------------------------------------------------------------------------------


def test_a_colour_picture_has_the_means_of_blocks():
    pixels = noise((3, 41, 62))
    found = colours.colour_picture(Image(pixels, colour="rgb"), 20)
    assert found.rgb.shape == (13, 20, 3)
    assert found.factors == (3, 3)
    wanted = pixels[:, :39, :60].reshape(3, 13, 3, 20, 3).mean((2, 4)) / 255
    assert found.rgb == pytest.approx(np.moveaxis(wanted, 0, 2), abs=1e-6)
    pyramid = Image(pixels, colour="rgb", smaller=(pixels[:, ::2, ::2],))
    assert colours.colour_picture(pyramid, 20).factors == (2, 2)
    assert colours.colour_picture(pyramid, 40).factors == (1, 1)
    assert colours.colour_picture(Image(pixels[:1])) is None
    assert colours.colour_picture(Image(pixels[:2], extra=(2,))) is None
    assert colours.colour_picture(Image(noise((4, 9, 9)), colour="cmyk")) is None
    dark = Image(noise((3, 30, 30), np.uint16) // 64, colour="rgb")
    assert colours.colour_picture(dark).rgb.max() == 1


def test_channels_are_drawn_in_their_colours():
    ramp = np.broadcast_to(np.linspace(0, 1000, 1001, dtype=np.float32), (20, 1001))
    image = Image(np.stack([ramp, ramp[:, ::-1]]), channel_colours=(0xFF0000FF - 2**32, 0x0080FFFF))
    found = colours.colour_picture(image).rgb
    share = ((np.arange(1001) - 10) / (998 - 10)).clip(0, 1)
    assert found[5, :, 0] == pytest.approx(share, abs=1e-5)
    assert found[5, :, 1] == pytest.approx(share[::-1] * 128 / 255, abs=2e-3)
    assert found[5, :, 2] == pytest.approx(((1000 - np.arange(1001) - 10) / 988).clip(0, 1), abs=1e-5)
    usual = colours.colour_picture(Image(np.stack([ramp, ramp * 0]))).rgb
    assert usual[5, -1] == pytest.approx([0x20 / 255, 0x40 / 255, 1])
    many = colours.colour_picture(Image(np.stack([ramp * 0] * 6 + [ramp]))).rgb
    assert not many.any()  # six are drawn


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16", "P", "1", "CMYK", "RGB;16"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
@pytest.mark.parametrize("turned", [1, 6])
def test_a_header_states_what_the_pixels_will_be(tmp_path, mode, suffix, turned):
    path = tmp_path / f"a{suffix}"
    if mode == "RGB;16":
        if suffix != ".png":
            pytest.skip("PNG alone has colour of 16 bits")
        png.write(path, noise((3, 9, 7), np.uint16), b"profile")
    else:
        picture = (
            Pillow.fromarray(noise((9, 7), np.uint16))
            if mode == "I;16"
            else Pillow.fromarray(noise((9, 7, 3))).convert(mode)
        )
        exif = Pillow.Exif()
        exif[0x0112] = turned
        try:
            picture.save(path, exif=exif) if suffix != ".bmp" else picture.save(path)
        except (OSError, ValueError):
            pytest.skip(f"{suffix} has no {mode}")
    known, read = header(path, Selection()), raster.read(path, Selection())
    for name in ("size", "channels", "dtype", "colour", "kind", "extra"):
        assert getattr(known, name) == getattr(read, name), name
    assert (known.palette is None) == (read.palette is None)
    if mode in ("L", "RGB", "RGB;16") or (mode, suffix) == ("RGBA", ".png"):
        assert known.pixels.strides == (0, 0, 0)  # nothing is decoded
    if mode == "RGB;16":
        assert read.icc == b"profile"
        assert np.array_equal(read.pixels, noise((3, 9, 7), np.uint16))
    with pytest.raises(FileError, match="has one series and one level"):
        header(path, Selection(level=1))


def test_an_animation_of_two_frames_is_refused_by_its_header_too(tmp_path):
    frames = [Pillow.fromarray(noise((9, 7, 3), seed=n)) for n in (0, 1)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    for read in (header, raster.read):
        with pytest.raises(FileError, match="is an animation of 2 frames"):
            read(tmp_path / "a.png", Selection())


def test_jpeg_in_a_tiff_has_the_quality_90_unless_another_is_given(tmp_path):
    image, sizes = Image(noise((3, 600, 600)), colour="rgb"), {}
    for quality in (None, 90, 91, 50):
        tiff_write.write(tmp_path / "a.tif", image, compression="jpeg", jpeg_quality=quality)
        sizes[quality] = (tmp_path / "a.tif").stat().st_size
    assert sizes[None] == sizes[90]
    assert sizes[50] < sizes[90] < sizes[91]
    with pytest.raises(FileError, match="JPEG cannot hold grey pixels of uint16"):
        tiff_write.write(tmp_path / "a.tif", Image(noise((1, 9, 9), np.uint16)), compression="jpeg")


@pytest.mark.parametrize(("unit", "factor"), [("nm", 1e-3), ("µm", 1), ("um", 1), ("pm", 1e-6), ("mm", 1e3)])
def test_what_makers_of_microscopes_state_is_in_micrometres(unit, factor):
    sem = SimpleNamespace(sem_metadata={"ap_image_pixel_size": ("Pixel Size", 2.5, f" {unit} ")})
    found = tiff_vendors._sem(sem, None).pixel_size
    assert (found.xy, found.unit) == (pytest.approx((2.5 * factor, 2.5 * factor)), "µm")
    assert (
        tiff_vendors._sem(SimpleNamespace(sem_metadata={"ap_pixel_size": ("", 0.0, unit)}), None).pixel_size
        is None
    )
    fei = SimpleNamespace(fei_metadata={"EScan": {"PixelWidth": 2e-9, "PixelHeight": 3e-9}})
    assert tiff_vendors._fei(fei, None).pixel_size.xy == pytest.approx((2e-3, 3e-3))
    known = {"VoxelSizeX": 2e-7, "VoxelSizeY": 3e-7}
    known["ChannelColors"] = {"ColorNames": ["a", "b"], "Colors": [[255, 0, 0, 0], [1, 2, 3, 0]]}
    lsm = tiff_vendors._lsm(SimpleNamespace(lsm_metadata=known), None)
    assert lsm.pixel_size.xy == pytest.approx((0.2, 0.3))
    assert lsm.names == ("a", "b")
    assert lsm.colours == (lookup_tables.signed_colour(255, 0, 0), lookup_tables.signed_colour(1, 2, 3))


def test_a_png_is_read_by_pillow_as_it_was_written(tmp_path):
    for channels, dtype in ((1, np.uint8), (3, np.uint8), (4, np.uint8), (1, np.uint16)):
        pixels = noise((channels, 9, 7), dtype)
        png.write(tmp_path / "a.png", pixels, b"colours")
        with Pillow.open(tmp_path / "a.png") as picture:
            found = np.asarray(picture)
            assert picture.info["icc_profile"] == b"colours"
        assert np.array_equal(found, pixels[0] if channels == 1 else np.moveaxis(pixels, 0, 2))
        assert png.colour_profile(tmp_path / "a.png") == b"colours"
    png.write(tmp_path / "b.png", pixels, None)
    assert png.colour_profile(tmp_path / "b.png") is None


def test_a_picture_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(raster, "LARGEST", 5 * 7 * 3)
    png.write(tmp_path / "a.png", noise((3, 5, 7)), None)
    assert raster.read(tmp_path / "a.png", Selection()).size == (5, 7)
    png.write(tmp_path / "a.png", noise((3, 5, 8)), None)
    with pytest.raises(FileError, match="is 8 × 5 pixels, too large"):
        raster.read(tmp_path / "a.png", Selection())


def test_indexed_pictures_keep_their_colours(tmp_path):
    picture = Pillow.new("P", (4, 1))
    picture.putdata([0, 1, 2, 2])
    picture.putpalette([10, 20, 30, 200, 100, 0, 255, 255, 255])
    picture.save(tmp_path / "a.png")
    found = raster.read(tmp_path / "a.png", Selection())
    assert (found.colour, found.palette.shape) == ("palette", (3, 256))
    assert found.palette[:, :3].T.tolist() == [
        [10 * 257, 20 * 257, 30 * 257],
        [200 * 257, 100 * 257, 0],
        [65535] * 3,
    ]
    assert not found.palette[:, 3:].any()
    assert found.coloured().pixels[EVERYTHING][:, 0].T.tolist() == [
        [10, 20, 30],
        [200, 100, 0],
        [255] * 3,
        [255] * 3,
    ]
    raster.write_png(tmp_path / "b.png", found)
    with Pillow.open(tmp_path / "b.png") as again:
        assert np.asarray(again.convert("RGB"))[0, 1].tolist() == [200, 100, 0]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"P1 3 2 # bits\n1 0 1\n011", [[False, True, False], [True, False, False]]),
        (b"P4\n3 2\n\xa0\x60", [[False, True, False], [True, False, False]]),
        (b"P2 2 1 255\n7 255", [[7, 255]]),
        (b"P2 2 1 256\n7 256", [[7, 256]]),
        (b"P3 1 1 9\n1 2 #c\n 3", [[[1, 2, 3]]]),
        (b"P5 2 1 255\n\x07\xff", [[7, 255]]),
        (b"P5 1 1 65535\n\x01\x02", [[258]]),
        (b"P6 1 1 255\n\x01\x02\x03", [[[1, 2, 3]]]),
        (b"Pf 1 2 -1\n" + struct.pack("<ff", 1.5, 2.5), [[2.5], [1.5]]),
        (b"Pf 1 2 1\n" + struct.pack(">ff", 1.5, 2.5), [[2.5], [1.5]]),
        (b"PF 1 1 -1\n" + struct.pack("<fff", 1, 2, 3), [[[1, 2, 3]]]),
    ],
)
def test_netpbm(tmp_path, content, wanted):
    (tmp_path / "a").write_bytes(content)
    found = netpbm.decode(tmp_path / "a")
    assert found.tolist() == wanted
    deep = max(np.max(wanted), 0) > 255
    kind = {b"P1": "bool", b"P4": "bool", b"Pf": "float32", b"PF": "float32"}.get(content[:2])
    assert found.dtype == (kind or ("uint16" if deep or b"65535" in content else "uint8"))
    assert netpbm.matches(content[:4])


@pytest.mark.parametrize(
    "content",
    [b"P5 2 1 255\n\x07", b"P2 2 1 255\n7", b"P2 2 1 9\n7 10", b"P2 1 1 9\n-1", b"P5 1 1 65536\n\0\0",
     b"P5 1 1 0\n\0", b"P5 1 1 ", b"P5 1 1 100\n\xff"],
)  # fmt: skip
def test_damaged_netpbm(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match=r"incomplete|largest"):
        netpbm.decode(tmp_path / "a")


@pytest.mark.parametrize(
    ("dtype", "deep"), [(np.uint8, False), (np.uint16, True), (np.int8, True), (np.int16, True)]
)
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3)])
@pytest.mark.parametrize("codec", ["jp2", "j2k"])
def test_the_depth_and_size_of_jpeg_2000(tmp_path, dtype, deep, shape, codec):
    values = (np.random.default_rng(0).integers(0, 100, shape)).astype(dtype)
    path = tmp_path / "a.jp2"
    path.write_bytes(imagecodecs.jpeg2k_encode(values, level=0, codecformat=codec))
    assert jpeg2000.is_deep(path) == deep
    assert jpeg2000.size(path) == (7, 9)
    assert np.array_equal(jpeg2000.decode(path), values)
    path.write_bytes(b"\xff\x4f\xff")
    assert not jpeg2000.is_deep(path)


def test_ramps_and_their_colours():
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)

    def table(red, green, blue):
        return np.stack([ramp * red, ramp * green, ramp * blue]).astype(np.uint16)

    assert lookup_tables.ramp_colour(table(1, 0, 0)) == (255, 0, 0)
    assert lookup_tables.ramp_colour(table(0, 1, 0)[:, ::-1]) == (0, 255, 0)
    assert lookup_tables.ramp_colour(table(1, 0.5, 0)) == (255, 127, 0)
    assert lookup_tables.ramp_colour(noise((3, 256), np.uint16)) is None
    assert lookup_tables.is_grey(table(1, 1, 1))
    assert not lookup_tables.is_grey(table(1, 1, 1)[:, ::-1])
    coarse = (np.arange(256) // 4 * 1028).astype(np.uint16)  # 64 steps are colours of a picture
    assert lookup_tables.ramp_colour(np.stack([coarse] * 3)) is None
    half = (np.arange(256) // 2 * 514).astype(np.uint16)
    assert lookup_tables.ramp_colour(np.stack([half] * 3)) is not None
    assert lookup_tables.signed_colour(255, 0, 0) == struct.unpack(">i", b"\xff\0\0\xff")[0]
    assert lookup_tables.signed_colour(1, 2, 3) == struct.unpack(">i", b"\x01\x02\x03\xff")[0]
    assert lookup_tables.channel_colours([table(1, 0, 0), table(1, 1, 1)]) == (-16776961, -1)
    assert lookup_tables.channel_colours([table(1, 1, 1)] * 2) == lookup_tables.channel_colours([]) == ()
    assert lookup_tables.channel_colours([table(1, 0, 0), noise((3, 256), np.uint16)]) == ()
    assert lookup_tables.resized(np.arange(12).reshape(3, 4), 8)[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert lookup_tables.resized(np.arange(12).reshape(3, 4), 2)[0].tolist() == [0, 2]


@pytest.mark.parametrize(
    ("plane", "axes", "shape", "wanted"),
    [
        (None, "YX", (4, 5), {}),
        (None, "CYX", (3, 4, 5), {}),
        (None, "YXS", (4, 5, 3), {}),
        (None, "TCYX", (1, 3, 4, 5), {"T": 0}),
        ("z=2", "ZYX", (3, 4, 5), {"Z": 2}),
        ("Z=1, t=0", "TZYX", (1, 3, 4, 5), {"Z": 1, "T": 0}),
        ("C=1", "CYX", (3, 4, 5), {"C": 1}),
        (
            None,
            "ZYX",
            (3, 4, 5),
            r"is a stack with axes ZYX \(3 × 4 × 5\); choose one plane: align --fixed-plane Z=0",
        ),
        ("Z=0", "TZYX", (2, 3, 4, 5), "--fixed-plane T=0"),
        ("Z=3", "ZYX", (3, 4, 5), "has no plane Z=3; its axes besides x and y: Z of 3; count from 0"),
        ("T=0", "YX", (4, 5), "its axes besides x and y: none"),
        ("X=0", "YX", (4, 5), "cannot be read at plane 'X=0'"),
        ("Z=a", "ZYX", (3, 4, 5), "cannot be read at plane 'Z=a'"),
        (None, "CYXS", (2, 4, 5, 3), "is a stack .* --plane C=0$"),
    ],
)
def test_a_plane_of_a_stack_is_chosen_by_the_names_of_its_axes(plane, axes, shape, wanted):
    chosen = Selection(plane=plane)
    if isinstance(wanted, dict):
        assert chosen.indices(Path("a"), axes, shape) == wanted
    else:
        with pytest.raises(FileError, match=wanted):
            chosen.indices(Path("a"), axes, shape)


def test_what_an_image_says_of_itself():
    image = Image(noise((4, 5, 6), np.uint16), colour="rgb", extra=(1,), pixel_size=PixelSize(1, 2, "mm"))
    assert (image.size, image.channels, image.nbytes, image.white, image.pixel_unit) == (
        (5, 6),
        4,
        240,
        65535,
        "mm",
    )
    assert image.alpha
    assert image.picture().shape == (5, 6, 3)
    assert not Image(noise((4, 5, 6)), extra=(0,)).alpha
    assert Image(noise((1, 5, 6), np.int16)).white is None
    assert Image(noise((1, 5, 6))).pixel_unit is None
    table = np.array([[0, 257], [256, 512], [768, 1024]], np.uint16)
    indexed = Image(np.array([[[0, 1]]], np.uint8), colour="palette", palette=table)
    assert indexed.coloured().dtype == np.uint16
    assert indexed.coloured().pixels[EVERYTHING][:, 0, 1].tolist() == [257, 512, 1024]
    assert Image(np.array([[[0, 1]]], np.uint8), palette=table & 0xFF00).coloured().dtype == np.uint8
    assert Image(np.array([[[0, 1]]], np.uint8), palette=table // 256 * 257).coloured().dtype == np.uint8
    assert Image(np.array([[[0, 1]]], np.uint16), palette=table // 256 * 257).coloured().dtype == np.uint16


# --- OME-Zarr --------------------------------------------------------------------------------------------


def test_a_zarr_has_chunks_shards_levels_and_places(tmp_path):
    pixels = noise((2, 600, 1100), np.uint16)
    image = Image(pixels, pixel_size=PixelSize(0.5, 0.25, "µm"), position=(10.0, 20.0, "µm"), nodata=3.0,
                  channel_names=("a",), channel_colours=(-16776961, 0x0102FF))  # fmt: skip
    ticks = []
    zarr_write.write(
        tmp_path / "a.zarr", image, zarr_write.ChunkLayout(128, "deflate"), name="n", tick=ticks.append
    )
    root = zarr.open_group(tmp_path / "a.zarr", mode="r")
    shapes = [root[str(n)].shape for n in range(3)]
    assert shapes == [(2, 600, 1100), (2, 300, 550), (2, 150, 275)]
    assert sum(ticks) == sum(map(np.prod, shapes))
    assert (root["0"].chunks, root["0"].shards) == ((1, 128, 128), (1, 512, 512))
    assert (root["2"].chunks, root["2"].shards) == ((1, 128, 128), (1, 256, 384))
    assert root["0"].fill_value == 3
    assert np.array_equal(root["0"][:], pixels)
    assert np.array_equal(root["1"][:], tiff_blocks.smaller_block(pixels, sampled=False))
    (multiscale,) = root.attrs["ome"]["multiscales"]
    steps = [each["coordinateTransformations"] for each in multiscale["datasets"]]
    assert [each[0]["scale"] for each in steps] == [[1, 0.25, 0.5], [1, 0.5, 1], [1, 1, 2]]
    assert [each[1]["translation"] for each in steps] == [[0, 20, 10], [0, 20.125, 10.25], [0, 20.375, 10.75]]
    channels = root.attrs["ome"]["omero"]["channels"]
    assert [(each["label"], each["color"]) for each in channels] == [("a", "FF0000"), ("", "000102")]
    assert all(each["active"] for each in channels)
    low, high = np.percentile(root["2"][1].astype(float), (0.1, 99.9))
    assert channels[1]["window"] == {"min": 0, "max": 65535, "start": low, "end": high}
    found = open_image(tmp_path / "a.zarr")
    assert (found.nodata, found.position, found.pixel_size) == (3, (10, 20, "µm"), image.pixel_size)
    assert [level.shape for level in found.smaller] == shapes[1:]


def test_a_zarr_without_a_size_of_pixels_has_steps_of_pixels(tmp_path):
    zarr_write.write(tmp_path / "a.zarr", Image(noise((1, 600, 400))), zarr_write.ChunkLayout(), nearest=True)
    root = zarr.open_group(tmp_path / "a.zarr", mode="r")
    (multiscale,) = root.attrs["ome"]["multiscales"]
    steps = [each["coordinateTransformations"] for each in multiscale["datasets"]]
    assert [each[0]["scale"] for each in steps] == [[1, 1, 1], [1, 2, 2]]
    assert steps[1][1]["translation"] == [0, 0.5, 0.5]
    assert len(steps[0]) == 1
    assert [axis.get("unit") for axis in multiscale["axes"]] == [None, None, None]
    (channel,) = root.attrs["ome"]["omero"]["channels"]
    assert channel["color"] == "FFFFFF"
    assert np.array_equal(root["1"][:], root["0"][:, ::2, ::2])


def test_contrast_of_values():
    assert zarr_metadata._contrast(np.full(9, 4)) == (4, 5)
    assert zarr_metadata._contrast(np.array([np.nan, np.inf])) == (0, 1)
    assert zarr_metadata._contrast(np.array([np.nan, 1.0, 1.0])) == (1, 2)
    assert zarr_metadata._contrast(np.arange(1001)) == pytest.approx((1, 999))


def test_planes_of_a_volume(tmp_path):
    planes = [Image(noise((1, 40, 50), seed=n), pixel_size=PixelSize(1, 2, "mm")) for n in (0, 1)]
    zarr_write.write_planes(
        tmp_path / "a.zarr", [planes[0], None, planes[1]], zarr_write.ChunkLayout(), step=7.0
    )
    root = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert root["0"].shape == (1, 3, 40, 50)
    assert np.array_equal(root["0"][0, 0], planes[0].pixels[0])
    assert not root["0"][0, 1].any()
    assert np.array_equal(root["0"][0, 2], planes[1].pixels[0])
    (multiscale,) = root.attrs["ome"]["multiscales"]
    assert [axis["name"] for axis in multiscale["axes"]] == ["c", "z", "y", "x"]
    assert [axis.get("unit") for axis in multiscale["axes"]] == [
        None,
        "millimeter",
        "millimeter",
        "millimeter",
    ]
    assert multiscale["datasets"][0]["coordinateTransformations"] == [
        {"type": "scale", "scale": [1, 7, 2, 1]}
    ]


@pytest.mark.parametrize("size", [0, 1, 200, 255, 256, 300, 65791, 65792, 100_000])
def test_the_size_that_a_zstandard_frame_states(size):
    frame = imagecodecs.zstd_encode(bytes(size))
    assert zarr_chunks._zstd_size(frame[:18]) == size
    assert zarr_chunks._zstd_size(b"other" * 4) == 0


@pytest.mark.parametrize("single", [0, 1])
@pytest.mark.parametrize(("kind", "named"), [(0, 0), (1, 1), (2, 2), (3, 4)])
@pytest.mark.parametrize(("flag", "width"), [(1, 2), (2, 4), (3, 8)])
def test_the_header_of_a_zstandard_frame_by_rfc_8878(single, kind, named, flag, width):
    """The size follows the descriptor, a byte of the window unless the segment is single, a dictionary."""
    head = (
        zarr_chunks.ZSTD + bytes([flag << 6 | single << 5 | kind]) + b"\x50" * (1 - single) + b"\x07" * named
    )
    size = 1234
    stated = (size - (256 if width == 2 else 0)).to_bytes(width, "little")
    assert zarr_chunks._zstd_size(head + stated + b"\xff" * 9) == size


@pytest.mark.parametrize("step", [2**20, 100])
def test_a_chunk_that_inflates_past_its_shape_is_found(monkeypatch, step):
    monkeypatch.setattr(zarr_chunks, "STEP", step)
    packed = zlib.compress(bytes(1000))
    for expected, wrong in ((1000, False), (1001, False), (999, True)):
        found = zarr_chunks._inflated(packed, zlib.decompressobj(), expected)
        assert (found is not None) == wrong
    assert zarr_chunks._inflated(packed[:9], zlib.decompressobj(), 1000) is None  # left to the codec
