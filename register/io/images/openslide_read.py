"""Read MRXS, BIF, VMS, Sakura, Trestle and DICOM slides with OpenSlide, region by region."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.geometry.pixel_size import PixelSize
from register.io.images.instrument_format import Format, matcher, of_file, suffixes
from register.io.images.levels import level_factor
from register.io.images.model import Image, Selection
from register.io.images.reader import FileDescription, ImageReader
from register.io.images.regions import Regions, checked_level, library

FORMATS = (
    Format("a 3DHISTECH MRXS, of which the pixels lie in the folder beside it", (".mrxs",)),
    Format("a Ventana BIF", (".bif",)),
    Format("a Hamamatsu VMS, of which the pixels lie in the files beside it", (".vms", ".vmu")),
    Format("a Sakura slide", (".svslide",)),
    Format("a DICOM file", (".dcm",)),
)
VENDORS = {
    ".mrxs": "mirax",
    ".bif": "ventana",
    ".vms": "hamamatsu",
    ".vmu": "hamamatsu",
    ".svslide": "sakura",
    ".dcm": "dicom",
}
"""What OpenSlide calls the makers of the formats: it also opens a preview as a plain TIFF."""
LARGEST_TILE = 2**26
"""Pixels of a tile beyond which a TIFF is damaged."""
TRESTLE = Format("a Trestle slide, of which the tiles overlap", (".tif",))


def read(path: Path, selection: Selection) -> Image:
    """The slide at a level, with its coarser levels; colours (3, h, w) on the background of the file.

    Raises ``FileError`` without OpenSlide, and for files that it does not open.
    """
    return _read(path, selection, _open(path, of_file(FORMATS, path), VENDORS[path.suffix.lower()]))


def read_trestle(path: Path, selection: Selection) -> Image:
    """``read`` of a Trestle slide, which is a TIFF by its name."""
    return _read(path, selection, _open(path, TRESTLE, "trestle"))


def describe_trestle(path: Path) -> FileDescription:
    """``describe`` of a Trestle slide."""
    return FileDescription("YXS", _open(path, TRESTLE, "trestle").level_count)


def _read(path: Path, selection: Selection, slide: Any) -> Image:
    """The image of an open slide."""
    if selection.series:
        raise FileError(path, "has one series", "leave out --series")
    level = checked_level(path, selection, slide.level_count)
    levels = [_level(slide, number) for number in range(level, slide.level_count)]
    across, down = (slide.properties.get(f"openslide.mpp-{axis}") for axis in "xy")
    size = None
    if across and down:
        full, own = slide.level_dimensions[0], slide.level_dimensions[level]
        size = PixelSize(float(across), float(down), "µm")
        size = size.times(*(level_factor(n, m) for n, m in zip(full, own, strict=True)))
    return Image(
        levels[0], kind="other", colour="rgb", layout="contig", smaller=tuple(levels[1:]), pixel_size=size
    )


def describe(path: Path) -> FileDescription:
    """The axes and the number of levels."""
    slide = _open(path, of_file(FORMATS, path), VENDORS[path.suffix.lower()])
    return FileDescription("YXS", slide.level_count)


READER = ImageReader("openslide", matcher(FORMATS), read, suffixes(FORMATS), describe)


def _open(path: Path, kind: Format, maker: str) -> Any:
    """An open slide of a maker."""
    openslide = library("openslide", path, kind, "slides")
    _check_tiles(path, kind)
    try:
        slide = openslide.OpenSlide(path)
    except openslide.OpenSlideError as error:
        reason = " ".join(str(error).split())
        problem = f"is {kind.name}, and OpenSlide cannot read it ({reason})"
        raise FileError(path, problem, f"check its files, or {kind.advice}") from None
    vendor = slide.properties.get("openslide.vendor", "")
    if vendor != maker:
        slide.close()
        problem = f"is {kind.name} by its name, and {vendor} by its content"
        raise FileError(path, problem, "give it the ending of its own format")
    return slide


def _check_tiles(path: Path, kind: Format) -> None:
    """Raise ``FileError`` for a TIFF whose tiles are too large: OpenSlide ends the process when there is no
    memory for one."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as tif:
            pages = [
                tif.pages[number].aspage() for number in range(len(tif.pages))
            ]  # a chain may be a circle
            largest = max(page.tilewidth * page.tilelength for page in pages)
    except Exception:  # another container, or a TIFF that OpenSlide judges itself
        return
    if largest > LARGEST_TILE:
        problem = f"is {kind.name} with tiles of {largest} pixels: it is damaged"
        raise FileError(path, problem, "copy it again from the scanner")


def _level(slide: Any, level: int) -> Regions:
    """The pixels of one level, over the background colour where the scanner took none."""
    width, height = slide.level_dimensions[level]
    factor = slide.level_downsamples[level]
    text = slide.properties.get("openslide.background-color") or "FFFFFF"
    background = np.frombuffer(bytes.fromhex(text), np.uint8).astype(np.uint16)

    def region(channels: range, rows: range, columns: range) -> NDArray[Any]:
        corner = round(columns.start * factor), round(rows.start * factor)
        found = np.asarray(slide.read_region(corner, level, (len(columns), len(rows))))
        opacity = found[..., 3:].astype(np.uint16)
        mixed = (found[..., :3] * opacity + background * (255 - opacity) + 127) // 255
        return np.moveaxis(mixed.astype(np.uint8), 2, 0)[channels.start : channels.stop]

    return Regions((3, height, width), np.dtype(np.uint8), region)
