"""Atomic writes: a file appears under its name when it is complete, or not at all."""

import glob
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from register.errors import FileError, RegisterError
from register.files.owner import is_abandoned, owner

LONGEST = 200
"""Length of a file name, in bytes, up to which the name of its temporary file is derived from it."""
UNFINISHED = ".unfinished"
"""Name of the file that marks a folder whose results are being written."""


def as_path(path: object) -> Path:
    """The path that an argument names. Raises ``RegisterError`` for one that is no path."""
    if not isinstance(path, str | os.PathLike):
        given = "None" if path is None else f"a {type(path).__name__}"
        raise RegisterError(f"a file is named by a path, a text or a pathlib.Path, not by {given}")
    return Path(path)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary name beside ``path``; the file becomes ``path`` if the block ends without an exception.

    Otherwise it is removed. Raises ``FileError`` when the folder cannot be written or the disk is full.
    """
    path = as_path(path)
    beside = path.with_name(f".{_short(path.stem)}.{owner()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent, _short(path.stem))
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise _not_written(path, error) from None
    finally:
        beside.unlink(missing_ok=True) if beside.exists() else None


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A temporary name beside ``path`` for a folder, which replaces ``path`` if the block ends without an
    exception."""
    path = as_path(path)
    beside = path.with_name(f".{_short(path.name)}.{owner()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent, _short(path.name))
        yield beside
        if path.is_dir():
            _refuse_other_files(path)
            shutil.rmtree(path)
        os.replace(beside, path)
    except OSError as error:
        raise _not_written(path, error) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically."""
    write_bytes(path, in_utf8(text))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file atomically."""
    with atomic_write(path) as beside:
        beside.write_bytes(content)


def in_utf8(text: str) -> bytes:
    r"""A text in UTF-8; bytes of file names that are not UTF-8 are written as ``\udc80`` to ``\udcff``."""
    return text.encode(errors="backslashreplace")


@contextmanager
def mark_unfinished(folder: Path) -> Iterator[None]:
    """Mark a folder while results are written into it, so that results of a killed run can be recognised."""
    mark, existed = folder / UNFINISHED, folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError as error:
        raise _not_written(folder, error) from None
    try:
        yield
    except BaseException:
        if list(folder.iterdir()) == [mark]:  # nothing was written: remove the mark and a folder made for it
            mark.unlink()
            if not existed:
                folder.rmdir()
        raise
    mark.unlink(missing_ok=True)


def is_unfinished(folder: Path) -> bool:
    """Whether a run was killed while it wrote into a folder."""
    return (folder / UNFINISHED).exists()


def remove(path: Path) -> None:
    """Remove a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def refuse_existing(path: Path, overwrite: bool, option: str = "--output") -> None:
    """Raise ``FileError`` when a path, that of an ``option``, exists and may not be overwritten."""
    if path.exists() and not overwrite:
        raise FileError(path, "exists already", f"use --overwrite or another {option}")


def refuse_inputs(output: Path, *inputs: Path, option: str = "--output") -> None:
    """Raise ``FileError`` when an output, that of an ``option``, is one of the inputs by any name, holds one,
    or lies in one."""
    for path in inputs:
        if not path.exists():
            continue
        inside, around = output.resolve().parents, path.resolve().parents
        same = output.exists() and output.samefile(path)
        if same or (output.is_dir() and output.resolve() in around) or path.resolve() in inside:
            raise FileError(output, "is an input and would be overwritten", f"choose another {option}")


def _not_written(path: Path, error: OSError) -> FileError:
    """The error for a path that cannot be written."""
    return FileError(
        path,
        f"cannot be written ({error.strerror or error})",
        "free some space or choose another --output",
    )


def _refuse_other_files(folder: Path) -> None:
    """Raise ``FileError`` for a folder that is to be replaced and is no Zarr group or array."""
    if not any((folder / name).exists() for name in ("zarr.json", ".zgroup", ".zarray")):
        raise FileError(folder, "is a folder with other files", "choose another --output")


def _remove_abandoned(folder: Path, stem: str) -> None:
    """Remove the temporary files and folders of a name that killed runs left in ``folder``."""
    for left in folder.glob(f".{glob.escape(stem)}.*.part*"):
        if is_abandoned(left.name.removeprefix(f".{stem}.").split(".")[0], left):
            remove(left)


def _short(stem: str) -> str:
    """A name, or its checksum if the name has ``LONGEST`` bytes or more."""
    name = os.fsencode(stem)
    return stem if len(name) < LONGEST else f"{zlib.crc32(name):08x}"
