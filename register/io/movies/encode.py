"""Encode the frames of a movie as the strips of a TIFF, in the processes that compute them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 1
"""Level of deflate: larger ones take up to twice as long, and files with noise do not become smaller."""


def stored(frame: NDArray[Any], rgb: bool) -> NDArray[Any]:
    """A frame (c, h, w) as it is stored: (h, w, 3) for colour, (h, w) for one channel, else by channel."""
    if rgb:
        return np.ascontiguousarray(np.moveaxis(frame, 0, 2))
    return frame[0] if len(frame) == 1 else frame


def encoded(frame: NDArray[Any], rgb: bool, compression: str) -> "bytes | NDArray[Any]":
    """The only strip of a frame of one page, encoded; the frame (c, h, w) itself where the writer encodes."""
    encode = _encoders().get(compression)
    if encode is None or (len(frame) > 1 and not rgb):
        return frame
    return encode(np.ascontiguousarray(stored(frame, rgb)))


def _encoders() -> dict[str, Callable[[NDArray[Any]], bytes]]:
    """The encoders of whole strips."""
    import imagecodecs

    return {
        "deflate": lambda page: bytes(imagecodecs.deflate_encode(page, level=LEVEL)),
        "lzw": lambda page: bytes(imagecodecs.lzw_encode(page.tobytes())),
        "zstd": lambda page: bytes(imagecodecs.zstd_encode(page)),
    }
