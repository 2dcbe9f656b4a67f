"""Movies: chains, bad frames, several files, refused options, labels, depth, lines."""

import dataclasses
import json

import numpy as np
import pytest
import tifffile

from register import settings
from register.engine.movie.options import WITHOUT_MEANING
from register.errors import RegisterError
from register.images.line_offset import line_offset
from register.io.movies.layout import Layout
from register.io.movies.open import open_stack
from register.transforms.movie import load_movie
from register.workflows.movie import job, run, table, trend

FAST = settings.check(preset="fast", model="translation", report=False)
STEP = 4


@pytest.fixture(scope="module")
def frames(texture):
    """Twelve frames (120, 140) uint16 that move by 4 px each to the right; frame 5 is blank."""
    view = [texture[20:140, 60 - STEP * n : 200 - STEP * n] for n in range(12)]
    noise = np.random.default_rng(0).normal(0, 0.01, (12, 120, 140))
    stack = (np.clip(np.array(view) + noise, 0, 1) * 60000).astype(np.uint16)
    stack[5] = 100
    return stack


def aligned(path, stack, to, where, **more):
    """The rows of a movie."""
    tifffile.imwrite(path, stack, photometric="minisblack")
    asked = job.Movie((str(path),), to, where, more.pop("settings", FAST), **more)
    return run.run(asked, count=1)


def errors(rows, first=0):
    """Errors in pixels of the shifts of frames that are not failed, relative to frame ``first``."""
    return {
        row.frame: float(np.hypot(row.shift_x - STEP * (row.frame - first), row.shift_y))
        for row in rows
        if row.verdict != "failed"
    }


@pytest.mark.slow
def test_two_processes_give_the_same_bytes_as_one_and_end_where_there_is_no_reference(tmp_path, frames):
    tifffile.imwrite(tmp_path / "m.tif", np.concatenate([frames] * 3), photometric="minisblack")
    for to in ("mean", "previous"):
        for count in (1, 2):
            asked = job.Movie((str(tmp_path / "m.tif"),), to, tmp_path / f"{to}{count}", FAST)
            run.run(asked, count=count)
        for name in ("aligned.tif", "series.csv", "transforms.npz"):
            one, two = ((tmp_path / f"{to}{count}" / name).read_bytes() for count in (1, 2))
            assert one == two
    tifffile.imwrite(tmp_path / "blank.tif", np.full((36, 60, 70), 7, np.uint16), photometric="minisblack")
    with pytest.raises(RegisterError, match="has no reference"):
        run.run(job.Movie((str(tmp_path / "blank.tif"),), "mean", tmp_path / "no", FAST), count=2)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("to", ["previous", "first", "mean"])
def test_frames_after_a_blank_one_are_right(tmp_path, frames, to):
    rows = aligned(tmp_path / "m.tif", frames, to, tmp_path / "o")
    assert [row.frame for row in rows if row.bad] == [5]
    assert np.load(tmp_path / "o" / "bad_frames.npy").tolist() == [row.bad for row in rows]
    shift = np.array([row.shift_x for row in rows])
    assert shift - shift[0] == pytest.approx(
        STEP * np.arange(12), abs=0.5
    )  # frame 5 lies between its neighbours
    assert rows == table.read_table(tmp_path / "o" / "series.csv")


def test_a_chain_is_as_good_as_its_worst_link(tmp_path, frames, monkeypatch):
    from register.transforms.quality import Verdict
    from register.workflows.movie import chain, tasks

    monkeypatch.setattr(chain, "ANCHOR", 100)
    true = tasks.link

    def doubtful(index, against):
        found = true(index, against)
        return dataclasses.replace(found, verdict=Verdict.SUSPECT) if index == 2 else found

    monkeypatch.setattr(tasks, "link", doubtful)
    rows = aligned(tmp_path / "m.tif", frames[:5], "previous", tmp_path / "o")
    assert rows[2].verdict == "suspect"
    assert rows[3].against == "frame 1"  # the last good frame
    assert [row.verdict for row in rows[3:]] == ["ok", "ok"]


@pytest.mark.parametrize(("how", "expected"), [("keep", "as it is"), ("blank", "empty")])
def test_a_bad_frame_is_kept_or_blank(tmp_path, frames, how, expected):
    rows = aligned(tmp_path / "m.tif", frames[3:7], "first", tmp_path / "o", bad_frames=how)
    assert [row.bad for row in rows] == [False, False, True, False]
    pixels = tifffile.imread(tmp_path / "o" / "aligned.tif")[2]
    assert (pixels == (100 if how == "keep" else 0)).all(), expected


