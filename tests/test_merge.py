"""Aligned images in one file: the pixels of ``register apply``, named channels, and what is refused."""

import re

import numpy as np
import ome_types
import pytest
import tifffile
import yaozarrs
import zarr

import register
from register.errors import RegisterError
from register.io.images.model import Image
from register.io.images.open import read_image, write_image
from register.transforms.frame import Frame
from register.transforms.quality import Quality
from register.transforms.transform import Transform
from register.workflows import merge as workflow
from register.workflows.merge import MergeOptions

WIDTH, HEIGHT = 700, 531


def turned(folder, name, image, angle, verdict="ok"):
    """A moving image written to a file, and a transform to it from the fixed image, written too."""
    write_image(folder / f"{name}.ome.tif", image)
    fixed = read_image(folder / "r1.ome.tif")
    cos, sin = np.cos(angle), np.sin(angle)
    frames = [
        Frame(x.size[1], x.size[0], x.pixel_size, str(folder / f"{n}.ome.tif"))
        for n, x in (("r1", fixed), (name, image))
    ]
    made = Transform(
        "rigid", *frames, np.array([[cos, -sin, 3.25], [sin, cos, -8.5]]), quality=Quality(verdict=verdict)
    )
    made.save(folder / f"{name}.json")
    return folder / f"{name}.json"


def planes(count, seed, dtype=np.uint16):
    values = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (count, HEIGHT, WIDTH))
    return values.astype(dtype)


@pytest.fixture
def rounds(tmp_path):
    size = register.io.images.model.PixelSize(0.5, 0.5, "µm")
    names = ("AF", "CD8", "DAPI"), ("DAPI", "Ki67"), ("FoxP3", "DAPI")
    images = [
        Image(planes(len(n), k), kind="ome", channel_names=n, pixel_size=size) for k, n in enumerate(names)
    ]
    write_image(tmp_path / "r1.ome.tif", images[0])
    return tmp_path, [turned(tmp_path, f"r{k}", images[k - 1], 0.1 * k) for k in (2, 3)]


def test_merged_pixels_are_those_of_apply_and_the_file_is_a_pyramid(rounds, program):
    folder, transforms = rounds
    done = program("merge", *transforms, "-o", folder / "all.ome.tif")
    assert done.returncode == 0, done.stderr
    program("apply", transforms[0], folder / "r2.ome.tif", "-o", folder / "r2_on_r1.ome.tif")
    names = ["r1: AF", "r1: CD8", "r1: DAPI", "r2: DAPI", "r2: Ki67", "r3: FoxP3", "r3: DAPI"]
    with tifffile.TiffFile(folder / "all.ome.tif") as file:
        levels, page = file.series[0].levels, file.pages[0]
        assert [level.shape for level in levels] == [(7, 531, 700), (7, 266, 350)]
        assert (page.tile, len(page.subifds)) == ((512, 512), 1)
    merged = tifffile.imread(folder / "all.ome.tif")
    assert np.array_equal(merged[:3], tifffile.imread(folder / "r1.ome.tif"))
    assert np.array_equal(merged[3:5], tifffile.imread(folder / "r2_on_r1.ome.tif"))
    pixels = ome_types.from_tiff(folder / "all.ome.tif").images[0].pixels
    assert [channel.name for channel in pixels.channels] == names
    assert (pixels.physical_size_x, pixels.size_c) == (0.5, 7)


def test_storage_is_chosen(rounds, program):
    folder, transforms = rounds
    done = program("merge", *transforms, "-o", folder / "all.ome.zarr", "--chunks", "64")
    assert done.returncode == 0, done.stderr
    assert zarr.open_group(folder / "all.ome.zarr", mode="r")["0"].chunks == (1, 64, 64)
    for name, *options in (("a.ome.tif", "--chunks", "64"), ("a.ome.zarr", "--jpeg-quality", "50")):
        done = program("merge", *transforms, "-o", folder / name, *options)
        assert done.returncode == 2
        assert "is not allowed" in done.stderr


def test_a_merged_zarr_is_valid_and_has_the_pixels_of_the_tiff(rounds):
    folder, transforms = rounds
    for ending in (".ome.zarr", ".ome.tif"):
        workflow.merge(transforms, folder / f"all{ending}", MergeOptions())
    yaozarrs.validate_zarr_store(folder / "all.ome.zarr")
    one, other = (read_image(folder / f"all{ending}") for ending in (".ome.zarr", ".ome.tif"))
    assert np.array_equal(one.pixels, other.pixels)
    assert one.channel_names == other.channel_names == (
        "r1: AF", "r1: CD8", "r1: DAPI", "r2: DAPI", "r2: Ki67", "r3: FoxP3", "r3: DAPI"
    )  # fmt: skip
    assert one.pixel_size == other.pixel_size


