"""Too little memory, formulas in names, and processes that were killed: on this machine and beside others."""

import csv
import io
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import PIL.ImageFile
import pytest
import tifffile
from conftest import TISSUE, run
from PIL import Image as Pillow

from register.compute import free_memory
from register.errors import FileError
from register.files import owner, scratch
from register.files.atomic import atomic_folder, atomic_write
from register.files.tables import plain, table_text
from register.io.images.open import open_header, open_image
from register.workflows import ids
from register.workflows.batch import PairOutcome, write_summary

RNG = np.random.default_rng(0)


def bomb(path, side):
    """A grey PNG of zeros, made without the picture in memory."""

    def chunk(name, content):
        check = zlib.crc32(name + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + name + content + check

    stream = zlib.compressobj(9)
    rows = b"".join(stream.compress(bytes(side + 1)) for _ in range(side)) + stream.flush()
    size = side.to_bytes(4, "big") * 2
    header = chunk(b"IHDR", size + b"\x08\x00\x00\x00\x00")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read there")
def test_info_of_a_png_takes_no_memory_for_its_pixels(tmp_path):
    bomb(tmp_path / "bomb.png", 12_000)
    # the peak of ``resource`` is that of the parent, if that was larger; VmHWM begins with the program
    code = (
        "import re, sys; from pathlib import Path; from register.workflows.info import describe\n"
        "def peak(): return int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "import PIL.PngImagePlugin, PIL.ImageMode\n"
        "before = peak(); found = describe(Path(sys.argv[1])); print(found['width'], peak() - before)"
    )
    command = [sys.executable, "-c", code, tmp_path / "bomb.png"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    width, kilobytes = map(int, done.stdout.split())
    assert width == 12_000
    assert kilobytes < 50_000  # the picture takes 140 MB


@pytest.mark.parametrize("options", [{}, {"orientation": 6}], ids=["plain", "turned"])
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_a_header_is_read_without_decoding(suffix, options, tmp_path, monkeypatch):
    exif = Pillow.Exif()
    exif[0x0112] = options.get("orientation", 1)
    given = {"exif": exif} if options and suffix != "bmp" else {}
    Pillow.fromarray(np.zeros((20, 31, 3), np.uint8)).save(tmp_path / f"a.{suffix}", **given)

    def load(picture):
        raise AssertionError("the pixels are decoded")

    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", load)
    assert open_header(tmp_path / f"a.{suffix}").size == ((31, 20) if given else (20, 31))


@pytest.mark.parametrize("place", ["before", "behind"])
def test_the_orientation_in_a_text_of_a_png_is_found(place, tmp_path):
    exif = Pillow.Exif()
    exif[0x0112] = 6
    content = exif.tobytes()
    raw = f"\nexif\n{len(content):8d}\n{content.hex()}\n".encode()
    text = b"Raw profile type exif\0\0" + zlib.compress(raw)
    chunk = len(text).to_bytes(4, "big") + b"zTXt" + text + zlib.crc32(b"zTXt" + text).to_bytes(4, "big")
    path = tmp_path / "a.png"
    Pillow.fromarray(np.zeros((20, 31), np.uint8)).save(path)
    whole = path.read_bytes()
    at = whole.index(b"IDAT") - 4 if place == "before" else whole.index(b"IEND") - 4
    path.write_bytes(whole[:at] + chunk + whole[at:])
    assert open_header(path).size == open_image(path).size == (31, 20)


def test_the_memory_is_checked_before_a_png_is_decoded(tmp_path, monkeypatch):
    bomb(tmp_path / "bomb.png", 12_000)
    monkeypatch.setattr(free_memory, "free_memory", lambda: 2**29)
    with pytest.raises(
        FileError, match=r"needs 0\.5 GiB of memory at once, and 0\.5 GiB are free; save it as"
    ):
        open_image(tmp_path / "bomb.png")


MODES = ["L", "LA", "RGB", "RGBA", "CMYK", "P", "1", "I;16"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "webp"])
def test_the_header_states_what_decoding_gives(mode, suffix, tmp_path):
    base = Pillow.fromarray(RNG.integers(0, 255, (20, 31), np.uint8))
    picture = Pillow.new("I;16", (31, 20), 300) if mode == "I;16" else base.convert(mode)
    exif = Pillow.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"a.{suffix}"
    try:
        picture.save(path, **({"exif": exif} if suffix in ("png", "jpg") else {}))
    except (OSError, ValueError):
        pytest.skip(f"no {suffix} of {mode}")
    header, image = open_header(path), open_image(path)
    assert header.pixels.shape == image.pixels.shape
    for name in ("dtype", "colour", "extra", "kind", "path", "palette"):
        assert np.all(getattr(header, name) == getattr(image, name)), name


def test_a_tiff_that_has_to_be_decoded_at_once_is_refused_where_memory_does_not_suffice(
    tmp_path, monkeypatch
):
    pixels = np.zeros((400, 500), np.uint8)
    tifffile.imwrite(tmp_path / "turned.tif", pixels, extratags=[(274, "H", 1, 6, True)])
    tifffile.imwrite(tmp_path / "strip.tif", pixels, compression="zlib", rowsperstrip=400)
    tifffile.imwrite(tmp_path / "tiles.tif", pixels, compression="zlib", tile=(64, 64))
    monkeypatch.setattr(free_memory, "free_memory", lambda: 300_000)
    for name in ("turned", "strip"):
        with pytest.raises(FileError, match=r"of memory at once.*; save it with tiles"):
            open_image(tmp_path / f"{name}.tif")
    assert open_image(tmp_path / "tiles.tif").size == (400, 500)


def test_limits_of_control_groups_count(tmp_path, monkeypatch):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    for folder, limit in ((inner, "max"), (tmp_path / "a", "1000000")):
        (folder / "memory.max").write_text(limit)
        (folder / "memory.current").write_text("600000")
        (folder / "memory.stat").write_text("anon 1\ninactive_file 200000\n")
    monkeypatch.setattr(free_memory, "GROUPS", tmp_path)
    assert list(free_memory._of_group(tmp_path / "a", "memory.max", "memory.current", "inactive_file")) == [
        600000
    ]
    assert list(free_memory._of_group(inner, "memory.max", "memory.current", "inactive_file")) == []


FORMULAS = ["=1+1", "+1", "-cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "\r=1"]


def test_no_cell_of_a_table_is_a_formula(tmp_path):
    text = table_text(["id", "value"], [(name, -1.5) for name in FORMULAS])
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[1:] == [["'" + name, "-1.5"] for name in FORMULAS]
    assert [plain("'" + name) for name in FORMULAS] == FORMULAS
    assert [plain(x) for x in ("'quoted'", "plain", "", "'")] == ["'quoted'", "plain", "", "'"]
    outcome = PairOutcome("=cmd|x", "=HYPERLINK(1).png", "+m.png", error="@bad", similarity_before=-0.5)
    write_summary([outcome], str(tmp_path))
    (row,) = csv.DictReader(io.StringIO((tmp_path / "summary.csv").read_text()))
    assert (row["id"], row["fixed"], row["moving"]) == ("'=cmd|x", "'=HYPERLINK(1).png", "'+m.png")
    assert (row["error"], row["similarity_before"]) == ("'@bad", "-0.5")


def test_long_ids_are_cut_with_a_checksum_and_stay_different():
    names = ["a" * 400, "a" * 399 + "b", "語" * 200, "short", "a" * 120]
    made = ids.unique(names, ["f.tif"] * 5)
    assert len(set(made)) == 5
    assert made[3:] == ["short", "a" * 120]
    assert all(len(name.encode()) <= 120 for name in made)
    assert made == ids.unique(names, ["f.tif"] * 5)


OTHER = "00000000-1-abcdef"
"""A process of another machine or container, with a number that runs here."""


def test_temporary_files_of_others_are_kept_until_they_are_old(tmp_path):
    gone = owner.owner().replace(f"-{os.getpid()}-", "-999999999-")
    mine, here = owner.owner(), owner.owner().replace(f"-{os.getpid()}-", f"-{os.getppid()}-")
    for name in (gone, mine, here, OTHER):
        (tmp_path / f".a.{name}.part.txt").touch()
        (tmp_path / f".z.zarr.{name}.part").mkdir()
    with atomic_write(tmp_path / "a.txt") as beside:
        beside.write_text("new")
    with atomic_folder(tmp_path / "z.zarr") as folder:
        folder.mkdir()
    left = {path.name for path in tmp_path.glob(".*")}
    assert left == {
        f"{start}.{x}{end}"
        for x in (mine, here, OTHER)
        for start, end in ((".a", ".part.txt"), (".z.zarr", ".part"))
    }
    old = time.time() - owner.AGE - 60
    os.utime(tmp_path / f".a.{OTHER}.part.txt", (old, old))
    with atomic_write(tmp_path / "a.txt") as beside:
        beside.write_text("newer")
    assert not (tmp_path / f".a.{OTHER}.part.txt").exists()


def test_two_writers_of_one_file_in_one_process_do_not_meet(tmp_path):
    with atomic_write(tmp_path / "a") as one, atomic_write(tmp_path / "a") as other:
        assert one != other
        one.write_text("1")
        other.write_text("2")


def test_temporary_folders_of_killed_processes_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    gone = owner.owner().replace(f"-{os.getpid()}-", "-999999999-")
    for name in (f"register-{gone}-xyz", f"register-{OTHER}-xyz", "register-notes"):
        (tmp_path / name).mkdir()
    with scratch.scratch_folder() as place:
        assert place.parent == tmp_path
        assert sorted(x.name for x in tmp_path.iterdir()) == sorted(
            [place.name, f"register-{OTHER}-xyz", "register-notes"]
        )
    assert not place.exists()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no terminals that close")
@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("SIGHUP", marks=pytest.mark.variant), "SIGTERM", "SIGKILL"])
def test_a_batch_that_is_ended_leaves_no_worker_and_no_words(name, tmp_path):
    scratched = tmp_path / "tmp"
    scratched.mkdir()
    table = tmp_path / "pairs.csv"
    table.write_text("id,fixed,moving\n" + "".join(f"p{n},{TISSUE[0]},{TISSUE[1]}\n" for n in range(2)))
    command = [sys.executable, "-m", "register", "batch", "--pairs", table, "-o", tmp_path / "out", "-q"]
    command = [*map(str, command), "--workers", "2", "--preset", "fast", "--model", "rigid"]
    environment = {**os.environ, "TMPDIR": str(scratched)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path)
    deadline = time.monotonic() + 100
    while not list((tmp_path).glob("out/p*")) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(getattr(signal, name))
    error = process.communicate()[1]  # ends when the workers, which have it too, have ended
    expected = {"SIGKILL": ""}.get(name, "interrupted; no incomplete file was left\n")
    assert error == expected
    assert not list(scratched.glob("register-*"))
    again = run("batch", *command[4:], cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert not list((tmp_path / "out").rglob(".*"))
