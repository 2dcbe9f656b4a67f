"""OME-Zarr as written: valid 0.5, the same values, names, colours, sizes and positions when read again."""

import json

import numpy as np
import pytest
import tifffile
import yaozarrs
import zarr

import register
from register.errors import FileError
from register.geometry.pixel_size import PixelSize
from register.io.images import zarr_metadata, zarr_write
from register.io.images.lookup_tables import signed_colour
from register.io.images.model import Image, Selection
from register.io.images.open import open_image, write_image
from tests.conftest import TISSUE

RNG = np.random.default_rng(4)
COLOURS = signed_colour(0, 0, 255), signed_colour(255, 128, 0)


def image(dtype="uint16", channels=2, height=1301, width=700, **fields):
    high = 2 if dtype == "bool" else 255
    return Image(RNG.integers(0, high, (channels, height, width)).astype(dtype), kind="ome", **fields)


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int8", "uint16", "int16", "uint32", "float32", "float64"]
)
def test_values_of_every_type_come_back(tmp_path, dtype):
    given = image(dtype, height=90, width=70)
    write_image(tmp_path / "a.ome.zarr", given)
    yaozarrs.validate_zarr_store(tmp_path / "a.ome.zarr")
    found = register.read_image(tmp_path / "a.ome.zarr")
    assert found.dtype == given.dtype
    assert np.array_equal(found.pixels, given.pixels)


def test_levels_names_colours_size_and_position_come_back(tmp_path):
    given = image(
        channel_names=("DAPI", "CD3"), channel_colours=COLOURS, pixel_size=PixelSize(0.25, 0.5, "µm"),
        position=(10.0, 20.0, "µm"), nodata=7.0,
    )  # fmt: skip
    write_image(tmp_path / "a.ome.zarr", given, chunks=128)
    group = yaozarrs.validate_zarr_store(tmp_path / "a.ome.zarr")
    assert group is not None
    found = open_image(tmp_path / "a.ome.zarr")
    assert np.array_equal(found.pixels[:, :, :], given.pixels)
    for name in ("channel_names", "channel_colours", "pixel_size", "position", "nodata"):
        assert getattr(found, name) == getattr(given, name), name
    assert [level.shape for level in found.smaller] == [(2, 651, 350), (2, 326, 175)]
    small = open_image(tmp_path / "a.ome.zarr", Selection(level=1))
    assert small.pixel_size == (0.5, 1.0, "µm")
    assert small.position == (10.125, 20.25, "µm")  # the centre of the first larger pixel
    four = given.pixels[:, :1300].reshape(2, 650, 2, 350, 2).astype(float).mean((2, 4))
    assert np.array_equal(found.smaller[0][:, :650, :], np.rint(four))


def test_the_attributes_are_those_of_the_specification(tmp_path):
    write_image(tmp_path / "a.ome.zarr", image(pixel_size=PixelSize(0.25, 0.25, "µm")), chunks=128)
    ome = json.loads((tmp_path / "a.ome.zarr" / "zarr.json").read_text())["attributes"]["ome"]
    assert (ome["version"], ome["_creator"]) == ("0.5", {"name": "register", "version": register.__version__})
    [multiscale] = ome["multiscales"]
    assert multiscale["name"] == "a"
    assert [axis["name"] for axis in multiscale["axes"]] == ["c", "y", "x"]
    assert multiscale["axes"][1] == {"name": "y", "type": "space", "unit": "micrometer"}
    steps = multiscale["datasets"][1]["coordinateTransformations"]
    assert steps == [{"type": "scale", "scale": [1.0, 0.5, 0.5]},
                     {"type": "translation", "translation": [0.0, 0.125, 0.125]}]  # fmt: skip
    window = ome["omero"]["channels"][0]["window"]
    assert (window["min"], window["max"]) == (0, 65535)
    assert 0 <= window["start"] < window["end"] <= 255
    array = zarr.open_array(tmp_path / "a.ome.zarr" / "0", mode="r")
    assert (array.chunks, array.shards) == ((1, 128, 128), (1, 512, 512))
    assert type(array.compressors[0]).__name__ == "ZstdCodec"
    files = [path for path in (tmp_path / "a.ome.zarr" / "0").rglob("*") if path.is_file()]
    assert len(files) == 2 * 3 * 2 + 1  # a file per shard


def test_a_colour_picture_stays_one(tmp_path):
    given = image("uint8", 3, 200, 300, colour="rgb")
    write_image(tmp_path / "a.ome.zarr", given)
    found = open_image(tmp_path / "a.ome.zarr")
    assert (found.colour, found.channel_names) == ("rgb", ())
    assert np.array_equal(found.pixels[:, :, :], given.pixels)
    inverted = image("uint8", 1, 20, 30, colour="inverted")
    write_image(tmp_path / "b.ome.zarr", inverted)
    assert open_image(tmp_path / "b.ome.zarr").colour == "inverted"


