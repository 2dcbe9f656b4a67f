"""Read Leica LIF and LOF with liffile: images by series, planes by their place in the memory block.

Source: Leica image file format description 1.9: dimensions and channels state their steps in bytes.
"""

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.geometry.pixel_size import PixelSize, measured
from register.io.images.instrument_format import Format, matcher, of_file, suffixes
from register.io.images.lookup_tables import signed_colour
from register.io.images.model import Image, Selection
from register.io.images.reader import FileDescription, ImageReader, SeriesDescription
from register.io.images.regions import Regions, checked_level, checked_series, library, why

FORMATS = (Format("a Leica LIF", (".lif",)), Format("a Leica LOF", (".lof",)))
AXES = {1: "X", 2: "Y", 3: "Z", 4: "T", 5: "L", 6: "A", 7: "N", 8: "Q", 9: "E", 10: "M", 11: "P"}
"""Letters of the kinds of dimensions; L and E are wavelengths of emission and excitation, M tiles."""
DESCRIPTION = "./Data/Image/ImageDescription/"
TAGS = ("1", "2", "3")
"""Tags of the channels of a colour picture: red, green, blue."""
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "cyan": (0, 255, 255)}
COLOURS |= {"magenta": (255, 0, 255), "yellow": (255, 255, 0), "gray": (255, 255, 255)}
MICROMETRES = 1e6


@dataclass(frozen=True)
class _Layout:
    """Where pixels are: size and step in bytes of each axis, and the place of each channel."""

    axes: dict[str, tuple[int, int]]
    channels: tuple[int, ...]
    dtype: np.dtype[Any]
    rgb: bool
    names: tuple[str, ...]
    colours: tuple[int, ...]
    pixel_size: PixelSize | None

    @property
    def described(self) -> tuple[str, tuple[int, ...]]:
        """The axes in the order of the file, channels before rows, without those of one element."""
        sizes = {axis: n for axis, (n, _) in self.axes.items() if axis not in "YX" and n > 1}
        if len(self.channels) > 1:
            sizes["S" if self.rgb else "C"] = len(self.channels)
        sizes |= {axis: self.axes[axis][0] for axis in "YX" if axis in self.axes}
        return "".join(sizes), tuple(sizes.values())


def read(path: Path, selection: Selection) -> Image:
    """The largest image with rows and columns of the file, or the selected one; numbers count all images.

    Raises ``FileError`` without liffile, for damaged files, and for a stack of which no plane is chosen.
    """
    with _open(path) as file:
        layouts = [_layout(image) for image in file.images]
        areas = [_area(layout) for layout in layouts]
        number = checked_series(path, selection, areas)
        checked_level(path, selection, 1)
        layout, block = layouts[number], file.images[number].memory_block
        if not areas[number]:
            advice = "choose another --series, or export the image as TIFF"
            raise FileError(path, f"has no picture of rows and columns as series {number}", advice)
        start, length = int(block.offset), int(block.size)
    axes, shape = layout.described
    chosen = selection.indices(path, axes, shape)
    wanted = [chosen["C"]] if "C" in chosen else list(range(len(layout.channels)))
    planes = _Planes(path, layout, start, length, tuple(wanted), tuple(chosen.items()))
    planes.check()
    note = f"series {number} of {len(layouts)} was read, the largest"
    of_all = len(layout.names) == len(layout.channels) and not layout.rgb
    return Image(
        Regions((len(wanted), layout.axes["Y"][0], layout.axes["X"][0]), layout.dtype, planes),
        kind="ome",
        colour="rgb" if layout.rgb else "grey",
        pixel_size=layout.pixel_size,
        channel_names=tuple(layout.names[n] for n in wanted) if of_all and any(layout.names) else (),
        channel_colours=tuple(layout.colours[n] for n in wanted) if layout.colours else (),
        notes=(note,) if len(layouts) > 1 and selection.series is None else (),
    )


def describe(path: Path) -> FileDescription:
    """The axes of the largest image, and all images."""
    with _open(path) as file:
        layouts = [_layout(image) for image in file.images]
    areas = [_area(layout) for layout in layouts]
    largest = layouts[checked_series(path, Selection(), areas)]
    series = tuple(SeriesDescription(*x.described, str(x.dtype), 1) for x in layouts)
    return FileDescription(largest.described[0], 1, series)


READER = ImageReader("lif", matcher(FORMATS), read, suffixes(FORMATS), describe)


