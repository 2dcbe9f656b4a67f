"""Read PBM, PGM, PPM and PFM with the values that are in the file, whatever the largest value is.

Source: the Netpbm manual (pbm, pgm, ppm, pfm). Pillow scales values to 8 or 16 bits, and colour of 16 bits
to 8.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf", b"PF")
TOKEN = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])*([^\s#]+)")
"""A word of a header, after white space and comments."""


@dataclass(frozen=True)
class Header:
    """The first words of a file: its kind, its size, its largest value or scale, and where pixels start."""

    kind: bytes
    width: int
    height: int
    largest: float
    start: int

    @property
    def samples(self) -> int:
        """Values per pixel."""
        return 3 if self.kind in (b"P3", b"P6", b"PF") else 1


def matches(head: bytes) -> bool:
    """Whether the first bytes of a file are those of one of the formats."""
    return head[:2] in MAGIC and head[2:3].isspace()


def header(data: bytes) -> Header:
    """The header of a file. Raises ``ValueError`` where a word is missing or no number."""
    bits = data[:2] in (b"P1", b"P4")
    words, at = [], 2
    for _ in range(2 if bits else 3):
        found = TOKEN.match(data, at)
        if found is None:
            raise ValueError("its header is incomplete")
        words.append(found[1])
        at = found.end()
    width, height = int(words[0]), int(words[1])
    return Header(data[:2], width, height, 1.0 if bits else float(words[2]), at + 1)


def decode(path: Path) -> NDArray[Any]:
    """The pixels (h, w) or (h, w, 3): booleans (True is white), 8 or 16 bit integers, or 32 bit floats.

    Raises ``ValueError`` for a file that is incomplete or holds a value above its largest one.
    """
    data = path.read_bytes()
    of = header(data)
    shape = (of.height, of.width, *([3] if of.samples == 3 else []))
    if of.kind in (b"Pf", b"PF"):
        order = "<f4" if of.largest < 0 else ">f4"
        return _values(data, of, order, shape)[::-1].astype(np.float32)
    if of.kind == b"P4":
        rows = _values(data, of, "u1", (of.height, (of.width + 7) // 8))
        return np.unpackbits(rows, axis=1)[:, : of.width] == 0
    if of.kind == b"P1":
        digits = re.sub(rb"#[^\r\n]*|\s", b"", data[of.start :])
        found = np.frombuffer(digits, np.uint8) - ord("0")
        return _plain(found, of, shape) == 0
    if not 0 < of.largest < 65536:
        raise ValueError(f"its largest value is {of.largest:g}")
    kind = np.uint8 if of.largest < 256 else np.uint16
    if of.kind in (b"P2", b"P3"):
        words = re.sub(rb"#[^\r\n]*", b" ", data[of.start :]).split()
        return _plain(np.array(words, np.int64), of, shape).astype(kind)
    pixels = _values(data, of, "u1" if kind == np.uint8 else ">u2", shape)
    return _plain(pixels.ravel(), of, shape).astype(kind)


def _values(data: bytes, of: Header, kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """The binary pixels of a file."""
    count = int(np.prod(shape, dtype=np.int64))
    if len(data) - of.start < count * np.dtype(kind).itemsize:
        raise ValueError("its pixels are incomplete")
    return np.frombuffer(data, kind, count, of.start).reshape(shape)


def _plain(values: NDArray[Any], of: Header, shape: tuple[int, ...]) -> NDArray[Any]:
    """Values as an image, checked against their number and their largest one."""
    count = int(np.prod(shape, dtype=np.int64))
    if len(values) < count:
        raise ValueError("its pixels are incomplete")
    if count and (values[:count].max() > of.largest or values[:count].min() < 0):
        raise ValueError("a value is larger than the largest one that it names")
    return values[:count].reshape(shape)
