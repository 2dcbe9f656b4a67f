"""OME-Zarr 0.4 and 0.5 through zarr: a folder of chunked arrays, one per level, with their meaning in the attributes of the group."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.images.pixels import Key

if TYPE_CHECKING:
    from register.io.images.open import Selection

UNITS = {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm", "centimeter": "cm", "meter": "m"}


@dataclass(frozen=True)
class Chunked:
    """A zarr array as pixels (c, h, w): some of its axes picked at an index, the channels first."""

    array: Any
    axes: str
    picked: tuple[tuple[str, int], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, rows, columns."""
        sizes = dict(zip(self.axes, self.array.shape, strict=True))
        return (1 if "C" in dict(self.picked) else sizes.get("C", 1), sizes["Y"], sizes["X"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a value."""
        return np.dtype(self.array.dtype).newbyteorder("=")

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """A window."""
        spans = dict(zip("CYX", key, strict=True)) | dict(self.picked)
        found = np.asarray(self.array[tuple(spans[axis] for axis in self.axes)])
        left = [axis for axis in self.axes if axis not in dict(self.picked)]
        found = found.transpose([left.index(axis) for axis in "CYX" if axis in left])
        return np.ascontiguousarray(found if "C" in left else found[None], dtype=self.dtype)


def is_ome_zarr(path: Path) -> bool:
    """Whether a path is a folder that zarr wrote."""
    return path.is_dir() and any((path / name).exists() for name in (".zgroup", ".zattrs", "zarr.json"))


def read(path: Path, part: Selection) -> dict[str, Any]:
    """The fields of an ``Image`` from the first multiscale image of the group, its pixels still in their chunks. Raises ``FileError``."""
    import zarr

    attributes = dict(zarr.open_group(path, mode="r").attrs)
    ome: Any = attributes.get("ome", attributes)
    images = ome.get("multiscales") or []
    if not images:
        raise FileError(
            path, "is a zarr group without an OME-Zarr image in it", "name the group that has multiscales"
        )
    chosen = part.series or 0
    if chosen >= len(images):
        raise FileError(
            path, f"has no series {chosen}; it has {len(images)}, from 0", "choose another --series"
        )
    image = images[chosen]
    known = image.get("axes") or [{"name": name} for name in "tczyx"]
    axes = "".join((axis if isinstance(axis, str) else axis["name"])[0].upper() for axis in known)
    datasets = image["datasets"]
    if part.level >= len(datasets):
        raise FileError(
            path, f"has no level {part.level}; it has {len(datasets)}, from 0", "choose another level"
        )
    arrays = [zarr.open_array(path / dataset["path"], mode="r") for dataset in datasets[part.level :]]
    picked = tuple(part.pick(path, axes, arrays[0].shape).items())
    size, unit = _pixel(image, datasets[part.level], axes, known)
    channels = (ome.get("omero") or {}).get("channels") or []
    names = tuple(str(channel.get("label", "")) for channel in channels)
    return {
        "levels": tuple(Chunked(array, axes, picked) for array in arrays),
        "kind": "ome",
        "pixel_size": size,
        "pixel_unit": unit,
        "channel_names": names if any(names) else (),
        "channel_colours": tuple(_colour(channel.get("color")) for channel in channels)
        if channels and all(c.get("color") for c in channels)
        else (),
    }


def _pixel(
    image: dict[str, Any], dataset: dict[str, Any], axes: str, known: list[Any]
) -> tuple[tuple[float, float] | None, str | None]:
    """The size of a pixel, ``(x, y)``, and its unit; None when the file names no unit of length."""
    units = {axis["name"][0].upper(): axis.get("unit") for axis in known if isinstance(axis, dict)}
    scale = np.ones(len(axes))
    for step in [*dataset.get("coordinateTransformations", []), *image.get("coordinateTransformations", [])]:
        if step.get("type") == "scale":
            scale = scale * np.array(step["scale"], float)
    unit = UNITS.get(str(units.get("X")))
    if unit is None or units.get("X") != units.get("Y"):
        return None, None
    return (float(scale[axes.index("X")]), float(scale[axes.index("Y")])), unit


def _colour(text: Any) -> int:
    """OME's signed integer of red, green, blue and opacity."""
    value = int(str(text).lstrip("#")[:6], 16) << 8 | 255
    return value - 2**32 if value >= 2**31 else value
