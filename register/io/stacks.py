"""Frames of a movie, a time series or a depth stack: pages of one TIFF, or one file each; read one by one."""

import glob
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from register.errors import FileError, RegisterError
from register.io.images import open_image

TIFF = (".tif", ".tiff", ".btf", ".tf8", ".tf2", ".lsm")


@dataclass(frozen=True)
class Stack:
    """Frames (c, h, w) of one size and type; ``pages`` of one TIFF per frame, or one file per frame."""

    name: str
    files: tuple[Path, ...]
    pages: tuple[tuple[int, ...], ...]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    opened: dict[Path, tifffile.TiffFile] = field(default_factory=dict, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.pages) or len(self.files)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "opened": {}}

    def frame(self, index: int) -> NDArray[Any]:
        """One frame (c, h, w). Raises ``FileError`` when it cannot be read or is not like the others."""
        path = self.files[0] if self.pages else self.files[index]
        try:
            pixels = self._pages(path, self.pages[index]) if self.pages else np.asarray(open_image(path).pixels[slice(None), slice(None), slice(None)])
        except (OSError, ValueError, tifffile.TiffFileError) as error:
            raise FileError(path, f"frame {index} cannot be read ({error})", "check the file") from None
        if pixels.shape != self.shape or pixels.dtype != self.dtype:
            raise FileError(path, f"frame {index} is {pixels.dtype} {pixels.shape}, the first one {self.dtype} {self.shape}", "frames must be alike")
        return pixels

    def close(self) -> None:
        """Close the files that frames were read from."""
        while self.opened:
            self.opened.popitem()[1].close()

    def _pages(self, path: Path, pages: tuple[int, ...]) -> NDArray[Any]:
        if path not in self.opened:
            self.opened[path] = tifffile.TiffFile(path)
        planes = [self.opened[path].pages[page].asarray() for page in pages]
        return np.stack(planes) if planes[0].ndim == 2 else np.moveaxis(planes[0], 2, 0)


def open_stack(source: str) -> Stack:
    """The frames of a TIFF with several pages, of a folder, or of the files that a pattern names, in natural order.

    Frames of a TIFF run along T, else Z, else its only other axis; C are channels. Raises ``FileError`` or ``RegisterError``.
    """
    path = Path(source)
    if path.is_dir():
        source = str(path / "*")
    files = sorted((Path(name) for name in glob.glob(source) if Path(name).is_file() and not Path(name).name.startswith(".")), key=_natural)
    if not files:
        raise RegisterError(f"--series {source}: no file of that name")
    if len(files) == 1 and files[0].suffix.lower() in TIFF:
        return _of_tiff(files[0])
    if len(files) == 1:
        raise FileError(files[0], "is a single image", "a TIFF with several pages, or several files, are needed")
    first = open_image(files[0])
    return Stack(path.name, tuple(files), (), (first.pixels.shape[0], *first.size), first.dtype)


def append(path: Path, planes: NDArray[Any], *, first: bool, compression: str) -> None:
    """Add a frame (c, h, w) to a BigTIFF as a page per channel, or begin the file with it."""
    packed = None if compression == "none" else compression
    pages = planes[0] if len(planes) == 1 else planes
    tifffile.imwrite(path, pages, append=not first, bigtiff=True, photometric="minisblack", compression=packed, metadata=None)


def _of_tiff(path: Path) -> Stack:
    try:
        with tifffile.TiffFile(path) as tif:
            series = tif.series[0]
            axes, shape, keyframe = series.axes, series.shape, series.keyframe
            numbers = np.array([page.index if page is not None else -1 for page in series.pages])
            single = keyframe.ndim
    except (OSError, ValueError, IndexError, tifffile.TiffFileError) as error:
        raise FileError(path, f"is not a TIFF that can be read ({error})", "check the file") from None
    outer = [(name, n) for name, n in zip(axes[:-single], shape[:-single], strict=True) if n > 1]
    along = [name for name, _ in outer if name != "C"]
    if len(along) != 1 or len(numbers) != np.prod([n for _, n in outer]):
        raise FileError(path, f"has axes {axes} {shape}", "one axis of frames, and C at most, are understood")
    laid = numbers.reshape([n for _, n in outer])
    if len(outer) == 2 and outer[0][0] == "C":
        laid = laid.T
    pages = laid.reshape(len(laid), -1)
    height, width = keyframe.imagelength, keyframe.imagewidth
    channels = pages.shape[1] if single == 2 else keyframe.samplesperpixel
    return Stack(path.name, (path,), tuple(tuple(int(n) for n in frame) for frame in pages), (channels, height, width), np.dtype(keyframe.dtype))


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
