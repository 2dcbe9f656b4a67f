"""Read Imaris files (5.5, HDF5) with h5py: levels, channels, z and time, in their chunks.

Source: the Imaris 5.5 file format (imaris.oxinst.com). Data sets are padded to whole chunks; the sizes are
in attributes.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.geometry.pixel_size import PixelSize
from register.io.images.instrument_format import Format, matcher, of_file, suffixes
from register.io.images.levels import level_factors
from register.io.images.lookup_tables import signed_colour
from register.io.images.model import Image, Selection
from register.io.images.reader import FileDescription, ImageReader
from register.io.images.regions import Regions, checked_level, library

FORMATS = (Format("an Imaris file", (".ims",)),)
UNITS = {"um": "µm", "µm": "µm", "nm": "nm", "mm": "mm", "m": "m"}


def read(path: Path, selection: Selection) -> Image:
    """The image at a level, with its coarser levels.

    Raises ``FileError`` without h5py, for files of another kind, and for a stack of which no plane is chosen.
    """
    file = _open(path)
    count = len(file["DataSet"])
    level = checked_level(path, selection, count)
    axes, shape = _axes(file)
    chosen = selection.indices(path, axes, shape)
    if selection.series:
        raise FileError(path, "has one series", "leave out --series")
    levels = [_level(file, number, chosen) for number in range(level, count)]
    factors = level_factors(_sizes(file, 0)[1:], _sizes(file, level)[1:])
    size = _pixel_size(file)
    channels = shape[axes.index("C")] if "C" in axes else 1
    wanted = [chosen["C"]] if "C" in chosen else list(range(channels))
    infos = [file[f"DataSetInfo/Channel {n}"].attrs for n in wanted]
    names = tuple(_text(info.get("Name")) for info in infos)
    colours = [_text(info.get("Color")).split() for info in infos]
    known = all(len(colour) == 3 for colour in colours)
    return Image(
        levels[0],
        kind="ome",
        smaller=tuple(levels[1:]),
        pixel_size=size.times(*factors) if size else None,
        channel_names=names if any(names) else (),
        channel_colours=tuple(_colour(colour) for colour in colours) if known else (),
    )


def describe(path: Path) -> FileDescription:
    """The axes and the number of levels."""
    file = _open(path)
    return FileDescription(_axes(file)[0], len(file["DataSet"]))


READER = ImageReader("imaris", matcher(FORMATS), read, suffixes(FORMATS), describe)


def _open(path: Path) -> Any:
    """An open file that holds an image."""
    file = library("h5py", path, of_file(FORMATS, path), "microscopes").File(path, "r")
    if "DataSet" not in file or "DataSetInfo/Image" not in file:
        raise FileError(path, "is an HDF5 file without the groups of Imaris", "export the image as TIFF")
    return file


def _axes(file: Any) -> tuple[str, tuple[int, ...]]:
    """The axes of the file and their sizes; those of one element are left out, but x and y."""
    depth, height, width = _sizes(file, 0)
    times = file["DataSet/ResolutionLevel 0"]
    sizes = {"T": len(times), "Z": depth, "C": len(times["TimePoint 0"]), "Y": height, "X": width}
    kept = {axis: n for axis, n in sizes.items() if n > 1 or axis in "YX"}
    return "".join(kept), tuple(kept.values())


def _sizes(file: Any, level: int) -> tuple[int, int, int]:
    """Depth, height and width of a level, without padding."""
    first = file[f"DataSet/ResolutionLevel {level}/TimePoint 0/Channel 0"]
    z, y, x = (int(_text(first.attrs[f"ImageSize{axis}"])) for axis in "ZYX")
    return z, y, x


def _level(file: Any, level: int, chosen: dict[str, int]) -> Regions:
    """The pixels of one level in the chosen plane; a level of fewer planes gives the one at that depth."""
    depth, height, width = _sizes(file, level)
    z = chosen.get("Z", 0) * depth // _sizes(file, 0)[0]
    group = file[f"DataSet/ResolutionLevel {level}/TimePoint {chosen.get('T', 0)}"]
    wanted = [chosen["C"]] if "C" in chosen else list(range(len(group)))
    data = [group[f"Channel {n}/Data"] for n in wanted]

    def region(channels: range, rows: range, columns: range) -> NDArray[Any]:
        window = slice(rows.start, rows.stop), slice(columns.start, columns.stop)
        return np.stack([data[n][z, *window] for n in channels])

    return Regions((len(wanted), height, width), np.dtype(data[0].dtype).newbyteorder("="), region)


def _pixel_size(file: Any) -> PixelSize | None:
    """The size of a pixel from the extent of the image; None where its unit is not known."""
    info = file["DataSetInfo/Image"].attrs
    unit = UNITS.get(_text(info.get("Unit")))
    if unit is None:
        return None
    _, height, width = _sizes(file, 0)
    extents = [float(_text(info[f"ExtMax{n}"])) - float(_text(info[f"ExtMin{n}"])) for n in (0, 1)]
    if min(extents) <= 0:
        return None
    return PixelSize(extents[0] / width, extents[1] / height, unit)


def _text(value: Any) -> str:
    """An attribute, which Imaris stores as an array of single characters."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    array = np.asarray(value)
    if array.dtype.kind != "S":
        return str(value)
    return b"".join(array.ravel().tolist()).decode(errors="replace")


def _colour(words: list[str]) -> int:
    """OME's signed integer of a colour of three fractions."""
    red, green, blue = (round(255 * min(max(float(word), 0.0), 1.0)) for word in words)
    return signed_colour(red, green, blue)
