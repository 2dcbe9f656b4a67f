"""Check the directory of a CZI before a library reads it: SlideIO does not end on some damaged ones.

Source: the file header, segments and directory entries of Zeiss's CZI file format (ZISRAW), as libCZI
documents them.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from register.errors import FileError

SEGMENT, ENTRIES, ENTRY, DIMENSION = 32, 160, 32, 20
"""Bytes of the header of a segment, from its start to the first entry of a directory, and of an entry and of
each of its dimensions."""
TYPE_AT, COMPRESSION_AT = 2, 18
"""Places, in bytes, of the codes of the type of pixels and of the compression in an entry."""
DIRECTORY_AT = 84
"""Place, in bytes, of the position of the directory."""
MOST_DIMENSIONS, LARGEST = 40, 2**28
"""Dimensions of an entry, and pixels or planes along one, beyond which a directory is damaged."""
WIDE = "XYM"
"""Dimensions along which an entry may have more than one element; libCZI refuses others too."""
SPARSE = 64
"""Planes between the first and the last one, for each that there is, beyond which a directory is damaged."""
ADVICE = "copy it again from the instrument, or export it there"


@dataclass(frozen=True)
class Blocks:
    """What the directory of a CZI states of its blocks of pixels: codes of their types and compressions."""

    types: frozenset[int]
    compressions: frozenset[int]


def check(path: Path) -> Blocks:
    """The blocks of a CZI. Raises ``FileError`` where its directory cannot be that of its planes."""
    with path.open("rb") as file:
        size = path.stat().st_size
        file.seek(DIRECTORY_AT)
        header = file.read(8)
        if len(header) < 8:
            raise _damaged(path, "it ends in its header")
        place = struct.unpack("<q", header)[0]
        if not 0 < place < size - ENTRIES:
            raise _damaged(path, "it is outside of the file")
        file.seek(place)
        segment = file.read(SEGMENT)
        length = struct.unpack_from("<q", segment, 16)[0]
        if not segment.startswith(b"ZISRAWDIRECTORY") or not ENTRIES - SEGMENT <= length <= size - place:
            raise _damaged(path, "it is not where the file says")
        content = segment + file.read(length)
    count = struct.unpack_from("<i", content, SEGMENT)[0]
    first, last = dict[str, int](), dict[str, int]()
    for name, start in _planes(path, content, count):
        first[name] = min(first.get(name, start), start)
        last[name] = max(last.get(name, start), start)
    for name, start in first.items():
        if last[name] - start > SPARSE * count:
            raise _damaged(path, f"{count} entries lie at {last[name] - start + 1} places along {name}")
    return _blocks(content, count)


def _blocks(content: bytes, count: int) -> Blocks:
    """The types and compressions of the entries of a directory that was checked."""
    at, types, compressions = ENTRIES, set[int](), set[int]()
    for _ in range(count):
        types.add(struct.unpack_from("<i", content, at + TYPE_AT)[0])
        compressions.add(struct.unpack_from("<i", content, at + COMPRESSION_AT)[0])
        at += ENTRY + DIMENSION * int(struct.unpack_from("<i", content, at + 28)[0])
    return Blocks(frozenset(types), frozenset(compressions))


def _planes(path: Path, content: bytes, count: int) -> Iterator[tuple[str, int]]:
    """The name and place of each entry along each of its dimensions but those in the plane."""
    at = ENTRIES
    for number in range(count):
        if at + ENTRY > len(content) or content[at : at + 2] != b"DV":
            raise _damaged(path, f"entry {number} of {count} is not one")
        dimensions = struct.unpack_from("<i", content, at + 28)[0]
        at += ENTRY
        if not 0 < dimensions <= MOST_DIMENSIONS or at + dimensions * DIMENSION > len(content):
            raise _damaged(path, f"entry {number} has {dimensions} dimensions")
        for _ in range(dimensions):
            name, start, size = struct.unpack_from("<4sii", content, at)
            at += DIMENSION
            letter = name.rstrip(b"\0").decode("latin-1")
            if not (letter.isascii() and letter.isalpha()):
                raise _damaged(path, f"entry {number} has an axis without a name")
            if not 0 < size <= (LARGEST if letter in WIDE else 1) or abs(start) > LARGEST:
                raise _damaged(path, f"entry {number} has {size} elements from {start} along {letter}")
            if letter not in "XY":
                yield letter, start


def _damaged(path: Path, why: str) -> FileError:
    return FileError(path, f"is a Zeiss CZI whose directory of planes is damaged: {why}", ADVICE)
