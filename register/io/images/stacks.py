"""Read the frames of a movie, time series or depth stack: pages of one TIFF, or one file per frame."""

import glob
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from register.errors import FileError, RegisterError
from register.geometry.pixel_size import PixelSize
from register.images.pixels import EVERYTHING
from register.io.images.open import open_image
from register.io.images.tiff_extent import check_planes, cut_off, open_tiff
from register.io.images.tiff_metadata import metadata

TIFF = (".tif", ".tiff", ".btf", ".tf8", ".tf2", ".lsm")
"""Endings of a single file that may hold all frames."""


@dataclass(frozen=True)
class Stack:
    """Frames (c, h, w) of one size and data type.

    ``files`` is one TIFF, of which each frame takes the ``pages``, one per channel; or one file per frame.
    ``axis`` is the axis along which the frames lie, T or Z. ``step`` is the time between frames in seconds,
    and ``pixel_size`` is the size of a pixel; both are None where the file does not state them.
    """

    name: str
    files: tuple[Path, ...]
    pages: tuple[tuple[int, ...], ...]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    rgb: bool = False
    axis: str = "T"
    step: float | None = None
    pixel_size: PixelSize | None = None
    nodata: float | None = None
    opened: dict[Path, tifffile.TiffFile] = field(default_factory=dict, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.pages) or len(self.files)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "opened": {}}

    def frame(self, index: int) -> NDArray[Any]:
        """One frame (c, h, w). Raises ``FileError`` when it is unreadable or of another size or data type."""
        path = self.files[0] if self.pages else self.files[index]
        try:
            pixels = self._of_pages(path, self.pages[index]) if self.pages else _of_file(path)
        except (OSError, ValueError, tifffile.TiffFileError) as error:
            raise FileError(path, f"frame {index} cannot be read ({error})", "check the file") from None
        if pixels.shape != self.shape or pixels.dtype != self.dtype:
            raise FileError(
                path,
                f"frame {index} is {pixels.dtype} {pixels.shape}, the first one {self.dtype} {self.shape}",
                "all frames need the same size and data type",
            )
        return pixels

    def close(self) -> None:
        """Close the files from which frames were read."""
        while self.opened:
            self.opened.popitem()[1].close()

    def _of_pages(self, path: Path, pages: tuple[int, ...]) -> NDArray[Any]:
        """A frame (c, h, w) of a TIFF with one page per channel, or with one interleaved page."""
        if path not in self.opened:
            self.opened[path] = tifffile.TiffFile(path)
        planes = [self.opened[path].pages[page].asarray() for page in pages]
        return np.stack(planes) if planes[0].ndim == 2 else np.moveaxis(planes[0], 2, 0)


def open_stack(source: str, *, allow_truncated: bool = False) -> Stack:
    """The frames of a TIFF with several pages, or of the files of a folder or pattern in natural order.

    The frames of a TIFF lie along T, else Z, else its only other axis; C are channels. With
    ``allow_truncated`` the whole frames of a TIFF that is cut off are enough.
    Raises ``FileError`` or ``RegisterError``.
    """
    path = Path(source)
    pattern = str(path / "*") if path.is_dir() else source
    found = [Path(name) for name in glob.glob(pattern)]
    files = sorted((x for x in found if x.is_file() and not x.name.startswith(".")), key=_natural)
    if not files:
        raise RegisterError(f"--series {source}: no such file; check the path or pattern")
    if len(files) > 1:
        return _of_files(path.name, files)
    if files[0].suffix.lower() in TIFF:
        return _of_tiff(files[0], allow_truncated)
    raise FileError(files[0], "is a single image", "name a TIFF with several pages, or several files")


def _of_files(name: str, files: list[Path]) -> Stack:
    """The stack of one file per frame."""
    first = open_image(files[0])
    return Stack(
        name,
        tuple(files),
        (),
        (first.channels, *first.size),
        first.dtype,
        rgb=first.colour == "rgb" and not first.extra,
        pixel_size=first.pixel_size,
        nodata=first.nodata,
    )


def _of_file(path: Path) -> NDArray[Any]:
    """A frame (c, h, w) that is a file."""
    return np.asarray(open_image(path).pixels[EVERYTHING])


def _of_tiff(path: Path, allow_truncated: bool) -> Stack:
    """The stack of the pages of a TIFF."""
    try:
        with open_tiff(path, allow_truncated=allow_truncated) as tif:
            series = tif.series[0]
            page = series.keyframe
            if not allow_truncated:
                check_planes(path, tif, series)
            pages, axis = _frames(path, series)
            pages = _whole(path, series, pages, allow_truncated)
            known = metadata(tif, page, 0, 0)
            step = (tif.imagej_metadata or {}).get("finterval") if tif.is_imagej else None
    except (OSError, ValueError, IndexError, tifffile.TiffFileError) as error:
        raise FileError(path, f"cannot be read as a TIFF ({error})", "check the file") from None
    interleaved = page.ndim == 3
    channels = page.samplesperpixel if interleaved else len(pages[0])
    rgb = interleaved and channels == 3 and page.photometric == tifffile.PHOTOMETRIC.RGB
    return Stack(
        path.name,
        (path,),
        pages,
        (channels, page.imagelength, page.imagewidth),
        np.dtype(page.dtype),
        rgb=rgb,
        axis=axis,
        step=float(step) if step else None,
        pixel_size=known.pixel_size,
        nodata=known.nodata,
    )


def _frames(path: Path, series: tifffile.TiffPageSeries) -> tuple[tuple[tuple[int, ...], ...], str]:
    """The pages of each frame of a series, one per channel, and the axis of the frames, T or Z."""
    numbers = np.array([page.index if page is not None else -1 for page in series.pages])
    inner = series.keyframe.ndim
    outer = [(x, n) for x, n in zip(series.axes[:-inner], series.shape[:-inner], strict=True) if n > 1]
    along = [name for name, _ in outer if name != "C"]
    if len(along) != 1 or len(numbers) != math.prod(n for _, n in outer):
        raise FileError(
            path,
            f"has axes {series.axes} {series.shape}",
            "a series of frames has one axis besides x, y and channel",
        )
    grid = numbers.reshape([n for _, n in outer])
    if len(outer) == 2 and outer[0][0] == "C":
        grid = grid.T
    frames = grid.reshape(len(grid), -1)
    pages = tuple(tuple(int(n) for n in frame) for frame in frames)
    return pages, "Z" if along == ["Z"] else "T"


def _whole(
    path: Path, series: tifffile.TiffPageSeries, frames: tuple[tuple[int, ...], ...], allow_truncated: bool
) -> tuple[tuple[int, ...], ...]:
    """The frames whose pages lie within the file. Raises ``FileError`` unless all do, or some are enough."""
    size = path.stat().st_size
    ends = {x.index: max(map(sum, zip(x.dataoffsets, x.databytecounts, strict=False)), default=0)
            for x in series.pages if x is not None}  # fmt: skip
    for number, frame in enumerate(frames):
        if any(ends.get(page, size + 1) > size for page in frame):
            if allow_truncated and number:
                return frames[:number]
            raise cut_off(path, f"{number} of {len(frames)} frames are left")
    return frames


def _natural(path: Path) -> list[tuple[int, str]]:
    """An order of names in which 2 comes before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
