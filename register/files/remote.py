"""Files at remote addresses such as ``s3://bucket/slide.tif``, through fsspec.

They are copied to this machine to be read, and copied back after they were written. A zarr hierarchy is not
copied: a small local file names its address, and its chunks are fetched when they are read.
"""

import re
import shutil
from pathlib import Path
from typing import Any

from register.errors import FileError
from register.files.atomic import in_utf8

ZARR_MARK = b"register: a zarr at an address\n"
"""The first line of a local file that names a remote zarr; the second is its address."""
ZARR_METADATA = ("zarr.json", ".zattrs", ".zgroup")


def is_remote(name: str) -> bool:
    """Whether a name is an address, not a path."""
    return re.match(r"^[a-z][a-z0-9+.-]+://", name) is not None


def read_text(name: str) -> str:
    """The text of a local or remote file. Raises ``FileError``."""
    try:
        if not is_remote(name):
            return Path(name).read_text(encoding="utf-8-sig")
        with _open(name, "rb") as file:
            return str(file.read().decode("utf-8-sig"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileError(name, f"cannot be read ({reason})", "check the path") from None


def exists(name: str) -> bool:
    """Whether a local or remote file or folder exists."""
    if not is_remote(name):
        return Path(name).exists()
    system, path = file_system(name)
    return bool(system.exists(path))


def names(pattern: str) -> list[str]:
    """The addresses that match a remote pattern, sorted."""
    system, path = file_system(pattern)
    return sorted(system.unstrip_protocol(found) for found in system.glob(path))


def fetch(name: str, folder: Path) -> Path:
    """The path of a local file, or of a copy of a remote file in ``folder``.

    Of a zarr, it is a file with its address and the metadata of its root. Raises ``FileError``.
    """
    if not is_remote(name):
        return Path(name)
    system, path = file_system(name)
    target = folder / name.rstrip("/").rsplit("/", 1)[-1]
    try:
        metadata = _zarr_metadata(system, path.rstrip("/"))
        if metadata:
            target.write_bytes(ZARR_MARK + f"{name.rstrip('/')}\n".encode() + metadata)
            return target
        system.get(path, str(target), recursive=bool(system.isdir(path)))
    except OSError as error:
        raise FileError(name, f"cannot be read ({error})", "check the address") from None
    return target


def _zarr_metadata(system: Any, path: str) -> bytes:
    """The metadata of the root of a zarr; empty for anything else."""
    if ".zarr" not in path or path.endswith((".zip", ".ozx", ".json", ".csv", ".tif", ".tiff")):
        return b""
    for name in ZARR_METADATA:
        if system.exists(f"{path}/{name}"):
            return bytes(system.cat_file(f"{path}/{name}"))
    return b""


def store(folder: Path, name: str, last: str) -> None:
    """Move the files of a folder to an address.

    The file called ``last`` is copied last, because its presence means that the others are complete.
    """
    system, path = file_system(name)
    try:
        system.makedirs(path, exist_ok=True)
        for file in sorted(folder.iterdir(), key=lambda file: file.name == last):
            system.put(str(file), f"{path}/{file.name}", recursive=file.is_dir())
    except OSError as error:
        raise FileError(
            name, f"cannot be written ({error})", "check the address and your permissions"
        ) from None
    shutil.rmtree(folder)


def remove(name: str) -> None:
    """Remove a remote file or folder."""
    system, path = file_system(name)
    system.rm(path, recursive=bool(system.isdir(path)))


def write_remote_text(text: str, name: str) -> None:
    """Write a text file at an address."""
    with _open(name, "wb") as file:
        file.write(in_utf8(text))


def _open(name: str, mode: str) -> Any:
    """A remote file, opened."""
    system, path = file_system(name)
    return system.open(path, mode)


def file_system(name: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it.

    Raises ``FileError`` when its library is not installed.
    """
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(name)
    except (ImportError, ValueError) as error:
        raise FileError(
            name,
            f"is a remote address and fsspec cannot open it ({error})",
            "pip install 'register-cli[remote]', or the package it names",
        ) from None
    return system, path
