"""Files appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from register.errors import FileError


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; it takes the place of ``path`` when the block ends well and is removed when not.

    Raises ``FileError`` when the folder cannot be written or the disk is full.
    """
    path = Path(path)
    beside = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise FileError(path, f"cannot be written ({error.strerror or error})", "free some space or choose another --output") from None
    finally:
        beside.unlink(missing_ok=True) if beside.exists() else None


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """The same for a folder: a name beside ``path`` that takes its place, and the place of what was there, when the block ends well."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(beside, path)
    except OSError as error:
        raise FileError(path, f"cannot be written ({error.strerror or error})", "free some space or choose another --output") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise ``FileError`` when something is there already and may not be replaced."""
    if path.exists() and not overwrite:
        raise FileError(path, "exists already", "use --overwrite or another --output")
