"""Pixels that are computed or read when they are shown, as arrays of napari."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from register.geometry import affine
from register.images.pixels import EVERYTHING, Pixels
from register.io.images.levels import level_factors
from register.io.images.model import Image
from register.transforms.compose import followed_by
from register.transforms.resample import Warped
from register.transforms.transform import Transform

AT_ONCE = 2**24
"""Values up to which an image is resampled at once; larger ones when they are shown."""
CHUNK, COARSEST = 512, 512
"""Side of the windows that are computed, and the longest side of the coarsest level, in pixels."""


@dataclass(frozen=True)
class LayerData:
    """The ``data`` of an image or labels layer: an array (h, w) or (h, w, c), or a list of its levels."""

    data: Any
    rgb: bool = False
    multiscale: bool = False


@dataclass(frozen=True)
class _Windows:
    """Pixels (c, h, w) as an array (h, w), or (h, w, c) with ``colours``, of which windows are read."""

    pixels: Pixels
    colours: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, columns, and channels of a colour image."""
        count, height, width = self.pixels.shape
        return (height, width, count) if self.colours else (height, width)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a value."""
        return self.pixels.dtype

    @property
    def ndim(self) -> int:
        """Two, or three for colours."""
        return len(self.shape)

    def __getitem__(self, key: tuple[slice | int, ...]) -> NDArray[Any]:
        """The values at slices of any step, and at single indices, as of an array."""
        rows, columns = (_span(part, side) for part, side in zip(key[:2], self.shape, strict=False))
        window = self.pixels[slice(None), rows.window, columns.window]
        window = window[:, rows.within][:, :, columns.within]
        values = np.ascontiguousarray(np.moveaxis(window, 0, 2)) if self.colours else window[0]
        single = tuple(0 if isinstance(part, int) else slice(None) for part in key[:2])
        return np.asarray(values[single + key[2:]] if self.colours else values[single])


class _Span(NamedTuple):
    """The rows or columns of an index: the window with step 1 that holds them, and where they are within."""

    window: slice
    within: slice | NDArray[np.intp]


def _span(part: slice | int, side: int) -> _Span:
    """The rows or columns of one part of an index, along a side."""
    wanted = range(part % side, part % side + 1) if isinstance(part, int) else range(*part.indices(side))
    if not wanted or wanted.step == 1:
        return _Span(slice(wanted.start, max(wanted.stop, wanted.start)), slice(None))
    low = min(wanted)
    return _Span(slice(low, max(wanted) + 1), np.array([one - low for one in wanted], np.intp))


def shown(levels: Sequence[Pixels], *, colours: bool) -> LayerData:
    """Levels (c, h, w), finest first, as the data of a layer that reads only what it shows."""
    arrays = [_lazily(level, colours) for level in levels]
    return LayerData(arrays if len(arrays) > 1 else arrays[0], colours, len(arrays) > 1)


def resampled(
    image: Image, transform: Transform, *, interpolation: str = "bilinear", fill: float | None = None
) -> LayerData:
    """An image on the grid of the transform's fixed image, as the data of a layer.

    Small images are computed at once, larger ones window by window when they are shown, in levels, from the
    image's own coarser levels where it has them. ``fill`` is the value outside, as of ``Warped``. Raises
    ``RegisterError`` for pixels that cannot be interpolated.
    """
    colours = image.colour == "rgb"

    def warped(pixels: Pixels, at: Transform) -> Warped:
        return Warped(pixels, at, interpolation, fill, image.alpha, tile=CHUNK)

    whole = warped(image.pixels, transform)
    count, height, width = whole.shape
    if count * height * width <= AT_ONCE:
        window = whole[EVERYTHING]
        return LayerData(np.ascontiguousarray(np.moveaxis(window, 0, 2)) if colours else window[0], colours)
    levels, shrink = [whole], 2
    while max(height, width) / shrink >= COARSEST:
        level, at = _coarser(image, transform, shrink)
        levels.append(warped(level, at))
        shrink *= 2
    return shown(levels, colours=colours)


def _coarser(image: Image, transform: Transform, shrink: int) -> tuple[Pixels, Transform]:
    """The level of an image that suits pixels ``shrink`` times as large, and the transform to its pixels."""
    level, factors = image.pixels, (1.0, 1.0)
    for one in image.smaller:
        found = level_factors(image.size, (one.shape[1], one.shape[2]))
        if max(found) <= shrink * 1.01:
            level, factors = one, found
    at = transform.at_scale(1 / shrink)
    to_level = affine.compose(affine.invert(affine.scaling(*factors)), affine.scaling(shrink, shrink))
    frame = replace(at.moving, width=level.shape[2], height=level.shape[1], pixel_size=None)
    return level, followed_by(at, to_level, frame)


def _lazily(pixels: Pixels, colours: bool) -> Any:
    """An array of Dask that reads windows."""
    windows = _Windows(pixels, colours)
    chunks = (CHUNK, CHUNK, -1)[: windows.ndim]
    return da.from_array(windows, chunks=chunks, lock=True, asarray=False, fancy=False)
