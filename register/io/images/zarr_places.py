"""Where a zarr hierarchy lies: in a folder, in a zip archive, or at an address, of which parts are read.

A remote hierarchy is named by a small local file that ``register.files.remote`` writes: its first line is
``MARK``, its second the address.
"""

import zipfile
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from register.errors import FileError
from register.files.remote import ZARR_MARK, file_system

ZIPPED = (".zip", ".ozx")
"""Endings of archives; ``.ozx`` is that of OME-Zarr (RFC-9)."""
METADATA = ("zarr.json", ".zgroup", ".zattrs")
"""Files of which a zarr group has one."""


class Place(Protocol):
    """The files of a hierarchy by their keys, such as ``0/c/0/1``."""

    @property
    def path(self) -> Path:
        """The local folder or file."""

    @property
    def remote(self) -> bool:
        """Whether each request takes long."""

    def named(self, key: str) -> object:
        """What messages call a file, or with an empty key the hierarchy."""

    def store(self) -> tuple[Any, str]:
        """The store that zarr reads, and the key of the hierarchy in it."""

    def size(self, key: str) -> int | None:
        """The number of bytes of a file; None where it does not exist."""

    def content(self, key: str, most: int | None = None) -> bytes:
        """The first bytes of a file, or all."""


class Folder:
    """A hierarchy in a folder."""

    remote = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def named(self, key: str) -> object:
        """The path of a file."""
        return self.path / key if key else self.path

    def store(self) -> tuple[Any, str]:
        """The folder itself."""
        return str(self.path), ""

    def size(self, key: str) -> int | None:
        """The number of bytes of a file; None where it does not exist."""
        path = self.path / key
        return path.stat().st_size if path.is_file() else None

    def content(self, key: str, most: int | None = None) -> bytes:
        """The first bytes of a file, or all."""
        with open(self.path / key, "rb") as file:
            return file.read(-1 if most is None else most)


class Archive:
    """A hierarchy in a zip archive, at its top or in its only folder."""

    remote = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = zipfile.ZipFile(path)
        self._root = _root(self._file)

    def named(self, key: str) -> object:
        """The path of the archive, and of a file in it."""
        return self.path / key if key else self.path

    def store(self) -> tuple[Any, str]:
        """Zarr's own store of an archive."""
        from zarr.storage import ZipStore

        return ZipStore(self.path, mode="r"), (self._root or "").rstrip("/")

    def size(self, key: str) -> int | None:
        """The number of bytes of a file; None where it does not exist."""
        try:
            return self._file.getinfo(f"{self._root}{key}").file_size
        except KeyError:
            return None

    def content(self, key: str, most: int | None = None) -> bytes:
        """The first bytes of a file, or all."""
        with self._file.open(f"{self._root}{key}") as file:
            return file.read(-1 if most is None else most)


class Address:
    """A hierarchy at a remote address; only the chunks that are needed are fetched."""

    remote = True

    def __init__(self, link: Path) -> None:
        self.path = link
        self.address = link.read_text(encoding="utf-8").splitlines()[1]

    def named(self, key: str) -> object:
        """The address of a file."""
        return f"{self.address}/{key}" if key else self.address

    def store(self) -> tuple[Any, str]:
        """Zarr's store of a file system of fsspec."""
        from zarr.storage import FsspecStore

        try:
            return FsspecStore.from_url(self.address, read_only=True), ""
        except (ImportError, ValueError) as error:
            advice = "pip install 'register-cli[remote]'"
            raise FileError(self.address, f"cannot be opened ({error})", advice) from None

    @cached_property
    def _place(self) -> tuple[Any, str]:
        return file_system(self.address)

    def size(self, key: str) -> int | None:
        """The number of bytes of a file; None where it does not exist."""
        system, root = self._place
        try:
            return int(system.info(f"{root}/{key}")["size"])
        except FileNotFoundError:
            return None

    def content(self, key: str, most: int | None = None) -> bytes:
        """The first bytes of a file, or all."""
        system, root = self._place
        return bytes(system.cat_file(f"{root}/{key}", 0, most))


def is_archive(path: Path, head: bytes) -> bool:
    """Whether a file is a zip archive with a zarr hierarchy in it."""
    if not (head.startswith(b"PK\3\4") and path.name.lower().endswith(ZIPPED)):
        return False
    try:
        with zipfile.ZipFile(path) as file:
            return _root(file) is not None
    except (zipfile.BadZipFile, OSError, ValueError):
        return path.name.lower().endswith((".zarr.zip", ".ozx"))


def is_link(head: bytes) -> bool:
    """Whether a file names a remote hierarchy."""
    return head.startswith(ZARR_MARK)


def place_of(path: Path) -> Folder | Archive | Address:
    """The place of a hierarchy. Raises ``FileError`` for a damaged archive."""
    if path.is_dir():
        return Folder(path)
    with open(path, "rb") as file:
        if is_link(file.read(len(ZARR_MARK))):
            return Address(path)
    try:
        return Archive(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise FileError(path, f"is a damaged zip archive ({error})", "copy it again") from None


def _root(file: zipfile.ZipFile) -> str | None:
    """The folder of the hierarchy in an archive, empty for its top; None where it holds none."""
    names = file.namelist()
    if any(name in METADATA for name in names):
        return ""
    tops = {name.split("/")[0] for name in names if "/" in name}
    if len(tops) == 1:
        top = f"{tops.pop()}/"
        if any(f"{top}{name}" in names for name in METADATA):
            return top
    return None
