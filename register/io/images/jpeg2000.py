"""JPEG 2000 of more than 8 bits or with signs, through imagecodecs: Pillow would change the values."""

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
    with open(path, "rb") as file:
        start = file.read(2**16)
    at = start.find(SIZES)
    if at < 0:
        return False
    count = int.from_bytes(start[at + 40 : at + 42], "big")
    depths = start[at + 42 : at + 42 + 3 * count : 3]
    return any(depth & 128 or (depth & 127) + 1 > 8 for depth in depths)


def size(path: Path) -> tuple[int, int]:
    """Width and height in pixels."""
    with open(path, "rb") as file:
        start = file.read(2**16)
    at = start.find(SIZES) + 8
    right, bottom, left, top = (int.from_bytes(start[at + 4 * n : at + 4 * n + 4], "big") for n in range(4))
    return right - left, bottom - top


def decode(path: Path) -> NDArray[Any]:
    """The pixels (h, w) or (h, w, c)."""
    import imagecodecs

    array: NDArray[Any] = np.asarray(imagecodecs.jpeg2k_decode(path.read_bytes()))
    return array
