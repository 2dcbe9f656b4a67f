"""The engine of movies: compiled code equals tensors, and motion is recovered.

Transforms are kept, and bad frames are never ok.
"""

import json

import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import map_coordinates

import register
from register import settings
from register.engine.movie import follow as following
from register.engine.movie import space, tensors
from register.engine.movie.filtered import filtered
from register.engine.movie.online import Reference, align_movie
from register.errors import FileError, RegisterError
from register.geometry.spline_map import SplineMap
from register.kernels import movie as kernels
from register.kernels.movie import Displaced, Target
from register.transforms import minority
from register.transforms.movie import FrameTransform, MovieTransforms, transform_of, without_folds
from register.transforms.quality import Verdict
from register.transforms.resample import warp_pixels
from register.workflows.movie import job, run
from register.workflows.movie.resampled import resampled

H, W = 150, 170


def spline(size=2.0, seed=0):
    """A smooth displacement of about ``size`` pixels, with a small rotation and shift."""
    coefficients = size * np.random.default_rng(seed).normal(size=(2, 5, 6))
    return SplineMap(H, W, np.array([[1.0, 0.01, 3.4], [-0.01, 1.0, -2.3]]), coefficients)


@pytest.fixture(scope="module")
def moving(texture, through):
    """Frames (8, 150, 170) uint16 of which frame n is seen through a known map, and the maps."""
    y, x = np.mgrid[:H, :W].astype(float)
    rng, frames, maps = np.random.default_rng(3), [], []
    for n in range(8):
        shift = np.array([2.5 * np.sin(n), 1.5 * n])
        wave = 1.5 * np.sin(n) * np.sin(2 * np.pi * x / 150)
        frames.append(through(texture, np.stack([x + 100 + shift[0] + wave, y + 100 + shift[1]], 2)))
        maps.append((shift, n))
    noisy = np.clip(np.array(frames) + rng.normal(0, 0.01, (8, H, W)), 0, 1)
    return (noisy * 60000).astype(np.uint16), maps


def place(of, points):
    """The place in the scene of points (n, 2) of a frame."""
    shift, n = of
    return (
        points
        + shift
        + np.stack([1.5 * np.sin(n) * np.sin(2 * np.pi * points[:, 0] / 150), 0 * points[:, 0]], 1)
    )


def test_compiled_code_equals_tensors(monkeypatch):
    if not kernels.is_available():
        pytest.skip("the compiled code was not built")
    torch.manual_seed(0)
    y, x = space.spline_axis(H, 3), space.spline_axis(W, 4)
    frame = torch.rand(H - 5, W + 9)
    frame[20:30, 40:50] = torch.nan
    numbers = (0.9, -0.2, 11.0, 0.2, 0.9, -7.0)
    displaced = Displaced(frame, y, x, 3 * torch.randn(2, y.count, x.count), numbers)
    target = Target(*(torch.rand(H, W) for _ in range(4)))
    found = tensors.resample(displaced, -1.0), *tensors.step(displaced, target, (1.2, 0.1, 0.4))
    monkeypatch.setattr(kernels, "is_available", lambda: False)
    expected = tensors.resample(displaced, -1.0), *tensors.step(displaced, target, (1.2, 0.1, 0.4))
    assert ((found[0] == -1) != (expected[0] == -1)).float().mean() < 1e-3  # positions on an edge
    inside = (found[0] != -1) & (expected[0] != -1)
    assert torch.allclose(found[0][inside], expected[0][inside], atol=2e-4)
    assert torch.allclose(found[1], expected[1], rtol=2e-2, atol=0.1)
    assert torch.allclose(found[2], expected[2], rtol=1e-3)


def test_wrong_arrays_never_reach_the_compiled_code():
    y, x = space.spline_axis(H, 3), space.spline_axis(W, 4)
    good = torch.rand(H, W), y, x, torch.zeros(2, y.count, x.count)
    for bad in (
        (torch.rand(1, W), *good[1:]),
        (good[0].double(), *good[1:]),
        (*good[:3], torch.zeros(2, 3, 3)),
    ):
        with pytest.raises(ValueError, match=r"frame|coefficients"):
            kernels.resample(Displaced(*bad, (1, 0, 0, 0, 1, 0)), 0.0)
    for count, values, first in (
        (3, y.values, y.first),
        (y.count, y.values[:, 1:], y.first),
        (y.count, y.values, y.first.long()),
    ):
        with pytest.raises(ValueError, match="basis"):
            kernels.Axis(count, values, first)


