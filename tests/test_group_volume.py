"""The aligned images of a set as z planes of one file: OME-TIFF and OME-Zarr hold the same."""

import numpy as np
import ome_types
import pytest
import tifffile
import yaozarrs
import zarr

from register import settings
from register.errors import FileError, RegisterError
from register.geometry import affine
from register.geometry.pixel_size import PixelSize
from register.io.images.model import Image, Selection
from register.io.images.open import open_image, write_image
from register.io.movies.about import About
from register.io.movies.layout import Layout
from register.io.movies.open import open_stack
from register.io.movies.stack import ImageFiles, Stack
from register.io.movies.zarr_write import zarr_writer
from register.transforms.frame import Frame
from register.transforms.quality import Verdict
from register.transforms.transform import Transform
from register.workflows.sets import files, volume
from register.workflows.sets.images import SetImage
from register.workflows.sets.solve import Group, Member

WIDTH, HEIGHT = 620, 530
SIZE = PixelSize(0.5, 0.5, "µm")


def group_of(folder, unit=SIZE, failed=(1,), channels=2, **fields):
    """A solved set of three images, written to files, each moved by its number of pixels."""
    frame, members = Frame(WIDTH, HEIGHT, unit), []
    for n in range(3):
        values = np.random.default_rng(n).integers(1, 60000, (channels, HEIGHT, WIDTH)).astype("uint16")
        if fields.get("colour") == "rgb":
            values = (values >> 8).astype("uint8")
        path = folder / f"s{n}.ome.tif"
        write_image(path, Image(values, kind="ome", pixel_size=unit, **fields))
        moved = Transform("translation", frame, frame, affine.translation(float(n), 0.0))
        wrong = n in failed
        members.append(
            Member(
                SetImage(f"s{n}", str(path)),
                frame,
                Verdict.FAILED if wrong else Verdict.OK,
                ("it is foreign",) if wrong else (),
                0 if wrong else 1,
                None if wrong else moved,
            )
        )
    return Group(tuple(members), (2, 1, 0), (), (frame,), (0,))


def written(group, folder, name, thickness=None, **values):
    """The volume of a set, by all that is checked and written."""
    chosen = settings.check(**values)
    extras = files.extras(
        False, None, False, folder / name, thickness, compression=chosen.compression, overwrite=False
    )
    files.write(group, folder / "out", chosen, extras)
    return folder / name


