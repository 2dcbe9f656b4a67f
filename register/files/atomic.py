"""Files appear whole or not at all."""

import glob
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from register.errors import FileError

LONGEST = 200
"""Bytes of a file's name that leave room for what is added to it while it is written."""
UNFINISHED = ".unfinished"
"""Mark in a folder whose results are being written."""


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; it takes the place of ``path`` when the block ends well and is removed when not.

    Raises ``FileError`` when the folder cannot be written or the disk is full.
    """
    path = Path(path)
    beside = path.with_name(f".{_short(path.stem)}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise FileError(
            path,
            f"cannot be written ({error.strerror or error})",
            "free some space or choose another --output",
        ) from None
    finally:
        beside.unlink(missing_ok=True) if beside.exists() else None


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_bytes(path, in_utf8(text))


def in_utf8(text: str) -> bytes:
    r"""A text in UTF-8; bytes of file names in it that are no text stay as ``\udc80`` to ``\udcff``, as JSON reads them."""
    return text.encode(errors="backslashreplace")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    with atomic_write(path) as beside:
        beside.write_bytes(content)


def _sweep(path: Path) -> None:
    """Remove what runs that were killed left beside ``path``."""
    stem = _short(path.stem)
    for left in path.parent.glob(f".{glob.escape(stem)}.*.part*"):
        pid = left.name.removeprefix(f".{stem}.").split(".")[0]
        if pid.isdigit() and int(pid) != os.getpid() and not _runs(int(pid)):
            left.unlink(missing_ok=True)


def _short(stem: str) -> str:
    """A name, or its checksum where it is nearly as long as names may be."""
    name = os.fsencode(stem)
    return stem if len(name) < LONGEST else f"{zlib.crc32(name):08x}"


def _runs(pid: int) -> bool:
    """Whether a process of that number is running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def several(folder: Path) -> Iterator[None]:
    """Mark a folder while results are written into it, so that the next run can tell what a killed one left from what is finished."""
    mark, existed = folder / UNFINISHED, folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError as error:
        raise FileError(
            folder, f"cannot be written ({error.strerror or error})", "choose another --output"
        ) from None
    try:
        yield
    except BaseException:
        if list(folder.iterdir()) == [mark]:  # nothing was written: leave nothing
            mark.unlink()
            if not existed:
                folder.rmdir()
        raise
    mark.unlink(missing_ok=True)


def left_unfinished(folder: Path) -> bool:
    """Whether a run was killed while it wrote into a folder."""
    return (folder / UNFINISHED).exists()


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """The same for a folder: a name beside ``path`` that takes its place, and the place of what was there, when the block ends well."""
    path = Path(path)
    beside = path.with_name(f".{_short(path.name)}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(beside, path)
    except OSError as error:
        raise FileError(
            path,
            f"cannot be written ({error.strerror or error})",
            "free some space or choose another --output",
        ) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise ``FileError`` when something is there already and may not be replaced."""
    if path.exists() and not overwrite:
        raise FileError(path, "exists already", "use --overwrite or another --output")
