"""Numbers in the text files of other programs."""

from pathlib import Path

from register.errors import FileError


def parsed(path: str | Path, text: str) -> list[float]:
    """The numbers in a text, separated by spaces. Raises ``FileError`` where something else is found."""
    try:
        return [float(v) for v in text.split()]
    except ValueError:
        raise FileError(
            path, f"holds {text.strip()[:40]!r} where numbers are expected", "check the file"
        ) from None
