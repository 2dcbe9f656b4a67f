"""Landmark files: the same points in the fixed and in the moving image, row by row."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from register.errors import FileError
from register.io.points import bigwarp
from register.io.points.model import Points
from register.io.points.open import read_points

Landmarks = tuple[Points, Points]
"""Fixed and moving points (n, 2), ``(x, y)`` in pixels."""


@dataclass(frozen=True)
class LandmarkFiles:
    """The two files of the option values ``FIXED.csv,MOVING.csv``."""

    fixed: str
    moving: str

    @classmethod
    def parse(cls, text: str) -> "LandmarkFiles | None":
        """The files that a text names, with a comma between them; None for any other text."""
        parts = [part.strip() for part in text.split(",")]
        return cls(*parts) if len(parts) == 2 and all(parts) else None

    def __str__(self) -> str:
        return f"{self.fixed},{self.moving}"

    def read(self) -> Landmarks:
        """Fixed and moving points (n, 2), ``(x, y)`` in pixels. Raises ``FileError``."""
        return read_points(self.fixed), read_points(self.moving)


def read_pairs(text: str) -> Landmarks:
    """The fixed and moving points (n, 2) of an option's value: two files, or one file of BigWarp.

    Raises ``FileError`` for a file that cannot be read, for different numbers of points, for none, and for
    the same point twice.
    """
    files = LandmarkFiles.parse(text)
    fixed, moving = files.read() if files else read_bigwarp(text)
    named = files.moving if files else text
    if len(fixed) != len(moving):
        reason = f"holds {len(moving)} points and {files.fixed if files else text} holds {len(fixed)}"
        raise FileError(named, reason, "row i of both files must be the same landmark")
    if len(fixed) == 0:
        raise FileError(named, "holds no landmarks", "add at least one pair")
    for name, points in ((files.fixed if files else text, fixed), (named, moving)):
        if len(np.unique(points, axis=0)) < len(points):
            raise FileError(name, "holds the same point twice", "remove one of the two pairs")
    return fixed, moving


def read_bigwarp(path: str | Path) -> Landmarks:
    """The fixed and moving points (n, 2) of the active pairs of a file of BigWarp, in pixels.

    Raises ``FileError`` for any other file.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(
            path, f"cannot be read ({error})", "two files FIXED.csv,MOVING.csv are needed"
        ) from None
    return bigwarp.read_side(path, text, moving=False).points, bigwarp.read_side(
        path, text, moving=True
    ).points
