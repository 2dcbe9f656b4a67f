"""Points, lines and polygons in GeoParquet, with pyarrow and shapely: every vertex is mapped.

Source: GeoParquet 1.1 (geoparquet.org): the schema names the column and that it is encoded as WKB.
"""

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.io.points.model import Change, Points, worst_of
from register.io.points.parquet import (
    SUFFIXES,
    check_finite,
    names_of,
    pyarrow,
    unreadable,
    with_columns,
    write_blocks,
)

KEY = b"geo"
"""The key of the schema's metadata."""


@dataclass(frozen=True)
class GeoParquet:
    """A table with geometries, and their vertices in the order of the rows.

    ``ends`` is the number of vertices up to and with each row.
    """

    source: Path
    column: str
    geometries: NDArray[Any]
    ends: NDArray[np.int64]
    points: Points
    corner: bool = True
    unit: str = "px"
    suffixes: tuple[str, ...] = SUFFIXES

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return names_of(self.source)

    def write(self, path: str | Path, change: Change) -> None:
        """Write the table with other vertices; each row gets the worst value of its vertices."""
        points, columns = change(self.points)
        arrow, _ = pyarrow(path)
        shapely = _shapely(path)
        moved = shapely.to_wkb(shapely.set_coordinates(self.geometries.copy(), points))
        starts = np.concatenate([[0], self.ends[:-1]]).astype(np.int64)
        named = {name: worst_of(np.asarray(x), starts, self.ends) for name, x in columns.items()}

        first = 0

        def changed(batch: Any) -> Any:
            nonlocal first
            rows = slice(first, first + batch.num_rows)
            first = rows.stop
            index = batch.schema.names.index(self.column)
            kind = batch.schema.field(index).type
            batch = batch.set_column(index, self.column, arrow.array(moved[rows], type=kind))
            return with_columns(arrow, batch, {name: values[rows] for name, values in named.items()})

        write_blocks(self.source, path, changed)


def is_geoparquet(path: str | Path) -> bool:
    """Whether a Parquet file has a column of geometries. Raises ``FileError`` for a damaged one."""
    _, parquet = pyarrow(path)
    try:
        return KEY in (parquet.read_schema(path).metadata or {})
    except Exception as error:  # pyarrow raises many kinds for damaged files
        raise unreadable(path, error) from None


def read_geoparquet(path: str | Path, densify: float | None = None) -> GeoParquet:
    """The vertices of a file; ``densify`` divides edges that are longer into equal parts.

    Raises ``FileError`` without shapely, for geometries that are no WKB, and for coordinates on the earth.
    """
    shapely = _shapely(path)
    _, parquet = pyarrow(path)
    try:
        geo = json.loads(parquet.read_schema(path).metadata[KEY])
        name = geo["primary_column"]
        stated = geo["columns"][name]
        if str(stated["encoding"]).upper() != "WKB":
            raise ValueError(f"its geometries are encoded as {stated['encoding']}")
        table = parquet.read_table(path, columns=[name])
        geometries = shapely.from_wkb(table.column(name).to_numpy(zero_copy_only=False))
        if densify is not None:
            geometries = shapely.segmentize(geometries, densify)
        points = shapely.get_coordinates(geometries)
        ends = np.cumsum(shapely.get_num_coordinates(geometries))
    except Exception as error:  # pyarrow and shapely raise many kinds for damaged files
        raise unreadable(path, error) from None
    if _is_on_earth(stated):
        raise FileError(path, "holds coordinates of a map", "pixels are needed")
    check_finite(path, points)
    return GeoParquet(Path(path), name, geometries, ends, np.asarray(points, np.float64))


def _is_on_earth(stated: dict[str, Any]) -> bool:
    """Whether a column states a reference system. Tables of pixels have ``null``; GeoParquet's default is the
    earth, but programs for pixels leave it out."""
    return stated.get("crs") is not None


def _shapely(path: str | Path) -> Any:
    """The optional library of geometries."""
    try:
        return importlib.import_module("shapely")
    except ImportError:
        advice = "pip install 'register-cli[spatial]'"
        raise FileError(path, "needs shapely, which is not installed", advice) from None
