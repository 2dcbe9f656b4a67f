"""Turned frames: a plate put in again, a plate that turns, sections at any angle: right, or failed."""

import numpy as np
import pytest
import tifffile

from register import settings
from register.transforms.movie import load_movie
from register.workflows.movie import job, run

SIDE, CENTRE = 120, (130, 120)
KINDS = {
    "a plate put in again, turned by 25 degrees": ([0.0, 0, 0, 25, 25, 25], 180.0),
    "5 degrees a frame for 16 frames": ([5.0 * n for n in range(17)], 180.0),
    "sections at any angle": ([0.0, 180, -95, 140, -33, 77], 180.0),
    "half a turn, where 30 degrees are asked for": ([0.0, 0, 180, 0, -180], 30.0),
}


def places(angle):
    """Where the pixels (SIDE, SIDE, 2) of a frame that is turned by an angle in degrees lie in the scene."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return np.stack([c * x - s * y + CENTRE[0], s * x + c * y + CENTRE[1]], 2)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["first", "previous"])
@pytest.mark.parametrize("kind", KINDS)
def test_turned_frames_are_right_or_failed(tmp_path, texture, through, kind, to):
    angles, asked = KINDS[kind]
    rng = np.random.default_rng(7)
    seen = np.array([through(texture, places(angle)) for angle in angles])
    stack = (np.clip(seen + rng.normal(0, 0.01, seen.shape), 0, 1) * 60000).astype(np.uint16)
    tifffile.imwrite(tmp_path / "m.tif", stack, photometric="minisblack")
    chosen = settings.check(preset="fast", model="rigid", report=False, rotation_range=asked)
    rows = run.run(job.Movie((str(tmp_path / "m.tif"),), to, tmp_path / "o", chosen), count=1)
    movie = load_movie(tmp_path / "o" / "transforms.npz")
    points = np.stack(np.meshgrid(range(50, 71, 5), range(50, 71, 5)), 2).reshape(-1, 2).astype(float)
    errors = {}
    for number, angle in enumerate(angles):
        at = movie[number].map(points) - (SIDE - 1) / 2
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        there = at @ np.array([[c, s], [-s, c]])
        errors[number] = float(np.linalg.norm(there - (points - (SIDE - 1) / 2), axis=1).max())
    assert max(errors[n] for n, row in enumerate(rows) if row.verdict != "failed") < 1
    found = [row.verdict != "failed" for row in rows]
    assert found == [abs(angle) <= asked for angle in angles]
