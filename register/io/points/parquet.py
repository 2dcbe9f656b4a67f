"""Points in Parquet tables, read and written with pyarrow; all other columns are kept."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from register.errors import FileError
from register.files.atomic import atomic_write
from register.io.points.columns import Place, place
from register.io.points.model import Columns, Points

SUFFIXES = (".parquet", ".pq")


@dataclass(frozen=True)
class Parquet:
    """A table of pyarrow, where its coordinates are, and its points (n, 2)."""

    content: Any
    place: Place
    points: Points
    suffixes: tuple[str, ...] = SUFFIXES

    @property
    def corner(self) -> bool:
        """Whether (0, 0) is the corner of pixel (0, 0)."""
        return self.place.corner

    @property
    def unit(self) -> str:
        """The unit of the coordinates."""
        return self.place.unit

    def write(self, path: str | Path, points: Points, columns: Columns) -> None:
        """Write the table with other points; columns of the same name are replaced, others added."""
        arrow, parquet = _pyarrow(path)
        table = self.content
        for axis, index in enumerate((self.place.x[0], self.place.y[0])):
            kind = table.schema.field(index).type
            values = arrow.array(np.ascontiguousarray(points[:, axis]))
            values = values.cast(kind) if arrow.types.is_floating(kind) else values
            table = table.set_column(index, table.column_names[index], values)
        for name, given in columns.items():
            values = arrow.array(np.asarray(given))
            if name in table.column_names:
                table = table.set_column(table.column_names.index(name), name, values)
            else:
                table = table.append_column(name, values)
        with atomic_write(path) as beside:
            parquet.write_table(table, beside, compression="zstd")


def read_parquet(path: str | Path, named: str | None = None) -> Parquet:
    """The points of a file; ``named`` are the columns with x and y. Raises ``FileError``."""
    _, parquet = _pyarrow(path)
    try:
        table = parquet.read_table(path)
        where = place(path, table.column_names, named)
        axes = [table.column(axis[0]).to_numpy().astype(np.float64) for axis in (where.x, where.y)]
    except FileError:
        raise
    except Exception as error:  # pyarrow raises many kinds for damaged files and columns that are no numbers
        reason = str(error).splitlines()[0][:200]
        raise FileError(path, f"cannot be read as a Parquet table ({reason})", "check the file") from None
    if len(where.x) > 1:
        raise FileError(path, "holds boxes", "write them as CSV")
    points = np.stack(axes, axis=1)
    if not np.isfinite(points).all():
        raise FileError(path, "holds a coordinate that is missing or not finite", "remove its row")
    return Parquet(table, where, points)


def _pyarrow(path: str | Path) -> tuple[Any, Any]:
    """The optional library and its module for Parquet."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise FileError(
            path, "needs pyarrow, which is not installed", "pip install 'register-cli[tables]'"
        ) from None
