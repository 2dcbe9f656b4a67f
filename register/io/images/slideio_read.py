"""Read CZI, VSI and ZVI with SlideIO, region by region: scenes, levels, channels, z and time.

Of a CZI with a compression that SlideIO does not decode, pylibCZIrw reads the pixels.
"""

import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.geometry.pixel_size import PixelSize
from register.io.images import czi_directory, czi_pixels, slideio_probe, vsi_pixels
from register.io.images.instrument_format import Format, matcher, of_file, suffixes
from register.io.images.levels import level_factors
from register.io.images.lookup_tables import signed_colour
from register.io.images.model import Image, Selection
from register.io.images.reader import FileDescription, ImageReader, SeriesDescription
from register.io.images.regions import Read, Regions, checked_level, checked_series, library

FORMATS = (
    Format("a Zeiss CZI", (".czi",), b"ZISRAWFILE"),
    Format("a Zeiss ZVI", (".zvi",)),
    Format("an Olympus VSI, of which the pixels lie in the folder beside it", (".vsi",)),
)
DRIVERS = {".czi": "CZI", ".zvi": "ZVI", ".vsi": "VSI"}
BGR = frozenset({3, 4, 8})
"""Codes of types of pixels of a CZI that are colours: of 8 and 16 bits, and floats."""
BGR48 = 4
RESOLUTION = 1e6
"""Micrometres in the unit of a scene's resolution."""


@dataclass(frozen=True)
class _Slide:
    """An open file, and of a CZI what its directory states of its blocks."""

    path: Path
    kind: Format
    file: Any
    blocks: czi_directory.Blocks | None

    @property
    def scenes(self) -> list[Any]:
        """All scenes."""
        return [self.file.get_scene(number) for number in range(self.file.num_scenes)]

    @property
    def decoded(self) -> bool:
        """Whether SlideIO decodes the pixels, and gives colours in the order of the file.

        It gives those of 16 bits in JPEG XR red first, as they are stored there.
        """
        if self.blocks is None:
            return True
        turned = BGR48 in self.blocks.types and czi_pixels.JPEG_XR in self.blocks.compressions
        return not turned and self.blocks.compressions <= {czi_pixels.NONE, czi_pixels.JPEG_XR}

    def order(self, scene: Any) -> list[int] | None:
        """The channels of a scene that are red, green and blue; None for channels that are no colours."""
        names = _names(scene)
        if len(names) != 3:
            return None
        if self.blocks is None:
            if [name.lower() for name in names] == ["blue", "green", "red"]:
                return [2, 1, 0]
            known = any(names) or scene.get_channel_data_type(0) != np.uint8
            return None if known else [0, 1, 2]
        bases = {name.removesuffix(f":{n}") for n, name in enumerate(names, 1)}
        of_one = len(bases) == 1 and not bases & set(names)
        return [2, 1, 0] if of_one and self.blocks.types & BGR else None


def read(path: Path, selection: Selection) -> Image:
    """The largest scene of the file, or the selected one, with its levels.

    Raises ``FileError`` without SlideIO, for files that it does not open, and for a stack of which no plane
    is chosen.
    """
    slide = _open(path)
    scenes = slide.scenes
    number = checked_series(path, selection, [math.prod(scene.rect[2:]) for scene in scenes])
    scene = scenes[number]
    axes, shape = _axes(scene)
    chosen = selection.indices(path, axes, shape)
    level = checked_level(path, selection, scene.num_zoom_levels)
    order = slide.order(scene) if "C" not in chosen else None
    wanted = order or ([chosen["C"]] if "C" in chosen else list(range(scene.num_channels)))
    levels = _levels(slide, scene, range(level, scene.num_zoom_levels), chosen, wanted)
    size = None
    if all(side > 0 for side in scene.resolution):
        factors = level_factors(_size(scene, 0), _size(scene, level))
        across, down = scene.resolution
        size = PixelSize(across * RESOLUTION, down * RESOLUTION, "µm").times(*factors)
    notes = (f"series {number} of {len(scenes)} was read, the largest",) if len(scenes) > 1 else ()
    of_channels = order is None and "C" not in chosen
    return Image(
        levels[0],
        kind="ome",
        colour="grey" if order is None else "rgb",
        smaller=tuple(levels[1:]),
        pixel_size=size,
        channel_names=_names(scene) if of_channels and any(_names(scene)) else (),
        channel_colours=_colours(slide.file, scene.num_channels) if of_channels else (),
        notes=notes if selection.series is None else (),
    )


def describe(path: Path) -> FileDescription:
    """The axes of the largest scene, and all scenes."""
    scenes = _open(path).scenes
    series = [
        SeriesDescription(*_axes(scene), str(np.dtype(scene.get_channel_data_type(0))), scene.num_zoom_levels)
        for scene in scenes
    ]
    largest = max(range(len(scenes)), key=lambda number: math.prod(scenes[number].rect[2:]))
    return FileDescription(series[largest].axes, series[largest].levels, tuple(series))


