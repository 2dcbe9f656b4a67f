"""Movies in HDF5, and in NWB, which is HDF5 with names that are agreed on.

Source: the NWB schema, ImageSeries (nwb-schema.readthedocs.io): data lie along frame, x, y and z.
"""

import re
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from register.errors import FileError
from register.geometry.pixel_size import PixelSize, measured
from register.io.movies.arrays import Opened, frames_of
from register.io.movies.layout import Layout
from register.io.movies.stack import Stack

ENDINGS = (".h5", ".hdf5", ".hdf", ".nwb")
AXES = "axes"
"""The attribute of a dataset that names its axes."""
CACHE = 64 * 2**20
"""Bytes of chunks that are kept: a chunk may hold parts of many frames."""
LISTED = 6
"""Datasets that a message names."""


class Known(NamedTuple):
    """What a file states about a series of NWB: its axes, seconds between frames, and pixel size."""

    axes: str | None = None
    step: float | None = None
    pixel_size: PixelSize | None = None


def open_hdf5(path: Path, layout: Layout) -> Stack:
    """The frames of a dataset: the one that is named, or the only one with three axes or more.

    Raises ``FileError`` without h5py, for a file that is cut short, and where several datasets could be
    meant.
    """
    with _file(path) as file:
        name = _dataset(path, file, layout.dataset)
        known = _of_series(file, name)
    frames = frames_of(path, layout, opened, axes=known.axes, dataset=name)
    return Stack(
        path.name,
        (path,),
        frames,
        axis=frames.arranged.along,
        step=known.step,
        pixel_size=known.pixel_size,
    )


def opened(path: Path, dataset: str | None) -> Opened:
    """A dataset of an open file."""
    file = _file(path)
    return file[dataset], file.close


def library(path: Path) -> Any:
    """The module h5py. Raises ``FileError`` where it is not installed."""
    try:
        return import_module("h5py")
    except ImportError:
        raise FileError(path, "is HDF5, which needs h5py", "pip install 'register-cli[movies]'") from None


def _file(path: Path) -> Any:
    """The open file. Raises ``FileError``."""
    try:
        return library(path).File(path, "r", rdcc_nbytes=CACHE)
    except OSError as error:
        sizes = re.search(r"eof = (\d+),.*stored_eof = (\d+)", str(error))
        if sizes:
            left = f"is cut short: {int(sizes[1]):,} of its {int(sizes[2]):,} bytes are there"
            raise FileError(path, left, "HDF5 cannot be read in part: copy the file again") from None
        raise FileError(path, f"cannot be read as HDF5 ({error})", "check the file") from None


def _dataset(path: Path, file: Any, asked: str | None) -> str:
    """The name of the dataset of a file. Raises ``FileError``."""
    if asked is not None:
        found = file.get(asked)
        if found is not None and not hasattr(found, "shape"):
            found = found.get("data")
        if hasattr(found, "shape"):
            return _not_external(path, found)
        raise FileError(path, f"has no dataset {asked!r}", f"it has {_listed(_candidates(path, file))}")
    found = _candidates(path, file)
    if len(found) == 1:
        return _not_external(path, file[found[0][0]])
    if not found:
        raise FileError(path, "has no dataset of three axes or more", "check the file")
    raise FileError(path, f"has several datasets: {_listed(found)}", "name one by --dataset")


def _candidates(path: Path, file: Any) -> list[tuple[str, tuple[int, ...]]]:
    """The names and shapes of the datasets with three axes or more that hold numbers."""
    found = list[tuple[str, tuple[int, ...]]]()

    def visit(name: str, item: Any) -> None:
        if hasattr(item, "dtype") and len(item.shape or ()) >= 3 and item.dtype.kind in "uif":
            found.append((name, item.shape))

    file.visititems(visit)
    return found


def _listed(found: list[tuple[str, tuple[int, ...]]]) -> str:
    """Names and shapes in one line."""
    names = [f"{name} {' × '.join(map(str, shape))}" for name, shape in found[:LISTED]]
    return ", ".join(names) + (f" and {len(found) - LISTED} more" if len(found) > LISTED else "") or "none"


def _not_external(path: Path, dataset: Any) -> str:
    """The name of a dataset. Raises ``FileError`` where its frames are in files of their own."""
    group = dataset.parent
    if "external_file" in group and not all(dataset.shape):
        files = ", ".join(_text(name) for name in group["external_file"][:3])
        raise FileError(path, f"holds no frames: they are in {files}", "name these files")
    return str(dataset.name)


def _of_series(file: Any, name: str) -> Known:
    """What a file states of a series of images; nothing for a dataset that is none."""
    dataset = file[name]
    group = dataset.parent
    if "neurodata_type" not in group.attrs or not name.endswith("/data"):
        named = _text(dataset.attrs.get(AXES, ""))
        step = dataset.attrs.get("interval_seconds")
        known = len(named) == len(dataset.shape) and set("YX") <= set(named) <= set("TZCYX")
        return Known(named if known else None, float(step) if step is not None else None)
    axes = {3: "TXY", 4: "TXYZ"}.get(len(dataset.shape))
    rate = group["starting_time"].attrs.get("rate") if "starting_time" in group else None
    return Known(axes, 1 / float(rate) if rate else None, _pixel_size(group))


def _pixel_size(group: Any) -> PixelSize | None:
    """The pixel size that the imaging plane of a series states in metres, in micrometres."""
    plane = group.get("imaging_plane")
    if plane is None or "grid_spacing" not in plane:
        return None
    spacing = plane["grid_spacing"]
    if _text(spacing.attrs.get("unit", "")) != "meters" or len(spacing) < 2:
        return None
    return measured(1e6 * float(spacing[0]), 1e6 * float(spacing[1]), "µm")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
