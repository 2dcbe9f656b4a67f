"""OME-Zarr written by workers of a Dask cluster: equal to one machine, continued, and with a lost worker."""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from register.errors import FileError, RegisterError
from register.files import remote
from register.geometry import affine
from register.geometry.patch_grid import PatchGrid
from register.geometry.pixel_size import PixelSize
from register.io.images import zarr_write
from register.io.images.model import Image
from register.io.images.open import open_image, write_image
from register.transforms.frame import Frame
from register.transforms.transform import Transform
from register.workflows import apply, merge, on_cluster, sharded
from register.workflows.aligned_image import OutputStyle

distributed = pytest.importorskip("distributed")
yaozarrs = pytest.importorskip("yaozarrs")
RNG = np.random.default_rng(5)
HEIGHT, WIDTH = 300, 520
STYLE = OutputStyle(chunks=64)  # shards of 256


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp"
    ) as made:
        yield made


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A moving image of two channels and a local transform to a fixed image, in the working folder."""
    monkeypatch.chdir(tmp_path)
    names = {"channel_names": ("DAPI", "CD3"), "pixel_size": PixelSize(0.5, 0.5, "µm")}
    pixels = RNG.integers(0, 65535, (2, HEIGHT, WIDTH)).astype(np.uint16)
    write_image("moving.ome.tif", Image(pixels, kind="ome", **names))
    write_image("fixed.ome.tif", Image(pixels[:1, ::-1].copy(), kind="ome", pixel_size=names["pixel_size"]))
    grid = PatchGrid.cover(HEIGHT, WIDTH, 100)
    matrices = np.broadcast_to(affine.identity(), (grid.rows, grid.columns, 2, 3)).copy()
    matrices[..., 2] += RNG.normal(0, 3, matrices.shape[:3])
    frames = [Frame(WIDTH, HEIGHT, names["pixel_size"], f"{name}.ome.tif") for name in ("fixed", "moving")]
    transform = Transform("local", *frames, affine.identity(), grid, matrices)
    transform.save("t.json")
    return tmp_path


def content(folder):
    """All chunks and all metadata of a hierarchy; attributes as values."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            found[str(path.relative_to(folder))] = json.loads(data) if path.name == "zarr.json" else data
    return found


def test_it_is_what_one_machine_writes(files, cluster):
    shares = []
    done = on_cluster.apply_on_cluster(
        cluster.scheduler_address, "t.json", ["moving.ome.tif"], "a.ome.zarr", style=STYLE, tick=shares.append
    )
    apply.apply_at("t.json", ["moving.ome.tif"], "b/a.ome.zarr", style=STYLE)
    assert content("a.ome.zarr") == content("b/a.ome.zarr")
    assert len(open_image("a.ome.zarr").smaller) == 1
    yaozarrs.validate_zarr_store("a.ome.zarr")
    assert (done[0].width, done[0].height) == (WIDTH, HEIGHT)
    assert shares[-1] == 1
    assert [path.name for path in Path().glob("*.zarr*")] == ["a.ome.zarr"]
    assert not list(Path().glob(".*unfinished"))
    with pytest.raises(FileError, match=r"a\.ome\.zarr: exists already"):
        on_cluster.apply_on_cluster(cluster.scheduler_address, "t.json", ["moving.ome.tif"], "a.ome.zarr")


def test_merged_channels(files, cluster):
    options = merge.MergeOptions()
    done = on_cluster.merge_on_cluster(
        cluster.scheduler_address, [Path("t.json")], "m.ome.zarr", options, style=STYLE
    )
    assert done.channels == ("fixed", "moving: DAPI", "moving: CD3")
    merge.merge([Path("t.json")], Path("b/m.ome.zarr"), options, style=STYLE)
    assert content("m.ome.zarr") == content("b/m.ome.zarr")


