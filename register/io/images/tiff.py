"""The TIFF reader's record. tifffile is imported when the first TIFF is read."""

from pathlib import Path

from register.io.images.model import Image, Selection
from register.io.images.reader import FileDescription, ImageReader

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of TIFF and BigTIFF in both byte orders."""
SUFFIXES = (".tif", ".tiff", ".svs", ".ndpi", ".scn", ".qptiff", ".btf", ".tf8", ".tf2", ".lsm")


def matches(path: Path, head: bytes) -> bool:
    """Whether a file has the first bytes of a TIFF."""
    return head[:4] in MAGIC


def read(path: Path, selection: Selection) -> Image:
    """The image of a TIFF; see ``tiff_read.read``."""
    from register.io.images import tiff_read

    return tiff_read.read(path, selection)


def describe(path: Path) -> FileDescription:
    """The axes and series of a TIFF; see ``tiff_read.describe``."""
    from register.io.images import tiff_read

    return tiff_read.describe(path)


READER = ImageReader("tiff", matches, read, SUFFIXES, describe, reads_part=True)
