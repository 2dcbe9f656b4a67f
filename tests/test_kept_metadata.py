"""Names and pixel sizes that a file states are read; addresses work like paths; a suffix is a promise."""

import json
import struct

import fsspec
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image as Pillow

from register.io.images.lookup_tables import signed_colour
from register.io.images.open import open_image
from tests.conftest import TISSUE

GREY = np.random.default_rng(1).integers(0, 255, (60, 70), np.uint8)
COLOUR = np.repeat(GREY[..., None], 3, axis=2)
APERIO = (
    "Aperio Image Library v12.0.15 \r\n"
    "70x60 [0,0 70x60] (240x240) JPEG/RGB Q=70|AppMag = 20|MPP = 0.4990|Left = 2"
)
PHILIPS = """<?xml version="1.0" encoding="UTF-8" ?>
<DataObject ObjectType="DPUfsImport"><Attribute Name="DICOM_MANUFACTURER" PMSVR="IString">PHILIPS</Attribute>
<Attribute Name="PIM_DP_SCANNED_IMAGES"><Array><DataObject>
<Attribute Name="DICOM_PIXEL_SPACING" PMSVR="IDoubleArray">\
&quot;0.000226891&quot; &quot;0.000226907&quot;</Attribute>
<Attribute Name="DICOM_PIXEL_SPACING" PMSVR="IDoubleArray">\
&quot;0.000453782&quot; &quot;0.000453814&quot;</Attribute>
</DataObject></Array></Attribute></DataObject>"""
QPI = """<?xml version="1.0" encoding="utf-16"?>
<PerkinElmer-QPI-ImageDescription><ImageType>FullResolution</ImageType><Name>{}</Name><Color>{}</Color>
</PerkinElmer-QPI-ImageDescription>"""


def test_aperio_states_micrometres_per_pixel_in_its_description(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.svs", COLOUR, photometric="rgb", description=APERIO, metadata=None, tile=(32, 32)
    )
    assert open_image(tmp_path / "a.svs").pixel_size == (0.499, 0.499, "µm")


def test_philips_states_the_spacing_of_rows_and_columns(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tiff", COLOUR, photometric="rgb", description=PHILIPS, software="Philips DP v1.0",
        metadata=None, tile=(32, 32),
    )  # fmt: skip
    assert open_image(tmp_path / "a.tiff").pixel_size.xy == pytest.approx((0.226907, 0.226891))


def test_qptiff_names_and_colours_its_channels(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.qptiff") as file:
        for name, colour in (("DAPI", "0,0,255"), ("CD3", "255,0,0")):
            file.write(
                GREY, metadata=None, photometric="minisblack", software="PerkinElmer-QPI",
                resolution=(20000, 20000), resolutionunit="CENTIMETER", description=QPI.format(name, colour),
            )  # fmt: skip
    found = open_image(tmp_path / "a.qptiff")
    assert (found.channel_names, found.pixel_size) == (("DAPI", "CD3"), (0.5, 0.5, "µm"))
    assert found.channel_colours == (signed_colour(0, 0, 255), signed_colour(255, 0, 0))


def ndpi(path, pixels, dots):
    """A Hamamatsu NDPI (h, w, 3): a TIFF with offsets of 64 bits, whose upper halves follow the tags."""
    (height, width, _), resolution = pixels.shape, struct.pack("<II", dots, 1)
    magnification = struct.unpack("<I", struct.pack("<f", 20.0))[0]
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, struct.pack("<3H", 8, 8, 8)), (259, 3, 1, 1),
        (262, 3, 1, 2), (271, 2, 10, b"Hamamatsu\0"), (273, 4, 1, None), (277, 3, 1, 3),
        (278, 4, 1, height), (279, 4, 1, pixels.size), (282, 5, 1, resolution), (283, 5, 1, resolution),
        (284, 3, 1, 1), (296, 3, 1, 3), (65420, 4, 1, 1), (65421, 11, 1, magnification),
    ]  # fmt: skip
    first = 12 + 2 + 12 * len(tags) + 8 + 4 * len(tags)
    start = first + sum(len(value) for *_, value in tags if isinstance(value, bytes))
    entries, values = b"", b""
    for code, kind, count, value in tags:
        where = start if value is None else first + len(values) if isinstance(value, bytes) else value
        entries += struct.pack("<HHII", code, kind, count, where)
        values += value if isinstance(value, bytes) else b""
    head = b"II*\0" + struct.pack("<QH", 12, len(tags))
    path.write_bytes(head + entries + bytes(8 + 4 * len(tags)) + values + pixels.tobytes())


def test_ndpi_states_its_resolution(tmp_path):
    ndpi(tmp_path / "a.ndpi", COLOUR, 43900)
    found = open_image(tmp_path / "a.ndpi")
    assert found.pixel_size.xy == pytest.approx((1e4 / 43900, 1e4 / 43900))
    assert np.array_equal(found.pixels[:, :, :], np.moveaxis(COLOUR, 2, 0))


