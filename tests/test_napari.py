"""The plugin of napari, in a real viewer on a screen: that of the machine, or Xvfb."""

import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLES, TISSUE
from PIL import Image as Picture

import register
from register import settings
from register.errors import FileError
from register.geometry import affine
from register.transforms.frame import Frame
from register.workflows.align import Job, run

SCREEN = "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ or sys.platform in ("darwin", "win32")
MISSING = [name for name in ("napari", "PyQt6") if not find_spec(name)]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"{MISSING} not installed: pip install 'register-cli[napari]'"),
    pytest.mark.skipif(
        not SCREEN and not shutil.which("Xvfb"), reason="there is no screen, and no Xvfb (apt install xvfb)"
    ),
    pytest.mark.filterwarnings("ignore"),  # of napari and what it needs
]
PATIENCE = 240
"""Seconds after which an alignment of a small image is taken to hang."""


@pytest.fixture(scope="module")
def screen():
    """A screen, for the time of the tests if the machine has none."""
    if SCREEN:
        yield
        return
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1600x1100x24"],
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    with os.fdopen(reading) as number:
        os.environ["DISPLAY"] = f":{number.readline().strip()}"
    yield
    server.terminate()
    server.wait()
    del os.environ["DISPLAY"]


@pytest.fixture(scope="module")
def viewer(screen):
    import napari

    made = napari.Viewer(show=True)
    made.window.resize(1500, 1000)
    yield made
    made.close()


@pytest.fixture
def dock(viewer):
    """The dock widget of an empty viewer."""
    from register.napari.dock import Dock

    viewer.layers.clear()
    viewer.dims.ndim = 2
    made = Dock(viewer)
    frame = viewer.window.add_dock_widget(made.native, name="register")
    yield made
    viewer.window.remove_dock_widget(frame)


