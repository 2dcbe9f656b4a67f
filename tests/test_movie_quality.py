"""The quality of a movie: motion that is left, slow changes, crispness, the page and its clip."""

import base64
import io
import json
import re

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import shift

from register import settings
from register.engine.movie import session
from register.report.clip import FRAMES, clip_url
from register.workflows.movie import job, run, samples

N = 40


def wobbling(texture, size, noise=0.02):
    """Frames (40, 100, 120) float32 that stand ``size`` pixels to the left or to the right."""
    rng = np.random.default_rng(0)
    either = [shift(texture, (0, side), order=3)[50:150, 60:180] for side in (-size, size)]
    frames = np.array([either[n % 2] for n in range(N)]) + rng.normal(0, noise, (N, 100, 120))
    return frames.astype(np.float32)


@pytest.mark.parametrize("step", [1, 2])
def test_motion_that_is_left_is_measured(texture, step):
    first = session.residual(wobbling(texture, 0.75), step)[0]
    assert first.shift == pytest.approx(1.5 * step, abs=0.15 * step)
    assert first.rms == pytest.approx(1.5 * step, abs=0.2 * step)
    assert first.largest >= first.rms
    assert 0 < first.share < 1
    still = session.residual(wobbling(texture, 0.0), step)
    assert max(one.rms for one in still) < 0.15 * step


def test_a_deformation_that_is_left_is_no_shift(texture):
    y, x = np.mgrid[:100, :120].astype(float)
    from scipy.ndimage import map_coordinates

    wave = 1.5 * np.sin(2 * np.pi * x / 120)
    either = [map_coordinates(texture, [y + 50, x + 60 + side * wave], order=3) for side in (-1, 1)]
    rng = np.random.default_rng(1)
    frames = np.array([either[n % 2] for n in range(N)]) + rng.normal(0, 0.02, (N, 100, 120))
    first = session.residual(frames.astype(np.float32), 1)[0]
    assert first.shift < 0.5
    assert first.rms == pytest.approx(3 / np.sqrt(2), rel=0.25)


def test_few_or_constant_frames_have_no_components(texture):
    assert session.residual(wobbling(texture, 1.0)[:10], 1) == ()
    assert session.residual(np.zeros((N, 100, 120), np.float32), 1) == ()


def test_a_slow_change_is_told_from_noise():
    rng = np.random.default_rng(0)
    for size in (0.02, 0.1):
        flat = 0.8 + rng.normal(0, size, 400)
        assert session.slow_change(flat) is None
        falling = flat - np.linspace(0, 0.4, 400)
        assert session.slow_change(falling) == pytest.approx(0.45, abs=0.08)
    assert session.slow_change(np.linspace(1, 0.5, 30)) is None


def test_sharper_means_and_frames_that_are_alike(texture):
    moving, still = wobbling(texture, 2.0), wobbling(texture, 0.0)
    assert session.crispness(still.mean(0)) > 1.1 * session.crispness(moving.mean(0))
    assert session.correlation(still) > session.correlation(moving)
    flat = np.zeros((10, 10))
    flat[5:] = 1
    assert session.crispness(flat) == pytest.approx(np.sqrt(20 * 0.25))


def test_small_copies_are_means(texture):
    assert samples.step_of((512, 300)) == 2
    assert samples.small(texture, 2)[3, 4] == pytest.approx(texture[6:8, 8:10].mean())


@pytest.mark.parametrize("count", [1, 5, 60])
def test_a_clip_plays_as_an_animated_png(texture, count):
    pairs = [
        (texture[n : n + 60, :80].astype(np.float32), texture[:60, :80].astype(np.float32))
        for n in range(count)
    ]
    content = base64.b64decode(clip_url(pairs).split(",")[1])
    with Image.open(io.BytesIO(content)) as clip:
        assert clip.format == "PNG"
        assert getattr(clip, "n_frames", 1) == min(count, FRAMES)
        assert clip.size == (2 * 80 + 4, 60)


def test_the_page_and_the_figures_of_a_movie(tmp_path, texture):
    rng = np.random.default_rng(2)
    places = rng.integers(-4, 5, (24, 2))
    frames = np.array([texture[40 + y : 140 + y, 60 + x : 180 + x] for y, x in places])
    frames = (60000 * np.clip(frames + rng.normal(0, 0.02, frames.shape), 0, 1)).astype(np.uint16)
    frames[7] = 5
    tifffile.imwrite(tmp_path / "m.tif", frames, photometric="minisblack")
    chosen = settings.check(preset="fast", model="translation")
    run.run(job.Movie((str(tmp_path / "m.tif"),), "mean", tmp_path / "o", chosen), count=1)
    figures = json.loads((tmp_path / "o" / "quality.json").read_text())
    assert figures["frames"] == 24
    assert figures["verdicts"] == {"ok": 23, "suspect": 0, "failed": 1}
    assert figures["crispness"][1] > 1.2 * figures["crispness"][0]
    assert figures["correlation"][1] > figures["correlation"][0]
    assert max(one["rms"] for one in figures["residual"]) < 0.5
    page = (tmp_path / "o" / "index.html").read_text()
    for title in ("Before and after", "Worst frames", "Motion that is left", "Over the frames"):
        assert f"<h2>{title}</h2>" in page
    assert "Frame 7, before and after alignment." in page
    assert len(page) < 3_000_000
    assert not re.search(r"(src|href)=.?https?:", page)


@pytest.mark.slow
def test_no_frame_of_movies_drawn_at_random_is_ok_and_wrong(tmp_path):
    """A share of ``python -m benchmarks.movie_draws --draws 1000``."""
    from benchmarks import movie_draws

    frames = 0
    for seed in (0, 2, 3, 4, 5, 5004, 5010, 6178, 6181):  # the last four with few good frames
        found = movie_draws.outcomes(movie_draws.draw(seed), tmp_path)
        frames += len(found)
        assert not movie_draws.wrong(found), seed
    assert frames > 25
