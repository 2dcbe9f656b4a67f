"""Volumes over time: the rigid 3D shift of each, then the planes."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from register import settings
from register.engine.movie import volume
from register.errors import RegisterError
from register.io.movies.layout import Layout
from register.io.movies.volumes import open_planes
from register.workflows.movie import job
from register.workflows.movie.volume import run_volume

T, Z, H, W = 8, 7, 80, 96
DZ = np.array([0, 1, 2, 1.5, 0, -0.5, -1, -2.0])
DX = np.array([0, 3, -4, 6, 2, -5, 1, 0.0])


@pytest.fixture(scope="module")
def solid():
    """A block of cells and texture of several scales (31, 160, 180)."""
    rng = np.random.default_rng(5)
    made = sum(
        s**1.5 * gaussian_filter(rng.normal(size=(31, 160, 180)), (s * 0.6, s, s)) for s in (1.5, 3, 6)
    )
    return (made - made.min()) / (made.max() - made.min())


def seen(solid, dz=0.0, dy=0.0, dx=0.0):
    """A volume (7, 80, 96) of a block, in which what lay at a point lies at the point plus the shift."""
    z, y, x = np.mgrid[:Z, :H, :W].astype(float)
    return map_coordinates(solid, [z + 12 - dz, y + 40 - dy, x + 42 - dx], order=3)


@pytest.fixture(scope="module")
def volumes(solid):
    """Volumes (8, 7, 80, 96) uint16 that move along z and x; volume 4 is blank."""
    rng = np.random.default_rng(6)
    made = np.array([seen(solid, dz, 0, dx) for dz, dx in zip(DZ, DX, strict=True)])
    stack = (60000 * np.clip(made + rng.normal(0, 0.01, made.shape), 0, 1)).astype(np.uint16)
    stack[4] = 100
    return stack


@pytest.mark.parametrize("shift", [(0, 0, 0), (2, 5, -7), (-3, -9, 12), (0.5, 2.5, 0)])
def test_a_shift_in_three_dimensions_is_found(solid, shift):
    dz, dy, dx = shift
    one, other = (torch.from_numpy(seen(solid, *s).astype(np.float32)) for s in ((0, 0, 0), shift))
    found = volume.shift_between(volume.prepared(one), volume.prepared(other), 1)
    assert found.certain
    assert (found.z, found.y, found.x) == (
        pytest.approx(dz, abs=0.25),
        pytest.approx(dy, abs=0.3),
        pytest.approx(dx, abs=0.3),
    )


SHIFTS = """
import torch
from register.engine.movie import volume
torch.set_num_threads(1)
one, kept = torch.randn(7, 130, 130, generator=torch.Generator().manual_seed(0)), []
for n in range(12):
    kept = [volume._correlation(one, one.roll(n, 1)), *kept[:3]]
    assert abs(float(kept[0][7, 130 + n, 130]) - 1) < 0.2
"""
"""Transforms whose sides are (14, 260, 260), where those of PyTorch over three axes damage the heap."""


def test_transforms_of_volumes_leave_the_memory_whole():
    done = subprocess.run([sys.executable, "-c", SHIFTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_masked_planes_count_nowhere_and_noise_is_not_certain(solid):
    rng = np.random.default_rng(1)
    one = torch.from_numpy(seen(solid).astype(np.float32))
    other = torch.from_numpy(seen(solid, 1, 4, -3).astype(np.float32))
    other[0], other[:, :, :20] = torch.nan, torch.nan
    found = volume.shift_between(volume.prepared(one), volume.prepared(other), 1)
    assert found.certain
    assert (round(found.z), round(found.y), round(found.x)) == (1, 4, -3)
    for wrong in (rng.normal(size=(Z, H, W)), np.zeros((Z, H, W))):
        noise = torch.from_numpy(wrong.astype(np.float32))
        assert not volume.shift_between(volume.prepared(one), volume.prepared(noise), 1).certain


def test_volumes_are_shifted_along_z_and_their_planes_aligned(tmp_path, volumes, solid):
    tifffile.imwrite(tmp_path / "v.ome.tif", volumes, ome=True, metadata={"axes": "TZYX"})
    chosen = settings.check(preset="fast", model="translation", report=False, rotation_range=0.0)
    asked = job.Movie((str(tmp_path / "v.ome.tif"),), "mean", tmp_path / "o", chosen)
    rows = run_volume(asked, count=1)
    good = [n for n in range(T) if n != 4]
    depth = np.array([rows[n].shift.z for n in good])
    assert depth - depth[0] == pytest.approx(DZ[good], abs=0.3)
    assert rows[4].verdict == "failed"
    assert "not certain" in rows[4].reasons
    assert sorted(x.name for x in (tmp_path / "o").glob("plane_*")) == [f"plane_{n:02d}" for n in range(Z)]
    after = tifffile.imread(tmp_path / "o" / "plane_03" / "aligned.tif").astype(float)
    inner = (slice(15, -15), slice(15, -15))
    for n in good[1:]:
        assert np.corrcoef(after[n][inner].ravel(), after[0][inner].ravel())[0, 1] > 0.9
    with tifffile.TiffFile(tmp_path / "o" / "aligned.tif") as file:
        assert file.series[0].axes == "TZYX"
        together = file.asarray()
    assert together.shape == (T, Z, H, W)
    assert np.array_equal(together[:, 3], tifffile.imread(tmp_path / "o" / "plane_03" / "aligned.tif"))
    with open(tmp_path / "o" / "volumes.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["verdict"] for row in table] == [row.verdict for row in rows]
    assert float(table[2]["shift_z"]) == pytest.approx(rows[2].shift.z, abs=1e-3)


def test_the_command_aligns_volumes_and_refuses_what_it_does_not_have(tmp_path, volumes, program):
    np.save(tmp_path / "v.npy", volumes[:4, 1:5, :60, :70].reshape(16, 60, 70))
    done = program(
        "movie", tmp_path / "v.npy", "--planes", "4", "--volume", "-o", tmp_path / "o", "--workers", "1",
        "--preset", "fast", "--model", "translation", "--rotation-range", "0", "--no-report", "--json",
    )  # fmt: skip
    assert done.returncode in (0, 3), done.stderr
    assert len(json.loads(done.stdout)["volumes"]) == 4
    refused = program(
        "movie", tmp_path / "v.npy", "--planes", "4", "--volume", "--to", "first", "-o", tmp_path / "p"
    )
    assert refused.returncode == 1
    assert "--volume" in refused.stderr


def test_the_aligned_volumes_never_replace_the_file_that_is_read(tmp_path, volumes):
    tifffile.imwrite(tmp_path / "aligned.tif", volumes[:2], ome=True, metadata={"axes": "TZYX"})
    before = (tmp_path / "aligned.tif").read_bytes()
    asked = job.Movie((str(tmp_path / "aligned.tif"),), "mean", tmp_path, settings.check(report=False))
    with pytest.raises(RegisterError, match=r"aligned\.tif"):
        run_volume(asked, count=1)
    assert (tmp_path / "aligned.tif").read_bytes() == before


def test_a_movie_of_one_plane_is_no_volume(tmp_path, volumes):
    np.save(tmp_path / "v.npy", volumes[:, 0])
    with pytest.raises(RegisterError, match="has one plane; leave out --volume"):
        open_planes((str(tmp_path / "v.npy"),), Layout())
