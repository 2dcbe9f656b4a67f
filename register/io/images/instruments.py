"""Formats of instruments that no reader here opens: they are named, never read as the preview in them."""

from pathlib import Path

from register.errors import FileError
from register.io.images.instrument_format import Format, matcher, of_file, suffixes
from register.io.images.model import Image, Selection
from register.io.images.reader import ImageReader

FORMATS = (
    Format("part of an Olympus VSI", (".ets",), b"SIS\0"),
    Format("a Leica XLEF", (".xlef", ".xlif"), advice="save it as LIF, or convert it with bfconvert"),
    Format("an Olympus OIR", (".oir",), b"OLYMPUSRAWFORMAT"),
    Format("a 3i SlideBook file", (".sld", ".sldy")),
    Format("a Gatan DM file", (".dm3", ".dm4"), advice="convert it to TIFF"),
    Format("an MRC file", (".mrc",), advice="convert it to TIFF"),
    Format("an HDF5 file", (".h5", ".hdf5"), b"\x89HDF\r\n\x1a\n", "export the image in it as TIFF"),
)


def read(path: Path, selection: Selection) -> Image:
    """Raises ``FileError`` that names the format and what to do."""
    found = of_file(FORMATS, path)
    raise FileError(path, f"is {found.name}, which register does not read", found.advice)


READER = ImageReader("instruments", matcher(FORMATS), read, suffixes(FORMATS))
