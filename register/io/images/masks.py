"""Where an image counts: another image that is 0 where it does not, or GeoJSON polygons that hold what does."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.images.pixels import Key, Pixels, SelectedChannels, spans
from register.io.images.open import open_image

Ring = list[list[float]]


@dataclass(frozen=True)
class Polygons:
    """A mask (1, h, w), 255 where a pixel's centre lies in one of the polygons, drawn window by window.

    Each polygon is its outer ring and the rings of its holes, in pixels, corners of the image at 0 as GeoJSON of QuPath has them.
    """

    size: tuple[int, int]
    polygons: tuple[tuple[Ring, ...], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """One, rows, columns."""
        return (1, *self.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Bytes."""
        return np.dtype(np.uint8)

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """A window."""
        from PIL import Image as Pillow
        from PIL import ImageDraw

        _, rows, columns = spans(key, self.shape)
        out = np.zeros((len(rows), len(columns)), np.uint8)
        for outer, *holes in self.polygons:
            sheet = Pillow.new("L", (len(columns), len(rows)))
            draw = ImageDraw.Draw(sheet)
            for ring, value in [(outer, 255), *((hole, 0) for hole in holes)]:
                draw.polygon(
                    [(x - 0.5 - columns.start, y - 0.5 - rows.start) for x, y, *_ in ring], fill=value
                )
            out |= np.asarray(sheet)
        return out[None]


def read_mask(path: str, size: tuple[int, int]) -> Pixels:
    """The mask (1, h, w) of an image of ``size`` (height, width) from a file; raises ``FileError`` when it is none, or of another size."""
    if Path(path).suffix.lower() in (".json", ".geojson"):
        return Polygons(size, _polygons(Path(path)))
    mask = open_image(path)
    if mask.size != size:
        sizes = [f"{width} × {height}" for height, width in (mask.size, size)]
        raise FileError(
            path, f"is {sizes[0]} pixels, the image it masks {sizes[1]}", "make them the same size"
        )
    return SelectedChannels(mask.pixels, (0,)) if mask.channels > 1 else mask.pixels


def _polygons(path: Path) -> tuple[tuple[Ring, ...], ...]:
    """The polygons of a GeoJSON file."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        found = list(_geometries(tree))
    except FileNotFoundError:
        raise FileError(path, "does not exist", "check the path") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FileError(path, f"cannot be read as GeoJSON ({error})") from None
    polygons = [
        p
        for kind, rings in found
        for p in ([rings] if kind == "Polygon" else rings if kind == "MultiPolygon" else [])
    ]
    try:
        clean = tuple(
            tuple([[float(n) for n in point[:2]] for point in ring] for ring in polygon)
            for polygon in polygons
        )
    except (TypeError, ValueError) as error:
        raise FileError(path, f"has a polygon that is none ({error})") from None
    if not clean or any(
        not polygon or min(len(ring) for ring in polygon) < 3 or any(len(p) < 2 for r in polygon for p in r)
        for polygon in clean
    ):
        raise FileError(path, "holds no polygon", "a mask is made of Polygon or MultiPolygon geometries")
    return clean


def _geometries(tree: Any) -> Any:
    """Kind and coordinates of every geometry, however deep."""
    items = (
        tree
        if isinstance(tree, list)
        else tree.get("features")
        or tree.get("geometries")
        or ([tree["geometry"]] if tree.get("geometry") else [])
    )
    for item in items:
        yield from _geometries(item)
    if isinstance(tree, dict) and "coordinates" in tree:
        yield tree["type"], tree["coordinates"]
