"""Formats of instruments: how their files are recognised, and what they are called in messages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from register.io.images.reader import first_bytes

CONVERT = "convert it with bfconvert or bioformats2raw"


@dataclass(frozen=True)
class Format:
    """A format by its name, the endings of its files in lower case, and the first bytes of a file."""

    name: str
    suffixes: tuple[str, ...]
    magic: bytes = b""
    advice: str = CONVERT

    def matches(self, path: Path, head: bytes) -> bool:
        """Whether a file is of this format."""
        return path.name.lower().endswith(self.suffixes) or bool(self.magic and head.startswith(self.magic))


def find(formats: Sequence[Format], path: Path, head: bytes) -> Format | None:
    """The format of a file; None where it is none of these. A name decides before the first bytes."""
    by_name = (each for each in formats if each.matches(path, b""))
    by_bytes = (each for each in formats if each.matches(path, head))
    return next(by_name, None) or next(by_bytes, None)


def matcher(formats: Sequence[Format]) -> Callable[[Path, bytes], bool]:
    """The function ``matches`` of a reader of these formats; folders are none of them."""
    return lambda path, head: bool(head) and find(formats, path, head) is not None


def suffixes(formats: Sequence[Format]) -> tuple[str, ...]:
    """The endings of all formats."""
    return tuple(suffix for each in formats for suffix in each.suffixes)


def of_file(formats: Sequence[Format], path: Path) -> Format:
    """The format of a file that one of them matches."""
    found = find(formats, path, first_bytes(path))
    assert found is not None, path  # the reader was chosen because it matches
    return found
