"""Ids of images and pairs: names of folders, made of file names, all different."""

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

LONGEST = 120
"""Bytes of an id up to which it is not cut: file systems allow 255, of which results need some."""


def stem(name: str) -> str:
    """A file's name without its suffixes."""
    last = PurePosixPath(name.replace("\\", "/")).name
    for suffix in (".ome", ".tif", ".tiff"):
        last = last[: -len(suffix)] if last.lower().endswith(suffix) else last
    return re.sub(r"\.(ome\.)?\w{1,6}$", "", last) or last


def unique(names: Sequence[str], files: Sequence[str], default: str = "pair") -> list[str]:
    """The names as folder names that differ, also where case is ignored.

    Where names are equal, the name of the file's folder, or a number, is added. A name without any allowed
    character becomes ``default``.
    """
    made = [_allowed(name) or default for name in names]
    repeated = {name for name, count in Counter(name.lower() for name in made).items() if count > 1}
    parents = [_allowed(PurePosixPath(file.replace("\\", "/")).parent.name) for file in files]
    made = [
        f"{parent}_{name}" if name.lower() in repeated and parent else name
        for name, parent in zip(made, parents, strict=True)
    ]
    taken: set[str] = set()
    found = []
    for name in made:
        free, number = name, 1
        while free.lower() in taken:
            number += 1
            free = f"{name}_{number}"
        taken.add(free.lower())
        found.append(free)
    return found


def natural(key: str) -> list[tuple[int, str]]:
    """A sort key by which 2 comes before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", key)]


def _allowed(name: str) -> str:
    """A name of letters that folders may have, cut with a checksum where it is long."""
    made = re.sub(r"[^\w.+=@-]+", "_", name).strip("._")
    if len(made.encode(errors="surrogateescape")) <= LONGEST:
        return made
    begin = made.encode(errors="surrogateescape")[: LONGEST - 9].decode(errors="ignore")
    return f"{begin}_{zlib.crc32(name.encode(errors='surrogateescape')):08x}"