def wait(dock):
    """Process events until the alignment is done."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + PATIENCE
    while dock.align.worker is not None and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)
    assert dock.align.worker is None, "the alignment did not end"


@pytest.fixture(scope="module")
def pair():
    """A picture (300, 320, 3) and the same under a known affine map."""
    picture = np.asarray(Picture.open(TISSUE[0]).convert("RGB").resize((320, 300)))
    matrix = np.array([[0.98, 0.05, 6.0], [-0.05, 0.98, 9.0]])
    inverse = affine.invert(matrix)
    moved = Picture.fromarray(picture).transform(
        (330, 310), Picture.Transform.AFFINE, _corner(inverse), Picture.Resampling.BICUBIC
    )
    return picture, np.asarray(moved), matrix


def _corner(matrix):
    """The coefficients of Pillow, whose points have their origin at the corner of a pixel."""
    shift = affine.translation(0.5, 0.5)
    return tuple(affine.compose(affine.compose(shift, matrix), affine.invert(shift)).ravel())


def choose(dock, fixed, moving, **values):
    dock.align.fixed.value, dock.align.moving.value = fixed, moving
    for name, value in values.items():
        form = dock.align.first if name in {w.name for w in dock.align.first} else dock.align.more
        form[name].value = value


def world_to_data(layer, points):
    return np.array([layer.world_to_data(point) for point in points])


def test_the_manifest_is_valid_and_names_functions_that_exist():
    from npe2 import PluginManifest

    manifest = PluginManifest.from_file(Path(register.__file__).parent / "napari" / "napari.yaml")
    manifest.validate_imports()
    assert manifest.name == "register-cli"


def test_align_pick_three_pairs_rerun_save_reopen(viewer, dock, tmp_path):
    fixed, moving = (viewer.add_image(np.asarray(Picture.open(path).convert("RGB"))) for path in TISSUE)
    choose(dock, fixed, moving, preset="fast", max_size="512")
    dock.align.start()
    assert dock.align.cancel_button.enabled
    wait(dock)
    first = dock.session.transform
    assert first.quality.verdict == "ok", dock.align.words.text
    assert "ok" in dock.align.words.text
    assert "Expected error" in dock.align.words.text
    assert {layer.name for layer in viewer.layers} >= {"Image [1] (aligned)", "patches", "expected error"}
    truth = [
        np.loadtxt(SAMPLES / f"tissue_landmarks_{x}.csv", delimiter=",", skiprows=1)[[1, 20, 40]]
        for x in ("fixed", "moving")
    ]
    assert dock.session.aligned.data.shape[:2] == fixed.data.shape[:2]

    tab = dock.landmarks
    tab.mark()
    for one, other in zip(*truth, strict=True):
        assert viewer.layers.selection.active is tab.layers[0]
        tab.layers[0].add(fixed.data_to_world(one[::-1]))
        assert viewer.layers.selection.active is tab.layers[1]
        tab.layers[1].add(moving.data_to_world(other[::-1]))
    assert [row.name for row in tab.rows] == ["1", "2", "3"]
    assert all(row.residual < 10 for row in tab.rows)
    tab.table.item(0, 0).setText("vessel")
    assert [row.name for row in tab.rows] == ["vessel", "2", "3"]
    dock.native.setCurrentIndex(1)
    tab.hold()
    wait(dock)
    held = dock.session.transform.quality.held
    assert len(held.points) == 3
    assert np.allclose([p.fixed for p in held.points], truth[0])
    assert all(row.kept for row in tab.rows)

    path = tmp_path / "transform.json"
    dock.align.save(path)
    points = fixed.world_to_data((50.0, 60.0)), (100.0, 200.0)
    before = dock.session.transform.map(points)
    dock.session.choose(moving, fixed)
    assert dock.session.transform is None
    dock.session.choose(fixed, moving)
    dock.align.open(path)
    assert np.allclose(dock.session.transform.map(points), before)
    assert dock.session.aligned is not None
    dock.align.overlay.colours.value = True
    assert [layer.name for layer in viewer.layers][-2:] == ["fixed (green)", "aligned (magenta)"]
    picture = viewer.screenshot(canvas_only=False, flash=False)
    assert picture.shape[0] > 700
    assert picture[..., :3].std() > 20
    dock.align.overlay.colours.value = False
    assert "fixed (green)" not in viewer.layers


def test_an_affine_goes_out_as_the_affine_of_the_layer_and_copies_nothing(viewer, dock, pair):
    picture, moved, matrix = pair
    fixed = viewer.add_image(picture, scale=(0.5, 0.5), translate=(7, 3))
    moving = viewer.add_image(moved, scale=(2, 2), rotate=30)
    choose(dock, fixed, moving, preset="fast", model="affine")
    dock.align.start()
    wait(dock)
    transform, aligned = dock.session.transform, dock.session.aligned
    assert transform.quality.verdict == "ok"
    assert aligned.data is moving.data
    points = np.array([[40.0, 50.0], [250.0, 90.0], [120.0, 260.0]])
    mapped = transform.map(points)
    assert np.linalg.norm(mapped - affine.apply(matrix, points), axis=1).max() < 0.5
    there = np.array([aligned.data_to_world(p[::-1]) for p in mapped])
    assert np.allclose(there, [fixed.data_to_world(p[::-1]) for p in points], atol=1e-6)


def test_points_shapes_labels_and_images_move_through_a_transform(viewer, dock, pair, tmp_path):
    picture, moved, _ = pair
    fixed = viewer.add_image(picture, scale=(0.5, 0.5), translate=(7, 3))
    moving = viewer.add_image(moved, affine=np.array([[0, 1, 4], [-1, 0, 9], [0, 0, 1.0]]))
    made = register.align(picture, moved, preset="fast")
    made.transform.save(tmp_path / "transform.json")
    choose(dock, fixed, moving)
    dock.align.open(tmp_path / "transform.json")
    tab, there = dock.move, np.array([[30.0, 40.0], [200.0, 100.0]])  # moving pixels (x, y)
    expected = made.transform.inverse().map(there)

    points = viewer.add_points(there[:, ::-1], affine=moving.affine, features={"cell": ["a", "b"]})
    tab.layer.value, tab.direction.value = points, "moving → fixed"
    found = tab.move()
    world = np.array([found.data_to_world(p) for p in found.data])
    assert np.allclose(world, [fixed.data_to_world(p[::-1]) for p in expected], atol=1e-4)
    assert found.features["cell"].tolist() == ["a", "b"]
    assert found.features["inside"].all()
    assert (found.features["expected error"] < 3).all()
    tab.layer.value, tab.direction.value = found, "fixed → moving"
    assert np.allclose(tab.move().data[:, ::-1], there, atol=1e-3)

    box = np.array([[30.0, 20], [30, 80], [90, 80], [90, 20]])
    shapes = viewer.add_shapes([box, box], shape_type=["rectangle", "ellipse"], affine=moving.affine)
    tab.layer.value, tab.direction.value = shapes, "moving → fixed"
    outlines = tab.move()
    assert outlines.shape_type == ["polygon", "polygon"]
    assert np.allclose(outlines.data[0][:, ::-1], made.transform.inverse().map(box[:, ::-1]), atol=1e-4)
    assert len(outlines.data[1]) == 64

    values = np.zeros(moved.shape[:2], np.int64)
    values[60:160, 50:200] = 7
    labels = viewer.add_labels(values, affine=moving.affine)
    tab.layer.value = labels
    on_fixed = tab.move()
    assert on_fixed.data.shape == picture.shape[:2]
    assert set(np.unique(on_fixed.data)) == {0, 7}
    assert np.array_equal(
        on_fixed.data, register.warp(values.astype("int32"), made.transform, interpolation="nearest")
    )
    half = viewer.add_labels(values[::2, ::2], scale=(2, 2), translate=(0, 0))  # another grid, elsewhere
    half.affine = moving.affine
    tab.layer.value = half
    assert (tab.move().data != on_fixed.data).mean() < 0.02
    tab.layer.value, tab.direction.value = (
        viewer.add_image(picture[..., 0], scale=fixed.scale, translate=fixed.translate),
        "fixed → moving",
    )
    assert tab.move().data.shape == moved.shape[:2]


def test_large_layers_are_read_in_windows_and_shown_in_levels(viewer):
    from napari.layers import Image

    from register.io.images.working import BAND, Validity, working_level
    from register.napari.layers import image_of
    from register.napari.lazy import AT_ONCE, resampled

    class Counted:
        """An array that remembers the largest window that was read."""

        shape, dtype, ndim = (5000, 4000), np.dtype("uint8"), 2
        most = 0

        def __getitem__(self, key):
            window = np.zeros(
                [len(range(*part.indices(n))) for part, n in zip(key, self.shape, strict=True)], "uint8"
            )
            self.most = max(self.most, window.size)
            return window + np.uint8(3)

    data = Counted()
    image = image_of(Image(data, contrast_limits=(0, 255), multiscale=False), viewer)
    data.most = 0  # napari itself reads the plane that it shows
    level, _ = working_level(image, Validity(image), 512)
    assert level.size == (555, 444)
    assert data.most <= BAND
    frame = Frame(4000, 5000)
    transform = register.Transform("translation", frame, frame, affine.translation(5, -3))
    made = resampled(image, transform)
    assert made.multiscale
    assert [one.shape for one in made.data] == [(5000, 4000), (2500, 2000), (1250, 1000), (625, 500)]
    assert (np.asarray(made.data[0][3000:3300, 100:400]) == 3).all()
    assert (np.asarray(made.data[2][100:160:7, 160:100:-3]) == 3).all()
    assert np.asarray(made.data[1][7, ::5]).shape == (400,)
    assert data.most < 5000 * 4000 / 4
    assert AT_ONCE < 5000 * 4000


def test_lazy_layers_are_indexed_as_arrays():
    from register.napari.lazy import shown

    pixels = np.random.default_rng(1).integers(0, 255, (3, 700, 900), dtype=np.uint8)
    colours, grey = shown([pixels], colours=True).data, shown([pixels[:1]], colours=False).data
    whole = np.moveaxis(pixels, 0, 2)
    for key in (np.s_[:], np.s_[10:650:7, ::11], np.s_[600:20:-3, 5], np.s_[-1, 880:], np.s_[30:30, :]):
        assert np.array_equal(np.asarray(colours[key]), whole[key])
        assert np.array_equal(np.asarray(grey[key]), whole[..., 0][key])
    assert np.array_equal(np.asarray(colours[::2, ::2, :2].mean(-1)), whole[::2, ::2, :2].mean(-1))


def test_a_result_opens_in_the_viewer_and_by_the_reader(viewer, tmp_path):
    from register.napari import reader, view

    pair = [tmp_path / f"{name}.tif" for name in ("one", "two")]
    picture = np.asarray(Picture.open(TISSUE[0]).convert("L").resize((200, 160)))
    for n, path in enumerate(pair):
        register.write_image(path, register.Image(np.stack([picture, 255 - picture])[:, n:]))
    run(Job(*pair, tmp_path / "out", settings.check(preset="fast", model="rigid", report=False)))
    viewer.layers.clear()
    view.show(tmp_path / "out", viewer)
    dock = list(viewer.window.dock_widgets.values())[-1].register
    names = [layer.name for layer in viewer.layers]
    assert names[:4] == ["fixed: one.tif 0", "fixed: one.tif 1", "moving: two.tif 0", "moving: two.tif 1"]
    assert "aligned" in names[4]
    assert dock.session.transform.quality.verdict == "ok"
    read = reader.reader_of(str(tmp_path / "out" / "transform.json"))
    found = read(str(tmp_path / "out" / "transform.json"))
    assert [kind for _, _, kind in found] == ["image"] * 5
    assert reader.reader_of("picture.json") is None
    pair[1].unlink()
    with pytest.raises(FileError, match="does not exist"):
        view.show(tmp_path / "out", viewer)


def test_what_cannot_be_done_is_said_in_one_line(viewer, dock):
    layer = viewer.add_image(np.zeros((50, 60)))
    flat = viewer.add_image(np.zeros((50, 60)))
    choose(dock, layer, layer)
    dock.align.start()
    assert "choose two" in dock.align.words.text
    choose(dock, layer, flat)
    dock.move.move()
    assert "no transform yet" in dock.move.words.text
    dock.landmarks._try(dock.landmarks.hold)
    assert "no landmark has a point" in dock.landmarks.words.text
    dock.align.more["patch_size"].value = "many"
    dock.align.start()
    assert dock.align.words.text == "patch_size 'many' is not allowed: a number is needed"
    dock.align.more["patch_size"].value = ""
    dock.align.start()
    wait(dock)
    assert "layer" in dock.align.words.text
    assert dock.session.transform is None
    dock.align.start()
    dock.align.cancel()
    wait(dock)
    assert dock.session.transform is None


def test_landmarks_are_paired_by_name_and_survive_the_loss_of_one(viewer, dock, tmp_path):
    fixed = viewer.add_image(np.zeros((50, 60)), scale=(0.5, 0.5))
    choose(dock, fixed, viewer.add_image(np.zeros((70, 80)), translate=(5, 9)))
    tab = dock.landmarks
    tab.mark()
    for n in range(3):
        tab.layers[0].add((10.0 + n, 20))
        tab.layers[1].add((30.0, 10 + n))
    tab.layers[0].selected_data = {0}
    tab.layers[0].remove_selected()
    assert [(row.name, row.fixed) for row in tab.rows] == [("2", (20, 11)), ("3", (20, 12)), ("1", None)]
    tab.save_to(tmp_path)
    assert (
        tmp_path / "landmarks_fixed.csv"
    ).read_text() == "name,x,y\n2,20.0000,11.0000\n3,20.0000,12.0000\n"
    tab.layers[0].add((1.0, 2))
    assert [row.name for row in tab.rows] == ["2", "3", "1"]
    tab.table.selectRow(2)
    tab.remove_selected()
    assert [row.name for row in tab.rows] == ["2", "3"]
    tab.load_from(tmp_path)
    assert [row.fixed for row in tab.rows] == [(20, 11), (20, 12)]
    with pytest.raises(FileError, match="exists already"):
        tab.save_to(tmp_path)
