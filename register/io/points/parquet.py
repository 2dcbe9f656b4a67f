"""Points in Parquet tables, with pyarrow; all other columns are kept, and pass through in blocks.

GeoParquet is a Parquet table with a column of geometries; see ``geoparquet``.
"""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from register.errors import FileError
from register.files.atomic import atomic_write
from register.io.points.columns import Place, place
from register.io.points.model import Columns, Points

SUFFIXES = (".parquet", ".pq")
BLOCK = 500_000
"""Rows that are written at a time."""


@dataclass(frozen=True)
class Parquet:
    """A table of which the coordinates are read, and the other columns when it is written."""

    source: Path
    place: Place
    points: Points
    unit: str
    corner: bool
    suffixes: tuple[str, ...] = SUFFIXES

    def write(self, path: str | Path, points: Points, columns: Columns) -> None:
        """Write the table with other points; columns of the same name are replaced, others added."""
        arrow, _ = pyarrow(path)
        named = {name: np.asarray(values) for name, values in columns.items()}

        def changed(batch: Any, rows: slice) -> Any:
            for axis, index in enumerate((self.place.x[0], self.place.y[0])):
                kind = batch.schema.field(index).type
                values = arrow.array(np.ascontiguousarray(points[rows, axis]))
                values = values.cast(kind) if arrow.types.is_floating(kind) else values
                batch = batch.set_column(index, batch.schema.names[index], values)
            return with_columns(arrow, batch, {name: values[rows] for name, values in named.items()})

        write_blocks(self.source, path, changed)


def read_parquet(path: str | Path, named: str | None = None) -> Parquet:
    """The points of a file; ``named`` are the columns with x and y. Raises ``FileError``."""
    _, parquet = pyarrow(path)
    try:
        with parquet.ParquetFile(path) as file:
            where = place(path, file.schema_arrow.names, named)
            if len(where.x) > 1:
                raise FileError(path, "holds boxes", "write them as CSV")
            names = [file.schema_arrow.names[axis[0]] for axis in (where.x, where.y)]
            table = file.read(columns=names)
            points = np.stack([table.column(x).to_numpy().astype(np.float64) for x in names], axis=1)
    except FileError:
        raise
    except Exception as error:  # pyarrow raises many kinds for damaged files and columns that are no numbers
        raise unreadable(path, error) from None
    check_finite(path, points)
    return Parquet(Path(path), where, points, where.unit, where.corner)


def write_blocks(source: Path, path: str | Path, changed: Any) -> None:
    """Write a table of which ``changed(batch, rows)`` replaces each block; memory holds one block.

    ``rows`` is the slice of the table's rows that the block holds. Raises ``FileError``.
    """
    arrow, parquet = pyarrow(path)
    with atomic_write(path) as beside:
        writer, first = None, 0
        try:
            with parquet.ParquetFile(source) as file:
                for batch in _blocks(arrow, file):
                    block = changed(batch, slice(first, first + batch.num_rows))
                    block = block.replace_schema_metadata(file.schema_arrow.metadata)
                    writer = writer or _writer(arrow, parquet, beside, block.schema)
                    writer.write_batch(block)
                    first += batch.num_rows
        except (OSError, arrow.ArrowException) as error:
            raise unreadable(source, error) from None
        finally:
            if writer:
                writer.close()


def _writer(arrow: Any, parquet: Any, path: Path, schema: Any) -> Any:
    """A writer that makes no dictionaries of floats, which hardly repeat."""
    repeating = [field.name for field in schema if not arrow.types.is_floating(field.type)]
    return parquet.ParquetWriter(path, schema, compression="zstd", use_dictionary=repeating or False)


def _blocks(arrow: Any, file: Any) -> Iterator[Any]:
    """The rows of a file in blocks; one without rows where it has none."""
    if not file.metadata.num_rows:
        yield arrow.RecordBatch.from_pylist([], schema=file.schema_arrow)
    else:
        yield from file.iter_batches(BLOCK)


def with_columns(arrow: Any, batch: Any, columns: Columns) -> Any:
    """A block with further columns; those of the same name are replaced."""
    for name, values in columns.items():
        found = arrow.array(np.asarray(values))
        if name in batch.schema.names:
            batch = batch.set_column(batch.schema.names.index(name), name, found)
        else:
            batch = batch.append_column(name, found)
    return batch


def check_finite(path: str | Path, points: Points) -> None:
    """Raise ``FileError`` for a coordinate that is no number."""
    if not np.isfinite(points).all():
        raise FileError(path, "holds a coordinate that is missing or not finite", "remove its row")


def unreadable(path: str | Path, error: Exception) -> FileError:
    """The error about a table that pyarrow cannot read."""
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return FileError(path, f"cannot be read as a Parquet table ({reason})", "check the file")


def pyarrow(path: str | Path) -> tuple[Any, Any]:
    """The optional library and its module for Parquet."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise FileError(
            path, "needs pyarrow, which is not installed", "pip install 'register-cli[tables]'"
        ) from None
