"""Read OME-Zarr 0.4 and 0.5: a folder with one chunked array per level, and metadata in attributes."""

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


@dataclass(frozen=True)
class Chunked:
    """A zarr array in a folder as pixels (c, h, w), of which one element is read of each axis in ``chosen``.

    Of an array that is cut off, the first ``rows`` are used.
    """

    folder: Path
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
            zarr_chunks.check(self.folder, self.array, [window[axis] for axis in self.axes])
            found = np.asarray(self.array[tuple(parts[axis] for axis in self.axes)])
        except (FileError, MemoryError):
            raise
        except Exception as error:  # codecs raise any exception on damaged chunks
            where = f"row {window['Y'].start}, column {window['X'].start}"
            raise FileError(
                self.folder, f"cannot be read at {where} ({error})", zarr_chunks.ADVICE
            ) from error
        left = [axis for axis in self.axes if axis not in dict(self.chosen)]
        found = found.transpose([left.index(axis) for axis in "CYX" if axis in left])
        return np.ascontiguousarray(found if "C" in left else found[None], dtype=self.dtype)


def matches(path: Path, head: bytes) -> bool:
    """Whether a path is a zarr group or array."""
    return path.is_dir() and any((path / name).exists() for name in (".zgroup", ".zattrs", "zarr.json"))


def read(path: Path, selection: Selection) -> Image:
    """The first multiscale image of the group, or the selected one; its pixels stay in their chunks.

    Raises ``FileError`` for a group without an image, and for a series, level or plane that does not exist.
    """
    import zarr

    attributes = dict(zarr.open_group(path, mode="r").attrs)
    ome: Any = attributes.get("ome", attributes)
    image = _multiscale(path, ome.get("multiscales") or [], selection.series or 0)
    axes = _axes(image)
    datasets = image["datasets"]
    if selection.level >= len(datasets):
        raise FileError(
            path, f"has no level {selection.level}; it has {len(datasets)}, from 0", "choose another level"
        )
    folders = [path / dataset["path"] for dataset in datasets[selection.level :]]
    arrays = [zarr.open_array(folder, mode="r") for folder in folders]
    chosen = tuple(selection.indices(path, axes, arrays[0].shape).items())
    levels = [Chunked(*found, axes, chosen) for found in zip(folders, arrays, strict=True)]
    levels, notes = _whole(levels) if selection.allow_truncated else (levels, ())
    size = _pixel_size(image, datasets[selection.level], axes)
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
    import zarr

    group = zarr.open_group(path, mode="r")
    attributes: Any = dict(group.attrs)
    images = attributes.get("ome", attributes).get("multiscales") or []
    series = []
    for number in range(max(len(images), 1)):
        image = _multiscale(path, images, number)
        array: Any = group[image["datasets"][0]["path"]]
        axes, levels = _axes(image), len(image["datasets"])
        series.append(SeriesDescription(axes, tuple(array.shape), str(array.dtype), levels))
    return FileDescription(series[0].axes, series[0].levels, tuple(series))


READER = ImageReader("ome-zarr", matches, read, (".zarr",), describe)


def _whole(levels: list[Chunked]) -> tuple[list[Chunked], tuple[str, ...]]:
    """The levels of an image that is whole, or its finest level up to the first damaged chunk, and a note."""
    first = levels[0]
    rows = zarr_chunks.whole_rows(first.folder, first.array, first.axes, dict(first.chosen))
    if rows == first.shape[1]:
        return levels, ()
    if not rows:
        raise FileError(first.folder, "is damaged in its first rows; nothing is left", "copy it again")
    note = f"the folder is cut off or damaged: the first {rows} of {first.shape[1]} rows were read"
    return [replace(first, rows=rows)], (note,)


def _multiscale(path: Path, images: list[Json], number: int) -> Json:
    """The metadata of one multiscale image of a group."""
    if not images:
        raise FileError(
            path, "is a zarr group without an OME-Zarr image in it", "name the group that has multiscales"
        )
    if number >= len(images):
        raise FileError(
            path, f"has no series {number}; it has {len(images)}, from 0", "choose another --series"
        )
    return images[number]


def _axes(image: Json) -> str:
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


def _pixel_size(image: Json, dataset: Json, axes: str) -> PixelSize | None:
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
