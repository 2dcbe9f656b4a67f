"""Formats of instruments that no reader here opens: they are named, never read as the preview in them."""

from dataclasses import dataclass
from pathlib import Path

from register.errors import FileError
from register.io.images.model import Image, Selection
from register.io.images.reader import ImageReader

CONVERT = "convert it with bfconvert or bioformats2raw"


@dataclass(frozen=True)
class Format:
    """A format by its name, the endings of its files in lower case, and the first bytes of a file."""

    name: str
    suffixes: tuple[str, ...]
    magic: bytes = b""
    advice: str = CONVERT

    def matches(self, path: Path, head: bytes) -> bool:
        """Whether a file is of this format."""
        return path.name.lower().endswith(self.suffixes) or bool(self.magic and head.startswith(self.magic))


FORMATS = (
    Format("a Zeiss CZI", (".czi",), b"ZISRAWFILE"),
    Format("a Zeiss ZVI", (".zvi",)),
    Format("an Olympus VSI, of which the pixels lie in the folder beside it", (".vsi",)),
    Format("part of an Olympus VSI", (".ets",), b"SIS\0"),
    Format("a 3DHISTECH MRXS, of which the pixels lie in the folder beside it", (".mrxs",)),
    Format("a Ventana BIF", (".bif",)),
    Format("a Hamamatsu VMS, of which the pixels lie in the files beside it", (".vms", ".vmu")),
    Format("a Sakura slide", (".svslide",)),
    Format("a DICOM file", (".dcm",)),
    Format("a Nikon ND2", (".nd2",), b"\xda\xce\xbe\x0a"),
    Format("a Leica LIF", (".lif", ".xlef", ".lof")),
    Format("an Imaris file", (".ims",)),
    Format("an Olympus OIB", (".oib",)),
    Format("an Olympus OIF", (".oif",)),
    Format("an Olympus OIR", (".oir",), b"OLYMPUSRAWFORMAT"),
    Format("a 3i SlideBook file", (".sld", ".sldy")),
    Format("a Gatan DM file", (".dm3", ".dm4"), advice="convert it to TIFF"),
    Format("an MRC file", (".mrc",), advice="convert it to TIFF"),
    Format("a FITS file", (".fits", ".fit", ".fts", ".fits.gz", ".fz"), b"SIMPLE  =", "convert it to TIFF"),
    Format("an HDF5 file", (".h5", ".hdf5"), b"\x89HDF\r\n\x1a\n", "export the image in it as TIFF"),
)


def format_of(path: Path, head: bytes) -> Format | None:
    """The format of a file; None where it is none of these. A name decides before the first bytes."""
    by_name = (each for each in FORMATS if each.matches(path, b""))
    by_bytes = (each for each in FORMATS if each.matches(path, head))
    return next(by_name, None) or next(by_bytes, None)


def matches(path: Path, head: bytes) -> bool:
    """Whether a file is of one of the formats."""
    return bool(head) and format_of(path, head) is not None


def read(path: Path, selection: Selection) -> Image:
    """Raises ``FileError`` that names the format and what to do."""
    with open(path, "rb") as file:
        found = format_of(path, file.read(32))
    assert found is not None  # it matched
    raise FileError(path, f"is {found.name}, which register does not read", found.advice)


READER = ImageReader("instruments", matches, read, tuple(x for each in FORMATS for x in each.suffixes))
