"""``register batch``: pairs are found, errors are isolated, and finished pairs are skipped."""

import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tifffile
from conftest import run
from PIL import Image

import register
from register import settings
from register.errors import FileError, RegisterError
from register.io.images.model import Selection
from register.io.images.open import open_image
from register.transforms.movie import MovieTransforms
from register.workflows import align, batch, pairs, workers
from register.workflows.batch import PairOutcome

CHOSEN = settings.check(preset="fast", model="translation", metric="ncc", init="identity", report=False)
QUICK = ["--preset", "fast", "--model", "translation", "--metric", "ncc", "--init", "identity", "--no-report"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory, texture):
    """Two folders of three small pairs, shifted by 3, 5 and 7 pixels."""
    base = tmp_path_factory.mktemp("pairs")
    for name in ("he", "ihc"):
        (base / name).mkdir()
    for number, shift in enumerate((3, 5, 7)):
        for name, start in (("he", 20 + shift), ("ihc", 20)):
            tifffile.imwrite(
                base / name / f"s{number}.tif",
                (texture[20:180, start : start + 200] * 60000).astype(np.uint16),
            )
    return base


def rows(folder):
    with open(folder / "summary.csv", newline="") as file:
        return list(csv.DictReader(file))


def pairing(folders):
    return pairs.two_folders(str(folders / "he"), str(folders / "ihc"), None, CHOSEN).pairs


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_files_are_paired_by_stem_and_unpaired_or_ambiguous_ones_are_reported(tmp_path):
    touch(
        tmp_path / "a",
        "s1.tif",
        "s2.ome.tif",
        "s10.png",
        "alone.tif",
        "twice.tif",
        "notes.txt",
        ".hidden.tif",
    )
    touch(tmp_path / "b", "s1.png", "s2.tif", "s10.jpg", "twice.tif", "twice.png")
    found = pairs.two_folders(str(tmp_path / "a"), str(tmp_path / "b"), None, CHOSEN)
    assert [pair.id for pair in found.pairs] == ["s1", "s2", "s10"]
    assert len(found.problems) == 2
    with pytest.raises(RegisterError, match=r"alone\.tif has no partner.*ambiguous.*--skip-unpaired"):
        found.checked(False)
    assert found.checked(True) is found
    with pytest.raises(FileError, match="is not a folder"):
        pairs.two_folders(str(tmp_path / "c"), str(tmp_path / "b"), None, CHOSEN)


def test_files_are_paired_by_the_named_group_of_a_pattern(tmp_path):
    touch(tmp_path / "a", "case07_HE.tif", "case08_HE.tif")
    touch(tmp_path / "b", "07-CD3.tif", "08-CD3.tif", "overview.tif")
    found = pairs.two_folders(str(tmp_path / "a"), str(tmp_path / "b"), r"(?P<key>\d\d)[_-]", CHOSEN)
    assert ([pair.id for pair in found.pairs], found.problems) == (["07", "08"], ())
    for wrong in ("(", r"\d+"):
        with pytest.raises(RegisterError, match="--pair"):
            pairs.two_folders(str(tmp_path / "a"), str(tmp_path / "b"), wrong, CHOSEN)


def test_the_fixed_image_is_not_aligned_to_itself_and_ids_are_unique(tmp_path):
    for folder in ("x", "y"):
        touch(tmp_path / folder, "a.tif", "B.tif")
    touch(tmp_path / "x", "b.png")
    found = pairs.one_reference(str(tmp_path / "x" / "a.tif"), str(tmp_path / "*" / "*.*"), CHOSEN).pairs
    ids = [pair.id.lower() for pair in found]
    assert len(found) == 4
    assert len(set(ids)) == 4
    with pytest.raises(RegisterError, match="matches no image"):
        pairs.one_reference("a.tif", str(tmp_path / "*.jpg"), CHOSEN)