def test_the_patches_of_a_transform_are_the_spline():
    of, points = spline(), np.random.default_rng(1).uniform(0, (W - 1, H - 1), (500, 2))
    transform = transform_of("local", FrameTransform(of, Verdict.OK))
    assert np.abs(transform.map(points) - of.map(points)).max() < 0.15  # coefficients without any smoothness
    smooth = SplineMap(
        H, W, of.matrix, np.stack([np.add.outer(np.arange(5.0), 0.3 * np.arange(6.0) ** 2)] * 2)
    )
    exact = transform_of("local", FrameTransform(smooth, Verdict.OK))
    assert np.abs(exact.map(points) - smooth.map(points)).max() < 1e-9  # a quadratic polynomial
    one, other = spline(0.5), spline(0.5, 1)
    inner = np.random.default_rng(1).uniform(20, (W - 21, H - 21), (500, 2))
    assert np.abs(one.then(other).map(inner) - other.map(one.map(inner))).max() < 0.05


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_frames_are_resampled_as_by_their_transform(dtype):
    pixels = (np.random.default_rng(0).random((2, H, W)) * 250).astype(dtype)
    of = spline()
    found = resampled(pixels, of, "bilinear", 7.0)
    expected = warp_pixels(pixels, transform_of("local", FrameTransform(of, Verdict.OK)), fill=7.0)
    assert found.dtype == dtype
    difference = np.abs(found.astype(float) - expected.astype(float))
    assert np.quantile(difference, 0.999) <= (1 if dtype != np.float32 else 0.05)
    still = SplineMap(H, W, np.eye(2, 3), np.zeros((2, 5, 6)))
    assert (resampled(pixels, still, "bilinear", 7.0) == pixels).all()


def test_known_motion_is_recovered(moving):
    frames, maps = moving
    movie = align_movie(frames, fixed=frames[0], patch_size=40)
    assert {one.verdict for one in movie.frames} == {Verdict.OK}
    y, x = (v.ravel() for v in np.mgrid[25:125:10, 25:145:10].astype(float))
    points = np.stack([x, y], 1)
    errors = [
        np.linalg.norm(place(maps[n], movie[n].map(points)) - place(maps[0], points), axis=1)
        for n in range(8)
    ]
    assert np.median(errors) < 0.05
    assert np.max(np.median(errors, axis=1)) < 0.15
    assert max(one.expected_error for one in movie.frames[1:]) < 0.5


def test_single_pixels_that_are_invalid_are_passed_over(moving):
    rng = np.random.default_rng(2)
    holes = rng.random(moving[0].shape) < 0.02
    movie = align_movie(np.where(holes, np.nan, moving[0]), preset="fast")
    assert {one.verdict for one in movie.frames} == {Verdict.OK}
    image = torch.rand(60, 60)
    mask = torch.ones(60, 60)
    mask[20, 20], mask[40:, :] = 0, 0
    seen = torch.isfinite(filtered(image, mask, 1.0))
    assert bool(seen[:40].all())
    assert not bool(seen[40:].any())


@pytest.mark.parametrize("count", [3, 8])
def test_frames_of_noise_are_not_recognised_in_their_own_mean(count):
    frames = np.random.default_rng(count).poisson(20, (count, H, W)).astype(np.uint16)
    found = align_movie(frames, preset="fast")
    assert {frame.verdict for frame in found.frames} == {Verdict.FAILED}


@pytest.mark.parametrize(("good", "failed", "blank", "verdict"), [(2, 5, 1, "suspect"), (4, 4, 6, "ok")])
def test_no_frame_is_ok_where_the_mean_is_that_of_a_minority(good, failed, blank, verdict):
    unmoved = SplineMap(50, 60, np.eye(2, 3))
    frames = [FrameTransform(unmoved, Verdict.OK, (), 0.9)] * good
    frames += [FrameTransform(unmoved, Verdict.FAILED, ("not recognised",), 0.1)] * failed
    frames += [FrameTransform(unmoved, Verdict.FAILED, ("is constant",))] * blank
    judged = minority.doubted(frames)
    assert [one.verdict for one in judged] == [verdict] * good + ["failed"] * (failed + blank)
    if verdict == "suspect":
        assert judged[0].reasons == (
            f"the mean shows what only {good} of {good + failed} frames with content show",
        )


@pytest.mark.parametrize(("shown", "verdict"), [((1, 3), "suspect"), ((0, 1, 3), "ok")])
def test_few_frames_among_noise_are_the_reference(moving, shown, verdict):
    """They are ``ok`` where they are most of the frames."""
    rng = np.random.default_rng(1)
    frames = rng.uniform(0, 60000, (5, H, W)).astype(np.uint16)
    frames[list(shown)] = moving[0][: len(shown)]
    found = [frame.verdict for frame in align_movie(frames, preset="fast").frames]
    assert found == [verdict if n in shown else "failed" for n in range(5)]


