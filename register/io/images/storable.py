"""Which images the formats can hold, which is checked before anything is computed."""

import numpy as np

from register.errors import FileError
from register.io.images.model import Image

SHOWN = 8
"""The number of names of channels in a message."""
ZARR_CODECS = "none", "deflate", "zstd"
"""The compressions of an OME-Zarr."""


def check(path: object, image: Image, name: str, compression: str, advice: str) -> None:
    """Raise ``FileError``, about ``path``, for an image that the file of a name cannot hold.

    ``advice`` is what to do where a PNG cannot.
    """
    if name.lower().endswith(".png"):
        check_png(path, image, advice)
    elif name.lower().endswith(".zarr"):
        check_zarr(path, image, compression)
    elif compression == "jpeg":
        check_jpeg(path, image)


def check_png(path: object, image: Image, advice: str) -> None:
    """Raise ``FileError``, about ``path``, for an image of which a PNG would make another one.

    A PNG holds one grey channel, indices of a palette, or red, green and blue, each with opacity or without.
    """
    colours = image.channels - image.alpha
    kind = {1: ("grey", "palette"), 3: ("rgb",)}.get(colours, ())
    if image.dtype not in (np.bool_, np.uint8, np.uint16) or (image.dtype == np.bool_ and image.channels > 1):
        raise FileError(path, f"PNG cannot hold {image.channels} channels of {image.dtype}", advice)
    if image.colour in kind or (image.colour == "inverted" and colours == 1):
        return
    names = f" ({', '.join(image.channel_names[:SHOWN])})" if image.channel_names else ""
    what = "channel" if colours == 1 else "channels"
    held = f"{colours} {image.colour} {what}{names}"
    raise FileError(path, f"PNG holds one grey channel or red, green and blue, not {held}", advice)


def check_jpeg(path: object, image: Image) -> None:
    """Raise ``FileError`` for pixels that JPEG cannot hold."""
    if image.dtype != np.uint8 or image.alpha or image.colour not in ("grey", "rgb"):
        opacity = " with opacity" if image.alpha else ""
        raise FileError(
            path, f"JPEG cannot hold {image.colour} pixels of {image.dtype}{opacity}", "use deflate or zstd"
        )


def check_zarr(path: object, image: Image, compression: str) -> None:
    """Raise ``FileError`` for colours and a compression that OME-Zarr does not have."""
    if compression not in ("auto", *ZARR_CODECS):
        raise FileError(path, f"OME-Zarr has no {compression} compression", f"use {', '.join(ZARR_CODECS)}")
    if image.colour in ("cmyk", "lab"):
        raise FileError(path, f"OME-Zarr cannot hold {image.colour} colours", "write a .tif")