def test_a_table_holds_options_and_birls_columns(tmp_path):
    (tmp_path / "t.csv").write_text(
        "Fixed,moving,id,model,max-size,fixed_mask\n"
        "a.tif,b.tif,one two,rigid,512,m.png\n"
        "/c.tif,s3://x/d.tif,,,,\n"
    )
    one, two = pairs.table(str(tmp_path / "t.csv"), CHOSEN).pairs
    assert (one.id, one.fixed, one.settings.model, one.settings.max_size) == (
        "one_two",
        str(tmp_path / "a.tif"),
        "rigid",
        512,
    )
    assert one.settings.fixed_mask == str(tmp_path / "m.png")
    assert (two.id, two.fixed, two.moving, two.settings) == ("d", "/c.tif", "s3://x/d.tif", CHOSEN)
    (tmp_path / "b.csv").write_text(
        ",Target image,Source image,Target landmarks,Source landmarks,status\n"
        "0,a.tif,b.tif,a.csv,b.csv,training\n"
    )
    birl = pairs.table(str(tmp_path / "b.csv"), CHOSEN).pairs[0]
    assert birl.settings.landmarks == f"{tmp_path / 'a.csv'},{tmp_path / 'b.csv'}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a,b\n1,2\n", "no columns fixed and moving"),
        ("fixed,moving,colour\n", "'colour'"),
        ("fixed,moving\na.tif,\n", "line 2 names no moving"),
        ("fixed,moving,model\na,b,bent\n", "line 2: model 'bent'"),
        ("fixed,moving\n", "no pair"),
    ],
)
def test_a_wrong_table_is_a_one_line_error(tmp_path, program, text, why):
    (tmp_path / "t.csv").write_text(text)
    done = program("batch", "--pairs", tmp_path / "t.csv", "-o", tmp_path / "o")
    assert done.returncode == 1
    assert why in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_pairs_are_given_by_exactly_one_set_of_options(program, tmp_path):
    for args in (
        (),
        ("--fixed", "a.tif"),
        ("--fixed", "a", "--moving", "b", "--pairs", "c"),
        ("--pair", "(?P<k>x)", "--pairs", "c"),
    ):
        assert program("batch", *args).returncode == 2


def test_a_dry_run_shows_pairs_and_problems_and_writes_nothing(folders, tmp_path, program):
    shutil.copytree(folders, tmp_path / "p")
    (tmp_path / "p" / "he" / "alone.tif").touch()
    done = program(
        "batch",
        "--fixed-dir",
        tmp_path / "p" / "he",
        "--moving-dir",
        tmp_path / "p" / "ihc",
        "-o",
        tmp_path / "o",
        "--dry-run",
    )
    assert done.returncode == 0
    assert "alone.tif has no partner" in done.stdout
    assert not (tmp_path / "o").exists()


def test_an_unreadable_pair_does_not_stop_the_others_and_the_next_run_aligns_only_it(
    folders, tmp_path, program
):
    shutil.copytree(folders, tmp_path / "p")
    (tmp_path / "p" / "ihc" / "s1.tif").write_bytes(b"II*\0broken")
    args = [
        "batch",
        "--fixed-dir",
        tmp_path / "p" / "he",
        "--moving-dir",
        tmp_path / "p" / "ihc",
        "-o",
        tmp_path / "o",
        "--workers",
        "1",
        *QUICK,
    ]
    done = program(*args)
    assert done.returncode == 1
    assert [row["verdict"] or "error" for row in rows(tmp_path / "o")] == ["ok", "error", "ok"]
    assert "s1.tif" in rows(tmp_path / "o")[1]["error"]
    assert "Traceback" not in done.stdout + done.stderr
    assert "s1.tif" in (tmp_path / "o" / "index.html").read_text()
    shift = register.Transform.load(tmp_path / "o" / "s2" / "transform.json").matrix[:, 2].tolist()
    assert shift == pytest.approx([7, 0], abs=0.1)
    kept = {name: (tmp_path / "o" / name / "transform.json").read_bytes() for name in ("s0", "s2")}
    shutil.copy(folders / "ihc" / "s1.tif", tmp_path / "p" / "ihc" / "s1.tif")
    done = program(*args)
    assert done.returncode == 0, done.stdout
    assert [row["note"] for row in rows(tmp_path / "o")] == ["done before", "", "done before"]
    assert kept == {name: (tmp_path / "o" / name / "transform.json").read_bytes() for name in kept}


