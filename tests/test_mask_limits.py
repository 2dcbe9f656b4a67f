"""Masks, points of maps, lookup tables and pictures in colour at their limits."""

import json
import sqlite3
import struct
from contextlib import closing

import numpy as np
import pytest

from register.errors import FileError
from register.images.pixels import EVERYTHING
from register.io.images import colours, levels, lookup_tables, map_files, masks, png
from register.io.images.map_files import refuse_map_coordinates
from register.io.images.model import Image
from register.io.images.open import read_image


def noise(shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def test_a_mask_of_several_channels_is_its_first(tmp_path):
    png.write(tmp_path / "a.png", noise((3, 5, 6)), None)
    png.write(tmp_path / "b.png", noise((1, 5, 6)), None)
    for name in ("a.png", "b.png"):
        found = masks.read_mask(str(tmp_path / name), (5, 6))
        assert np.array_equal(found[EVERYTHING], read_image(tmp_path / name).pixels[:1])
        with pytest.raises(
            FileError, match="is 6 × 5 pixels, the image it masks 5 × 6; make them the same size"
        ):
            masks.read_mask(str(tmp_path / name), (6, 5))


def polygon(*points):
    return {"type": "Polygon", "coordinates": [points]}


TRIANGLE, LINE = polygon((0, 0), (4, 0), (0, 4)), polygon((0, 0), (4, 0))


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (TRIANGLE, None),
        (LINE, "holds no polygon"),
        (polygon((-1e9, 0), (1e9, 0), (0, 1e9)), None),
        (polygon((-1e9, 0), (1.1e9, 0), (0, 1e9)), r"wrong coordinates \(1.1e\+09 is too large\)"),
        ({"type": "Point", "coordinates": [1, 2]}, "holds no polygon"),
        ({"features": []}, "holds no polygon"),
        ({"geometry": TRIANGLE}, None),
        ({"features": [{"geometry": TRIANGLE}]}, None),
        ({"geometries": [TRIANGLE]}, None),
        ([{"geometry": TRIANGLE}], None),
        (
            {"type": "MultiPolygon", "coordinates": [TRIANGLE["coordinates"], LINE["coordinates"]]},
            "holds no polygon",
        ),
    ],
)
def test_polygons_of_geojson(tmp_path, tree, said):
    (tmp_path / "a.geojson").write_text(json.dumps(tree))
    if said is None:
        assert len(masks._polygons(tmp_path / "a.geojson")) == 1
        return
    with pytest.raises(FileError, match=said):
        masks._polygons(tmp_path / "a.geojson")


FAR = [[-1.51234, 10.12345], [-1.50987, 12.12377], [-1.60123, 17.12388]]


@pytest.mark.parametrize(
    ("points", "degrees"),
    [
        (FAR, True),  # left of the image by more than the half of a pixel
        ([[180.51234, 50.12345], [180.12346, 50.12347], [180.12341, 50.12342]], False),
        ([[7.51234, 90.52345], [7.12346, 90.12347], [7.12341, 90.12342]], False),
        ([[7.12345, 50.123], [7.12346, 50.124], [7.12341, 50.125]], False),  # only half of them are fine
    ],
)
def test_points_at_the_limits_of_degrees(points, degrees):
    assert map_files._are_degrees(np.array(points)) == degrees


def test_a_long_name_of_a_system_is_cut():
    with pytest.raises(FileError) as error:
        refuse_map_coordinates("a.geojson", {"crs": "x" * 150}, [])
    assert f"in {'x' * 100}, not" in str(error.value)
    refuse_map_coordinates("a.geojson", {"crs": None}, [])


def test_a_geopackage_names_its_system(tmp_path):
    with closing(sqlite3.connect(tmp_path / "a.gpkg")) as base, base:
        base.execute(
            "CREATE TABLE gpkg_spatial_ref_sys (srs_id, organization TEXT, organization_coordsys_id INT)"
        )
        base.execute("CREATE TABLE gpkg_geometry_columns (srs_id)")
        base.executemany(
            "INSERT INTO gpkg_spatial_ref_sys VALUES (?, ?, ?)", [(4, "EPSG", 4326), (9, "EPSG", 32633)]
        )
    assert map_files._system(tmp_path / "a.gpkg") == "unknown system"
    with closing(sqlite3.connect(tmp_path / "a.gpkg")) as base, base:
        base.execute("INSERT INTO gpkg_geometry_columns VALUES (9)")
    assert map_files._system(tmp_path / "a.gpkg") == "EPSG:32633"


