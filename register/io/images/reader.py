"""Image readers: one record per format, found through the registry ``register.registries.READERS``."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from register.errors import FileError, RegisterError
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
    ``header(path, selection)`` gives the image without decoding it, for formats that are decoded at once.
    ``reads_part`` is whether ``read`` gives what is left of a file that is cut off, if the selection asks so.

    The built-in readers are tried first, so that another package cannot change by accident how a TIFF or a
    PNG is read. A reader with ``before_built_in`` is tried before them.
    """

    name: str
    matches: Callable[[Path, bytes], bool]
    read: Callable[[Path, Selection], Image]
    suffixes: tuple[str, ...] = ()
    describe: Callable[[Path], FileDescription] | None = None
    header: Callable[[Path, Selection], Image] | None = None
    before_built_in: bool = False
    reads_part: bool = False


HEAD = 32
"""The number of first bytes by which a format is recognised."""
LAST = "raster"
"""The reader of files that no reader matches: Pillow knows formats that have no fixed first bytes."""


def first_bytes(path: Path) -> bytes:
    """The first bytes of a file, by which its format is recognised."""
    with open(path, "rb") as file:
        return file.read(HEAD)


def image_reader(name: str) -> ImageReader:
    """The reader of a name. Raises ``RegisterError`` for a name that is not known."""
    return READERS.typed(name, ImageReader)


def image_readers() -> list[ImageReader]:
    """All readers that can be loaded, in the order in which they are tried."""
    return _load_readers()[0]


def reader_of(path: Path, head: bytes) -> ImageReader:
    """The first reader that matches a file of which ``head`` are the first bytes.

    Raises ``FileError`` for a file that only a reader that cannot be loaded might read.
    """
    readers, problems = _load_readers()
    for reader in readers:
        if reader.matches(path, head):
            return reader
    if problems and path.suffix.lower() not in image_suffixes():
        raise FileError(path, f"is of a format that no reader matches, and {problems[0]}")
    return image_reader(LAST)


def _load_readers() -> tuple[list[ImageReader], list[str]]:
    """The readers in their order, and for each that cannot be loaded the reason."""
    readers, problems = [], []
    for name in READERS.names():
        try:
            readers.append(image_reader(name))
        except RegisterError as error:
            problems.append(str(error))
    return sorted(readers, key=lambda reader: not reader.before_built_in), problems


def image_suffixes() -> tuple[str, ...]:
    """The endings of file names, in lower case, that any reader lists."""
    return tuple(dict.fromkeys(suffix for reader in image_readers() for suffix in reader.suffixes))