def test_noise_alone_is_failed_and_not_moved_by_its_fit(tmp_path, frames):
    stack = frames[:5].copy()
    stack[2] = np.random.default_rng(1).integers(0, 60000, stack[2].shape)
    rows = aligned(tmp_path / "m.tif", stack, "first", tmp_path / "o")
    assert rows[2].bad
    assert rows[2].shift_x == pytest.approx(2 * STEP, abs=0.5)


def test_frames_of_several_files_follow_one_another(tmp_path, frames):
    for n, part in enumerate((frames[:4], frames[4:9], frames[9:])):
        tifffile.imwrite(tmp_path / f"part{n}.tif", part, photometric="minisblack")
    stack = open_stack(str(tmp_path / "part*.tif"))
    assert len(stack) == 12
    assert stack.shape == (1, 120, 140)
    assert all((stack.frame(n)[0] == frames[n]).all() for n in range(12))
    stack.close()
    tifffile.imwrite(tmp_path / "part1.tif", frames[4:9, :50], photometric="minisblack")
    stack = open_stack(str(tmp_path / "part*.tif"))
    assert (stack.shape, stack.frame(5).shape) == ((1, 120, 140), (1, 50, 140))
    stack.close()
    tifffile.imwrite(tmp_path / "part1.tif", frames[4:9].astype(np.int32), photometric="minisblack")
    with pytest.raises(RegisterError, match=r"part1\.tif: has frames"):
        open_stack(str(tmp_path / "part*.tif"))


def test_planes_and_channels_that_alternate(tmp_path, frames):
    tifffile.imwrite(tmp_path / "m.tif", frames, photometric="minisblack")
    stack = open_stack(str(tmp_path / "m.tif"), Layout(planes=3, channels=2, plane=1))
    assert len(stack) == 2
    assert (stack.frame(1) == frames[8:10]).all()
    stack.close()
    with pytest.raises(RegisterError, match="3 planes alternate"):
        open_stack(str(tmp_path / "m.tif"), Layout(planes=3))
    tifffile.imwrite(
        tmp_path / "z.ome.tif", frames.reshape(4, 3, 120, 140), ome=True, metadata={"axes": "TZYX"}
    )
    stack = open_stack(str(tmp_path / "z.ome.tif"), Layout(plane=2))
    assert (stack.frame(1)[0] == frames[5]).all()
    stack.close()
    with pytest.raises(RegisterError, match="--plane"):
        open_stack(str(tmp_path / "z.ome.tif"))


