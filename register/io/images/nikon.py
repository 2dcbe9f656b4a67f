"""Read Nikon ND2 with nd2: one frame of its loops at a time, with names, colours and pixel size.

An uncompressed frame is mapped into memory, so that only the window that is asked for is read.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.compute.free_memory import check_memory
from register.errors import FileError
from register.geometry.pixel_size import PixelSize, measured
from register.io.images.instrument_format import Format, matcher, of_file, suffixes
from register.io.images.lookup_tables import signed_colour
from register.io.images.model import Image, Selection
from register.io.images.reader import FileDescription, ImageReader
from register.io.images.regions import Regions, checked_level, library, why

FORMATS = (Format("a Nikon ND2", (".nd2",), b"\xda\xce\xbe\x0a"),)
FRAME = "CYXS"
"""Axes of a frame: channels, rows, columns, colours. The others are loops, of positions, times and depths."""


def read(path: Path, selection: Selection) -> Image:
    """The image in the chosen frame; positions, times and depths are chosen as planes, such as ``P=0,Z=3``.

    Raises ``FileError`` without nd2, for damaged files, and for a stack of which no plane is chosen.
    """
    with _open(path) as file:
        axes, shape = _axes(file)
        chosen = selection.indices(path, axes, shape)
        checked_level(path, selection, 1)
        if selection.series:
            raise FileError(path, "has one series", "choose a position with a plane, such as P=0")
        sizes, dtype = dict(zip(axes, shape, strict=True)), np.dtype(file.dtype)
        loops = {axis: n for axis, n in sizes.items() if axis not in FRAME}
        number = int(np.ravel_multi_index([chosen[a] for a in loops], tuple(loops.values()))) if loops else 0
        stored = tuple(sizes.get(axis, 1) for axis in FRAME)
        compressed = file.attributes.compressionType is not None
        channels = _channels(file)
        names = tuple(each.channel.name or "" for each in channels)
        colours = tuple(signed_colour(*each.channel.color[:3]) for each in channels)
        size = _pixel_size(channels)
    rgb = "S" in sizes
    wanted = [chosen["C"]] if "C" in chosen else list(range(stored[0]))
    known = not rgb and len(names) == stored[0]
    frame = _Frame(path, number, stored, tuple(wanted), rgb, compressed)
    return Image(
        Regions((3 if rgb else len(wanted), *stored[1:3]), dtype, frame),
        kind="ome",
        colour="rgb" if rgb else "grey",
        pixel_size=size,
        channel_names=tuple(names[n] for n in wanted) if known and any(names) else (),
        channel_colours=tuple(colours[n] for n in wanted) if known and any(colours) else (),
    )


def describe(path: Path) -> FileDescription:
    """The axes; an ND2 has one level."""
    with _open(path) as file:
        return FileDescription(_axes(file)[0], 1)


READER = ImageReader("nd2", matcher(FORMATS), read, suffixes(FORMATS), describe)


@dataclass(frozen=True)
class _Frame:
    """Reads windows of one frame, of ``stored`` channels, rows, columns and colours, of a file that is open
    only meanwhile."""

    path: Path
    number: int
    stored: tuple[int, ...]
    wanted: tuple[int, ...]
    rgb: bool
    compressed: bool

    def __call__(self, channels: range, rows: range, columns: range) -> NDArray[Any]:
        with _open(self.path) as file:
            if self.compressed:
                bytes_of_frame = math.prod(self.stored) * np.dtype(file.dtype).itemsize
                check_memory(self.path, 2 * bytes_of_frame, "convert it to OME-TIFF")
            whole = file.read_frame(self.number)
            self._refuse_missing(whole)
            frame = whole.reshape(self.stored)[:, rows.start : rows.stop, columns.start : columns.stop]
            if self.rgb:  # stored as blue, green, red
                return np.array(np.moveaxis(frame[0, ..., ::-1], 2, 0)[channels.start : channels.stop])
            return np.stack([frame[self.wanted[n], ..., 0] for n in channels])

    def _refuse_missing(self, frame: NDArray[Any]) -> None:
        """Raise ``FileError`` for a frame that is not in the file: the library gives zeros in place of it,
        which do not lie in the mapped file or in inflated bytes."""
        root: Any = frame
        while isinstance(root, np.ndarray) and root.base is not None:
            root = root.base
        if isinstance(root, np.ndarray):
            raise FileError(self.path, f"has no frame {self.number}: it is cut off", "copy it again")


def _open(path: Path) -> Any:
    """An open file. Raises ``FileError`` for one that is damaged."""
    kind = of_file(FORMATS, path)
    nd2 = library("nd2", path, kind, "microscopes")
    try:
        file = nd2.ND2File(path)
    except Exception as error:  # the library raises any exception on damaged files
        raise FileError(path, f"is {kind.name} that is damaged ({why(error)})", "copy it again") from None
    return file


def _axes(file: Any) -> tuple[str, tuple[int, ...]]:
    """The axes of a file, one letter each, and their sizes; x and y are there also where they are 1."""
    sizes = {"Y": 1, "X": 1, **file.sizes} if not {"Y", "X"} <= set(file.sizes) else dict(file.sizes)
    return "".join(sizes), tuple(int(n) for n in sizes.values())


def _channels(file: Any) -> list[Any]:
    """What the file states about its channels; nothing where that cannot be read: the pixels still can."""
    try:
        return list(file.metadata.channels or [])
    except Exception:  # the library raises any exception for planes that it does not know
        return []


def _pixel_size(channels: list[Any]) -> PixelSize | None:
    """The size of a pixel; None where the file says that it is not calibrated."""
    if not channels:
        return None
    volume = channels[0].volume
    if not all(volume.axesCalibrated[:2]) or set(volume.axesInterpretation[:2]) != {"distance"}:
        return None
    x, y = volume.axesCalibration[:2]
    return measured(x, y, "µm")