READER = ImageReader("slideio", matcher(FORMATS), read, suffixes(FORMATS), describe)


def _open(path: Path) -> _Slide:
    """An open file."""
    kind = of_file(FORMATS, path)
    slideio = library("slideio", path, kind, "slides")
    driver = DRIVERS.get(path.suffix.lower(), "CZI")
    if driver == "VSI":
        vsi_pixels.check(path, kind)
    blocks = czi_directory.check(path) if driver == "CZI" else None
    if blocks:
        czi_pixels.check_compressions(path, kind, blocks.compressions)
    if fault := slideio_probe.fault(path, driver):
        raise FileError(path, f"is {kind.name} that is damaged: {fault}", "copy it again from the instrument")
    try:
        file = slideio.open_slide(str(path), driver)
    except Exception as error:  # SlideIO raises RuntimeError for anything
        reason = " ".join(str(error).split())[:200]
        problem = f"is {kind.name}, and SlideIO cannot read it ({reason})"
        raise FileError(path, problem, f"check its files, or {kind.advice}") from None
    if driver == "VSI":
        vsi_pixels.check_found(path, kind, file, file.num_scenes)
    return _Slide(path, kind, file, blocks)


def _axes(scene: Any) -> tuple[str, tuple[int, ...]]:
    """The axes of a scene and their sizes; those of one element are left out, but x and y."""
    width, height = scene.rect[2:]
    sizes = {"T": scene.num_t_frames, "Z": scene.num_z_slices, "C": scene.num_channels}
    sizes |= {"Y": height, "X": width}
    kept = {axis: n for axis, n in sizes.items() if n > 1 or axis in "YX"}
    return "".join(kept), tuple(kept.values())


def _size(scene: Any, level: int) -> tuple[int, int]:
    """Height and width of a level."""
    size = scene.get_zoom_level_info(level).size
    return int(size.height), int(size.width)


def _levels(
    slide: _Slide, scene: Any, numbers: range, chosen: dict[str, int], wanted: list[int]
) -> list[Regions]:
    """The pixels of some levels in the chosen plane. The file stays open as long as they are used."""
    dtype = np.dtype(scene.get_channel_data_type(wanted[0]))
    if slide.decoded:
        reads = [_by_slideio(slide, scene, number, chosen, wanted) for number in numbers]
    else:
        place = tuple(int(n) for n in scene.rect)
        plane = {axis: chosen.get(axis, 0) for axis in "ZT"}
        file = czi_pixels.open_plane(
            slide.path, slide.kind, (place[0], place[1], place[2], place[3]), plane, scene.num_channels
        )
        reads = [_by_libczi(file, scene, number, wanted) for number in numbers]
    return [
        Regions((len(wanted), *_size(scene, number)), dtype, read)
        for number, read in zip(numbers, reads, strict=True)
    ]


def _by_slideio(slide: _Slide, scene: Any, level: int, chosen: dict[str, int], wanted: list[int]) -> Read:
    """Reads windows of a level with SlideIO."""
    z, t = chosen.get("Z", 0), chosen.get("T", 0)

    def region(channels: range, rows: range, columns: range) -> NDArray[Any]:
        found = scene.read_block_from_level(
            level,
            (columns.start, rows.start, len(columns), len(rows)),
            channel_indices=[wanted[n] for n in channels],
            slices=(z, z + 1),
            frames=(t, t + 1),
        )
        array: NDArray[Any] = np.asarray(found).reshape(len(rows), len(columns), len(channels))
        assert slide is not None  # keeps the file open
        return np.moveaxis(array, 2, 0)

    return region


def _by_libczi(file: czi_pixels.CziPlane, scene: Any, level: int, wanted: list[int]) -> Read:
    """Reads windows of a level with pylibCZIrw."""
    factor = level_factors(_size(scene, 0), _size(scene, level))[0]

    def region(channels: range, rows: range, columns: range) -> NDArray[Any]:
        return file.read(factor, [wanted[n] for n in channels], rows, columns)

    return region


def _names(scene: Any) -> tuple[str, ...]:
    """The names of the channels."""
    return tuple(str(scene.get_channel_name(n) or "") for n in range(scene.num_channels))


def _colours(slide: Any, channels: int) -> tuple[int, ...]:
    """The colours of the channels of a CZI, ``#AARRGGBB`` in its display settings; none elsewhere."""
    try:
        root = ElementTree.fromstring(slide.raw_metadata)
    except (ElementTree.ParseError, TypeError):
        return ()
    texts = [each.findtext("Color") or "" for each in root.findall(".//DisplaySetting/Channels/Channel")]
    found = [re.fullmatch(r"#(?:[0-9A-Fa-f]{2})?([0-9A-Fa-f]{6})", text) for text in texts]
    colours = [signed_colour(*bytes.fromhex(match[1])) for match in found if match]
    return tuple(colours) if len(colours) == channels else ()