# --- tables and colours ----------------------------------------------------------------------------------


def ramp(entries=256, steps=256):
    values = np.arange(entries) * steps // entries * 65535 // (steps - 1)
    return np.stack([values, values * 0, values * 0]).astype(np.uint16)


def test_ramps_at_their_limits():
    """A ramp is black at one end, not black at the other, never decreases, and has a step in two entries."""
    red = (255, 0, 0)
    assert lookup_tables.ramp_colour(ramp()) == red
    assert lookup_tables.ramp_colour(ramp(65536, 128)) == red
    assert lookup_tables.ramp_colour(ramp(65536, 127)) is None
    assert lookup_tables.ramp_colour(ramp() * 0) is None
    assert lookup_tables.ramp_colour(np.maximum(ramp(), 300)) is None
    down = ramp()
    down[0, 100] = down[0, 98]
    assert lookup_tables.ramp_colour(down) is None
    for off, colour in ((256, red), (259, None)):  # what rounding to 8 bits explains, in green
        near = ramp()
        near[1, 40] += off
        assert lookup_tables.ramp_colour(near) == colour


@pytest.mark.parametrize("colour", [(0, 0, 0), (127, 255, 1), (128, 0, 0), (255, 255, 255)])
def test_signed_colours_of_ome(colour):
    assert lookup_tables.signed_colour(*colour) == struct.unpack(">i", bytes((*colour, 255)))[0]


@pytest.mark.parametrize(
    ("large", "small", "factor"), [(1, 1, 1), (3, 1, 4), (5, 0, 4), (0, 0, 1), (2, 1, 2)]
)
def test_factors_of_the_smallest_levels(large, small, factor):
    assert levels.level_factor(large, small) == factor


def test_a_picture_is_at_most_twice_1200_pixels_wide():
    for width, step in ((1200, 1), (2399, 1), (2400, 2)):
        found = colours.colour_picture(Image(np.zeros((3, 4, width), np.uint8), colour="rgb"))
        assert found.factors == (step, step)
        assert found.rgb.shape == (4 // step, width // step, 3)
    tall = colours.colour_picture(Image(np.zeros((3, 2400, 4), np.uint8), colour="rgb"))
    assert tall.rgb.shape == (1200, 2, 3)
    exact = Image(noise((3, 4, 40)), colour="rgb", smaller=(noise((3, 2, 20)),))
    assert colours.colour_picture(exact, 20).factors == (2, 2)
    assert colours.colour_picture(exact, 21).factors == (1, 1)


def test_the_colours_of_six_channels_without_one():
    """Blue, green, red, magenta, yellow and cyan."""
    one = np.zeros((6, 6, 6), np.float32)
    one[np.arange(6), np.arange(6)] = 0.5  # a row of each
    found = colours.colour_picture(Image(one)).rgb[:, 0]
    strong = [[False, False, True], [False, True, False], [True, False, False], [True, False, True],
              [True, True, False], [False, True, True]]  # fmt: skip
    assert (found > 0.8).tolist() == strong
    assert found[~np.array(strong)].max() < 0.3


def test_channels_of_one_colour_are_no_brighter_than_it():
    ramp = np.broadcast_to(np.linspace(0, 0.5, 101, dtype=np.float32), (3, 1, 101))
    found = colours.colour_picture(Image(ramp, channel_colours=(-1, -1, 255))).rgb
    share = ((np.arange(101) - 1) / (99.8 - 1)).clip(0, 1)
    assert found[0] == pytest.approx(np.repeat((2 * share).clip(0, 1)[:, None], 3, 1), abs=1e-5)
    flat = colours.colour_picture(Image(ramp * 0 + 0.25, channel_colours=(-1, -1, -1))).rgb
    assert not flat.any()


def test_floats_are_as_bright_as_almost_all_of_them():
    values = np.linspace(0, 1000, 3000, dtype=np.float32).reshape(3, 1, 1000)
    found = colours.colour_picture(Image(values, colour="rgb")).rgb
    assert found[0, :, 0] == pytest.approx(values[0, 0] / 998, abs=1e-4)
    assert not colours.colour_picture(Image(values * 0, colour="rgb")).rgb.any()
