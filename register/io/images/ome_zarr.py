"""Read OME-Zarr 0.4 and 0.5: one chunked array per level, and metadata in attributes.

The hierarchy lies in a folder, a zip archive or at an address. Of one that bioformats2raw wrote, whose images
are the groups ``0``, ``1``, …, each is a series.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.geometry.pixel_size import PixelSize, measured
from register.images.pixels import Key, spans
from register.io.images import zarr_chunks
from register.io.images.lookup_tables import signed_colour
from register.io.images.model import Image, Selection
from register.io.images.reader import FileDescription, ImageReader, SeriesDescription
from register.io.images.zarr_metadata import OWN, PURE, RGB, UNITS, Json
from register.io.images.zarr_places import (
    METADATA,
    Address,
    Archive,
    Folder,
    Place,
    is_archive,
    is_link,
    place_of,
)


@dataclass(frozen=True)
class Chunked:
    """A zarr array as pixels (c, h, w), of which one element is read of each axis in ``chosen``.

    It lies below ``key`` in ``place``. Of an array that is cut off, the first ``rows`` are used.
    """

    place: Place
    key: str
    array: Any
    axes: str
    chosen: tuple[tuple[str, int], ...]
    rows: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, rows, columns."""
        sizes = dict(zip(self.axes, self.array.shape, strict=True))
        rows = sizes["Y"] if self.rows is None else self.rows
        return (1 if "C" in dict(self.chosen) else sizes.get("C", 1), rows, sizes["X"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The data type of the pixels."""
        return np.dtype(self.array.dtype).newbyteorder("=")

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """A window (c, h, w). Raises ``FileError`` where a chunk is damaged."""
        window = dict(zip("CYX", spans(key, self.shape), strict=True))
        window |= {axis: range(n, n + 1) for axis, n in self.chosen}
        parts: dict[str, slice | int] = {axis: slice(x.start, x.stop) for axis, x in window.items()}
        parts |= dict(self.chosen)
        try:
            zarr_chunks.check(self.place, self.key, self.array, [window[axis] for axis in self.axes])
            found = np.asarray(self.array[tuple(parts[axis] for axis in self.axes)])
        except (FileError, MemoryError):
            raise
        except Exception as error:  # codecs raise any exception on damaged chunks
            where = f"row {window['Y'].start}, column {window['X'].start}"
            problem = f"cannot be read at {where} ({error})"
            raise FileError(self.place.named(self.key), problem, zarr_chunks.ADVICE) from error
        left = [axis for axis in self.axes if axis not in dict(self.chosen)]
        found = found.transpose([left.index(axis) for axis in "CYX" if axis in left])
        return np.ascontiguousarray(found if "C" in left else found[None], dtype=self.dtype)


def matches(path: Path, head: bytes) -> bool:
    """Whether a path is a zarr group or array, in a folder, a zip archive or at an address."""
    if path.is_dir():
        return any((path / name).exists() for name in METADATA)
    return is_link(head) or is_archive(path, head)


def read(path: Path, selection: Selection) -> Image:
    """The first multiscale image of the group, the largest one of bioformats2raw, or the selected one.

    Its pixels stay in their chunks. Raises ``FileError`` for a group without an image, and for a series,
    level or plane that does not exist.
    """
    place, root = _opened(path)
    images = _images(place, root)
    number = _number(place, root, images, selection)
    prefix, image, attributes = images[number]
    ome: Any = attributes.get("ome", attributes)
    axes = axes_of(image)
    datasets = image["datasets"]
    if selection.level >= len(datasets):
        raise FileError(
            place.named(""),
            f"has no level {selection.level}; it has {len(datasets)}, from 0",
            "choose another level",
        )
    keys = [f"{prefix}{dataset['path']}" for dataset in datasets[selection.level :]]
    arrays: list[Any] = [root[key] for key in keys]
    chosen = tuple(selection.indices(path, axes, arrays[0].shape).items())
    levels = [Chunked(place, key, array, axes, chosen) for key, array in zip(keys, arrays, strict=True)]
    levels, notes = _whole(levels) if selection.allow_truncated else (levels, ())
    if len(images) > 1 and prefix and selection.series is None:
        notes = (*notes, f"series {number} of {len(images)} was read, the largest")
    size = pixel_size_of(image, datasets[selection.level], axes)
    channels = (ome.get("omero") or {}).get("channels") or []
    names, colours = _names(channels), _colours(channels)
    rgb = levels[0].shape[0] == 3 and levels[0].dtype == np.uint8 and _is_rgb(names, colours)
    return Image(
        levels[0],
        smaller=tuple(levels[1:]),
        kind="ome",
        colour="rgb" if rgb else "inverted" if _are_inverted(channels) else "grey",
        nodata=_nodata(attributes),
        position=_position(datasets[selection.level], axes, size),
        pixel_size=size,
        channel_names=() if rgb else names,
        channel_colours=() if rgb else colours,
        notes=notes,
    )


def describe(path: Path) -> FileDescription:
    """The axes, levels and series of a group. Raises ``FileError`` for a group without an image."""
    place, root = _opened(path)
    images = _images(place, root)
    series = []
    for prefix, image, _ in images:
        array: Any = root[f"{prefix}{image['datasets'][0]['path']}"]
        levels = len(image["datasets"])
        series.append(SeriesDescription(axes_of(image), tuple(array.shape), str(array.dtype), levels))
    first = series[_number(place, root, images, Selection())]
    return FileDescription(first.axes, first.levels, tuple(series))


READER = ImageReader("ome-zarr", matches, read, (".zarr", ".zarr.zip", ".ozx"), describe, reads_part=True)


def _whole(levels: list[Chunked]) -> tuple[list[Chunked], tuple[str, ...]]:
    """The levels of an image that is whole, or its finest level up to the first damaged chunk, and a note."""
    first = levels[0]
    rows = zarr_chunks.whole_rows(first.place, first.key, first.array, first.axes, dict(first.chosen))
    if rows == first.shape[1]:
        return levels, ()
    if not rows:
        problem = "is damaged in its first rows; nothing is left"
        raise FileError(first.place.named(first.key), problem, "copy it again")
    note = f"the folder is cut off or damaged: the first {rows} of {first.shape[1]} rows were read"
    return [replace(first, rows=rows)], (note,)


Found = tuple[str, Json, Json]
"""Of an image: the key of its group, with a slash, its multiscale, and the attributes of its group."""


def _opened(path: Path) -> tuple[Folder | Archive | Address, Any]:
    """The place of a hierarchy and its root group. Raises ``FileError`` for one that is not there."""
    import zarr

    place = place_of(path)
    try:
        store, inside = place.store()
        return place, zarr.open_group(store, path=inside, mode="r")
    except FileNotFoundError as error:
        raise FileError(place.named(""), f"holds no zarr group ({error})", "check the path") from None


def _images(place: Place, root: Any) -> list[Found]:
    """The multiscale images of a group, or those of the groups that bioformats2raw numbers.

    Raises ``FileError`` for a group without one.
    """
    attributes: Any = dict(root.attrs)
    ome: Any = attributes.get("ome", attributes)
    found = [("", image, attributes) for image in ome.get("multiscales") or []]
    if found:
        return found
    if "plate" in ome:
        named = f"{place.named('')}/A/1/0"
        raise FileError(place.named(""), "is a plate of many images", f"name a field of a well, as {named}")
    for name in _numbered(root, ome):
        inner: Any = dict(root[name].attrs)
        images = inner.get("ome", inner).get("multiscales") or []
        found += [(f"{name}/", image, inner) for image in images[:1]]
    if not found:
        raise FileError(
            place.named(""),
            "is a zarr group without an OME-Zarr image in it",
            "name the group that has multiscales",
        )
    return found


def _numbered(root: Any, ome: Json) -> list[str]:
    """The names of the groups that bioformats2raw wrote: those that ``OME`` lists, or 0, 1, … as they are."""
    if "bioformats2raw.layout" not in ome:
        return []
    if "OME" in root:
        listed: Any = dict(root["OME"].attrs)
        series = listed.get("ome", listed).get("series")
        if isinstance(series, list):
            return [str(name) for name in series]
    names: list[str] = []
    while str(len(names)) in root:
        names.append(str(len(names)))
    return names


def _number(place: Place, root: Any, images: list[Found], selection: Selection) -> int:
    """The number of the selected image; by default the first one, of bioformats2raw the largest one.

    Raises ``FileError`` for a number that does not exist.
    """
    if selection.series is None:
        if not images[0][0]:
            return 0
        areas = [math.prod(root[f"{prefix}{x['datasets'][0]['path']}"].shape[-2:]) for prefix, x, _ in images]
        return areas.index(max(areas))
    if selection.series >= len(images):
        problem = f"has no series {selection.series}; it has {len(images)}, from 0"
        raise FileError(place.named(""), problem, "choose another --series")
    return selection.series


def axes_of(image: Json) -> str:
    """The axes of an image, one letter each; version 0.2 and older have five without names."""
    described = image.get("axes") or list("tczyx")
    return "".join((axis if isinstance(axis, str) else axis["name"])[0].upper() for axis in described)


def _is_rgb(names: tuple[str, ...], colours: tuple[int, ...]) -> bool:
    """Whether three channels are the colours of one picture: pure red, green and blue without other names."""
    known = zip((name.lower() for name in names), RGB, strict=False)
    return colours == tuple(map(_signed_rgba, PURE)) and all(
        name in ("", word, word[0]) for name, word in known
    )


def _are_inverted(channels: list[Json]) -> bool:
    """Whether all channels are shown with 0 as white."""
    return bool(channels) and all(channel.get("inverted") is True for channel in channels)


def _nodata(attributes: Json) -> float | None:
    """The no-data value, which this program writes beside the attributes of OME-Zarr."""
    try:
        return float(attributes[OWN]["nodata"])
    except (KeyError, TypeError, ValueError):
        return None


def _position(dataset: Json, axes: str, size: PixelSize | None) -> tuple[float, float, str] | None:
    """The position of the first pixel and its unit; None where the file states none."""
    for step in dataset.get("coordinateTransformations", []):
        if step.get("type") == "translation" and size and size.unit:
            moved = [float(x) for x in step["translation"]]
            return moved[axes.index("X")], moved[axes.index("Y")], size.unit
    return None


def pixel_size_of(image: Json, dataset: Json, axes: str) -> PixelSize | None:
    """The size of a pixel; None when the file names no unit of length."""
    described = image.get("axes") or []
    units = {axis["name"][0].upper(): axis.get("unit") for axis in described if isinstance(axis, dict)}
    scale = np.ones(len(axes))
    for step in [*dataset.get("coordinateTransformations", []), *image.get("coordinateTransformations", [])]:
        if step.get("type") == "scale":
            given = step.get("scale")
            if not isinstance(given, list) or len(given) != len(axes):
                return None
            scale = scale * np.array(given, float)
    unit = UNITS.get(str(units.get("X")))
    if unit is None or units.get("X") != units.get("Y"):
        return None
    return measured(scale[axes.index("X")], scale[axes.index("Y")], unit)


def _names(channels: list[Json]) -> tuple[str, ...]:
    """The names of the channels; none when no channel has one."""
    names = tuple(str(channel.get("label", "")) for channel in channels)
    return names if any(names) else ()


def _colours(channels: list[Json]) -> tuple[int, ...]:
    """The colours of the channels as OME's signed integers; none unless all channels have one."""
    colours = [channel.get("color") for channel in channels]
    if not colours or not all(colours):
        return ()
    return tuple(_signed_rgba(str(colour)) for colour in colours)


def _signed_rgba(text: str) -> int:
    """The signed integer of an opaque colour written as ``RRGGBB``."""
    red, green, blue = bytes.fromhex(text.lstrip("#")[:6])
    return signed_colour(red, green, blue)