def test_a_changed_pair_is_aligned_again_with_the_reason(folders, tmp_path):
    one = pairing(folders)[0]
    assert batch.align_pair(one, str(tmp_path)).note == ""
    assert batch.align_pair(one, str(tmp_path)).note == "done before"
    other = pairs.Pair(
        one.id, one.fixed, one.moving, settings.check(**(CHOSEN.__dict__ | {"interpolation": "nearest"}))
    )
    assert batch.align_pair(other, str(tmp_path)).note == "done again: interpolation changed"
    moved = pairs.Pair(one.id, one.fixed, str(tmp_path / "copy.tif"), other.settings)
    (tmp_path / "copy.tif").write_bytes((folders / "ihc" / "s0.tif").read_bytes() + b"more")
    assert batch.align_pair(moved, str(tmp_path)).note == "done again: the moving image changed"
    assert batch.align_pair(other, str(tmp_path), redo=True).note == "done again: asked for"
    (tmp_path / one.id / "transform.json").write_text("{")
    assert "could not be read" in batch.align_pair(other, str(tmp_path)).note


def test_a_changed_mask_repeats_the_pair_and_replaced_results_are_removed(folders, tmp_path):
    mask = tmp_path / "mask.png"
    Image.fromarray(np.full((tifffile.imread(folders / "he" / "s0.tif").shape[:2]), 255, np.uint8)).save(mask)
    plain = pairing(folders)[0]
    masked = pairs.Pair(
        plain.id, plain.fixed, plain.moving, settings.check(**(CHOSEN.__dict__ | {"fixed_mask": str(mask)}))
    )
    assert batch.align_pair(masked, str(tmp_path)).note == ""
    assert batch.align_pair(masked, str(tmp_path)).note == "done before"
    (tmp_path / masked.id / "aligned.png").touch()  # a result that the next run does not write
    with Image.open(mask) as drawn:
        changed = np.array(drawn)
    changed[:50] = 0
    Image.fromarray(changed).save(mask)
    assert batch.align_pair(masked, str(tmp_path)).note == "done again: fixed_mask changed"
    assert not (tmp_path / masked.id / "aligned.png").exists()


def test_a_mask_in_the_output_folder_is_not_removed(folders, tmp_path):
    output, mask = tmp_path / "o", tmp_path / "o" / "valid.tif"
    output.mkdir()
    tifffile.imwrite(mask, np.full(tifffile.imread(folders / "he" / "s0.tif").shape, 255, np.uint8))
    (output / "aligned.png").touch()
    chosen = dataclasses.replace(CHOSEN, fixed_mask=str(mask))
    align.run(
        align.Job(folders / "he" / "s0.tif", folders / "ihc" / "s0.tif", output, chosen, overwrite=True)
    )
    assert mask.exists()
    assert not (output / "aligned.png").exists()


def test_a_run_stops_after_max_failures_and_writes_the_summary(tmp_path):
    names = tuple(pairs.Pair(f"p{n}", f"/none/{n}.tif", f"/none/{n}.png", CHOSEN) for n in range(6))
    done = batch.run(names, str(tmp_path), batch.sequential(str(tmp_path)), max_failures=2)
    assert len(done) == 2
    assert all("does not exist" in one.error for one in done)
    assert len(rows(tmp_path)) == 2


@pytest.mark.slow
def test_several_workers_give_the_same_matrices_as_one(folders, tmp_path):
    several, alone = (
        batch.run(pairing(folders), str(tmp_path / name), workers.in_processes(str(tmp_path / name), n))
        for name, n in (("two", 2), ("one", 1))
    )
    assert [one.id for one in several] == ["s0", "s1", "s2"]
    for one, other in zip(several, alone, strict=True):
        matrices = [
            register.Transform.load(tmp_path / place / one.id / "transform.json").matrix
            for place in ("two", "one")
        ]
        assert np.allclose(*matrices, atol=1e-3)
        assert (one.verdict, other.verdict) == ("ok", "ok")


