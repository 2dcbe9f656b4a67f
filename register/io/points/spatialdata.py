"""Points and shapes of SpatialData: a zarr group with a Parquet table of points or of geometries.

Source: the on-disk format of SpatialData (spatialdata.scverse.org, Storage format): ``points/NAME`` has
``points.parquet``, a file or a folder of parts, ``shapes/NAME`` has ``shapes.parquet`` in GeoParquet.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from register.errors import FileError, OptionError
from register.files.atomic import atomic_folder
from register.files.json_text import parse_json
from register.io.points.geoparquet import GeoParquet, read_geoparquet
from register.io.points.model import Change, Points
from register.io.points.parquet import Parquet, read_parquet

KINDS = {"points": "points.parquet", "shapes": "shapes.parquet"}
"""The table of an element of each kind."""
METADATA = ("zarr.json", ".zattrs")


@dataclass(frozen=True)
class Element:
    """An element: its folder, and its tables by their paths in it, whose points follow one another.

    ``unit`` is empty where the element states a transformation, so that its numbers may be no pixels.
    """

    source: Path
    tables: tuple[tuple[str, Parquet | GeoParquet], ...]
    unit: str
    corner: bool = True
    suffixes: tuple[str, ...] = (".zarr", "")

    @property
    def points(self) -> Points:
        """The points of all tables."""
        return np.concatenate([found.points for _, found in self.tables])

    @property
    def names(self) -> set[str]:
        """The names of the columns of all tables."""
        return {name for _, found in self.tables for name in found.names}

    def write(self, path: str | Path, change: Change) -> None:
        """Write a copy of the element with other points; new columns are added to its tables."""
        with atomic_folder(path) as beside:
            kept = {name for name, _ in self.tables}

            def tables(folder: str, names: list[str]) -> set[str]:
                below = Path(folder).relative_to(self.source)
                return {name for name in names if str(below / name) in kept}

            shutil.copytree(self.source, beside, ignore=tables, dirs_exist_ok=True)
            for name, table in self.tables:
                table.write(beside / name, change)


def is_spatialdata(path: str | Path) -> bool:
    """Whether a folder is an element of SpatialData, or holds elements."""
    return Path(path).is_dir() and any((Path(path) / name).exists() for name in (*KINDS, *KINDS.values()))


def read_element(path: str | Path, densify: float | None = None) -> Element:
    """The points of an element, or of the only element of a SpatialData.

    Raises ``FileError`` where it holds none or several, and for damaged tables.
    """
    folder = _element(Path(path))
    kind, table = next((kind, folder / name) for kind, name in KINDS.items() if (folder / name).exists())
    files = sorted(table.glob("*.parquet")) if table.is_dir() else [table]
    if not files:
        raise FileError(table, "holds no table", "copy it again")
    if densify is not None and kind == "points":
        raise OptionError(path, "holds points, which have no edges", "leave out --densify")
    read: list[tuple[str, Parquet | GeoParquet]] = []
    for file in files:
        found = read_geoparquet(file, densify) if kind == "shapes" else read_parquet(file, "x,y")
        read.append((str(file.relative_to(folder)), found))
    return Element(folder, tuple(read), "px" if _is_plain(folder) else "")


def _element(path: Path) -> Path:
    """The folder of an element: the path itself, or the only one in it."""
    if any((path / name).exists() for name in KINDS.values()):
        return path
    found = [each for kind, name in KINDS.items() for each in sorted((path / kind).glob("*"))
             if (each / name).exists()]  # fmt: skip
    if len(found) != 1:
        known = ", ".join(str(each.relative_to(path)) for each in found)
        advice = f"name one of them: {known}" if found else "name an element of points or shapes"
        raise FileError(path, f"holds {len(found)} elements of points or shapes", advice)
    return found[0]


def _is_plain(folder: Path) -> bool:
    """Whether an element's numbers are those of its coordinate systems: all its transformations are the
    identity."""
    for name in METADATA:
        if (folder / name).is_file():
            try:
                attributes: Any = parse_json((folder / name).read_text(encoding="utf-8"))
                attributes = attributes.get("attributes", attributes)
                stated = attributes.get("coordinateTransformations") or []
                return all(each["type"] == "identity" for each in stated)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise FileError(folder / name, f"is damaged ({error})", "copy it again") from None
    return False