def test_an_interrupted_run_is_continued(files, cluster):
    def stop(share):
        if share > 0.3:
            raise KeyboardInterrupt

    arguments = (cluster.scheduler_address, "t.json", ["moving.ome.tif"], "a.ome.zarr")
    with pytest.raises(KeyboardInterrupt):
        on_cluster.apply_on_cluster(*arguments, style=STYLE, tick=stop)
    assert not Path("a.ome.zarr").exists()
    time.sleep(0.5)  # shards that were under way may still be finished
    unfinished = Path(".a.ome.zarr.unfinished")
    with pytest.raises(FileError, match="without an OME-Zarr image"):
        open_image(unfinished)
    written = {
        path.relative_to(unfinished): path.stat().st_mtime_ns
        for path in (unfinished / "0/c").rglob("?")
        if path.is_file()
    }
    assert 0 < len(written) < 2 * 2 * 3
    on_cluster.apply_on_cluster(*arguments, style=STYLE)
    assert all(Path("a.ome.zarr", name).stat().st_mtime_ns == when for name, when in written.items())
    apply.apply_at("t.json", ["moving.ome.tif"], "b/a.ome.zarr", style=STYLE)
    assert content("a.ome.zarr") == content("b/a.ome.zarr")


@dataclass(frozen=True)
class Unreadable:
    """Pixels that cannot be read."""

    shape: tuple[int, ...] = (1, HEIGHT, WIDTH)
    dtype = np.dtype(np.uint8)

    def __getitem__(self, key):
        raise OSError("lost disk")

    def image(self, local):
        return Image(self, kind="ome")

    def described(self, local):
        return "unreadable"


def test_a_shard_that_fails_on_all_workers_is_told(files, cluster):
    with pytest.raises(
        RegisterError, match=r"a shard could not be written: lost disk; run the command again"
    ):
        sharded.write_on_cluster(
            cluster.scheduler_address, Unreadable(), "a.ome.zarr", zarr_write.ChunkLayout(64),
            pyramid=True, nearest=False, overwrite=False,
        )  # fmt: skip
    assert not Path("a.ome.zarr").exists()


def test_another_job_does_not_continue_it(files, cluster):
    place = Path(".a.ome.zarr.unfinished")
    group = zarr.create_group(place)
    group.attrs["other"] = 1
    (place / sharded.JOB).write_text("another job")
    on_cluster.apply_on_cluster(
        cluster.scheduler_address,
        "t.json",
        ["moving.ome.tif"],
        "a.ome.zarr",
        style=replace(STYLE, pyramid=False),
    )
    assert "other" not in dict(zarr.open_group("a.ome.zarr").attrs)
    assert open_image("a.ome.zarr").smaller == ()


def test_at_an_address(files, cluster):
    """``memory://`` stands for ``s3://``; the workers are threads here, and see the same memory."""
    target = "memory://bucket/a.ome.zarr"
    on_cluster.apply_on_cluster(cluster.scheduler_address, "t.json", ["moving.ome.tif"], target, style=STYLE)
    apply.apply_at("t.json", ["moving.ome.tif"], "b/a.ome.zarr", style=STYLE)
    system, path = remote.file_system(target)
    system.get(path, "c", recursive=True)
    assert content("c") == content("b/a.ome.zarr")
    with pytest.raises(FileError, match="exists already"):
        on_cluster.apply_on_cluster(
            cluster.scheduler_address, "t.json", ["moving.ome.tif"], target, style=STYLE
        )


def test_what_workers_cannot_write_is_refused(files, cluster, program, monkeypatch):
    done = program(
        "apply", "t.json", "moving.ome.tif", "-o", "a.ome.tif", "--scheduler", cluster.scheduler_address
    )
    assert done.returncode == 1
    assert done.stderr.endswith("cannot be written by several workers; name an .ome.zarr with --scheduler\n")
    monkeypatch.setattr("register.workflows.cluster.TIMEOUT", 1)
    with pytest.raises(RegisterError, match="cannot connect to the scheduler"):
        on_cluster.apply_on_cluster(
            "tcp://127.0.0.1:1", "t.json", ["moving.ome.tif"], "a.ome.zarr", style=STYLE
        )


@pytest.mark.slow
def test_a_lost_worker_costs_its_shards_only(files):
    """Two worker processes, of which one is killed while shards are written."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, protocol="tcp"
    ) as made:
        killed = []

        def kill(share):
            if share > 0.2 and not killed:
                killed.append(next(iter(made.workers.values())))
                killed[0].process.process.kill()

        on_cluster.apply_on_cluster(
            made.scheduler_address, "t.json", ["moving.ome.tif"], "a.ome.zarr", style=STYLE, tick=kill
        )
    assert killed
    apply.apply_at("t.json", ["moving.ome.tif"], "b/a.ome.zarr", style=STYLE)
    assert content("a.ome.zarr") == content("b/a.ome.zarr")