@dataclass(frozen=True)
class _Planes:
    """Reads windows of the chosen planes from a file that is mapped into memory meanwhile."""

    path: Path
    layout: _Layout
    start: int
    length: int
    wanted: tuple[int, ...]
    chosen: tuple[tuple[str, int], ...]

    def check(self) -> None:
        """Raise ``FileError`` where a plane continues beyond its block, or the block beyond the file."""
        places = [self._place(n) for n in self.wanted]
        (h, dy), (w, dx) = (self.layout.axes[axis] for axis in "YX")
        last = (h - 1) * dy + (w - 1) * dx + self.layout.dtype.itemsize
        whole = min(places) >= 0 and max(places) + last <= self.length and min(dy, dx) > 0
        if not whole or self.start < 0 or self.start + self.length > self.path.stat().st_size:
            raise FileError(self.path, "is cut off: its pixels continue beyond its end", "copy it again")

    def __call__(self, channels: range, rows: range, columns: range) -> NDArray[Any]:
        (h, dy), (w, dx) = (self.layout.axes[axis] for axis in "YX")
        with open(self.path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            found = []
            for n in channels:
                place = self.start + self._place(self.wanted[n])
                plane: Any = np.ndarray((h, w), self.layout.dtype, mapped, place, (dy, dx))
                found.append(np.array(plane[rows.start : rows.stop, columns.start : columns.stop]))
                del plane  # or the mapping cannot be closed
        return np.stack(found)

    def _place(self, channel: int) -> int:
        """The first byte of a channel in the chosen plane, from the start of the block."""
        steps = (self.layout.axes[axis][1] * n for axis, n in self.chosen if axis in self.layout.axes)
        return self.layout.channels[channel] + sum(steps)


def _open(path: Path) -> Any:
    """An open file. Raises ``FileError`` for one that is damaged."""
    kind = of_file(FORMATS, path)
    liffile = library("liffile", path, kind, "microscopes")
    try:
        return liffile.LifFile(path)
    except Exception as error:  # the library raises any exception on damaged files
        raise FileError(path, f"is {kind.name} that is damaged ({why(error)})", "copy it again") from None


def _area(layout: _Layout) -> int:
    """Rows times columns; 0 for an image without both, such as a scan along a line."""
    return layout.axes["Y"][0] * layout.axes["X"][0] if {"Y", "X"} <= set(layout.axes) else 0


def _layout(image: Any) -> _Layout:
    """The layout that the description of an image states."""
    steps, lengths = {}, {}
    for each in image.xml_element.findall(f"{DESCRIPTION}Dimensions/DimensionDescription"):
        axis, count = AXES.get(int(each.attrib["DimID"]), "?"), int(each.attrib["NumberOfElements"])
        if axis in steps or axis == "?":
            raise ValueError(f"the dimensions of {image.name} are not known")
        steps[axis] = count, int(each.attrib["BytesInc"])
        lengths[axis] = float(each.attrib["Length"]) / max(count - 1, 1), each.attrib["Unit"]
    channels = image.xml_element.findall(f"{DESCRIPTION}Channels/ChannelDescription")
    rgb = sorted(each.attrib["ChannelTag"] for each in channels) == list(TAGS)
    channels.sort(key=lambda each: int(each.attrib["ChannelTag" if rgb else "BytesInc"]))
    colours = [COLOURS.get(each.attrib.get("LUTName", "").lower()) for each in channels]
    known = not rgb and channels and all(colours)
    return _Layout(
        dict(sorted(steps.items(), key=lambda item: -item[1][1])),
        tuple(int(each.attrib["BytesInc"]) for each in channels),
        np.dtype(image.dtype),
        rgb,
        tuple(_name(each) for each in channels),
        tuple(signed_colour(*colour) for colour in colours if colour) if known else (),
        _pixel_size(lengths),
    )


def _name(channel: Any) -> str:
    """The dye of a channel; empty where none is stated."""
    stated = {each.findtext("Key"): each.findtext("Value") for each in channel.findall("ChannelProperty")}
    return str(stated.get("DyeName") or "")


def _pixel_size(lengths: dict[str, tuple[float, str]]) -> PixelSize | None:
    """The size of a pixel; None unless x and y are stated in metres."""
    if not {"X", "Y"} <= set(lengths) or {lengths[axis][1] for axis in "XY"} != {"m"}:
        return None
    return measured(lengths["X"][0] * MICROMETRES, lengths["Y"][0] * MICROMETRES, "µm")