def ome_zarr(path, pixels, axes, channels):
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("0", shape=pixels.shape, dtype=pixels.dtype)[:] = pixels
    scale = {"type": "scale", "scale": [1.0] * pixels.ndim}
    described = [{"name": axis, "type": "space" if axis in "zyx" else "channel"} for axis in axes]
    image = {
        "version": "0.4",
        "axes": described,
        "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
    }
    group.attrs.update({"multiscales": [image], "omero": {"channels": channels}})


def test_info_prints_the_axes_of_the_file(tmp_path, program):
    def axes(name):
        return json.loads(program("info", tmp_path / name, "--json").stdout)["files"][0]

    three = [{"label": "", "color": colour} for colour in ("FF0000", "00FF00", "0000FF")]
    ome_zarr(tmp_path / "cyx.zarr", np.stack([GREY] * 3), "cyx", [])
    ome_zarr(tmp_path / "rgb.zarr", np.stack([GREY] * 3), "cyx", three)
    ome_zarr(tmp_path / "czyx.zarr", np.stack([GREY] * 6).reshape(2, 3, 60, 70), "czyx", [])
    tifffile.imwrite(tmp_path / "rgb.ome.tif", COLOUR, photometric="rgb")
    tifffile.imwrite(
        tmp_path / "cyx.ome.tif", np.stack([GREY] * 2), photometric="minisblack", metadata={"axes": "CYX"}
    )
    assert (axes("cyx.zarr")["axes"], axes("cyx.zarr")["colour"]) == ("CYX", "grey")
    assert (axes("rgb.zarr")["axes"], axes("rgb.zarr")["colour"]) == ("CYX", "rgb")
    assert axes("czyx.zarr")["axes"] == "CZYX"
    assert axes("rgb.ome.tif")["axes"] == "YXS"
    assert axes("cyx.ome.tif")["axes"] == "CYX"
    assert axes("cyx.zarr")["series"] == [
        {"axes": "CYX", "shape": [3, 60, 70], "dtype": "uint8", "levels": 1}
    ]


def test_addresses_work_where_paths_do(tmp_path, program):
    memory = fsspec.filesystem("memory")
    for name, path in zip(("fixed", "moving"), TISSUE, strict=True):
        memory.put(path, f"/slides/{name}.png")
    fixed, moving = "memory://slides/fixed.png", "memory://slides/moving.png"
    done = program(
        "align", fixed, moving, "-o", "memory://slides/out", "--model", "rigid", "--preset", "fast",
        "--no-report", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["files"]["transform"] == "memory://slides/out/transform.json"
    assert (result["transform"]["fixed"]["path"], result["transform"]["moving"]["path"]) == (fixed, moving)
    again = program("align", fixed, moving, "-o", "memory://slides/out", "--model", "rigid")
    assert "memory://slides/out: already holds transform.json" in again.stderr
    for output, written in (
        ("memory://slides/warped.tif", "warped.tif"),
        ("memory://slides/all", "all/moving.png"),
    ):
        done = program("apply", "memory://slides/out/transform.json", moving, "-o", output)
        assert done.returncode == 0, done.stderr
        assert memory.exists(f"/slides/{written}")
        assert (
            "exists already"
            in program("apply", "memory://slides/out/transform.json", moving, "-o", output).stderr
        )
    told = json.loads(program("info", fixed, "memory://slides/out/transform.json", "--json").stdout)["files"]
    assert [one["path"] for one in told] == [fixed, "memory://slides/out/transform.json"]
    assert told[0]["width"] == open_image(TISSUE[0]).size[1]
    assert "memory://slides/none.png: cannot be read" in program("info", "memory://slides/none.png").stderr


@pytest.mark.parametrize("name", ["out.jpg", "out.ome.zar", "out.svs", "out.tif.gz"])
def test_an_output_whose_suffix_is_not_known_is_refused(tmp_path, program, name):
    from register.geometry import affine
    from register.transforms.transform import Frame, Transform

    Pillow.fromarray(GREY).save(tmp_path / "a.png")
    Transform("affine", Frame(70, 60), Frame(70, 60), affine.identity()).save(tmp_path / "t.json")
    done = program("apply", tmp_path / "t.json", tmp_path / "a.png", "-o", tmp_path / name)
    assert done.returncode == 1
    assert f"{name}: has not the ending of a format that register writes" in done.stderr
    assert ".ome.tif" in done.stderr
    assert not (tmp_path / name).exists()
    two = program(
        "apply", tmp_path / "t.json", tmp_path / "a.png", tmp_path / "a.png", "-o", tmp_path / "b.tif"
    )
    assert "b.tif: is one file for 2 images" in two.stderr


@pytest.mark.parametrize("name", ["out.ome.tif", "out.png", "out.jpg", "out.zarr"])
def test_a_folder_of_results_has_no_ending_of_an_image(tmp_path, program, name):
    done = program("align", *TISSUE, "-o", tmp_path / name)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"{name}: has the ending of an image" in done.stderr
    assert not (tmp_path / name).exists()