def test_a_volume_in_zarr_is_valid_and_has_the_planes_of_the_tiff(tmp_path):
    group = group_of(tmp_path, channel_names=("DAPI", "CD8"))
    tiff = tifffile.imread(written(group, tmp_path, "a.ome.tif", 5.0))
    path = written(group, tmp_path, "a.ome.zarr", 5.0)
    assert yaozarrs.validate_zarr_store(path) is not None
    ome = dict(zarr.open_group(path, mode="r").attrs)["ome"]
    [image] = ome["multiscales"]
    assert [(axis["name"], axis.get("unit")) for axis in image["axes"]] == [
        ("c", None), ("z", "micrometer"), ("y", "micrometer"), ("x", "micrometer")
    ]  # fmt: skip
    scales = [x["coordinateTransformations"][0]["scale"] for x in image["datasets"]]
    assert scales == [[1.0, 5.0, 0.5, 0.5], [1.0, 5.0, 1.0, 1.0]]
    assert [channel["label"] for channel in ome["omero"]["channels"]] == ["DAPI", "CD8"]
    assert tiff.shape == (3, 2, HEIGHT, WIDTH)
    array = zarr.open_array(path / "0", mode="r")
    assert np.array_equal(np.moveaxis(array[:], 1, 0), tiff)
    assert not tiff[1].any(), "an image without a place is a plane of zeros"
    assert tiff[0].any()
    small = zarr.open_array(path / "1", mode="r")
    four = tiff[2, 1].reshape(HEIGHT // 2, 2, WIDTH // 2, 2).astype(float).mean((1, 3))
    assert np.array_equal(small[1, 2], np.rint(four))
    plane = open_image(path, Selection(plane="Z=2"))
    assert np.array_equal(plane.pixels[:, :, :], tiff[2])
    assert (plane.pixel_size, plane.channel_names) == (SIZE, ("DAPI", "CD8"))
    pixels = ome_types.from_tiff(tmp_path / "a.ome.tif").images[0].pixels
    assert ([x.name for x in pixels.channels], pixels.physical_size_z) == (["DAPI", "CD8"], 5.0)


def test_colours_stay_colours_and_unknown_distances_unknown(tmp_path):
    group = group_of(tmp_path, None, channels=3, colour="rgb")
    path = written(group, tmp_path, "a.ome.zarr", pyramid=False)
    yaozarrs.validate_zarr_store(path)
    found = open_image(path, Selection(plane="Z=0"))
    assert (found.colour, found.smaller, found.pixel_size) == ("rgb", (), None)
    axes = dict(zarr.open_group(path, mode="r").attrs)["ome"]["multiscales"][0]["axes"]
    assert all("unit" not in axis for axis in axes)
    with pytest.raises(RegisterError, match="--thickness is in the unit of the pixel size"):
        written(group, tmp_path, "b.ome.zarr", 5.0)
    assert not (tmp_path / "b.ome.zarr").exists()


@pytest.mark.parametrize(
    ("name", "compression"), [("a.ome.zarr", "lzw"), ("a.ome.tif", "jpeg"), ("a.ome.zarr", "jpeg")]
)
def test_compressions_that_a_volume_does_not_have_are_refused_before_anything_is_aligned(name, compression):
    with pytest.raises(RegisterError, match=f"cannot be written with {compression}"):
        volume.check_compression(files.Path(name), compression)


def test_without_a_common_frame_no_merged_file_and_no_volume_is_left(tmp_path):
    group = group_of(tmp_path, failed=(0, 1, 2))
    (tmp_path / "old.ome.zarr").mkdir()
    (tmp_path / "old.ome.tif").write_bytes(b"old")
    extras = files.Extras(False, tmp_path / "old.ome.tif", volume=tmp_path / "old.ome.zarr")
    files.write(group, tmp_path / "out", settings.check(), extras)
    assert not (tmp_path / "old.ome.tif").exists()
    assert not (tmp_path / "old.ome.zarr").exists()
    assert (tmp_path / "out" / "group.json").exists()


def test_a_set_that_is_solved_is_written_where_an_image_cannot_be(tmp_path, monkeypatch):
    group = group_of(tmp_path)
    write = files.write_aligned

    def full(path, *others):
        if path.parent.name == "s0":
            raise FileError(path, "needs more space")
        write(path, *others)

    monkeypatch.setattr(files, "write_aligned", full)
    with pytest.raises(RegisterError, match=r"s0/aligned\.ome\.tif: needs more space"):
        files.write(group, tmp_path / "out", settings.check(), files.Extras())
    assert sorted(str(x.relative_to(tmp_path / "out")) for x in (tmp_path / "out").rglob("*.*")) == [
        "group.json", "s0/transform.json", "s2/aligned.ome.tif", "s2/transform.json", "summary.csv"
    ]  # fmt: skip


def test_planes_of_a_movie_along_z_are_a_valid_zarr(tmp_path):
    frames = np.random.default_rng(0).integers(0, 60000, (18, 2, 20, 30)).astype(np.uint16)
    names = tuple(tmp_path / str(n) for n in range(18))
    source = ImageFiles(names, (2, 20, 30), np.dtype("uint16"), lambda path: frames[int(path.name)])
    stack = Stack("m", (), source, axis="Z", step=2.0, pixel_size=SIZE)
    with zarr_writer(tmp_path / "m.ome.zarr", About(stack, "zstd")) as add:
        for n in range(18):
            add(stack.frame(n))
    yaozarrs.validate_zarr_store(tmp_path / "m.ome.zarr")
    found = open_stack([str(tmp_path / "m.ome.zarr")], Layout())
    assert (found.axis, found.step, len(found)) == ("Z", 2.0, 18)
    assert all(np.array_equal(found.frame(n), frames[n]) for n in range(18))
