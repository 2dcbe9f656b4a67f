"""Read planes of a CZI with pylibCZIrw (libCZI), for the compressions that SlideIO does not decode."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.io.images.instrument_format import Format
from register.io.images.regions import library

NONE, JPEG_XR, ZSTD, ZSTD_PACKED = 0, 4, 5, 6
"""Codes of the compressions that libCZI decodes; SlideIO decodes the first two."""
OTHERS = {1: "JPEG", 2: "LZW"}
"""Codes of compressions that neither decodes."""
CACHE_BYTES, CACHE_BLOCKS = 67_108_864, 1024
"""Decoded blocks that one file keeps in memory."""
Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True)
class CziPlane:
    """One plane of a scene, which covers a rectangle (x, y, width, height) of an open CZI.

    A component is a grey channel, or the blue, green or red of a coloured one: ``components`` are the channel
    of each and its place in the channel.
    """

    path: Path
    file: Any
    rectangle: Rectangle
    plane: dict[str, int]
    scene: int | None
    components: tuple[tuple[int, int], ...]

    def read(self, factor: float, components: list[int], rows: range, columns: range) -> NDArray[Any]:
        """A window (c, h, w) of a level whose pixels are larger by a factor."""
        places = [self.components[n] for n in components]
        windows = {c: self._window(factor, c, rows, columns) for c in dict.fromkeys(c for c, _ in places)}
        return np.stack([windows[channel][..., place] for channel, place in places])

    def _window(self, factor: float, channel: int, rows: range, columns: range) -> NDArray[Any]:
        """A window (h, w, n) of a channel of ``n`` components."""
        x, y = (round(span.start * factor) for span in (columns, rows))
        width, height = (math.ceil(len(span) * factor) for span in (columns, rows))
        found = self.file.read(
            roi=(self.rectangle[0] + x, self.rectangle[1] + y, width, height),
            plane={**self.plane, "C": channel},
            scene=self.scene,
            zoom=1 / factor,
        )
        return np.array(found[: len(rows), : len(columns)])


def open_plane(
    path: Path, kind: Format, rectangle: Rectangle, plane: dict[str, int], components: int
) -> CziPlane:
    """A plane of the scene that covers a rectangle of the finest level, with a number of components.

    Raises ``FileError`` without pylibCZIrw, and for a file of another number of components.
    """
    czi = library("pylibCZIrw.czi", path, kind, "slides")
    cache = czi.CacheOptions(czi.CacheType.Standard, CACHE_BYTES, CACHE_BLOCKS)
    file = czi.CziReader(str(path), czi.ReaderFileInputTypes.Standard, cache_options=cache)
    kinds = file.pixel_types
    found = tuple((c, n) for c in sorted(kinds) for n in range(3 if kinds[c].startswith("Bgr") else 1))
    if len(found) != components:
        problem = f"has {components} channels in its description and {len(found)} in its blocks"
        raise FileError(path, problem, kind.advice)
    return CziPlane(path, file, rectangle, plane, _scene(file, rectangle), found)


def check_compressions(path: Path, kind: Format, compressions: frozenset[int]) -> None:
    """Raise ``FileError`` for a compression that no library here decodes."""
    unknown = sorted(compressions - {NONE, JPEG_XR, ZSTD, ZSTD_PACKED})
    if unknown:
        name = OTHERS.get(unknown[0], f"method {unknown[0]}")
        problem = f"is {kind.name} compressed by {name}, which register does not decode"
        raise FileError(path, problem, f"save it without compression, or {kind.advice}")


def _scene(file: Any, rectangle: Rectangle) -> int | None:
    """The number of the scene that covers a rectangle; None where none is known to."""
    try:
        scenes = file.scenes_bounding_rectangle_no_pyramid
    except ValueError:  # the description states another number of scenes
        return None
    return next((number for number, place in scenes.items() if tuple(place) == rectangle), None)
