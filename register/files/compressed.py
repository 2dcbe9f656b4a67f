"""Text files that may be compressed: ``.gz``, and ``.zip`` with one file in it, as QuPath writes them."""

import gzip
import io
import zipfile
from pathlib import Path

from register.errors import FileError
from register.files import atomic

MOST = 2**33
"""Bytes of text above which a compressed file is refused."""
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
            content = file.read(MOST + 1)
    elif suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.lower().endswith(TEXTS)]
            if len(names) != 1:
                raise FileError(path, f"holds {len(names)} GeoJSON files", "extract them and name one")
            with archive.open(names[0]) as file:
                content = file.read(MOST + 1)
    else:
        content = Path(path).read_bytes()
    if len(content) > MOST:
        raise FileError(path, "is too large to be decompressed", "decompress it and map its parts")
    return content.decode("utf-8-sig")


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
