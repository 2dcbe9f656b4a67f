"""Read PNG, JPEG and other formats that are decoded at once; write PNG."""

import struct
import warnings
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.compute.free_memory import check_memory
from register.errors import FileError
from register.io.images import jpeg2000, netpbm, png
from register.io.images.lookup_tables import is_grey, ramp_colour
from register.io.images.model import UNASSOCIATED, Image, Selection
from register.io.images.reader import ImageReader, first_bytes

LARGEST = 2**31
"""Bytes of decoded pixels above which a file is refused: it is damaged, or needs a tiled format."""
COLOURS = {"RGB": "rgb", "RGBA": "rgb", "RGBX": "rgb", "CMYK": "cmyk", "P": "palette", "LAB": "lab"}
"""What the modes of Pillow are as ``Image.colour``; all others are grey."""
CONVERTED = {"YCbCr": "RGB", "HSV": "RGB", "La": "LA", "RGBa": "RGBA"}
"""Modes of Pillow that have no ``Image.colour``, and the mode that holds the same colours."""
MAGIC = (png.MAGIC, b"\xff\xd8\xff", b"GIF8", b"BM", *jpeg2000.MAGIC)
"""First bytes of PNG, JPEG, GIF, BMP and JPEG 2000."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".jp2", ".pgm", ".ppm", ".pbm", ".pfm")
PILLOW = ("PNG", "JPEG", "GIF", "JPEG2000", "WEBP", "BMP")
"""Formats that Pillow may read: those of which it gives the values that are in the file."""


def matches(path: Path, head: bytes) -> bool:
    """Whether a file has the first bytes of one of the common formats."""
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return head.startswith(MAGIC) or webp or netpbm.matches(head)


def read(path: Path, selection: Selection) -> Image:
    """The image of a file that is neither TIFF nor OME-Zarr. Raises ``FileError``."""
    if selection.level or selection.series:
        raise FileError(path, "has one series and one level", "leave out --series and the level")
    head = first_bytes(path)
    if png.is_deep(head):  # Pillow would reduce colour of 16 bits to 8
        return _read_deep_png(path, head)
    if netpbm.matches(head):
        return _read_netpbm(path)
    if head.startswith(jpeg2000.MAGIC) and jpeg2000.is_deep(path):
        return _read_deep_jpeg2000(path)
    return _read_with_pillow(path)


def write_png(path: Path, image: Image) -> None:
    """Write a PNG of 8 or 16 bits, grey, colour or palette, with its colour profile."""
    pixels = image.pixels[slice(None), slice(None), slice(None)]
    table = image.palette
    if table is None and image.lut is not None and image.lut.shape[1] == 256:
        table = image.lut
    if table is not None or pixels.dtype == np.bool_:
        from PIL import Image as Pillow

        picture = Pillow.fromarray(pixels[0])
        if table is not None:
            picture.putpalette((table >> 8).astype(np.uint8).T.tobytes())
        picture.save(path, "png", icc_profile=image.icc)
        return
    png.write(path, pixels, image.icc)


def header(path: Path, selection: Selection) -> Image:
    """The image of a file whose pixels are not decoded; see ``raster_header.header``."""
    made: Image = import_module("register.io.images.raster_header").header(
        path, selection
    )  # imports this module
    return made


READER = ImageReader("raster", matches, read, SUFFIXES, header=header)


def _read_deep_png(path: Path, head: bytes) -> Image:
    """A PNG of 16 bits."""
    width, height = struct.unpack(">II", head[16:24])
    _check_size(path, width, height, 8)
    array = png.decode(path)
    colour = "rgb" if array.ndim == 3 and array.shape[2] >= 3 else "grey"
    return _image(array, "png", colour, icc=png.colour_profile(path))


def _read_netpbm(path: Path) -> Image:
    """A PBM, PGM, PPM or PFM."""
    with open(path, "rb") as file:
        of = netpbm.header(file.read(4096))
    _check_size(path, of.width, of.height, 4 * of.samples)
    return _image(netpbm.decode(path), "other", "rgb" if of.samples == 3 else "grey")


def _read_deep_jpeg2000(path: Path) -> Image:
    """A JPEG 2000 of more than 8 bits."""
    _check_size(path, *jpeg2000.size(path), 8)
    array = jpeg2000.decode(path)
    colour = "rgb" if array.ndim == 3 and array.shape[2] in (3, 4) else "grey"
    return _image(array, "other", colour)


def _read_with_pillow(path: Path) -> Image:
    """A file in one of the formats ``PILLOW``, upright."""
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    Pillow.MAX_IMAGE_PIXELS = None  # Pillow's own limit counts pixels; the check below counts bytes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture = Pillow.open(path, formats=PILLOW)
        except UnidentifiedImageError:
            raise FileError(
                path,
                "is not an image in a format that register reads",
                "convert it to TIFF or PNG",
            ) from None
        with picture:
            return _from_pillow(path, picture)


def _from_pillow(path: Path, picture: Any) -> Image:
    """The image of an open Pillow file."""
    import PIL.ImageOps

    width, height = picture.size
    _check_size(path, width, height, len(picture.getbands()))
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # of a camera's MPO, the first image is the picture
        raise FileError(path, f"is an animation of {frames} frames", "save one frame as an image")
    picture.load()
    made, icc = picture.format, picture.info.get("icc_profile")
    transparent = "transparency" in picture.info
    picture = PIL.ImageOps.exif_transpose(picture)
    if picture.mode == "PA" or transparent:
        picture = picture.convert("LA" if picture.mode == "L" else "RGBA")
    elif picture.mode in CONVERTED:
        picture = picture.convert(CONVERTED[picture.mode])
    palette = _palette(picture) if picture.mode == "P" else None
    array = np.asarray(picture)
    kind, colour = "png" if made == "PNG" else "other", COLOURS.get(picture.mode, "grey")
    if palette is not None and ramp_colour(palette):
        shown = None if is_grey(palette) else palette
        return replace(_image(array, kind, "grey", icc=icc), lut=shown)
    return _image(array, kind, colour, icc=icc, palette=palette)


def _check_size(path: Path, width: int, height: int, per_pixel: int) -> None:
    """Raise ``FileError`` for an image of more than ``LARGEST`` bytes."""
    if width * height * per_pixel > LARGEST:
        raise FileError(
            path,
            f"is {width} × {height} pixels, too large for a format that is decoded at once",
            "save it as a tiled TIFF",
        )
    stored = 4 if per_pixel > 1 else 1  # Pillow keeps colour in four bytes, and a second, upright copy of it
    copies = per_pixel * (3 if per_pixel > 1 else 2)
    check_memory(path, width * height * (2 * stored + copies), "save it as a tiled TIFF")


def _image(
    array: NDArray[Any],
    kind: str,
    colour: str,
    *,
    icc: bytes | None = None,
    palette: NDArray[Any] | None = None,
) -> Image:
    """The image of decoded pixels (h, w) or (h, w, c)."""
    pixels = np.ascontiguousarray(array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0))
    alpha = len(pixels) == 2 or (len(pixels) == 4 and colour == "rgb")
    extra = (UNASSOCIATED,) if alpha else ()
    return Image(pixels, kind=kind, colour=colour, extra=extra, icc=icc, palette=palette)


def _palette(picture: Any) -> NDArray[np.uint16]:
    """The colours (3, 256) of a palette image, 16 bits; missing ones are black."""
    named = np.array(picture.getpalette("RGB"), np.uint16).reshape(-1, 3).T
    full = np.zeros((3, 256), np.uint16)
    full[:, : named.shape[1]] = named * 257
    return full
