"""Coordinates of a map are not pixels; what a GeoTIFF says about its pixels and bands is read and kept."""

import json
import sqlite3

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import Affine

from register import Transform
from register.errors import FileError
from register.files.hashes import sha256
from register.geometry import affine
from register.io.images.geotiff import map_from_pixel
from register.io.images.masks import read_mask
from register.io.images.open import open_image
from register.io.points.open import read_points
from register.transforms.transform import Frame
from register.workflows.apply import apply
from register.workflows.points import map_points

RNG = np.random.default_rng(2)
H, W = 80, 100
BERLIN = [[13.40512, 52.51231], [13.40745, 52.51298], [13.40811, 52.51107], [13.40512, 52.51231]]
PIXELS = [[10, 10], [60.5, 12.25], [40, 70], [10, 10]]


def from_origin(west, north, width, height):
    return Affine(width, 0, west, 0, -height, north)


def geotiff(path, bands=2, crs=32633, transform=None, dtype="uint16", **options):
    transform = transform or from_origin(500000, 4600000, 10.0, 20.0)
    values = RNG.integers(0, 3000, (bands, H, W)).astype(dtype)
    profile = {
        "driver": "GTiff",
        "height": H,
        "width": W,
        "count": bands,
        "dtype": dtype,
        "transform": transform,
    }
    with rasterio.open(path, "w", crs=crs and CRS.from_epsg(crs), **profile, **options) as file:
        file.write(values)
        file.descriptions = tuple(f"B{n} – µ" for n in range(bands))
        file.scales, file.offsets = (0.0001,) * bands, (-0.1,) * bands
        file.update_tags(SENSOR="MSI", ns="")
        file.update_tags(1, WAVELENGTH="490", STATISTICS_MEAN="17.5")
    return values


@pytest.mark.parametrize(("crs", "transform", "expected"), [
    (32633, None, (10.0, 20.0, "m")),
    (32633, Affine(6, -8, 500000, -8, -6, 4600000), (10.0, 10.0, "m")),
    (2263, None, (10.0, 20.0, "US survey ft")),
    (4326, from_origin(13, 52, 0.001, 0.002), (0.001, 0.002, "°")),
    (None, None, (10.0, 20.0, None)),
])  # fmt: skip
def test_the_pixel_size_of_a_geotiff_has_the_unit_of_its_map(tmp_path, program, crs, transform, expected):
    geotiff(tmp_path / "a.tif", crs=crs, transform=transform)
    found = open_image(tmp_path / "a.tif").pixel_size
    assert (found.x, found.y) == pytest.approx(expected[:2])
    assert found.unit == expected[2]
    told = json.loads(program("info", tmp_path / "a.tif", "--json").stdout)["files"][0]
    assert (told["pixel_size"], told["pixel_unit"]) == (list(found.xy), expected[2])


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_apply_places_its_result_where_the_fixed_image_lies(tmp_path):
    place = from_origin(500000, 4600000, 10.0, 20.0)
    geotiff(tmp_path / "fixed.tif", transform=place)
    geotiff(tmp_path / "moving.tif", transform=from_origin(1, 2, 3, 4), crs=32634)
    fixed = Frame(W, H, None, str(tmp_path / "fixed.tif"), sha256(tmp_path / "fixed.tif"))
    transform = Transform("affine", fixed, Frame(W, H), affine.identity())
    apply(transform, [tmp_path / "moving.tif"], tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as file:
        assert (file.transform, file.crs.to_epsg()) == (place, 32633)
    geotiff(tmp_path / "fixed.tif", transform=place)  # another image of this name
    apply(transform, [tmp_path / "moving.tif"], tmp_path / "b.tif")
    with rasterio.open(tmp_path / "b.tif") as file:
        assert (file.transform, file.crs) == (Affine.identity(), None)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_descriptions_scales_offsets_and_tags_of_bands_survive(tmp_path, program):
    geotiff(tmp_path / "fixed.tif")
    values = geotiff(
        tmp_path / "moving.tif",
        bands=3,
        nodata=0,
        compress="deflate",
        tiled=True,
        blockxsize=64,
        blockysize=64,
    )
    assert open_image(tmp_path / "moving.tif").channel_names == ("B0 – µ", "B1 – µ", "B2 – µ")
    Transform("affine", Frame(W, H), Frame(W, H), affine.identity()).save(tmp_path / "t.json")
    done = program("apply", tmp_path / "t.json", tmp_path / "moving.tif", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    with rasterio.open(tmp_path / "out" / "moving.tif") as file:
        assert np.array_equal(file.read(), values)
        assert file.descriptions == ("B0 – µ", "B1 – µ", "B2 – µ")
        assert (file.scales, file.offsets, file.nodata) == ((0.0001,) * 3, (-0.1,) * 3, 0)
        assert file.tags()["SENSOR"] == "MSI"
        assert file.tags(1) == {"WAVELENGTH": "490"}  # not the statistics of other pixels


def polygon(ring, **members):
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": geometry}], **members}


CRS84 = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
UTM = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (polygon(BERLIN, crs=CRS84), "CRS84"),
        (polygon([[500010, 4599990], [500020, 4599000], [500300, 4599100]], crs=UTM), "EPSG::32633"),
        (polygon(BERLIN), r"longitude and latitude \(WGS 84\)"),
        (
            polygon([[-71.05891, 42.36012], [-70.25471, 43.65911], [-77.03642, 38.90722]]),
            "longitude and latitude",
        ),
    ],
)
def test_geojson_in_the_coordinates_of_a_map_is_refused(tmp_path, program, content, message):
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(content))
    for read in (read_points, lambda name: read_mask(str(name), (H, W))):
        with pytest.raises(
            FileError, match=rf"a\.geojson: has coordinates in .*{message}.*, not in pixels; give"
        ):
            read(path)


