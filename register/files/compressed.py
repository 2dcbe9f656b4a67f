"""Text files that may be compressed: ``.gz``, and ``.zip`` with one file in it, as QuPath writes them."""

import codecs
import gzip
import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import IO, TextIO

from register.errors import FileError
from register.files import atomic

MOST = 2**33
"""Bytes of text above which a compressed file is refused."""
LONGEST_LINE = 2**24
"""Characters of a line above which a text is refused that is read line by line."""
BLOCK = 2**22
"""Bytes of a compressed file that are read at once."""
BEGINNING = 2**20
"""Bytes of a text by which its kind is told."""
TEXTS = (".geojson", ".json")
"""Endings of text files in an archive."""


def is_archive_of_text(path: str | Path) -> bool:
    """Whether a file is a zip archive that holds GeoJSON."""
    if Path(path).suffix.lower() != ".zip":
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.lower().endswith(TEXTS) for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def read_text(path: str | Path) -> str:
    """The text of a file in UTF-8, decompressed by its suffix. Raises ``OSError`` and ``UnicodeDecodeError``.

    Raises ``FileError`` for an archive of several texts, and for a text above 8 GiB.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".gz":
        with gzip.open(path) as file:
            content = _within(file)
    elif suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.lower().endswith(TEXTS)]
            if len(names) != 1:
                raise FileError(path, f"holds {len(names)} GeoJSON files", "extract them and name one")
            with archive.open(names[0]) as file:
                content = _within(file)
    else:
        content = Path(path).read_bytes()
    if len(content) > MOST:
        raise FileError(path, "is too large to be decompressed", "decompress it and map its parts")
    return content.decode("utf-8-sig")


def _within(file: gzip.GzipFile | IO[bytes]) -> bytes:
    """The content of a file, up to at least a byte more than ``MOST``, read in blocks: ``read`` with a size
    takes that much memory before it reads."""
    blocks = iter(lambda: file.read(BLOCK), b"")
    whole = io.BytesIO()
    whole.writelines(islice(blocks, MOST // BLOCK + 1))
    return whole.getvalue()


def beginning(path: str | Path) -> str:
    """The first part of a text in UTF-8, decompressed by its suffix. Raises ``OSError`` and
    ``UnicodeDecodeError``."""
    with _opened(path) as file:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(file.read(BEGINNING))


def lines(path: str | Path) -> Iterator[str]:
    """The lines of a text with their ends, one after the other, decompressed by its suffix.

    Raises what ``beginning`` raises, and ``FileError`` for a line that is longer than any table's.
    """
    with _opened(path) as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        while line := text.readline(LONGEST_LINE):
            if len(line) == LONGEST_LINE:
                raise FileError(path, f"has a line of {LONGEST_LINE} characters or more", "check the file")
            yield line


@contextmanager
def text_writer(path: str | Path) -> Iterator[TextIO]:
    """A text file that is written atomically, compressed where the suffix is that of a compressed file."""
    with atomic.atomic_write(path) as beside, open(beside, "wb") as plain:
        if Path(path).suffix.lower() != ".gz":
            with io.TextIOWrapper(plain, "utf-8", errors="backslashreplace", newline="") as text:
                yield text
            return
        with (
            gzip.GzipFile("", "wb", 6, plain, mtime=0) as packed,
            io.TextIOWrapper(packed, "utf-8", errors="backslashreplace", newline="") as text,
        ):
            yield text


def _opened(path: str | Path) -> gzip.GzipFile | BufferedReader:
    """The bytes of a file, decompressed by its suffix."""
    return gzip.open(path) if Path(path).suffix.lower() == ".gz" else open(path, "rb")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file atomically, compressed where the suffix is that of a compressed file."""
    suffix = Path(path).suffix.lower()
    if suffix == ".gz":
        content = gzip.compress(content, 6, mtime=0)
    elif suffix == ".zip":
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            name = Path(path).stem
            archive.writestr(name if name.lower().endswith(TEXTS) else f"{name}.geojson", content)
        content = file.getvalue()
    atomic.write_bytes(path, content)
