"""Files that lie elsewhere: addresses such as ``s3://bucket/slide.tif``, through fsspec; they are copied here to be read, and back when written."""

import re
import shutil
from pathlib import Path
from typing import Any

from register.errors import FileError
from register.files.atomic import in_utf8


def is_remote(name: str) -> bool:
    """Whether a name is an address, not a path."""
    return re.match(r"^[a-z][a-z0-9+.-]+://", name) is not None


def read_text(name: str) -> str:
    """The text of a file here or elsewhere; raises ``FileError``."""
    try:
        if not is_remote(name):
            return Path(name).read_text(encoding="utf-8-sig")
        with _opened(name, "rb") as file:
            return str(file.read().decode("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise FileError(
            name, f"cannot be read ({getattr(error, 'strerror', None) or error})", "check the path"
        ) from None


def exists(name: str) -> bool:
    """Whether a file or folder is there."""
    if not is_remote(name):
        return Path(name).exists()
    system, path = _system(name)
    return bool(system.exists(path))


def names(pattern: str) -> list[str]:
    """The addresses that a pattern elsewhere names, in order."""
    system, path = _system(pattern)
    return sorted(system.unstrip_protocol(found) for found in system.glob(path))


def fetch(name: str, folder: Path) -> Path:
    """A file's path: its own, or that of a copy in a folder when it lies elsewhere. Raises ``FileError``."""
    if not is_remote(name):
        return Path(name)
    system, path = _system(name)
    target = folder / name.rstrip("/").rsplit("/", 1)[-1]
    try:
        system.get(path, str(target), recursive=bool(system.isdir(path)))
    except OSError as error:
        raise FileError(name, f"cannot be read ({error})", "check the address") from None
    return target


def store(folder: Path, name: str, last: str) -> None:
    """Copy the files of a folder to an address, the one called ``last`` at the end, because it says that the others are there."""
    system, path = _system(name)
    try:
        system.makedirs(path, exist_ok=True)
        for file in sorted(folder.iterdir(), key=lambda file: file.name == last):
            system.put(str(file), f"{path}/{file.name}", recursive=file.is_dir())
    except OSError as error:
        raise FileError(
            name, f"cannot be written ({error})", "check the address and your rights there"
        ) from None
    shutil.rmtree(folder)


def write(text: str, name: str) -> None:
    """Write a text file at an address."""
    with _opened(name, "wb") as file:
        file.write(in_utf8(text))


def _opened(name: str, mode: str) -> Any:
    system, path = _system(name)
    return system.open(path, mode)


def _system(name: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it; raises ``FileError`` when what it needs is not installed."""
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(name)
    except (ImportError, ValueError) as error:
        raise FileError(
            name, f"lies elsewhere ({error})", "pip install 'register-cli[dask]' and the package it names"
        ) from None
    return system, path
