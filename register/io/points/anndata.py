"""Points of AnnData files (``.h5ad``): the cells' positions in ``obsm["spatial"]``, with h5py.

Source: the on-disk format of AnnData 0.8 to 0.12 (anndata.readthedocs.io).
"""

import importlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.files.atomic import atomic_write
from register.io.points.model import Change, Points
from register.io.points.parquet import check_finite

SUFFIXES = (".h5ad",)
KEY = "obsm/spatial"
ARRAY = {"encoding-type": "array", "encoding-version": "0.2.0"}
"""Attributes of a column of numbers."""


@dataclass(frozen=True)
class AnnData:
    """A file of cells, their positions (n, 2), and the names of their columns."""

    source: Path
    points: Points
    names: tuple[str, ...] = ()
    corner: bool = False
    unit: str = "px"
    suffixes: tuple[str, ...] = SUFFIXES

    def write(self, path: str | Path, change: Change) -> None:
        """Write a copy of the file with other positions, and the columns in ``obs``; a height stays."""
        points, columns = change(self.points)
        h5py = _h5py(path)
        with atomic_write(path) as beside:
            shutil.copyfile(self.source, beside)
            with h5py.File(beside, "r+") as file:
                values = np.array(file[KEY], np.float64)
                values[:, :2] = points
                _replace(file, KEY, values, dict(file[KEY].attrs))
                for name, given in columns.items():
                    _replace(file, f"obs/{name}", np.asarray(given), ARRAY)
                order = [str(name) for name in file["obs"].attrs["column-order"]]
                order += [name for name in columns if name not in order]
                file["obs"].attrs["column-order"] = np.array(order, h5py.string_dtype())


def read_anndata(path: str | Path) -> AnnData:
    """The positions of a file. Raises ``FileError`` without h5py, and for a file without positions."""
    h5py = _h5py(path)
    try:
        with h5py.File(path, "r") as file:
            if KEY not in file or "obs" not in file or "column-order" not in file["obs"].attrs:
                raise FileError(path, "has no obsm['spatial']", "add the positions of its cells")
            found = file[KEY]
            shape: tuple[int, ...] = getattr(found, "shape", ())
            if len(shape) != 2 or shape[-1] not in (2, 3) or found.dtype.kind not in "iuf":
                raise FileError(path, "has an obsm['spatial'] that is no table of x and y", "correct it")
            points = np.array(found[:, :2], np.float64)
            names = tuple(map(str, file["obs"]))
    except FileError:
        raise
    except Exception as error:  # h5py raises many kinds for damaged files
        reason = " ".join(str(error).split())[:200]
        raise FileError(path, f"cannot be read as AnnData ({reason})", "check the file") from None
    check_finite(path, points)
    return AnnData(Path(path), points, names)


def _replace(file: Any, key: str, values: NDArray[Any], attributes: dict[str, Any]) -> None:
    """Put an array in the place of another one, with its attributes."""
    if key in file:
        del file[key]
    made = file.create_dataset(key, data=values)
    made.attrs.update(attributes)


def _h5py(path: str | Path) -> Any:
    """The optional library of HDF5."""
    try:
        return importlib.import_module("h5py")
    except ImportError:
        advice = "pip install 'register-cli[spatial]'"
        raise FileError(path, "needs h5py, which is not installed", advice) from None
