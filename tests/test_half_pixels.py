"""Where a pixel begins and ends, in each file and grid; and what is on disk before a file has its name."""

import json
import os

import numpy as np
import pytest
import zarr

from register.errors import FileError
from register.files.atomic import write_text
from register.io.images.masks import read_mask
from register.io.images.model import Image
from register.io.images.open import read_image
from register.io.points.open import read_points
from register.transforms.canvas import Canvas
from register.transforms.frame import Frame
from register.transforms.transform import Transform
from register.workflows.apply import scale_of


def geometry(kind, coordinates):
    return json.dumps({"type": kind, "coordinates": coordinates})


def test_a_polygon_holds_the_pixels_whose_centres_are_in_it(tmp_path):
    """From the corner of the image: the centre of pixel 2 is at 2.5."""
    left, top, right, bottom = 2.2, 3.7, 6.2, 8.2
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    (tmp_path / "mask.geojson").write_text(geometry("Polygon", [ring]))
    mask = read_mask(str(tmp_path / "mask.geojson"), (12, 12))[:, :, :][0] > 0
    y, x = np.mgrid[:12, :12] + 0.5
    assert np.array_equal(mask, (x > left) & (x < right) & (y > top) & (y < bottom))


def test_points_of_geojson_are_counted_from_the_corner_and_those_of_csv_from_the_centre(tmp_path):
    (tmp_path / "a.geojson").write_text(geometry("Point", [10.5, 20.5]))
    (tmp_path / "a.csv").write_text("x,y\n10,20\n")
    assert (
        read_points(tmp_path / "a.geojson").tolist() == read_points(tmp_path / "a.csv").tolist() == [[10, 20]]
    )


def test_the_pixel_size_of_a_zarr_has_the_order_of_its_axes(tmp_path):
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [0.5, 0.25]}]}]
    image = {"version": "0.4", "axes": axes, "datasets": datasets}
    root = zarr.create_group(tmp_path / "a.zarr", zarr_format=2, attributes={"multiscales": [image]})
    root.create_array("0", shape=(20, 30), dtype="uint8", chunks=(20, 30))
    assert read_image(tmp_path / "a.zarr").pixel_size.xy == (0.25, 0.5)


def test_a_union_holds_the_whole_outer_pixels_of_the_moving_image():
    """A moving pixel is four fixed ones wide: the moving image reaches from -2 to 38, from -2 to 18."""
    quarter = np.array([[0.25, 0.0, 0.0], [0.0, 0.25, 0.0]])
    union = Canvas.union(Transform("affine", Frame(20, 10), Frame(10, 5), quarter))
    assert (union.left, union.top, union.width, union.height) == (-2, -2, 41, 21)


@pytest.mark.parametrize(
    ("height", "accepted"), [(700, True), (705, True), (695, True), (710, False), (690, False)]
)
def test_the_scales_of_both_sides_may_differ_by_a_hundredth(height, accepted, tmp_path):
    frame, image = Frame(1000, 1000), Image(np.zeros((1, height, 700), np.uint8))
    if accepted:
        assert scale_of(frame, image, tmp_path) == pytest.approx(0.7, rel=0.005)
        return
    with pytest.raises(FileError, match="--scale"):
        scale_of(frame, image, tmp_path)


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    calls, sync, move = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (calls.append("fsync"), sync(number))[1])
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("replace"), move(*names))[1])
    write_text(tmp_path / "a.txt", "content")
    assert calls == ["fsync", "replace"]