@pytest.mark.parametrize(("fields", "options", "message"), [
    ({"colour": "cmyk", "channels": 4, "dtype": "uint8"}, {}, "cannot hold cmyk"),
    ({}, {"compression": "lzw"}, "no lzw compression"),
    ({}, {"compression": "jpeg"}, "no jpeg compression"),
])  # fmt: skip
def test_what_the_format_cannot_hold_is_refused(tmp_path, fields, options, message):
    with pytest.raises(FileError, match=message):
        write_image(tmp_path / "a.ome.zarr", image(height=20, width=30, **fields), **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("compression", ["none", "deflate", "zstd"])
@pytest.mark.parametrize("pyramid", [True, False])
def test_compressions_and_single_levels(tmp_path, compression, pyramid):
    given = image("uint16", 1, 600, 30)
    write_image(tmp_path / "a.ome.zarr", given, compression=compression, pyramid=pyramid)
    found = open_image(tmp_path / "a.ome.zarr")
    assert np.array_equal(found.pixels[:, :, :], given.pixels)
    assert len(found.smaller) == pyramid


def test_align_and_apply_write_it_as_they_write_a_tiff(tmp_path, program):
    out = tmp_path / "out"
    done = program("align", *TISSUE, "-o", out, "--model", "rigid", "--preset", "fast", "--no-report",
                   "--format", "ome-zarr", "--chunks", "256")  # fmt: skip
    assert done.returncode == 0, done.stderr
    yaozarrs.validate_zarr_store(out / "aligned.ome.zarr")
    found = open_image(out / "aligned.ome.zarr")
    assert found.colour == "rgb"
    done = program("apply", out / "transform.json", TISSUE[1], "-o", tmp_path / "b.ome.zarr")
    assert done.returncode == 0, done.stderr
    done = program("apply", out / "transform.json", TISSUE[1], "-o", tmp_path / "b.tif")
    for name in ("b.ome.zarr", "b.tif"):
        assert np.array_equal(open_image(tmp_path / name).pixels[:, :, :], found.pixels[:, :, :])
    assert (
        "exists already"
        in program("apply", out / "transform.json", TISSUE[1], "-o", tmp_path / "b.ome.zarr").stderr
    )
    assert "already holds aligned.ome.zarr" in program("align", *TISSUE, "-o", out).stderr
    done = program(
        "align", *TISSUE, "-o", out, "--model", "rigid", "--preset", "fast", "--no-report",
        "--format", "tiff", "--compression", "jpeg", "--jpeg-quality", "50", "--overwrite",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (out / "aligned.ome.zarr").exists()
    low = (out / "aligned.tif").stat().st_size
    write_image(tmp_path / "high.tif", open_image(tmp_path / "b.tif"), compression="jpeg", jpeg_quality=95)
    assert low < (tmp_path / "high.tif").stat().st_size


@pytest.mark.parametrize(("options", "message"), [
    (["--jpeg-quality", "50"], "without --compression jpeg"),
    (["--chunks", "64"], "unless OME-Zarr is written"),
])  # fmt: skip
def test_options_of_another_format_are_refused(tmp_path, program, options, message):
    done = program("align", *TISSUE, "-o", tmp_path / "out", *options)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def stop(count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_image(tmp_path / "a.ome.zarr", image(), tick=stop)
    assert list(tmp_path.iterdir()) == []


def test_ome_tiff_names_the_program(tmp_path):
    write_image(tmp_path / "a.ome.tif", image(height=20, width=30))
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert f'Creator="register {register.__version__}"' in file.ome_metadata


@pytest.mark.parametrize(
    ("step", "unit", "stated"), [(3.0, "µm", "micrometer"), (None, "µm", None), (3.0, None, None)]
)
def test_planes_have_a_unit_where_their_distance_is_known(step, unit, stated):
    given = image(channels=1, height=4, width=4, pixel_size=unit and PixelSize(1, 1, unit))
    made = zarr_metadata.attributes(given, [(4, 4)], "a", nearest=False, depth=zarr_metadata.Depth(2, step))
    axis = made["ome"]["multiscales"][0]["axes"][1]
    assert axis == {"name": "z", "type": "space"} | ({"unit": stated} if stated else {})


def test_channels_of_a_picture_are_read_together():
    assert zarr_write.groups(image(channels=3, height=4, width=4, colour="rgb")) == [slice(0, 3)]
    assert zarr_write.groups(image(channels=2, height=4, width=4, extra=(2,))) == [slice(0, 2)]
    assert zarr_write.groups(image(channels=2, height=4, width=4)) == [slice(0, 1), slice(1, 2)]