def die(pair, output, redo=False):
    """Takes the place of ``align_pair``; the process exits at the pair s1."""
    if pair.id == "s1":
        os._exit(9)
    return PairOutcome(pair.id, pair.fixed, pair.moving, verdict="ok")


@pytest.mark.slow
def test_a_worker_that_dies_fails_only_its_own_pair(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "align_pair", die)
    found = {one.id: one for one in workers.in_processes(str(tmp_path), 2)(list(pairing(folders)))}
    assert {name: bool(one.error) for name, one in found.items()} == {"s0": False, "s1": True, "s2": False}


def test_the_number_of_workers_is_limited_by_cores_and_memory(folders, monkeypatch):
    three = list(pairing(folders))
    monkeypatch.setattr(workers, "cores", lambda: 8)
    monkeypatch.setattr(workers, "free_memory", lambda: None)
    assert workers.worker_count(three) == 3
    monkeypatch.setattr(workers, "free_memory", lambda: 2_000_000_000)
    assert workers.worker_count(three) == 2
    assert workers.worker_count(three, 1) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "count", "times"),
    [
        (signal.SIGINT, 1, 1),
        pytest.param(signal.SIGINT, 2, 1, marks=pytest.mark.variant),
        (signal.SIGTERM, 2, 1),
        pytest.param(signal.SIGINT, 2, 2, marks=pytest.mark.variant),
    ],
)
def test_an_interrupted_batch_exits_with_130_and_the_next_run_resumes(
    folders, tmp_path, number, count, times
):
    call = [
        "batch",
        "--fixed-dir",
        folders / "he",
        "--moving-dir",
        folders / "ihc",
        "-o",
        tmp_path / "o",
        "--workers",
        count,
        *QUICK,
    ]
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from register.cli.main import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, call)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def interrupt():
        wait_for(tmp_path / "o" / "s0" / "transform.json")
        for _ in range(times):  # the second signal cancels running pairs
            process.send_signal(number)
            time.sleep(0.3)

    threading.Thread(target=interrupt).start()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert not list(tmp_path.rglob("*.part*"))
    first = (tmp_path / "o" / "s0" / "transform.json").read_bytes()
    done = run(*call, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["ok"] == 3
    assert (tmp_path / "o" / "s0" / "transform.json").read_bytes() == first


def wait_for(path):
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.1)