@pytest.mark.parametrize("ring", [PIXELS, [[0, 0], [5, 0], [5, 5]], [[3.25, 4.5], [3.75, 4.5], [3.5, 4.75]],
                                  [[x + 0.123456, y - 0.654321] for x, y in PIXELS]])  # fmt: skip
def test_geojson_in_pixels_is_read(tmp_path, ring):
    (tmp_path / "a.geojson").write_text(json.dumps(polygon(ring)))
    assert np.allclose(read_points(tmp_path / "a.geojson") + 0.5, ring)


def test_vector_files_of_maps_are_refused_by_name_with_their_system(tmp_path, program):
    with sqlite3.connect(tmp_path / "a.gpkg") as database:
        database.execute("CREATE TABLE gpkg_spatial_ref_sys (srs_id, organization, organization_coordsys_id)")
        database.execute("CREATE TABLE gpkg_geometry_columns (srs_id)")
        database.execute("INSERT INTO gpkg_spatial_ref_sys VALUES (25832, 'EPSG', 25832)")
        database.execute("INSERT INTO gpkg_geometry_columns VALUES (25832)")
    database.close()
    (tmp_path / "a.shp").write_bytes(b"\0\0\x27\x0a")
    (tmp_path / "a.prj").write_text('PROJCS["ETRS89 / UTM zone 32N",GEOGCS["ETRS89"]]')
    (tmp_path / "b.shp").write_bytes(b"\0\0\x27\x0a")
    for name, message in {
        "a.gpkg": "is a GeoPackage in map coordinates (EPSG:25832)",
        "a.shp": "is a shapefile in map coordinates (ETRS89 / UTM zone 32N)",
        "b.shp": "is a shapefile in map coordinates (unknown system)",
    }.items():
        for read in (read_points, lambda path: read_mask(str(path), (H, W))):
            with pytest.raises(FileError) as error:
                read(tmp_path / name)
            assert message in str(error.value)


TURNED = Affine(6, -8, 500000, -8, -6, 4600000)


@pytest.mark.parametrize("transform", [None, TURNED], ids=["north up", "turned"])
@pytest.mark.parametrize("kind", ["Area", "Point"])
def test_the_place_of_a_pixel_is_that_of_gdal(tmp_path, transform, kind):
    geotiff(tmp_path / "a.tif", transform=transform)
    with rasterio.open(tmp_path / "a.tif", "r+") as file:
        file.update_tags(AREA_OR_POINT=kind)
    with rasterio.open(tmp_path / "a.tif") as file:
        there = [file.transform @ (x + 0.5, y + 0.5) for x, y in PIXELS]
    matrix = map_from_pixel(open_image(tmp_path / "a.tif").geotags)
    assert affine.apply(matrix, np.array(PIXELS)) == pytest.approx(np.array(there), abs=1e-6)
    assert map_from_pixel(()) is None


@pytest.fixture
def placed(tmp_path):
    """A transform between GeoTIFFs in metres and in degrees; moving pixels are fixed ones and (3, 4)."""
    geotiff(tmp_path / "fixed.tif", transform=TURNED)
    geotiff(tmp_path / "moving.tif", crs=4326, transform=from_origin(13, 52, 1e-5, 2e-5))
    fixed, moving = (
        Frame(W, H, path=str(path), sha256=sha256(path))
        for path in (tmp_path / "fixed.tif", tmp_path / "moving.tif")
    )
    return Transform("translation", fixed, moving, affine.translation(3, 4))


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_points_of_a_map_are_mapped_between_the_systems_of_both_images(tmp_path, placed, name):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pixels = np.array(PIXELS, float)
    given = np.array([TURNED @ (x + 0.5, y + 0.5) for x, y in pixels])
    if name == "a.csv":
        text = "\n".join(["e,n", *(f"{x!r},{y!r}" for x, y in given.tolist())])
        (tmp_path / name).write_text(text)
    else:
        parquet.write_table(arrow.table({"e": given[:, 0], "n": given[:, 1]}), tmp_path / name)
    out = tmp_path / "out" / name
    done = map_points(placed, tmp_path / name, out, columns="e,n", unit="map")
    assert (done.count, done.inside) == (4, 4)
    if name == "a.csv":
        found = np.loadtxt(out, delimiter=",", skiprows=1, usecols=(0, 1))
    else:
        table = parquet.read_table(out)
        found = np.stack([table["e"], table["n"]], axis=1)
    expected = [(13 + (x + 3.5) * 1e-5, 52 - (y + 4.5) * 2e-5) for x, y in pixels]
    assert found == pytest.approx(np.array(expected), abs=1e-9)  # a ten-thousandth of a pixel
    back = map_points(placed, out, tmp_path / f"back{name}", columns="e,n", unit="map", inverse=True)
    assert back.round_trip < 1e-6


def test_points_of_a_map_need_the_place_of_both_images(tmp_path, placed, program):
    (tmp_path / "a.csv").write_text("x,y\n500000,4600000\n")
    with pytest.raises(FileError, match="need no origin"):
        map_points(placed, tmp_path / "a.csv", tmp_path / "b.csv", unit="map", origin="corner")
    geotiff(tmp_path / "moving.tif")  # another image in its place
    with pytest.raises(FileError, match=r"a\.csv: has coordinates of a map, .*moving\.tif is not known"):
        map_points(placed, tmp_path / "a.csv", tmp_path / "b.csv", unit="map")
    placed.save(tmp_path / "t.json")
    done = program(
        "points", tmp_path / "t.json", tmp_path / "a.csv", "-o", tmp_path / "b.csv", "--unit", "map"
    )
    assert done.returncode == 1
    assert not (tmp_path / "b.csv").exists()
