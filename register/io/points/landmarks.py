"""Landmark files: the same points in the fixed and in the moving image, row by row."""

from dataclasses import dataclass

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
