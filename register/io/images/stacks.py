"""Frames of a movie, a time series or a depth stack: pages of one TIFF, or one file each; read one by one."""

import glob
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from register.errors import FileError, RegisterError
from register.files.atomic import atomic_write
from register.io.images.open import open_image
from register.io.images.tiff import said
from register.io.images.tiff_write import physical_size, resolution_tags

TIFF = (".tif", ".tiff", ".btf", ".tf8", ".tf2", ".lsm")


@dataclass(frozen=True)
class Stack:
    """Frames (c, h, w) of one size and type; ``pages`` of one TIFF per frame, or one file per frame.

    ``axis`` is what they run along, T or Z. Where the file says it, ``step`` is the seconds from one to the next, and ``pixel_size`` is ``(x, y)`` in
    ``pixel_unit``.
    """

    name: str
    files: tuple[Path, ...]
    pages: tuple[tuple[int, ...], ...]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    rgb: bool = False
    axis: str = "T"
    step: float | None = None
    pixel_size: tuple[float, float] | None = None
    pixel_unit: str | None = None
    nodata: float | None = None
    opened: dict[Path, tifffile.TiffFile] = field(default_factory=dict, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.pages) or len(self.files)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "opened": {}}

    def frame(self, index: int) -> NDArray[Any]:
        """One frame (c, h, w). Raises ``FileError`` when it cannot be read or is not like the others."""
        path = self.files[0] if self.pages else self.files[index]
        try:
            pixels = (
                self._pages(path, self.pages[index])
                if self.pages
                else np.asarray(open_image(path).pixels[slice(None), slice(None), slice(None)])
            )
        except (OSError, ValueError, tifffile.TiffFileError) as error:
            raise FileError(path, f"frame {index} cannot be read ({error})", "check the file") from None
        if pixels.shape != self.shape or pixels.dtype != self.dtype:
            raise FileError(
                path,
                f"frame {index} is {pixels.dtype} {pixels.shape}, the first one {self.dtype} {self.shape}",
                "frames must be alike",
            )
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
    files = sorted(
        (
            Path(name)
            for name in glob.glob(source)
            if Path(name).is_file() and not Path(name).name.startswith(".")
        ),
        key=_natural,
    )
    if not files:
        raise RegisterError(f"--series {source}: no file of that name")
    if len(files) == 1 and files[0].suffix.lower() in TIFF:
        return _of_tiff(files[0])
    if len(files) == 1:
        raise FileError(
            files[0], "is a single image", "a TIFF with several pages, or several files, are needed"
        )
    first = open_image(files[0])
    shape = (first.pixels.shape[0], *first.size)
    return Stack(
        path.name,
        tuple(files),
        (),
        shape,
        first.dtype,
        rgb=first.colour == "rgb" and not first.extra,
        pixel_size=first.pixel_size,
        pixel_unit=first.pixel_unit,
        nodata=first.nodata,
    )


@contextmanager
def written(path: Path, stack: Stack, compression: str) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Write a BigTIFF, whole or not at all, of frames (c, h, w) warped from those of ``stack``: what is yielded adds one."""
    packed = None if compression == "none" else compression
    head = _head(stack)
    with atomic_write(path) as beside, tifffile.TiffWriter(beside, bigtiff=True) as file:

        def add(planes: NDArray[Any]) -> None:
            pages = np.moveaxis(planes, 0, 2) if stack.rgb else planes[0] if len(planes) == 1 else planes
            file.write(
                pages,
                photometric="rgb" if stack.rgb else "minisblack",
                compression=packed,
                metadata=None,
                **head,
            )
            head.clear()  # it is said once

        yield add


def _head(stack: Stack) -> dict[str, Any]:
    """What the first page says about all: OME's description of the axes, the size of a pixel, the time between frames."""
    (channels, height, width), count = stack.shape, len(stack)
    told = {"Name": stack.name} | physical_size(stack.pixel_size, stack.pixel_unit)
    tags = {"software": "register"} | resolution_tags(stack.pixel_size, stack.pixel_unit)
    if stack.step and stack.axis == "T":
        told |= {"TimeIncrement": stack.step, "TimeIncrementUnit": "s"}
    ome = tifffile.OmeXml()
    if stack.rgb:
        ome.addimage(
            stack.dtype,
            (count, height, width, 3),
            (count, 1, 1, height, width, 3),
            axes=f"{stack.axis}YXS",
            **told,
        )
    elif channels > 1:
        ome.addimage(
            stack.dtype,
            (count, channels, height, width),
            (count * channels, 1, 1, height, width, 1),
            axes=f"{stack.axis}CYX",
            **told,
        )
    else:
        ome.addimage(
            stack.dtype,
            (count, height, width),
            (count, 1, 1, height, width, 1),
            axes=f"{stack.axis}YX",
            **told,
        )
    return tags | {"description": ome.tostring(declaration=True).encode()}


def _of_tiff(path: Path) -> Stack:
    try:
        with tifffile.TiffFile(path) as tif:
            series = tif.series[0]
            axes, shape, keyframe = series.axes, series.shape, series.keyframe
            numbers = np.array([page.index if page is not None else -1 for page in series.pages])
            single = keyframe.ndim
            known = said(tif, keyframe, 0, 0)
            step = (tif.imagej_metadata or {}).get("finterval") if tif.is_imagej else None
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
    return Stack(
        path.name,
        (path,),
        tuple(tuple(int(n) for n in frame) for frame in pages),
        (
            pages.shape[1] if single == 2 else keyframe.samplesperpixel,
            keyframe.imagelength,
            keyframe.imagewidth,
        ),
        np.dtype(keyframe.dtype),
        rgb=single == 3
        and keyframe.samplesperpixel == 3
        and keyframe.photometric == tifffile.PHOTOMETRIC.RGB,
        axis="Z" if along == ["Z"] else "T",
        step=float(step) if step else None,
        pixel_size=known.get("pixel_size"),
        pixel_unit=known.get("pixel_unit"),
        nodata=known["nodata"],
    )


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
