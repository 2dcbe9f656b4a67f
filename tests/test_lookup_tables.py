"""Colour maps that show values are kept apart from those of indexed pictures: values stay what they are."""

import itertools
import json

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

import register
from register.geometry import affine_tensors
from register.io.images.lookup_tables import ramp_colour, signed_colour
from register.transforms.frame import Frame
from register.transforms.transform import Transform
from register.workflows.aligned_image import OutputStyle
from register.workflows.apply import apply

RNG = np.random.default_rng(3)
H, W = 40, 50
STEPS = np.arange(256, dtype=np.uint16)
TABLES = {
    "grey": np.stack([STEPS] * 3) * 257,
    "green": np.stack([0 * STEPS, STEPS, 0 * STEPS]) * 257,
    "magenta, 8 bits in the high byte": np.stack([STEPS, 0 * STEPS, STEPS]) * 256,
    "orange with gamma": np.round(np.outer([65535, 32896, 0], (STEPS / 255) ** 0.5)).astype(np.uint16),
    "inverted blue": np.stack([0 * STEPS, 0 * STEPS, 255 - STEPS]) * 257,
    "hues": np.stack([STEPS, 255 - STEPS, (STEPS * 7) % 256]) * 257,
    "picture": RNG.integers(0, 65536, (3, 256), np.uint16),
}
RAMPS = list(TABLES)[:5]
CONTAINERS = {"ome": ".ome.tif", "imagej": ".tif", "plain": ".tif"}
GREEN = signed_colour(0, 255, 0)


def identity():
    frame = Frame(W, H)
    return Transform("affine", frame, frame, affine_tensors.identity())


def aligned(source, folder, interpolation="bilinear"):
    """The file that the identity writes."""
    [one] = apply(identity(), [source], folder / "out", style=OutputStyle(interpolation))
    return one.file


def written(folder, container, photometric, channels, table=None, dtype="uint8"):
    """A file of random values (c, h, w) of which the pages say ``photometric``."""
    path = folder / f"in{CONTAINERS[container]}"
    high = {"uint8": 256, "uint16": 65536}[dtype]
    values = RNG.integers(0, high, (channels, H, W)).astype(dtype)
    options = {"metadata": {"axes": "CYX"} if channels > 1 else {}, "photometric": photometric}
    if photometric == "palette" and container != "imagej":
        options["colormap"] = table
    if container == "imagej" and table is not None:
        options["metadata"]["LUTs"] = [(table >> 8).astype(np.uint8)] * channels
    if container == "plain" and channels == 1:
        options["metadata"] = None
    if container != "plain":
        options[container] = True
    tifffile.imwrite(path, values if channels > 1 else values[0], **options)
    return path, values


KINDS = ["minisblack", "miniswhite", *(f"palette {name}" for name in TABLES)]


@pytest.mark.parametrize(("container", "channels"), list(itertools.product(CONTAINERS, (1, 2, 4))))
@pytest.mark.parametrize("kind", KINDS)
def test_the_identity_keeps_every_value_whatever_the_colour_map(tmp_path, container, channels, kind):
    photometric, _, name = kind.partition(" ")
    path, values = written(tmp_path, container, photometric, channels, TABLES.get(name))
    picture = container == "plain" and channels == 1 and name in ("hues", "picture")
    out = aligned(path, tmp_path, "nearest" if picture else "bilinear")
    found, before = register.read_image(out), register.read_image(path)
    assert np.array_equal(found.pixels, values)
    assert found.colour == before.colour
    assert (found.palette is not None) == picture
    assert found.channel_colours == before.channel_colours
    assert (before.lut is None) == (found.lut is None)
    assert before.lut is None or np.array_equal(found.lut, before.lut)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_a_ramp_of_one_colour_is_the_colour_of_its_channel(tmp_path, container, channels):
    path, _ = written(tmp_path, container, "palette", channels, TABLES["green"])
    assert register.read_image(path).channel_colours == (GREEN,) * channels
    assert register.read_image(aligned(path, tmp_path)).channel_colours == (GREEN,) * channels


def test_pages_with_a_map_each_give_the_colours_of_the_channels(tmp_path):
    values = RNG.integers(0, 256, (2, H, W), np.uint8)
    red = np.roll(TABLES["green"], -1, axis=0)
    with tifffile.TiffWriter(tmp_path / "in.ome.tif", ome=True) as file:
        for page, table in zip(values, (TABLES["green"], red), strict=True):
            file.write(page, photometric="palette", colormap=table)
    image = register.read_image(tmp_path / "in.ome.tif", register.io.images.model.Selection(series=0))
    assert (image.colour, image.channel_colours) == ("grey", (GREEN,))
    with tifffile.TiffWriter(tmp_path / "two.tif") as file:
        for n, table in enumerate((TABLES["green"], red)):
            text = json.dumps({"shape": [2, H, W], "axes": "CYX"}) if n == 0 else None
            file.write(values[n], photometric="palette", colormap=table, description=text, metadata=None)
    image = register.read_image(tmp_path / "two.tif")
    assert np.array_equal(image.pixels, values)
    assert image.channel_colours == (GREEN, signed_colour(255, 0, 0))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_an_indexed_picture_of_any_depth_becomes_its_colours(tmp_path, dtype):
    entries = {"uint8": 256, "uint16": 65536}[dtype]
    table = RNG.integers(0, 65536, (3, entries), np.uint16)
    path, values = written(tmp_path, "plain", "palette", 1, table, dtype)
    image = register.read_image(path)
    assert image.colour == "palette"
    assert np.array_equal(image.coloured().pixels[:, :, :], table[:, values[0].astype(int)])


def test_a_map_from_white_to_black_is_an_inverted_grey(tmp_path):
    path, values = written(tmp_path, "plain", "palette", 1, TABLES["grey"][:, ::-1])
    found = register.read_image(path)
    assert (found.colour, found.lut) == ("inverted", None)
    assert np.array_equal(found.pixels, values)


@pytest.mark.parametrize("name", TABLES)
def test_ramps_are_recognised(name):
    assert (ramp_colour(TABLES[name]) is not None) == (name in RAMPS)


def test_colours_that_ome_states_win_over_a_colour_map(tmp_path):
    values = RNG.integers(0, 256, (2, H, W), np.uint8)
    colours = [signed_colour(255, 0, 0), signed_colour(0, 0, 255)]
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "FITC"], "Color": colours}}
    tifffile.imwrite(tmp_path / "a.ome.tif", values, ome=True, photometric="palette",
                     colormap=TABLES["green"], metadata=metadata)  # fmt: skip
    image = register.read_image(tmp_path / "a.ome.tif")
    assert (image.channel_colours, image.channel_names) == (tuple(colours), ("DAPI", "FITC"))


@pytest.mark.parametrize("name", ["grey", "green", "hues"])
def test_a_png_that_shows_values_in_a_ramp_keeps_them(tmp_path, name):
    values = RNG.integers(0, 256, (H, W), np.uint8)
    picture = Pillow.fromarray(values)
    picture.putpalette((TABLES[name] >> 8).astype(np.uint8).T.tobytes())
    picture.save(tmp_path / "in.png")
    before = register.read_image(tmp_path / "in.png")
    after = register.read_image(aligned(tmp_path / "in.png", tmp_path, "nearest"))
    for found in (before, after):
        assert np.array_equal(found.pixels[0], values)
        assert found.colour == ("palette" if name == "hues" else "grey")
        assert (found.lut is not None) == (name == "green")
