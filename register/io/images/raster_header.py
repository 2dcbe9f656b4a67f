"""What the header of a PNG, JPEG, GIF, BMP or WebP states, without decoding its pixels."""

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from register.io.images import png, raster
from register.io.images.model import UNASSOCIATED, Image, Selection
from register.io.images.reader import first_bytes

ORIENTATION = 0x0112
"""The EXIF tag Orientation; the sides of pictures from 5 to 8 are exchanged."""
GREY, GREY_ALPHA, RGB, RGBA = 0, 4, 2, 6
DEEP = {GREY: 1, GREY_ALPHA: 2, RGB: 3, RGBA: 4}
"""Channels of the colour types of a PNG of 16 bits (PNG 3.0, 11.2.1)."""
KEYWORDS = b"Raw profile type exif\0", b"XML:com.adobe.xmp\0"
"""Texts of a PNG in which Pillow finds an orientation."""
LONGEST_KEYWORD = max(map(len, KEYWORDS))


def header(path: Path, selection: Selection) -> Image:
    """The image of a file whose pixels are zeros that take no memory; of other formats, the image itself."""
    head = first_bytes(path)
    if png.is_deep(head) and head[25] in DEEP and not selection.level and not selection.series:
        width, height = struct.unpack(">II", head[16:24])
        channels = DEEP[head[25]]
        colour = "rgb" if channels >= 3 else "grey"
        return _image((channels, height, width), np.dtype(np.uint16), "png", colour)
    common = head.startswith((png.MAGIC, b"\xff\xd8\xff", b"BM"))
    if png.is_deep(head) or not common or selection.level or selection.series or _exif_at_end(path, head):
        return raster.read(path, selection)
    return _of_pillow(path)


def _of_pillow(path: Path) -> Image:
    """The image of a file that Pillow opens."""
    from PIL import Image as Pillow
    from PIL import ImageMode

    Pillow.MAX_IMAGE_PIXELS = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Pillow.open(path, formats=raster.PILLOW) as picture:
            if picture.mode in ("P", "PA", "I", "1") or getattr(picture, "n_frames", 1) > 1:
                return raster.read(path, Selection())  # these need a look at their pixels or tables
            mode = _mode(picture)
            made = ImageMode.getmode(mode)
            width, height = picture.size
            # ``picture.getexif`` of a PNG without EXIF would decode its pixels
            if Pillow.Image.getexif(picture).get(ORIENTATION) in (5, 6, 7, 8):
                width, height = height, width
            kind, colour = "png" if picture.format == "PNG" else "other", raster.COLOURS.get(mode, "grey")
            shape = len(made.bands), height, width
            return _image(shape, np.dtype(made.typestr).newbyteorder("="), kind, colour)


def _mode(picture: Any) -> str:
    """The mode of Pillow that the pixels will have."""
    if "transparency" in picture.info:
        return "LA" if picture.mode == "L" else "RGBA"
    return str(raster.CONVERTED.get(picture.mode, picture.mode))


def _exif_at_end(path: Path, head: bytes) -> bool:
    """Whether a PNG has its orientation after its pixels, where only decoding finds it."""
    if not head.startswith(png.MAGIC):
        return False
    with open(path, "rb") as file:
        at, behind = len(png.MAGIC), False
        while True:
            file.seek(at)
            chunk = file.read(8)
            if len(chunk) < 8:
                return False
            name = chunk[4:]
            if behind and (name in (b"eXIf", b"tRNS") or file.read(LONGEST_KEYWORD).startswith(KEYWORDS)):
                return True
            behind |= name == b"IDAT"
            at += int.from_bytes(chunk[:4], "big") + 12


def _image(shape: tuple[int, int, int], dtype: np.dtype[Any], kind: str, colour: str) -> Image:
    pixels = np.broadcast_to(np.zeros((), dtype), shape)
    alpha = shape[0] == 2 or (shape[0] == 4 and colour == "rgb")
    return Image(pixels, kind=kind, colour=colour, extra=(UNASSOCIATED,) if alpha else ())
