"""Points in Parquet tables, with pyarrow; all other columns are kept, and pass through in blocks.

GeoParquet is a Parquet table with a column of geometries; see ``geoparquet``.
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from register.errors import FileError
from register.files.atomic import atomic_write
from register.io.points.columns import Place, place
from register.io.points.model import Change, Columns, Points

SUFFIXES = (".parquet", ".pq")
BLOCK = 500_000
"""Rows that are written at a time."""


@dataclass(frozen=True)
class Parquet:
    """A table, of which the rows are read in blocks."""

    source: Path
    place: Place
    unit: str
    corner: bool
    suffixes: tuple[str, ...] = SUFFIXES

    @property
    def points(self) -> Points:
        """The points of all rows. Raises ``FileError`` for a row without numbers."""
        _, parquet = pyarrow(self.source)
        try:
            with parquet.ParquetFile(self.source) as file:
                names = [file.schema_arrow.names[axis[0]] for axis in (self.place.x, self.place.y)]
                table = file.read(columns=names)
                return self._checked([table.column(name) for name in names])
        except FileError:
            raise
        except Exception as error:  # pyarrow raises many kinds for damaged files
            raise unreadable(self.source, error) from None

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return names_of(self.source)

    def write(self, path: str | Path, change: Change) -> None:
        """Write the table with other points; columns of the same name are replaced, others added."""
        arrow, _ = pyarrow(path)

        def changed(batch: Any) -> Any:
            indices = self.place.x[0], self.place.y[0]
            points, columns = change(self._checked([batch.column(index) for index in indices]))
            for axis, index in enumerate(indices):
                kind = batch.schema.field(index).type
                values = arrow.array(np.ascontiguousarray(points[:, axis]))
                values = values.cast(kind) if arrow.types.is_floating(kind) else values
                batch = batch.set_column(index, batch.schema.names[index], values)
            return with_columns(arrow, batch, columns)

        write_blocks(self.source, path, changed)

    def _checked(self, columns: Sequence[Any]) -> Points:
        """The points of columns with x and y. Raises ``FileError`` for those that are no finite numbers."""
        try:
            values = [column.to_numpy(zero_copy_only=False).astype(np.float64) for column in columns]
        except (TypeError, ValueError) as error:
            raise unreadable(self.source, error) from None
        points = np.stack(values, axis=1)
        check_finite(self.source, points)
        return points


def read_parquet(path: str | Path, named: str | None = None) -> Parquet:
    """The table of a file; ``named`` are the columns with x and y. Raises ``FileError``."""
    where = place(path, names_of(path), named)
    if len(where.x) > 1:
        raise FileError(path, "holds boxes", "write them as CSV")
    return Parquet(Path(path), where, where.unit, where.corner)


def names_of(path: str | Path) -> list[str]:
    """The names of the columns of a file. Raises ``FileError``."""
    _, parquet = pyarrow(path)
    try:
        names: list[str] = parquet.read_schema(path).names
    except Exception as error:  # pyarrow raises many kinds for damaged files
        raise unreadable(path, error) from None
    return names


def write_blocks(source: Path, path: str | Path, changed: Callable[[Any], Any]) -> None:
    """Write a table of which ``changed(batch)`` replaces each block; memory holds one block.

    Raises ``FileError``.
    """
    arrow, parquet = pyarrow(path)
    with atomic_write(path) as beside:
        writer = None
        try:
            with parquet.ParquetFile(source) as file:
                for batch in _blocks(arrow, file):
                    block = changed(batch)
                    block = block.replace_schema_metadata(file.schema_arrow.metadata)
                    writer = writer or _writer(arrow, parquet, beside, block.schema)
                    writer.write_batch(block)
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
