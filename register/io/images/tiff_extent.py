"""Whether all that a TIFF refers to lies within the file, and which part of an image does."""

import bisect
import math
import re
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile

from register.errors import FileError

ADVICE = "copy the file again, or read what is left with --allow-truncated"
DESCRIPTION = 270
"""The tag ImageDescription."""
UNNAMED = "IYX"
"""The axes of pages of which nothing says what they are."""
HEADERS = {42: (4, "I", "H", 12), 43: (8, "Q", "Q", 20)}
"""Of TIFF and BigTIFF: where the offset of the first directory stands, its type, the type of the number of
entries of a directory, and the bytes of an entry."""


@dataclass(frozen=True)
class Rows:
    """The part of an image that lies within its file: whole channels, or the first rows of one channel."""

    channels: int
    rows: int


def open_tiff(path: Path, *, allow_truncated: bool) -> tifffile.TiffFile:
    """A TIFF, opened. Raises ``FileError`` where its pages continue beyond its end.

    With ``allow_truncated`` the pages that are left are enough.
    """
    size = path.stat().st_size
    wide = path.suffix.lower() == ".ndpi"  # a TIFF with offsets of 64 bits, as tifffile knows by the suffix
    end = 0 if wide else _first_directory_end(path)
    if end > size:
        raise cut_off(path, f"its directory ends at byte {end:,} of {size:,}", "copy the file again")
    tif = tifffile.TiffFile(path)
    try:
        _check_chain(path, tif, size, allow_truncated)
        if not allow_truncated and not wide:
            _check_tags(path, tif, size)
    except BaseException:
        tif.close()
        raise
    return tif


def cut_off(path: str | Path, why: str, advice: str = ADVICE) -> FileError:
    """The error about a file that ends too early."""
    return FileError(path, f"is cut off: {why}", advice)


