"""PNG, JPEG and the other everyday formats, through Pillow and imagecodecs: they have no windows, so they are read and written whole."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError

if TYPE_CHECKING:
    from register.io.images.open import Image, Selection

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
LARGEST = 2**31
"""Bytes of decoded pixels above which a file is taken for a bomb or belongs into a format that has windows."""
LEVEL = 4
"""How hard a PNG is packed: a third of the time that the library's own choice takes, for a file larger by a tenth."""
UNASSOCIATED = 2
COLOURS = {"RGB": "rgb", "RGBA": "rgb", "RGBX": "rgb", "CMYK": "cmyk", "P": "palette", "LAB": "lab"}


def read(path: Path, head: bytes, part: Selection) -> dict[str, Any]:
    """The fields of an ``Image`` from anything but TIFF; PNG of 16 bits and several channels goes past Pillow, which would cut it to 8."""
    if part.level or part.series:
        raise FileError(path, "has one series and one level", "leave --series and the level out")
    if head.startswith(PNG_MAGIC) and len(head) > 25 and head[24] == 16:
        import imagecodecs

        width, height = struct.unpack(">II", head[16:24])
        _check_size(path, width, height, 8)
        array = imagecodecs.png_decode(path.read_bytes())
        return _fields(
            array, "png", "rgb" if array.ndim == 3 and array.shape[2] >= 3 else "grey", icc=_png_profile(path)
        )
    return _by_pillow(path)


def _by_pillow(path: Path) -> dict[str, Any]:
    import PIL.ImageOps
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    Pillow.MAX_IMAGE_PIXELS = None  # the check below, by bytes, names the file
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture: Pillow.Image = Pillow.open(path)
        except UnidentifiedImageError:
            raise FileError(
                path,
                "is not an image in any format this program reads",
                "TIFF, PNG, JPEG, OME-Zarr and what Pillow reads will do",
            ) from None
        with picture:
            _check_size(path, *picture.size, len(picture.getbands()))
            frames = getattr(picture, "n_frames", 1)
            if frames > 1:
                raise FileError(
                    path,
                    f"is an animation of {frames} frames",
                    "save the frame to be aligned as an image of its own",
                )
            picture.load()
            made, icc, see_through = (
                picture.format,
                picture.info.get("icc_profile"),
                "transparency" in picture.info,
            )
            picture = PIL.ImageOps.exif_transpose(picture)
            if picture.mode == "PA" or see_through:
                picture = picture.convert("LA" if picture.mode == "L" else "RGBA")
            elif picture.mode in ("YCbCr", "HSV", "La", "RGBa"):
                picture = picture.convert({"La": "LA", "RGBa": "RGBA"}.get(picture.mode, "RGB"))
            palette = _palette(picture) if picture.mode == "P" else None
            array = np.asarray(picture)
            if array.dtype == np.int32 and made in ("PNG", "PPM"):  # 16 bits, which Pillow holds in 32
                array = array.astype(np.uint16)
            return _fields(
                array,
                "png" if made == "PNG" else "other",
                COLOURS.get(picture.mode, "grey"),
                icc=icc,
                palette=palette,
            )


def write_png(path: Path, image: Image) -> None:
    """Write a PNG of 8 or 16 bits, grey, colour or palette, with its colour profile."""
    pixels = image.pixels[slice(None), slice(None), slice(None)]
    if image.palette is not None or pixels.dtype == np.bool_:
        from PIL import Image as Pillow

        picture = Pillow.fromarray(pixels[0])
        if image.palette is not None:
            picture.putpalette((image.palette >> 8).astype(np.uint8).T.tobytes())
        picture.save(path, "png", icc_profile=image.icc)
        return
    import imagecodecs

    array = np.ascontiguousarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, 2))
    path.write_bytes(
        _with_profile(
            bytes(imagecodecs.png_encode(array, level=LEVEL, filter=imagecodecs.PNG.FILTER.PAETH)), image.icc
        )
    )


def _check_size(path: Path, width: int, height: int, per_pixel: int) -> None:
    if width * height * per_pixel > LARGEST:
        raise FileError(
            path,
            f"is {width} × {height} pixels, too large for a format that is read whole",
            "save it as a tiled TIFF",
        )


def _fields(
    array: NDArray[Any],
    kind: str,
    colour: str,
    *,
    icc: bytes | None = None,
    palette: NDArray[Any] | None = None,
) -> dict[str, Any]:
    """The fields of an image from (h, w) or (h, w, c) pixels as PNG and Pillow give them."""
    pixels = np.ascontiguousarray(array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0))
    alpha = len(pixels) == 2 or (len(pixels) == 4 and colour == "rgb")
    return {
        "levels": (pixels,),
        "kind": kind,
        "colour": colour,
        "extra": (UNASSOCIATED,) if alpha else (),
        "icc": icc,
        "palette": palette,
    }


def _palette(picture: Any) -> NDArray[np.uint16]:
    """The colours (3, 256) of 16 bits of a palette picture; those it does not name are black."""
    named = np.array(picture.getpalette("RGB"), np.uint16).reshape(-1, 3).T
    full = np.zeros((3, 256), np.uint16)
    full[:, : named.shape[1]] = named[:, :256] * 257
    return full


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks of a PNG before its pixels: names and contents."""
    found, at = [], len(PNG_MAGIC)
    while at + 8 <= len(data) and data[at + 4 : at + 8] != b"IDAT":
        size = int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += size + 12
    return found


def _png_profile(path: Path) -> bytes | None:
    """The colour profile of a PNG."""
    for name, content in _chunks(path.read_bytes()):
        if name == b"iCCP":
            return zlib.decompress(content[content.index(b"\0") + 2 :])
    return None


def _with_profile(data: bytes, icc: bytes | None) -> bytes:
    """A PNG with a colour profile after its header (PNG 3.0, 11.3.2.3)."""
    if not icc:
        return data
    content = b"ICC profile\0\0" + zlib.compress(icc)
    chunk = (
        len(content).to_bytes(4, "big") + b"iCCP" + content + zlib.crc32(b"iCCP" + content).to_bytes(4, "big")
    )
    header = len(PNG_MAGIC) + 25
    return data[:header] + chunk + data[header:]