@pytest.mark.filterwarnings("default")  # of its dependencies
@pytest.mark.parametrize("ending", [".ome.tif", ".ome.zarr"])
def test_bioio_reads_merged_files(rounds, ending):
    bioio = pytest.importorskip(
        "bioio", reason="bioio is not installed: pip install bioio-ome-tiff bioio-ome-zarr"
    )
    pytest.importorskip(f"bioio_ome_{ending.removeprefix('.ome.')[:4].replace('tif', 'tiff')}")
    folder, transforms = rounds
    path = folder / f"all{ending}"
    workflow.merge(transforms, path, MergeOptions())
    image = bioio.BioImage(path)
    names = ["r1: AF", "r1: CD8", "r1: DAPI", "r2: DAPI", "r2: Ki67", "r3: FoxP3", "r3: DAPI"]
    assert [str(name) for name in image.channel_names] == names
    assert (image.dims.C, image.dims.Y, image.dims.X) == (7, HEIGHT, WIDTH)
    assert (image.physical_pixel_sizes.Y, image.physical_pixel_sizes.X) == (0.5, 0.5)
    assert np.array_equal(image.get_image_data("CYX"), read_image(path).pixels)
    if ending == ".ome.zarr":  # the plug-in for TIFF reads the finest level only
        assert len(image.resolution_levels) == 2


def test_channels_are_chosen_and_repeated_ones_dropped(rounds):
    folder, transforms = rounds
    out = folder / "some.ome.tif"
    done = workflow.merge(transforms, out, MergeOptions(prefix=False, drop_repeated=True))
    assert done.channels == ("AF", "CD8", "DAPI", "Ki67", "FoxP3")
    chosen = MergeOptions(channels=("DAPI", "r3: FoxP3"))
    done = workflow.merge(transforms, out, chosen, overwrite=True)
    assert done.channels == ("r1: DAPI", "r2: DAPI", "r3: FoxP3", "r3: DAPI")
    with pytest.raises(RegisterError, match="--channels 'CD4': no image has this channel; there are r1: AF"):
        workflow.merge(transforms, out, MergeOptions(channels=("CD4",)), overwrite=True)


def test_mixed_types_are_refused_unless_a_type_that_holds_all_is_named(rounds):
    folder, transforms = rounds
    small = Image(planes(1, 5, np.uint8), kind="ome")
    transforms = [*transforms, turned(folder, "r4", small, 0.0)]
    out = folder / "all.ome.tif"
    with pytest.raises(RegisterError, match=r"uint16 \(.*r1.ome.tif\) and uint8 .*use --dtype uint16"):
        workflow.merge(transforms, out, MergeOptions())
    with pytest.raises(RegisterError, match="of type uint16, do not fit into --dtype uint8"):
        workflow.merge(transforms, out, MergeOptions(dtype="uint8"))
    assert not out.exists()
    assert workflow.merge(transforms, out, MergeOptions(dtype="uint16")).channels[-1] == "r4"


def test_colours_become_three_channels_and_alone_stay_colours(rounds):
    folder, transforms = rounds
    colours = Image(planes(3, 6, np.uint8), kind="ome", colour="rgb")
    path = turned(folder, "he", colours, 0.2)
    done = workflow.merge([*transforms, path], folder / "all.ome.tif", MergeOptions(dtype="uint16"))
    assert done.channels[-3:] == ("he: red", "he: green", "he: blue")
    alone = Image(planes(3, 7, np.uint8), kind="ome", colour="rgb")
    made = workflow.merged_image([workflow.Part("he", alone, "he.tif")], MergeOptions())
    assert (made.colour, made.channel_names) == ("rgb", ())


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        ("size", "may have another fixed image|has another fixed image"),
        ("failed", "has the verdict failed"),
        ("changed", "pixels and was 700 × 531 when it was aligned"),
        ("name", "cannot hold many named channels"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(rounds, program, breakage, message):
    folder, transforms = rounds
    out = folder / ("all.png" if breakage == "name" else "all.ome.tif")
    if breakage == "failed":
        transforms[1] = turned(folder, "r3", read_image(folder / "r3.ome.tif"), 0.0, "failed")
    if breakage == "changed":
        write_image(folder / "r3.ome.tif", Image(planes(2, 9)[:, :400], kind="ome"))
    if breakage == "size":
        other = Transform.load(transforms[1])
        frame = Frame(WIDTH, HEIGHT, path=str(folder / "r2.ome.tif"))
        Transform(other.model, frame, other.moving, other.matrix).save(transforms[1])
    done = program("merge", *transforms, "-o", out)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert re.search(message, done.stderr)
    assert not out.exists()
