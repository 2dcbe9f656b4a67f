"""Read Olympus OIB and OIF (FluoView 1000) with oiffile: one TIFF per plane, settings beside them."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.compute.free_memory import check_memory
from register.errors import FileError
from register.geometry.pixel_size import PixelSize, measured
from register.io.images.instrument_format import Format, matcher, of_file, suffixes
from register.io.images.model import Image, Selection
from register.io.images.reader import FileDescription, ImageReader
from register.io.images.regions import Regions, checked_level, library, why

FORMATS = (
    Format("an Olympus OIB", (".oib",)),
    Format("an Olympus OIF, of which the pixels lie in the folder beside it", (".oif",)),
)
UNITS = {"um": "µm", "nm": "nm", "mm": "mm"}


def read(path: Path, selection: Selection) -> Image:
    """The image in the chosen plane. Its planes are decoded when the first window is read.

    Raises ``FileError`` without oiffile, for damaged files, and for a stack of which no plane is chosen.
    """
    with _open(path) as file:
        axes, shape, files = _planes(path, file)
        chosen = selection.indices(path, axes, shape)
        checked_level(path, selection, 1)
        if selection.series:
            raise FileError(path, "has one series", "leave out --series")
        names, size = _names(file.mainfile), _pixel_size(file.mainfile, shape[-1], shape[-2])
        dtype = np.dtype(file.asarray(files[next(iter(files))]).dtype)
    count = dict(zip(axes, shape, strict=True)).get("C", 1)
    wanted = [chosen["C"]] if "C" in chosen else list(range(count))
    loops = axes[:-2]
    places = [tuple(n if axis == "C" else chosen[axis] for axis in loops) for n in wanted]
    planes = _Planes(path, tuple(files[place] for place in places), shape[-2:])
    return Image(
        Regions((len(wanted), *shape[-2:]), dtype.newbyteorder("="), planes.window),
        kind="ome",
        pixel_size=size,
        channel_names=tuple(names[n] for n in wanted) if len(names) == count and any(names) else (),
    )


def describe(path: Path) -> FileDescription:
    """The axes; an OIB has one level."""
    with _open(path) as file:
        return FileDescription(_planes(path, file)[0], 1)


READER = ImageReader("oib", matcher(FORMATS), read, suffixes(FORMATS), describe)


@dataclass(frozen=True)
class _Planes:
    """The planes of some files of one size ``(h, w)``, decoded once."""

    path: Path
    files: tuple[str, ...]
    size: tuple[int, ...]

    @cached_property
    def pixels(self) -> NDArray[Any]:
        """The planes (c, h, w)."""
        check_memory(self.path, 4 * len(self.files) * math.prod(self.size), "convert it to OME-TIFF")
        with _open(self.path) as file:
            planes = [file.asarray(name) for name in self.files]
        if any(plane.shape != tuple(self.size) for plane in planes):
            raise FileError(self.path, "holds planes of different sizes", "copy it again")
        return np.stack(planes)

    def window(self, channels: range, rows: range, columns: range) -> NDArray[Any]:
        """A window of the planes."""
        parts = (slice(each.start, each.stop) for each in (channels, rows, columns))
        return self.pixels[tuple(parts)]


def _open(path: Path) -> Any:
    """An open file. Raises ``FileError`` for one that is damaged or has lost its folder."""
    kind = of_file(FORMATS, path)
    oiffile = library("oiffile", path, kind, "microscopes")
    try:
        return oiffile.OifFile(path)
    except Exception as error:  # the library raises any exception on damaged files
        problem = f"is {kind.name}, and cannot be read ({why(error)})"
        raise FileError(path, problem, f"check its files, or {kind.advice}") from None


def _planes(path: Path, file: Any) -> tuple[str, tuple[int, ...], dict[tuple[int, ...], str]]:
    """The axes of the image and their sizes, rows and columns last, and the file of each plane.

    Raises ``FileError`` where a plane is missing.
    """
    if not file.series:
        raise FileError(path, "holds no image", "check that the file is complete")
    series = file.series[0]
    files = {tuple(place): str(name) for place, name in zip(series.indices, series, strict=True)}
    if len(files) != math.prod(series.shape):
        problem = f"holds {len(files)} of {math.prod(series.shape)} planes: it is cut off"
        raise FileError(path, problem, "copy it again")
    plane = file.asarray(next(iter(files.values())))
    if plane.ndim != 2:
        raise FileError(path, f"holds planes of {plane.ndim} axes", "convert it to OME-TIFF")
    return f"{series.axes.upper()}YX", (*series.shape, *plane.shape), files


def _names(settings: Any) -> tuple[str, ...]:
    """The dyes of the channels."""
    found: list[str] = []
    while (stated := settings.get(f"GUI Channel {len(found) + 1} Parameters")) is not None:
        found.append(str(stated.get("DyeName") or stated.get("CH Name") or ""))
    return tuple(found)


def _pixel_size(settings: Any, width: int, height: int) -> PixelSize | None:
    """The size of a pixel; None where the settings state none in a unit of length, or another size."""
    stated = settings.get("Reference Image Parameter") or {}
    units = {str(stated.get(f"{side}Unit")) for side in ("Width", "Height")}
    unit = UNITS.get(units.pop()) if len(units) == 1 else None
    sizes = {int(stated.get("ImageWidth", width)), int(stated.get("ImageHeight", height))}
    if unit is None or not sizes <= {width, height}:
        return None
    return measured(
        float(stated.get("WidthConvertValue", 0)), float(stated.get("HeightConvertValue", 0)), unit
    )
