"""Sets of files that belong together: OME-TIFFs that name one another, and names that number channels."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from register.errors import FileError

NUMBERED = {
    "channel": re.compile(r"(?:_Ch(?=\d+_)|channel)(\d+)"),
    "position": re.compile(r"(?:_XY|position|Pos)(\d+)"),
    "plane": re.compile(r"_z(\d+)\.tif"),
}
"""How Bruker and Micro-Manager number channels, positions and planes of files that hold one image each."""


def refuse_mixed(files: list[Path]) -> None:
    """Raise ``FileError`` where names number several channels, positions or planes: such images do not follow
    one another in time."""
    for what, pattern in NUMBERED.items():
        found = [pattern.search(path.name) for path in files]
        numbers = {match[1] for match in found if match}
        if all(found) and len(numbers) > 1:
            named = ", ".join(sorted(numbers)[:6])
            raise FileError(
                files[0].parent,
                f"holds images of several {what}s ({named})",
                f"name those of one {what} by a pattern, and other channels by --also",
            )


def is_part(tif: tifffile.TiffFile) -> bool:
    """Whether an OME-TIFF names other files, whose images would be read with its own."""
    return tif.is_ome and len(set(re.findall(r'FileName="([^"]+)"', tif.ome_metadata or ""))) > 1


def refuse_unnamed(path: Path, tif: tifffile.TiffFile, together: int) -> None:
    """Raise ``FileError`` where a series of several files has more channels and planes than are named."""
    sizes = {
        axis: int(found[1]) if (found := re.search(rf'Size{axis}="(\d+)"', tif.ome_metadata or "")) else 1
        for axis in "CZ"
    }
    if len(tif.pages) > 1 and sizes["C"] * sizes["Z"] != together:
        named = f"has {sizes['C']} channels and {sizes['Z']} planes in several files"
        raise FileError(path, named, "name their numbers by --channels and --planes")


def first_page(path: Path) -> NDArray[Any]:
    """The first page (1, h, w) of a TIFF, whatever other files its metadata name. Raises ``FileError``."""
    try:
        with tifffile.TiffFile(path, _multifile=False) as tif:
            return np.asarray(tif.pages[0].asarray())[None]
    except (OSError, ValueError, IndexError, tifffile.TiffFileError) as error:
        raise FileError(path, f"cannot be read as a TIFF ({error})", "check the file") from None
