"""The pixels of one level of a TIFF, read by windows where the file allows it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from register.compute.free_memory import check_memory
from register.errors import FileError
from register.images.pixels import Pixels
from register.io.images import tiff_extent
from register.io.images.model import Selection
from register.io.images.windows import Mapped, Segmented

AT_ONCE = "save it with tiles, which are read by windows"
PAGE_AXES = ("YX", "YXS", "SYX")
ORIENTATIONS = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
"""The steps along rows and columns of upright pixels (TIFF 6.0, tag Orientation); 5 to 8 are transposed."""


def open_pixels(path: Path, series: tifffile.TiffPageSeries, selection: Selection) -> Pixels:
    """The pixels (c, h, w) of one level of a series.

    They are mapped from the file when they are uncompressed and contiguous, decoded tile by tile or strip
    by strip otherwise, and loaded at once where neither is possible. Of a file that is cut off, with
    ``selection.allow_truncated``, they are the channels or rows that are left. Raises ``FileError`` for a
    data type or axes that cannot be read, and for pixels beyond the end of the file.
    """
    page = series.keyframe
    _check_type(path, series)
    axes, shape = series.axes, series.shape
    if "Y" not in axes or "X" not in axes or len(axes) != len(shape):
        raise FileError(path, f"has axes {axes} and is not an image")
    chosen = selection.indices(path, axes, shape)
    view = _View(axes, tuple(chosen.items()))
    if series.dataoffset is not None and not page.is_subsampled:
        assert series.dtype is not None  # checked above
        stored = np.dtype(str(page.parent.byteorder) + series.dtype.char)
        return _mapped(Mapped(path, series.dataoffset, shape, stored, view), selection)
    outer = len(axes) - len(page.axes)
    plain = (
        page.axes in PAGE_AXES
        and page.imagedepth == 1
        and axes[outer:] == page.axes
        and shape[outer:] == page.shape
        and math.prod(shape[:outer]) == len(series.pages)
    )
    pages = _pages(series, chosen) if plain and 0 not in page.shape else []
    if not pages or not all(_in_file(path, x) for x in pages):
        check_memory(path, 2 * math.prod(shape) * series.dtype.itemsize, AT_ONCE)
        return view(series.asarray())
    if any(page is None for page in pages) and not selection.allow_truncated:
        raise tiff_extent.cut_off(
            path, f"{sum(x is None for x in pages)} of {len(pages)} channels are missing"
        )
    return _segmented(path, series, pages, selection)


def upright(path: Path, pixels: Pixels, orientation: int) -> NDArray[Any]:
    """The pixels (c, h, w) rotated and mirrored as the TIFF tag Orientation states."""
    check_memory(path, 2 * math.prod(pixels.shape) * pixels.dtype.itemsize, AT_ONCE)
    array = pixels[slice(None), slice(None), slice(None)]
    if orientation >= 5:
        array = array.transpose(0, 2, 1)
    rows, columns = ORIENTATIONS[orientation]
    return np.ascontiguousarray(array[:, ::rows, ::columns])


def _check_type(path: Path, series: tifffile.TiffPageSeries) -> None:
    """Raise ``FileError`` for pixels that are not booleans, integers or real numbers."""
    dtype, page = series.dtype, series.keyframe
    if dtype is None or dtype.kind not in "biufc":
        raise FileError(
            path,
            f"has pixels of a type that cannot be read"
            f" ({page.bitspersample} bits, sample format {page.sampleformat})",
        )
    if dtype.kind == "c":
        raise FileError(path, f"has complex pixels ({dtype})", "save its magnitude or its real part")


Page = tifffile.TiffPage | tifffile.TiffFrame


def _pages(series: tifffile.TiffPageSeries, chosen: dict[str, int]) -> list[Page | None]:
    """The pages of the chosen plane, one per channel; None where the file leaves a page out."""
    others = len(series.axes) - len(series.keyframe.axes)
    numbers = np.arange(len(series.pages)).reshape(series.shape[:others])
    wanted = numbers[tuple(chosen.get(axis, slice(None)) for axis in series.axes[:others])]
    return [series.pages[int(i)] for i in np.atleast_1d(wanted).ravel()]


def _in_file(path: Path, page: Page | None) -> bool:
    """Whether a page is stored in this file: an OME-TIFF may consist of several."""
    if page is None:
        return True
    return page.parent.filehandle.name == path.name


def _mapped(pixels: Mapped, selection: Selection) -> Mapped:
    """Mapped pixels, or the part of them that lies within the file."""
    items = math.prod(pixels.stored)
    available = (pixels.path.stat().st_size - pixels.offset) // pixels.stored_dtype.itemsize
    if available >= items:
        return pixels
    view, height = pixels.view, pixels.shape[1]
    assert isinstance(view, _View)
    planes, inner = view.planes(pixels.stored)
    plane, line = math.prod(inner), math.prod(inner[1:])
    samples = pixels.shape[0] // len(planes)
    rows = [min(max(available - n * plane, 0) // line, height) for n in planes for _ in range(samples)]
    left = tiff_extent.rows_within(pixels.path, rows, height, allow_truncated=selection.allow_truncated)
    kept = planes[: left.channels]  # of interleaved channels, their only plane
    offset = pixels.offset + kept[0] * plane * pixels.stored_dtype.itemsize
    stored = (kept[-1] - kept[0] + 1, left.rows, *inner[1:])
    taken = _Planes(tuple(n - kept[0] for n in kept))
    return Mapped(pixels.path, offset, stored, pixels.stored_dtype, taken)


def _segmented(
    path: Path, series: tifffile.TiffPageSeries, pages: Sequence[Page | None], selection: Selection
) -> Segmented:
    """Pixels that are decoded by tiles or strips."""
    page = series.keyframe
    assert series.dtype is not None  # checked by the caller
    samples = page.samplesperpixel if page.axes == "YXS" else 1
    planes = page.samplesperpixel if page.axes == "SYX" else 1
    decode, tables = page.decode, {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}

    def decoded(data: bytes | None, index: int) -> NDArray[Any] | None:
        pixels = decode(data, index, **tables)[0]
        return None if pixels is None else pixels[0]

    side = (min(page.rowsperstrip, page.imagelength), page.imagewidth)
    if page.is_tiled:
        side = (page.tilelength, page.tilewidth)
    stored = tuple(
        ((0,), (0,)) if x is None else (tuple(x.dataoffsets), tuple(x.databytecounts)) for x in pages
    )
    check_memory(path, 3 * side[0] * side[1] * samples * series.dtype.itemsize, AT_ONCE)
    grid = -(-page.imagelength // side[0]), -(-page.imagewidth // side[1])
    end, height = path.stat().st_size, page.imagelength
    rows = [
        count
        for segments in stored
        for count in tiff_extent.segment_rows(segments, grid, side[0], height, end, planes)
        for _ in range(samples)
    ]
    left = tiff_extent.rows_within(path, rows, height, allow_truncated=selection.allow_truncated)
    channels = samples if left.rows < height else left.channels
    return Segmented(
        path,
        (channels, left.rows, page.imagewidth),
        series.dtype.newbyteorder("="),
        side,
        planes,
        samples,
        stored,
        decoded,
    )


@dataclass(frozen=True)
class _View:
    """Turns an array with named ``axes`` into (c, h, w), taking one element of each axis in ``chosen``."""

    axes: str
    chosen: tuple[tuple[str, int], ...]

    def __call__(self, array: NDArray[Any]) -> NDArray[Any]:
        chosen = dict(self.chosen)
        array = array[tuple(chosen.get(axis, slice(None)) for axis in self.axes)]
        left = [axis for axis in self.axes if axis not in chosen]
        channels = [axis for axis in left if axis not in "YX"]
        array = array.transpose([left.index(axis) for axis in [*channels, "Y", "X"]])
        return array if channels else array[None]

    def planes(self, shape: tuple[int, ...]) -> tuple[list[int], tuple[int, ...]]:
        """The numbers of the stored planes that are taken, and the shape (h, w) or (h, w, samples) of one."""
        outer = self.axes.index("Y")
        if self.axes[outer:] not in ("YX", "YXS"):
            raise ValueError(f"axes {self.axes} are not stored plane by plane")
        chosen = dict(self.chosen)
        numbers = np.arange(math.prod(shape[:outer])).reshape(shape[:outer])
        taken = numbers[tuple(chosen.get(axis, slice(None)) for axis in self.axes[:outer])]
        return np.atleast_1d(taken).ravel().tolist(), shape[outer:]


@dataclass(frozen=True)
class _Planes:
    """Turns an array of planes (n, h, w) or one plane (n, h, w, samples) into (c, h, w)."""

    numbers: tuple[int, ...]

    def __call__(self, array: NDArray[Any]) -> NDArray[Any]:
        planes = array[list(self.numbers)] if len(self.numbers) > 1 else array[self.numbers[0]][None]
        return planes if planes.ndim == 3 else np.moveaxis(planes[0], 2, 0)
