"""Check the files beside an Olympus VSI that hold its pixels: SlideIO leaves out those that it cannot read.

Source: the headers of an ETS file and its table of chunks, as SlideIO and Bio-Formats read them.
"""

import struct
from pathlib import Path

import numpy as np

from register.errors import FileError
from register.io.images.instrument_format import Format

HEADER = struct.Struct("<4sIIIQIIQII")
"""Signature, size of the header, version, dimensions, place and size of the second header, unused, place of
the table of chunks, number of chunks, unused."""
SIGNATURE, SECOND, SIZE = b"SIS\0", b"ETS", 64
MOST_DIMENSIONS = 16
ADVICE = "copy the file and its folder again from the microscope"


def check(path: Path, kind: Format) -> None:
    """Raise ``FileError`` unless all ETS files of a VSI are there and hold the chunks that they list."""
    files = sorted(path.with_name(f"_{path.stem}_").rglob("*.ets"))
    if not files:
        raise FileError(path, f"is {kind.name}; that has no .ets in it", f"copy it too, or {kind.advice}")
    for file in files:
        fault = _fault(file)
        if fault:
            raise FileError(path, f"is {kind.name}, where {file.name} {fault}", ADVICE)


def _fault(file: Path) -> str | None:
    """What is wrong with an ETS file; None if nothing is."""
    end = file.stat().st_size
    with file.open("rb") as opened:
        head = opened.read(HEADER.size)
        if not head:
            return "is empty"
        if len(head) < HEADER.size or not head.startswith(SIGNATURE):
            return "is no ETS file"
        _, size, _, dimensions, second, _, _, table, count, _ = HEADER.unpack(head)
        if size != SIZE or not 0 < dimensions <= MOST_DIMENSIONS:
            return "is damaged in its header"
        entry = np.dtype(
            [("place", "<i4", (dimensions + 1,)), ("offset", "<u8"), ("size", "<u4"), ("end", "<u4")]
        )
        if max(second, table + count * entry.itemsize) > end:
            return "is cut off"
        opened.seek(second)
        if opened.read(len(SECOND)) != SECOND:
            return "is damaged in its header"
        opened.seek(table)
        chunks = np.frombuffer(opened.read(count * entry.itemsize), entry)
    return "is cut off" if (chunks["offset"] + chunks["size"] > end).any() else None


def check_found(path: Path, kind: Format, slide: object, scenes: int) -> None:
    """Raise ``FileError`` where SlideIO opened only the preview of a VSI, or nothing of it.

    It reads a VSI without a description of its images as the TIFF that it also is.
    """
    if not getattr(slide, "raw_metadata", ""):
        problem = f"is {kind.name}; it does not describe that, and holds only a preview itself"
        raise FileError(path, problem, f"{ADVICE}, or {kind.advice}")
    if not scenes:
        raise FileError(path, f"is {kind.name}; no .ets there holds an image that it describes", ADVICE)