def test_a_dask_cluster_aligns_the_pairs(folders, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    from register.workflows import cluster as dask
    from register.workflows.cluster import on_cluster

    monkeypatch.setattr(dask, "TIMEOUT", 1)

    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        done = batch.run(
            pairing(folders)[:2],
            str(tmp_path / "o"),
            on_cluster(cluster.scheduler_address, str(tmp_path / "o")),
        )
        assert [one.verdict for one in done] == ["ok", "ok"]
    with pytest.raises(RegisterError, match="cannot connect to the scheduler"):
        list(
            on_cluster(
                "tcp://127.0.0.1:1",
                str(tmp_path),
            )(list(pairing(folders)))
        )


def test_remote_files_are_read_and_results_written_to_remote_addresses(folders):
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    memory = fsspec.filesystem("memory")
    for name in ("he", "ihc"):
        memory.put(str(folders / name / "s0.tif"), f"/in/{name}/s0.tif")
    found = pairs.two_folders("memory://in/he", "memory://in/ihc", None, CHOSEN).pairs
    assert [pair.id for pair in found] == ["s0"]
    done = batch.run(found, "memory://out", batch.sequential("memory://out"))
    assert done[0].verdict == "ok", done
    assert memory.exists("/out/s0/transform.json")
    assert memory.exists("/out/summary.csv")
    assert b"s0" in memory.cat("/out/index.html")
    assert json.loads(memory.cat("/out/s0/transform.json"))["moving"]["path"].endswith("/in/ihc/s0.tif")
    assert batch.align_pair(found[0], "memory://out").note == "done before"
    mask = np.full(tifffile.imread(folders / "he" / "s0.tif").shape[:2], 255, np.uint8)
    with memory.open("/in/mask.png", "wb") as file:
        Image.fromarray(mask).save(file, "png")
    masked = pairs.Pair(
        "m",
        found[0].fixed,
        found[0].moving,
        settings.check(**(CHOSEN.__dict__ | {"fixed_mask": "memory://in/mask.png"})),
    )
    assert batch.align_pair(masked, "memory://out").verdict == "ok"
    assert batch.align_pair(masked, "memory://out").note == "done before"
    missing = batch.align_pair(
        pairs.Pair("x", "memory://in/none.tif", found[0].moving, CHOSEN), "memory://out"
    )
    assert "none.tif" in missing.error


@pytest.fixture(scope="module")
def movie(tmp_path_factory, texture, through):
    """Twelve frames (200, 240) uint16 that drift by up to 6 px and deform by one, and their shifts."""
    folder, rng = tmp_path_factory.mktemp("movie"), np.random.default_rng(1)
    y, x = np.mgrid[:200, :240].astype(float)
    shifts = np.column_stack([np.linspace(0, 6, 12), 3 * np.sin(np.linspace(0, 3, 12))])
    frames = [
        through(
            texture,
            np.stack(
                [
                    x + 30 - dx + np.sin(2 * np.pi * y / 150 + n / 4) - np.sin(2 * np.pi * y / 150),
                    y + 40 - dy,
                ],
                2,
            ),
        )
        for n, (dx, dy) in enumerate(shifts)
    ]
    stack = np.clip(np.array(frames) + rng.normal(0, 0.01, (12, 200, 240)), 0, 1)
    tifffile.imwrite(folder / "movie.tif", (stack * 60000).astype(np.uint16))
    for n, frame in enumerate(stack):
        (folder / "files").mkdir(exist_ok=True)
        tifffile.imwrite(folder / "files" / f"t{n}.tif", (frame * 60000).astype(np.uint16))
    return folder, shifts


@pytest.mark.parametrize(
    "to", ["first", *(pytest.param(name, marks=pytest.mark.slow) for name in ("previous", "mean"))]
)
def test_a_series_is_aligned_to_its_reference(movie, tmp_path, program, to):
    folder, shifts = movie
    done = program(
        "batch",
        "--series",
        folder / "movie.tif",
        "--to",
        to,
        "-o",
        tmp_path,
        "--also",
        folder / "files",
        "--workers",
        "1",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with (
        tifffile.TiffFile(tmp_path / "aligned.tif") as one,
        tifffile.TiffFile(tmp_path / "aligned_files.tif") as other,
    ):
        aligned = np.stack([page.asarray() for page in one.pages]).astype(float)
        assert np.array_equal(aligned, np.stack([page.asarray() for page in other.pages]))
        assert (len(one.pages), one.pages[0].dtype) == (12, np.uint16)
    inside = aligned[:, 20:180, 20:220]
    before = tifffile.imread(folder / "movie.tif")[:, 20:180, 20:220].astype(float)
    assert inside.std(axis=0).mean() < 0.2 * before.std(axis=0).mean()
    with open(tmp_path / "series.csv", newline="") as file:
        table = list(csv.DictReader(file))
    moved = np.array([[float(row["shift_x"]), float(row["shift_y"])] for row in table])
    assert (moved - moved[0]) == pytest.approx(shifts - shifts[0], abs=2.2)  # the centre deforms too
    assert len(MovieTransforms.load(tmp_path / "transforms.npz")) == 12


def test_a_series_keeps_metadata_and_ignores_nodata_pixels(movie, tmp_path, program):
    frames = tifffile.imread(movie[0] / "movie.tif")[:4]
    frames[:, :40] = 7  # a bar that does not move
    tifffile.imwrite(
        tmp_path / "in.ome.tif",
        frames,
        ome=True,
        metadata={"axes": "TYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5},
    )
    done = program(
        "batch",
        "--series",
        tmp_path / "in.ome.tif",
        "--to",
        "0",
        "--nodata",
        7,
        "--fill",
        7,
        "-o",
        tmp_path / "o",
        "--workers",
        1,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with tifffile.TiffFile(tmp_path / "o" / "aligned.tif") as file:
        assert (file.series[0].axes, file.series[0].shape) == ("TYX", frames.shape)
        assert 'PhysicalSizeX="0.5"' in file.ome_metadata
    image = open_image(tmp_path / "o" / "aligned.tif", Selection(plane="T=1"))
    assert image.pixel_size == (0.5, 0.5, "µm")
    with open(tmp_path / "o" / "series.csv", newline="") as file:
        moved = np.array([[float(row["shift_x"]), float(row["shift_y"])] for row in csv.DictReader(file)])
    assert moved[3] - moved[0] == pytest.approx(movie[1][3] - movie[1][0], abs=1.5)
    page = (tmp_path / "o" / "index.html").read_text()
    assert "4 ok" in page
    assert "data:image/svg" in page


@pytest.mark.slow
def test_frames_that_no_link_connects_to_the_reference_are_failed(tmp_path, texture, monkeypatch):
    """A depth stack whose last sections differ from the first: they agree with each other, not with it."""
    from register.workflows.movie import chain, job
    from register.workflows.movie import run as series

    monkeypatch.setattr(chain, "ANCHOR", 2)
    one, other = (view[:120, :140] for view in (texture, texture[::-1, ::-1]))
    sections = [np.roll(view, n, 1) for n, view in enumerate((one, one, other, other, other))]
    tifffile.imwrite(
        tmp_path / "z.tif", (np.array(sections) * 60000).astype(np.uint16), metadata={"axes": "ZYX"}, ome=True
    )
    rows = series.run(
        job.Movie(
            (str(tmp_path / "z.tif"),),
            "previous",
            tmp_path / "o",
            settings.check(preset="fast", model="translation"),
        ),
        count=1,
    )
    assert [row.verdict for row in rows] == ["ok", "ok", "failed", "failed", "failed"]


@pytest.mark.slow
def test_a_series_reuses_existing_transforms(movie, tmp_path):
    from register.workflows.movie import job, table
    from register.workflows.movie import run as series

    asked = job.Movie(
        (str(movie[0] / "movie.tif"),), "first", tmp_path, settings.check(preset="fast", model="rigid")
    )
    first = series.run(asked, count=1)
    before = (tmp_path / "aligned.tif").read_bytes()
    (tmp_path / "aligned.tif").unlink()
    assert series.run(asked, count=2) == first
    assert (tmp_path / "aligned.tif").read_bytes() == before
    assert series.run(asked, count=1) == table.read_table(tmp_path / "series.csv")
    also = dataclasses.replace(asked, also=(str(movie[0] / "files"),))
    assert len(series.run(also, count=1)) == 12
    assert (tmp_path / "aligned_files.tif").exists()


def test_a_wrong_series_is_a_one_line_error(movie, tmp_path, program):
    folder, _ = movie
    tifffile.imwrite(tmp_path / "one.tif", np.zeros((20, 30), np.uint8))
    tifffile.imwrite(tmp_path / "other.tif", np.zeros((5, 200, 240), np.uint16))
    for args, why in (
        ((tmp_path / "none.tif",), "no such file"),
        ((tmp_path / "one.tif",), "holds a single frame"),
        ((folder / "movie.tif", "--to", "99"), "there are 12 frames"),
        ((folder / "movie.tif", "--to", "last"), "--to 'last'"),
        ((folder / "movie.tif", "--also", tmp_path / "other.tif"), "name the same frames"),
    ):
        done = program("batch", "--series", *args, "-o", tmp_path / "o")
        assert (done.returncode, why in done.stderr) == (1, True), (args, done.stderr)
        assert done.stderr.count("\n") == 1
    assert program("batch", "--series", folder / "movie.tif", "--dry-run").stdout.split()[:2] == [
        "frames",
        "12",
    ]
    assert not list((tmp_path / "o").glob("*.tif"))
