"""Image readers: one record per format, found through the registry ``register.registries.READERS``."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from register.io.images.model import Image, Selection
from register.registries import READERS


@dataclass(frozen=True)
class SeriesDescription:
    """One image of a file, as ``register info`` prints it."""

    axes: str
    shape: tuple[int, ...]
    dtype: str
    levels: int


@dataclass(frozen=True)
class FileDescription:
    """What ``register info`` prints about a file beside the image that ``read`` returns."""

    axes: str
    levels: int
    series: tuple[SeriesDescription, ...] = ()
    crs: str | None = None


@dataclass(frozen=True)
class ImageReader:
    """How images of one format are read.

    ``matches(path, head)`` gives whether the reader can read a file; ``head`` is its first 32 bytes, empty
    for a folder. ``read(path, selection)`` returns the image; it may leave the pixels in the file, as an
    object with ``shape``, ``dtype`` and ``[channels, rows, columns]``, and may raise any exception for a
    damaged file. ``suffixes`` are the endings, in lower case and with the dot, of files that ``register
    batch`` lists in a folder. ``describe(path)`` adds axes and series to ``register info``.

    The built-in readers are asked first, so that another package cannot change by accident how a TIFF or a
    PNG is read. A reader with ``before_built_in`` is asked before them.
    """

    name: str
    matches: Callable[[Path, bytes], bool]
    read: Callable[[Path, Selection], Image]
    suffixes: tuple[str, ...] = ()
    describe: Callable[[Path], FileDescription] | None = None
    before_built_in: bool = False


LAST = "raster"
"""The reader of files that no reader matches: Pillow knows formats that have no fixed first bytes."""


def image_reader(name: str) -> ImageReader:
    """The reader of a name. Raises ``RegisterError`` for a name that is not known."""
    return READERS.typed(name, ImageReader)


def image_readers() -> Iterator[ImageReader]:
    """All readers, in the order in which they are asked whether they match a file."""
    readers = [image_reader(name) for name in READERS.names()]
    yield from (reader for reader in readers if reader.before_built_in)
    yield from (reader for reader in readers if not reader.before_built_in)


def reader_of(path: Path, head: bytes) -> ImageReader:
    """The first reader that matches a file of which ``head`` are the first bytes."""
    return next((reader for reader in image_readers() if reader.matches(path, head)), image_reader(LAST))


def image_suffixes() -> tuple[str, ...]:
    """The endings of file names, in lower case, that any reader lists."""
    return tuple(dict.fromkeys(suffix for reader in image_readers() for suffix in reader.suffixes))