def check_planes(path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> None:
    """Raise ``FileError`` where the metadata describe more planes than the file holds.

    Programs that are killed while they write leave such files: pages that end properly, and too few of them.
    """
    described = max(_ome_planes(tif.ome_metadata or ""), int((tif.imagej_metadata or {}).get("images", 1)))
    found = len(tif.pages)
    if series.dataoffset is not None:  # planes without directories of their own
        found = max(found, math.prod(series.shape) // max(math.prod(series.keyframe.shape), 1))
    if found < described:
        raise cut_off(path, f"its metadata describe {described} planes and it holds {found}")


def rows_within(path: Path, rows: Sequence[int], height: int, *, allow_truncated: bool) -> Rows:
    """The part of an image of which each channel has a number of complete rows within the file.

    All of the image unless ``allow_truncated``; otherwise the leading channels that are complete, or the
    first rows of the first channel. Raises ``FileError`` for a part of the image where all of it is asked
    for, and where nothing is left.
    """
    complete = next((n for n, count in enumerate(rows) if count < height), len(rows))
    if complete == len(rows):
        return Rows(complete, height)
    left = Rows(complete, height) if complete else Rows(1, rows[0])
    if allow_truncated and left.rows:
        return left
    what = f"{left.rows} of {height} rows"
    if complete:
        what = f"{complete} of {len(rows)} channels"
    elif len(set(rows)) > 1:
        what = f"{left.rows} of {height} rows of the first of {len(rows)} channels"
    raise cut_off(path, f"{what} are left", ADVICE if left.rows else "copy the file again")


def segment_rows(
    stored: tuple[Sequence[int], Sequence[int]],
    grid: tuple[int, int],
    side: int,
    height: int,
    end: int,
    planes: int,
) -> list[int]:
    """The number of complete rows of each plane of a page whose segments have offsets and lengths ``stored``.

    ``grid`` is the number of segments down and across, ``side`` their height, ``end`` the size of the file.
    Segments that the directory does not list are missing.
    """
    each, listed = grid[0] * grid[1], min(map(len, stored))
    missing = [n for n, (offset, length) in enumerate(zip(*stored, strict=False)) if offset + length > end]
    missing.append(sys.maxsize)  # so that one follows each start
    found = []
    for start in range(0, planes * each, each):
        following = missing[bisect.bisect_left(missing, start)]
        first = min(following, max(listed, start), start + each)
        found.append(min((first - start) // grid[1] * side, height))
    return found


def _first_directory_end(path: Path) -> int:
    """The byte after the first directory of a TIFF, or after the part of it that is known to be missing."""
    with open(path, "rb") as file:
        head = file.read(4)
        order = "<" if head.startswith(b"II") else ">"
        at, offset, count, entry = HEADERS[struct.unpack(order + "H", head[2:])[0]]
        first = _number(file, at, order + offset)
        if first is None:
            return at + struct.calcsize(offset)
        entries = _number(file, first, order + count) or 0
        return first + struct.calcsize(count) + entry * entries


def _check_chain(path: Path, tif: tifffile.TiffFile, size: int, allow_truncated: bool) -> None:
    """Raise ``FileError`` where the chain of directories continues beyond the end of the file."""
    count = len(tif.pages)
    if not count:
        raise FileError(path, "holds no image", "the file is damaged or holds metadata only")
    try:
        at = _next_directory(tif, tif.pages[count - 1].offset)
    except tifffile.TiffFileError:
        raise cut_off(
            path, f"the directory of its page {count} is not whole", "copy the file again"
        ) from None
    if at is None or (at and _next_directory(tif, at) is None):
        left = f"it has {size:,} bytes, and its page {count + 1} is beyond them"
        if not allow_truncated:
            raise cut_off(path, left)


def as_channels(series: tifffile.TiffPageSeries) -> tifffile.TiffPageSeries:
    """A series of pages that have no name as one of channels."""
    return tifffile.TiffPageSeries(
        list(series.pages), series.shape, series.dtype, "CYX", parent=series.parent, kind=series.kind
    )


def description_is_lost(path: Path, tif: tifffile.TiffFile) -> bool:
    """Whether the description of the first page, such as OME-XML, which names the axes, is beyond the end."""
    return DESCRIPTION in _tags_beyond(tif, path.stat().st_size)


def _check_tags(path: Path, tif: tifffile.TiffFile, size: int) -> None:
    """Raise ``FileError`` where a tag of the first directory, such as OME-XML, continues beyond the end."""
    for code in _tags_beyond(tif, size):
        raise cut_off(path, f"its tag {tifffile.TIFF.TAGS.get(code, str(code))} continues beyond its end")


def _tags_beyond(tif: tifffile.TiffFile, size: int) -> Iterator[int]:
    """The codes of the tags of the first directory that continue beyond a size of the file."""
    form, file = tif.tiff, tif.filehandle
    file.seek(tif.pages[0].offset)
    (count,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
    for _ in range(count):
        entry = file.read(form.tagsize)
        code, kind = struct.unpack(form.tagformat1, entry[:4])
        length, value = struct.unpack(form.tagformat2, entry[4 : form.tagsize])
        long = tifffile.TIFF.DATA_FORMATS.get(kind, "1B")
        needed = length * struct.calcsize("=" + long)
        if needed <= form.tagoffsetthreshold:
            continue
        (offset,) = struct.unpack(form.offsetformat, value[: struct.calcsize(form.offsetformat)])
        if offset + needed > size:
            yield int(code)


def _next_directory(tif: tifffile.TiffFile, offset: int) -> int | None:
    """The offset of the directory after the one at an offset, 0 after the last; None where the file ends."""
    form, file = tif.tiff, tif.filehandle
    tags = _number(file, offset, form.tagnoformat)
    if tags is None:
        return None
    return _number(file, offset + form.tagnosize + tags * form.tagsize, form.offsetformat)


def _number(file: Any, at: int, kind: str) -> int | None:
    """A number of a kind, as ``struct`` names it, at a place of a file; None where the file ends before."""
    try:
        file.seek(at)
        return int(struct.unpack(kind, file.read(struct.calcsize(kind)))[0])
    except (struct.error, OSError, OverflowError):
        return None


def _ome_planes(text: str) -> int:
    """The planes that OME-XML describes for one file; 0 where it names other files or is no OME-XML."""
    import xml.etree.ElementTree as ElementTree

    if "<OME" not in text or "FileName=" in text:
        return 0
    try:
        pixels: list[Any] = ElementTree.fromstring(text).findall(".//{*}Pixels")
        return sum(_planes_of(one) for one in pixels)
    except (ElementTree.ParseError, ValueError):
        return 0


def _planes_of(pixels: Any) -> int:
    """The planes of one image: channels of several samples are one plane."""
    samples = [int(x.get("SamplesPerPixel", "1")) for x in pixels.findall("{*}Channel")]
    sizes = [int(pixels.get(f"Size{axis}", "1")) for axis in "CZT"]
    if any(n <= 0 for n in (*sizes, *samples)) or not re.match(
        "[XYZCT]+$", pixels.get("DimensionOrder", "X")
    ):
        return 0
    channels = len(samples) if sum(samples) == sizes[0] and samples else sizes[0]
    return channels * sizes[1] * sizes[2]
