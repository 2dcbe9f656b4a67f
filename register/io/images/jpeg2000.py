"""JPEG 2000 of more than 8 bits or with signs, through imagecodecs: Pillow would change the values."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
"""First bytes of the file format and of the bare code stream."""
SIZES = b"\xff\x4f\xff\x51"
"""Markers SOC and SIZ (ISO 15444-1, A.4 and A.5): the sizes of the image follow."""


def is_deep(path: Path) -> bool:
    """Whether any component of a file has more than 8 bits or a sign."""
    fields = _sizes(path)
    count = int.from_bytes(fields[36:38], "big")
    depths = fields[38 : 38 + 3 * count : 3]
    return any(depth & 128 or (depth & 127) + 1 > 8 for depth in depths)


def size(path: Path) -> tuple[int, int]:
    """Width and height in pixels."""
    right, bottom, left, top = struct.unpack_from(">4I", _sizes(path), 4)
    return right - left, bottom - top


def _sizes(path: Path) -> bytes:
    """The bytes after the markers ``SIZES``; none in a file without them."""
    return path.read_bytes().partition(SIZES)[2]


def decode(path: Path) -> NDArray[Any]:
    """The pixels (h, w) or (h, w, c)."""
    import imagecodecs

    array: NDArray[Any] = np.asarray(imagecodecs.jpeg2k_decode(path.read_bytes()))
    return array
