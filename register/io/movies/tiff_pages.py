"""Frames that are pages of a TIFF."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from register.errors import FileError
from register.io.images.tiff_extent import check_planes, cut_off, open_tiff
from register.io.images.tiff_metadata import metadata
from register.io.movies.file_sets import is_part, refuse_unnamed
from register.io.movies.layout import AS_STORED, Layout, NoPlane
from register.io.movies.raw import RawFrames, whole_frames
from register.io.movies.scanimage import layout_of
from register.io.movies.source import checked, cut_note
from register.io.movies.stack import Stack

Pages = tuple[tuple[int, ...], ...]
"""The pages of every frame, one per channel."""


@dataclass(frozen=True)
class TiffPages:
    """Frames (c, h, w) of a TIFF, of which each takes some ``pages``: one per channel, or one interleaved.

    ``part`` is whether the file is one of several of a series.
    """

    path: Path
    pages: Pages
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    part: bool = False
    opened: list[tifffile.TiffFile] = field(default_factory=list, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.pages)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "opened": []}

    def read(self, index: int) -> NDArray[Any]:
        """See ``FrameSource``."""
        try:
            if not self.opened:
                self.opened.append(tifffile.TiffFile(self.path, _multifile=False))
            planes = [self.opened[0].pages[page].asarray() for page in self.pages[index]]
        except (OSError, ValueError, tifffile.TiffFileError) as error:
            raise FileError(self.path, f"frame {index} cannot be read ({error})", "check the file") from None
        pixels = np.stack(planes) if planes[0].ndim == 2 else np.moveaxis(planes[0], 2, 0)
        return checked(self.path, index, pixels, self.shape, self.dtype)

    def close(self) -> None:
        """Close the file."""
        while self.opened:
            self.opened.pop().close()


def open_pages(path: Path, layout: Layout = AS_STORED) -> Stack:
    """The stack of the pages of a TIFF. Raises ``FileError``."""
    cut = layout.allow_truncated
    try:
        with open_tiff(path, allow_truncated=cut) as tif:
            series = tif.series[0]
            page = series.keyframe
            layout, step = layout_of(path, tif, layout)
            if is_part(tif):
                return _own_pages(path, tif, layout)
            if cut and _lost_its_pages(series):
                return _without_pages(path, tif, series)
            if not cut:
                check_planes(path, tif, series)
            pages, axis = _frames(path, series, layout)
            whole = _whole(tif, path, pages)
            known = metadata(tif, page, 0, 0)
            step = (tif.imagej_metadata or {}).get("finterval") if tif.is_imagej else step
    except (OSError, ValueError, IndexError, tifffile.TiffFileError) as error:
        raise FileError(path, f"cannot be read as a TIFF ({error})", "check the file") from None
    if whole < len(pages) and not (cut and whole):
        raise cut_off(path, f"{whole} of {len(pages)} frames are left")
    interleaved = page.ndim == 3
    channels = page.samplesperpixel if interleaved else len(pages[0])
    rgb = interleaved and channels == 3 and page.photometric == tifffile.PHOTOMETRIC.RGB
    shape = (channels, page.imagelength, page.imagewidth)
    return Stack(
        path.name,
        (path,),
        TiffPages(path, pages[:whole], shape, np.dtype(page.dtype)),
        rgb=rgb,
        axis=axis,
        step=float(step) if step else None,
        pixel_size=known.pixel_size,
        nodata=known.nodata,
        notes=(cut_note(path, whole, len(pages)),) if whole < len(pages) else (),
    )


def _own_pages(path: Path, tif: tifffile.TiffFile, layout: Layout) -> Stack:
    """The stack of the pages of a file that is one of several of an OME series, in their order."""
    refuse_unnamed(path, tif, layout.planes * layout.channels)
    page = tif.pages.first
    pages = layout.of_pages(str(path), len(tif.pages))
    shape = (layout.channels, page.imagelength, page.imagewidth)
    known = metadata(tif, page, 0, 0)
    frames = TiffPages(path, pages, shape, np.dtype(page.dtype), part=True)
    return Stack(path.name, (path,), frames, pixel_size=known.pixel_size, nodata=known.nodata)


def _lost_its_pages(series: tifffile.TiffPageSeries) -> bool:
    """Whether a file whose pixels lie one after the other was cut before the places of its pages were
    written."""
    alone = len(series.axes) == 3 and series.axes[0] not in "CS" and series.keyframe.ndim == 2
    return alone and series.dataoffset is not None and len(series.pages) != series.shape[0]


def _without_pages(path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Stack:
    """The stack of the whole frames in such a file."""
    count, height, width = series.shape
    stored, offset = np.dtype(series.dtype).newbyteorder(tif.byteorder), int(series.dataoffset or 0)
    whole = min(whole_frames(path, offset, stored, (1, height, width)), count)
    if not whole:
        raise FileError(path, "is cut short before the end of its first frame", "copy the file again")
    known = metadata(tif, series.keyframe, 0, 0)
    return Stack(
        path.name,
        (path,),
        RawFrames(path, offset, stored, (1, height, width), whole),
        axis="Z" if series.axes[0] == "Z" else "T",
        pixel_size=known.pixel_size,
        nodata=known.nodata,
        notes=(cut_note(path, whole, count),),
    )


def _frames(path: Path, series: tifffile.TiffPageSeries, layout: Layout) -> tuple[Pages, str]:
    """The pages of each frame of a series, and the axis of the frames, T or Z."""
    numbers = np.array([page.index if page is not None else -1 for page in series.pages])
    if layout.planes > 1 or layout.channels > 1:
        frames = layout.of_pages(str(path), len(numbers))
        return tuple(tuple(int(numbers[n]) for n in frame) for frame in frames), "T"
    inner = series.keyframe.ndim
    outer = [(x, n) for x, n in zip(series.axes[:-inner], series.shape[:-inner], strict=True) if n > 1]
    grid = numbers.reshape([n for _, n in outer]) if len(numbers) == math.prod(n for _, n in outer) else None
    names = [name for name, _ in outer]
    if layout.plane is not None and grid is not None and "Z" in names:
        if layout.plane >= grid.shape[names.index("Z")]:
            raise NoPlane(path, f"has no plane {layout.plane}", f"it has {grid.shape[names.index('Z')]}")
        grid = grid.take(layout.plane, names.index("Z"))
        names.remove("Z")
    elif "Z" not in names or names == ["Z"]:
        layout.refuse_plane(path)
    along = [name for name in names if name != "C"]
    if grid is None or len(along) > 1 or (not along and len(numbers) > 1 and "C" not in names):
        advice = "a movie has one axis besides x, y and channel"
        advice = "name a plane by --plane" if {"Z", "T"} <= set(names) else advice
        raise FileError(path, f"has axes {series.axes} {series.shape}", advice)
    if not along:
        return (tuple(int(n) for n in grid.reshape(-1)),), "T"
    if len(names) == 2 and names[0] == "C":
        grid = grid.T
    pages = tuple(tuple(int(n) for n in frame) for frame in grid.reshape(len(grid), -1))
    return pages, "Z" if along == ["Z"] else "T"


def _whole(tif: tifffile.TiffFile, path: Path, pages: Pages) -> int:
    """The number of frames up to the last one whose pixels lie within the file."""
    size, count = path.stat().st_size, len(pages)
    while count and not _lies_within(tif, pages[count - 1], size):
        count -= 1
    return count


def _lies_within(tif: tifffile.TiffFile, frame: tuple[int, ...], size: int) -> bool:
    """Whether the pixels of a frame lie within a file of a size in bytes."""
    try:
        return all(
            offset + length <= size
            for page in (tif.pages[number] for number in frame)
            for offset, length in zip(page.dataoffsets, page.databytecounts, strict=True)
        )
    except (OSError, ValueError, IndexError, tifffile.TiffFileError):
        return False