@pytest.mark.parametrize("contiguous", [True, False])
def test_a_file_that_is_cut_short_is_used_as_far_as_it_goes(tmp_path, frames, contiguous):
    with tifffile.TiffWriter(tmp_path / "m.tif") as file:
        if contiguous:
            file.write(frames, photometric="minisblack")
        for frame in frames if not contiguous else ():
            file.write(frame, photometric="minisblack", contiguous=False, metadata=None)
    data = (tmp_path / "m.tif").read_bytes()
    (tmp_path / "m.tif").write_bytes(data[: len(data) - 3 * frames[0].nbytes // 2])
    with pytest.raises(RegisterError, match="is cut off"):
        open_stack(str(tmp_path / "m.tif"))
    stack = open_stack(str(tmp_path / "m.tif"), Layout(allow_truncated=True))
    assert len(stack) == 10
    assert "cut short: 10 of its" in stack.notes[0]
    assert (stack.frame(9)[0] == frames[9]).all()
    stack.close()


@pytest.mark.parametrize("name", WITHOUT_MEANING)
def test_an_option_without_meaning_is_refused(tmp_path, name):
    values = {
        "init": "identity", "seed": 1, "valid_mask": True, "pyramid": True, "pyramid_pages": True,
        "device": "cpu",
        "landmarks": "a.csv,b.csv", "series": 0, "moving_channel": "0", "metric": "ncc",
        "optimizer": "adam", "max_size": 100, "landmarks_hold": "a.csv,b.csv", "format": "ome-zarr",
        "jpeg_quality": 90, "chunks": 64, "fixed_plane": "Z=0", "moving_plane": "Z=0",
    }  # fmt: skip
    asked = job.Movie(
        ("m.tif",),
        "mean",
        tmp_path / "o",
        dataclasses.replace(settings.check(), **{name: values.get(name, 1)}),
    )
    with pytest.raises(RegisterError, match=f"--{name.replace('_', '-')} has no meaning"):
        run.run(asked)


def test_the_command_corrects_motion_and_refuses_what_it_does_not_have(tmp_path, frames, program):
    for n, part in enumerate((frames[:3], frames[3:6])):
        tifffile.imwrite(tmp_path / f"{n}.tif", part, photometric="minisblack")
    tifffile.imwrite(
        tmp_path / "labels.tif", (frames[:6] > 30000).astype(np.uint8) * 7, photometric="minisblack"
    )
    done = program(
        "movie", tmp_path / "0.tif", tmp_path / "1.tif", "-o", tmp_path / "o", "--to", "0", "--workers", "1",
        "--preset", "fast", "--model", "rigid", "--also-labels", tmp_path / "labels.tif", "--json",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr  # the blank frame
    assert len(json.loads(done.stdout)["frames"]) == 6
    assert set(np.unique(tifffile.imread(tmp_path / "o" / "aligned_labels.tif"))) == {0, 7}
    for command in (["info"], ["apply", tmp_path / "0.tif", "-o", tmp_path / "x.tif"]):
        known = program(command[0], tmp_path / "o" / "transforms.npz", *command[1:])
        assert "register export --to json --frame N" in known.stderr
    tifffile.imwrite(tmp_path / "z.tif", frames[:6], imagej=True, metadata={"axes": "ZYX"})
    warned = program("movie", tmp_path / "z.tif", "--dry-run")
    assert warned.stderr.startswith("warning: the frames lie along depth")
    assert warned.stderr.count("\n") == 1
    for args in (
        ("movie", tmp_path / "0.tif", "--max-size", "100"),
        ("batch", "--series", tmp_path / "0.tif", "--scheduler", "tcp://a:1"),
    ):
        refused = program(*args, "-o", tmp_path / "p")
        assert refused.returncode == 2, refused.stderr
        assert args[-2] in refused.stderr


@pytest.mark.parametrize("angle", [25, 140])
def test_a_plate_that_was_put_in_again_is_found_by_the_search(tmp_path, texture, through, angle):
    y, x = np.mgrid[:160, :180].astype(float)
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turned = [
        through(texture, np.stack([c * (x - 90) - s * (y - 80) + 130, s * (x - 90) + c * (y - 80) + 120], 2))
        for c, s in ((1, 0), (c, s))
    ]
    stack = (np.clip(turned, 0, 1) * 60000).astype(np.uint16)
    chosen = settings.check(preset="fast", model="rigid", report=False)
    rows = aligned(tmp_path / "m.tif", stack, "first", tmp_path / "o", settings=chosen)
    assert rows[1].verdict == "ok"
    after = tifffile.imread(tmp_path / "o" / "aligned.tif")[1].astype(float)
    inside = (slice(60, 100), slice(70, 110))
    assert np.corrcoef(after[inside].ravel(), stack[0][inside].ravel())[0, 1] > 0.9


def test_moved_lines_are_found_corrected_and_never_ok(tmp_path, frames):
    moved = frames.copy()
    moved[:, 1::2] = np.roll(moved[:, 1::2], 4, axis=2)
    images = [frame.astype(np.float32) for frame in moved]
    import torch

    assert line_offset(map(torch.from_numpy, images)) == 4
    assert line_offset(torch.from_numpy(frame.astype(np.float32)) for frame in frames) == 0
    rows = aligned(tmp_path / "m.tif", moved[:4], "first", tmp_path / "o")
    assert {row.verdict for row in rows[1:]} == {"suspect"}
    assert "--bidirectional" in rows[1].reasons
    rows = aligned(tmp_path / "m.tif", moved[:4], "first", tmp_path / "p", bidirectional="auto")
    assert {row.verdict for row in rows} == {"ok"}
    after = tifffile.imread(tmp_path / "p" / "aligned.tif")[2][:, 20:100].astype(float)
    assert np.corrcoef(after.ravel(), frames[0][:, 20:100].ravel())[0, 1] > 0.97


def test_the_slow_motion_of_a_depth_stack_can_be_kept(tmp_path, texture):
    jitter = np.array([0, 3, -2, 1, -3, 2, 0, -1, 3, -2, 1, 0])
    moved = np.array([texture[20:140, 80 - 2 * n - j : 220 - 2 * n - j] for n, j in enumerate(jitter)])
    rows = aligned(
        tmp_path / "z.tif", (moved * 60000).astype(np.uint16), "first", tmp_path / "o", keep_trend=True
    )
    shift = np.array([row.shift_x for row in rows])
    assert shift - shift.mean() == pytest.approx(jitter - jitter.mean(), abs=1.2)
    line = np.stack([np.arange(12.0), np.ones(12)])
    matrices = np.zeros((12, 2, 3)) + (3 * line[0] + 5)[:, None, None]
    assert trend.slow(matrices) == pytest.approx(matrices)  # a straight line is slow


def test_frames_of_unlike_size_are_aligned_and_written_on_one(tmp_path, frames):
    for n in range(4):
        tifffile.imwrite(tmp_path / f"f{n}.tif", frames[n][: 120 - 15 * (n == 2), : 140 - 9 * (n > 1)])
    asked = job.Movie((str(tmp_path),), "first", tmp_path / "o", FAST)
    rows = run.run(asked, count=1)
    assert {row.verdict for row in rows} == {"ok"}
    assert max(errors(rows).values()) < 0.5
    after = tifffile.imread(tmp_path / "o" / "aligned.tif")
    assert after.shape == (4, 120, 140)
    assert (after[2][106:] == 0).all()  # the frame ends there
    for n, rows_of in ((2, 100), (3, 115)):
        pair = after[n][5:rows_of, 5:110], after[0][5:rows_of, 5:110]
        assert np.corrcoef(*(x.ravel().astype(float) for x in pair))[0, 1] > 0.97
    tifffile.imwrite(tmp_path / "f4.tif", frames[4].astype(np.float32))
    with pytest.raises(RegisterError, match=r"f4\.tif: frame 4 is float32"):
        run.run(asked, count=1)


def test_the_union_holds_every_frame_whole(tmp_path, frames):
    stack = frames[[0, 4, 8]]
    labels = np.zeros_like(stack)
    labels[0, 50:53, -2:], labels[2, 50:53, :2] = 7, 9  # the ends that lie outside the reference
    tifffile.imwrite(tmp_path / "labels.tif", labels, photometric="minisblack")
    chosen = dataclasses.replace(FAST, canvas="union")
    also = {"also_labels": (str(tmp_path / "labels.tif"),)}
    rows = aligned(tmp_path / "m.tif", stack, "1", tmp_path / "o", settings=chosen, **also)
    assert {row.verdict for row in rows} == {"ok"}
    left, top, width, height = load_movie(tmp_path / "o" / "transforms.npz").canvas
    after = tifffile.imread(tmp_path / "o" / "aligned.tif").astype(float)
    assert after.shape == (3, height, width)
    assert 172 <= width <= 176
    assert -18 <= left <= -16
    whole = after[1, -top : 120 - top, -left : 140 - left]
    assert np.corrcoef(whole[5:-5, 5:-5].ravel(), stack[1][5:-5, 5:-5].ravel())[0, 1] > 0.99
    assert after[0].max(0)[-3:].max() > 0
    assert after[2].max(0)[:3].max() > 0
    kept = tifffile.imread(tmp_path / "o" / "aligned_labels.tif")
    assert set(np.unique(kept[0])) == {0, 7}
    assert set(np.unique(kept[2])) == {0, 9}
    assert (kept[0] == 7).sum() == (kept[2] == 9).sum() == 6


def test_a_union_that_is_much_larger_is_refused(tmp_path):
    from register.geometry.spline_map import SplineMap
    from register.transforms.movie import FrameTransform
    from register.transforms.quality import Verdict
    from register.workflows.movie import canvas

    far = FrameTransform(SplineMap(100, 100, np.array([[1.0, 0, 900], [0, 1, 0]])), Verdict.OK)
    with pytest.raises(RegisterError, match=r"1000 × 100 pixels; use --canvas fixed"):
        canvas.union([far], (100, 100))
    bad = dataclasses.replace(far, verdict=Verdict.FAILED)
    assert canvas.union([bad], (100, 100)) == canvas.Canvas(0, 0, 100, 100)
