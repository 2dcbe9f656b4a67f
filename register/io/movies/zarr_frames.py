"""Movies in Zarr arrays and OME-Zarr groups."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.geometry.pixel_size import PixelSize
from register.io.images import ome_zarr, zarr_chunks
from register.io.images.zarr_metadata import Json
from register.io.images.zarr_places import Folder
from register.io.movies.arrays import Opened, frames_of
from register.io.movies.layout import Layout
from register.io.movies.stack import Stack

MARKS = ("zarr.json", ".zgroup", ".zarray")
"""Files of which a Zarr folder holds one."""
SECONDS = {"second": 1.0, "millisecond": 1e-3, "microsecond": 1e-6, "minute": 60.0, "hour": 3600.0}


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr group or array."""
    return path.is_dir() and any((path / name).exists() for name in MARKS)


class Checked:
    """A Zarr array whose chunks are checked before they are read: one that is missing or cut off is an
    error."""

    def __init__(self, place: Folder, key: str, array: Any) -> None:
        self.place, self.key, self.array = place, key, array
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, key: Any) -> NDArray[Any]:
        key = key if isinstance(key, tuple) else (key,)
        key = (*key, *[slice(None)] * (len(self.shape) - len(key)))
        spans = [
            range(part, part + 1) if isinstance(part, int) else range(n)[part]
            for part, n in zip(key, self.shape, strict=True)
        ]
        zarr_chunks.check(self.place, self.key, self.array, spans)
        try:
            return np.asarray(self.array[key])
        except Exception as error:  # codecs raise any exception on damaged chunks
            raise ValueError(str(error)) from None


def open_zarr(path: Path, layout: Layout) -> Stack:
    """The frames of an array, or of the finest level of an OME-Zarr image. Raises ``FileError``."""
    found, attributes = _opened(path)
    if not hasattr(found, "shape"):
        ome = attributes.get("ome", attributes)
        images = ome.get("multiscales") or []
        name = layout.dataset
        if images and (name is None or name in [one["path"] for one in images[0]["datasets"]]):
            return _of_image(path, layout, images[0], name)
        name = name or _only_array(path, found)
        if not hasattr(found.get(name), "shape"):
            raise FileError(path, f"has no array {name!r}", "choose another --dataset")
        frames = frames_of(path, layout, opened, dataset=name)
    else:
        frames = frames_of(path, layout, opened, axes=_named(found))
    return Stack(path.name, (path,), frames, axis=frames.arranged.along)


def opened(path: Path, dataset: str | None) -> Opened:
    """An array of a folder."""
    import zarr

    folder = path / dataset if dataset else path
    place, key = (Folder(path), dataset) if dataset else (Folder(path.parent), path.name)
    return Checked(place, key, zarr.open_array(folder, mode="r")), lambda: None


def _opened(path: Path) -> tuple[Any, Json]:
    import zarr

    try:
        found = zarr.open(path, mode="r")
        return found, dict(found.attrs)
    except Exception as error:  # damaged metadata raise any exception
        raise FileError(path, f"cannot be read as Zarr ({error})", "check the folder") from None


def _only_array(path: Path, group: Any) -> str:
    """The name of the only array of a group with three axes or more. Raises ``FileError``."""
    found = [name for name, array in group.members(max_depth=None) if len(getattr(array, "shape", ())) >= 3]
    if len(found) == 1:
        return str(found[0])
    named = ", ".join(sorted(found)[:6])
    raise FileError(
        path,
        f"has several arrays: {named}" if found else "has no array of three axes",
        "name one by --dataset",
    )


def _named(array: Any) -> str | None:
    """The axes that an array names itself, as Zarr 3 allows; None unless all are known."""
    names = getattr(array.metadata, "dimension_names", None) or ()
    axes = "".join(str(name)[:1].upper() for name in names)
    return axes if len(axes) == len(array.shape) and set("YX") <= set(axes) <= set("TZCYX") else None


def _of_image(path: Path, layout: Layout, image: Json, name: str | None) -> Stack:
    """The frames of a level of an OME-Zarr image."""
    datasets = {one["path"]: one for one in image["datasets"]}
    name = name or next(iter(datasets))
    axes = ome_zarr.axes_of(image)
    frames = frames_of(path, layout, opened, axes=axes, dataset=name)
    size: PixelSize | None = ome_zarr.pixel_size_of(image, datasets[name], axes)
    return Stack(
        path.name,
        (path,),
        frames,
        axis=frames.arranged.along,
        step=_step(image, datasets[name], axes, frames.arranged.along),
        pixel_size=size,
    )


def _step(image: Json, dataset: Json, axes: str, along: str) -> float | None:
    """The seconds between frames along T, or the distance along Z in the unit of the pixel size.

    None where the file names no unit.
    """
    units = [axis.get("unit") if isinstance(axis, dict) else None for axis in image.get("axes") or []]
    place = axes.index(along)
    unit = units[place] if place < len(units) else None
    factor = SECONDS.get(str(unit)) if along == "T" else float(unit == units[axes.index("X")])
    if not unit or not factor:
        return None
    for step in dataset.get("coordinateTransformations", []):
        if step.get("type") == "scale":
            return float(step["scale"][place]) * factor or None
    return None