def test_a_reference_follows_frames_and_says_what_it_does_not_know(moving, tensors_only):
    frames, _ = moving
    reference = Reference.build(frames[:6], model="translation")
    assert reference.image.shape == (H, W)
    with tensors_only():
        slow = reference.follow(frames[7])
    assert np.abs(slow.matrix - reference.follow(frames[7]).matrix).max() < 1e-2
    assert reference.follow(np.zeros((H, W), np.uint16)).quality.verdict == "failed"
    with pytest.raises(RegisterError, match="the frame has the size"):
        reference.follow(frames[0][:50])
    with pytest.raises(RegisterError, match="no frame that is not constant"):
        Reference.build(np.zeros((3, H, W)))
    with pytest.raises(RegisterError, match="has no meaning for a movie"):
        Reference.build(frames, metric="mi")


def test_transforms_are_kept_and_exported(tmp_path, program):
    frames = tuple(FrameTransform(spline(seed=n), Verdict.OK, ("a", "b"), 0.5, 0.1) for n in range(3))
    MovieTransforms("local", frames).save(tmp_path / "t.npz")
    movie = register.load_movie(tmp_path / "t.npz")
    points = np.random.default_rng(1).uniform(0, 140, (50, 2))
    assert np.abs(movie[2].map(points) - MovieTransforms("local", frames)[2].map(points)).max() < 1e-4
    assert movie.frames[1].reasons == ("a", "b")
    done = program("export", tmp_path / "t.npz", "--frame", "1", "--to", "json", "-o", tmp_path / "f.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "f.json").read_text())["provenance"]["frame"] == 1
    assert (
        "holds 3 frames"
        in program("export", tmp_path / "t.npz", "--to", "json", "-o", tmp_path / "g.json").stderr
    )
    (tmp_path / "bad.npz").write_bytes((tmp_path / "t.npz").read_bytes()[:300])
    with pytest.raises(FileError, match="not a file of a movie's transforms"):
        register.load_movie(tmp_path / "bad.npz")


def far_maps():
    """Maps that lie beyond ranges of 30 degrees, a factor of 1.5 and 20 px, and what the reason names."""
    turned = np.array([[-1.0, 0, W - 1], [0, -1, H - 1]])
    mirrored = np.array([[-1.0, 0, W - 1], [0, 1, 0]])
    smaller = np.array([[0.5, 0, W / 4], [0, 0.5, H / 4]])
    return [
        (turned, "turned by 180°"),
        (mirrored, "mirrored"),
        (smaller, "scaled by 0.50"),
        (np.array([[1.0, 0, 30], [0, 1, 0]]), "shifted by more than --shift-range"),
    ]


@pytest.mark.parametrize(("matrix", "why"), far_maps(), ids=["turned", "mirrored", "smaller", "shifted"])
def test_a_map_beyond_the_ranges_that_were_asked_for_is_never_ok(moving, monkeypatch, matrix, why):
    """Whatever the search proposes, and however well it fits."""
    frame = moving[0][0].astype(np.float32)
    y, x = np.mgrid[:H, :W]
    at = np.moveaxis(np.stack([x, y], 2) @ np.linalg.inv(matrix[:, :2]).T, 2, 0)
    offset = -np.linalg.inv(matrix[:, :2]) @ matrix[:, 2]
    seen = map_coordinates(frame, (at + offset[:, None, None])[::-1], order=1, mode="reflect")
    monkeypatch.setattr(following, "_searched", lambda *_: torch.from_numpy(matrix))
    free = {"scale_range": 3.0, "allow_flip": True, "model": "local", "preset": "fast"}
    assert Reference.build([frame], fixed=frame, **free).follow(seen).quality.verdict == "ok"
    narrow = {"rotation_range": 30.0, "scale_range": 1.5, "shift_range": "20", "preset": "fast"}
    found = Reference.build([frame], fixed=frame, **narrow).follow(seen).quality
    assert found.verdict == "failed"
    if found.reasons[0].startswith("the frame is "):
        assert any(why in reason for reason in found.reasons) or "not recognised" in found.reasons[0]


def test_a_range_of_shifts_is_kept_and_needs_pixels(moving, monkeypatch):
    frames, _ = moving
    monkeypatch.setattr(following, "_searched", lambda *_: None)
    far = np.roll(frames[0], 12, axis=1)
    assert Reference.build(frames[:1], fixed=frames[0], shift_range="20").follow(far).quality.verdict == "ok"
    reference = Reference.build(
        frames[:1], fixed=frames[0], shift_range="5", rotation_range=0.0, matcher="none"
    )
    assert reference.follow(far).quality.verdict != "ok"
    with pytest.raises(RegisterError, match="cannot be converted to pixels"):
        Reference.build(frames, shift_range="5µm")


def test_a_spline_that_folds_is_reduced_and_not_ok():
    coefficients = np.zeros((2, 6, 6))
    coefficients[0, 3, 3] = 400
    of = FrameTransform(SplineMap(H, W, np.eye(2, 3), coefficients), Verdict.OK)
    assert of.map.folds
    assert transform_of("local", of).smallest_determinant() <= 0
    mended = without_folds(of)
    assert mended.verdict == Verdict.SUSPECT
    assert "folded" in mended.reasons[-1]
    assert not mended.map.folds
    assert transform_of("local", mended).smallest_determinant() > 0
    assert 10 < np.abs(mended.map.coefficients).max() < 400
    smooth = FrameTransform(spline(0.5), Verdict.OK)
    assert without_folds(smooth) is smooth
    rng = np.random.default_rng(0)
    for size in np.geomspace(0.5, 60, 40):  # the quick bound never calls a fold smooth
        tried = SplineMap(H, W, np.eye(2, 3), size * rng.normal(size=(2, 5, 6)))
        least = transform_of("local", FrameTransform(tried, Verdict.OK)).smallest_determinant()
        assert tried.folds == (least <= 0.05)


@pytest.mark.slow
def test_a_run_that_was_killed_continues_with_the_same_bytes(tmp_path, moving, monkeypatch):
    from register.workflows.movie import tasks

    frames = np.concatenate([moving[0]] * 5)  # three chunks
    tifffile.imwrite(tmp_path / "m.tif", frames[:, :90, :100], photometric="minisblack")
    chosen = settings.check(preset="fast", report=False)

    def asked(where):
        return job.Movie((str(tmp_path / "m.tif"),), "first", tmp_path / where, chosen)

    rows = run.run(asked("whole"), count=1)
    true, calls = tasks.align_chunk, []

    def killed(number):
        calls.append(number)
        if number == 2 and len(calls) == 3:
            raise KeyboardInterrupt
        return true(number)

    monkeypatch.setattr(tasks, "align_chunk", killed)
    with pytest.raises(KeyboardInterrupt):
        run.run(asked("killed"), count=1)
    assert run.run(asked("killed"), count=1) == rows
    assert calls == [0, 1, 2, 2]
    for name in ("aligned.tif", "series.csv", "transforms.npz"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "killed" / "unfinished").exists()


@pytest.mark.parametrize(
    "number",
    [
        *(0, 1, 2, 3, 5),
        *(pytest.param(n, marks=pytest.mark.slow) for n in (4, 6, 7, 8)),
        *(pytest.param(n, marks=[pytest.mark.slow, pytest.mark.variant]) for n in range(9, 18)),
    ],
)
def test_no_frame_is_ok_and_wrong(moving, number):
    """Frames that are shifted, covered, noise, dimmed, turned or lit from outside: right, or not ok."""
    frames, maps = moving
    rng = np.random.default_rng(number)
    reference = Reference.build(frames, fixed=frames[0], rotation_range=30.0, preset="fast")
    frame, kind = frames[3].astype(float), number % 6
    if kind == 0:
        frame = np.roll(frame, rng.integers(-60, 60, 2), (0, 1))
    elif kind == 1:
        top = int(rng.integers(0, H // 2))
        frame[top : top + int(rng.integers(20, H))] = 0
    elif kind == 2:
        frame = rng.random((H, W)) * 60000
    elif kind == 3:
        frame = frame * 0.05 + rng.normal(0, rng.uniform(500, 20000), frame.shape)
    elif kind == 4:
        frame = frame[::-1, ::-1]
    else:
        frame = frame + 60000 * np.exp(-(((np.arange(W) - rng.uniform(0, W)) / 30) ** 2))
    found = reference.follow(frame.clip(0, 65535).astype(np.uint16))
    if found.quality.verdict != "ok":
        return
    assert kind in (0, 1, 3, 5)
    y, x = (v.ravel() for v in np.mgrid[25:125:10, 25:145:10].astype(float))
    points = np.stack([x, y], 1)
    if kind == 0:
        return  # np.roll wraps: only the verdict of its larger part is known
    error = np.linalg.norm(place(maps[3], found.map(points)) - place(maps[0], points), axis=1)
    assert np.median(error) < 3
