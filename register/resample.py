"""Resample an image through a transform, tile by tile, from its original pixels."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from register import sampling
from register.errors import RegisterError
from register.transform import Inverse, Transform

TILE = 1024
REACH = 3
"""Pixels read around the positions of a tile: the reach of the widest kernel, plus rounding."""

Pixels = NDArray[np.generic]


def warp_pixels(pixels: Pixels, transform: Transform | Inverse, *, interpolation: str = "bilinear", fill: float | None = None, tile: int = TILE) -> Pixels:
    """The aligned image (c, H, W) of a moving one (c, h, w): same dtype, on the fixed grid; through an inverse, the other way round.

    Integers are rounded and clipped to the range of their type, never rescaled, so cubic overshoot does not wrap. Pixels the moving image
    does not show get ``fill`` (None: NaN for floats, 0 otherwise). A NaN spreads to the pixels its neighbours are mixed into,
    and no further. Raises ``RegisterError`` for dtypes that cannot be held exactly.
    """
    check_dtype(pixels.dtype)
    aligned = np.empty((len(pixels), transform.fixed.height, transform.fixed.width), pixels.dtype)
    value = default_fill(pixels.dtype) if fill is None else fill
    for rows, columns in tiles(aligned.shape[1], aligned.shape[2], tile):
        points = transform.map_grid(_positions(columns), _positions(rows))
        aligned[:, rows, columns] = _tile(pixels, points, interpolation, value)
    return aligned


def warp_channels(pixels: Pixels, transform: Transform | Inverse, *, alpha: bool, interpolation: str = "bilinear", fill: float | None = None) -> Pixels:
    """``warp_pixels`` for an image whose last channel may be opacity, which is 0 where nothing is shown, whatever the ``fill``."""
    if not alpha:
        return warp_pixels(pixels, transform, interpolation=interpolation, fill=fill)
    colour = warp_pixels(pixels[:-1], transform, interpolation=interpolation, fill=fill)
    return np.concatenate([colour, warp_pixels(pixels[-1:], transform, interpolation=interpolation, fill=0.0)])


def check_dtype(dtype: np.dtype[np.generic]) -> None:
    """Raise ``RegisterError`` unless values of this dtype pass through interpolation without loss."""
    if dtype.kind not in "biuf" or (dtype.kind in "iu" and dtype.itemsize > 4):
        raise RegisterError(f"pixels of type {dtype} cannot be interpolated exactly; convert to a real type of at most 32 bits (64 for floats)")


def default_fill(dtype: np.dtype[np.generic]) -> float:
    """NaN for floats, 0 for everything else."""
    return float("nan") if dtype.kind == "f" else 0.0


def tiles(height: int, width: int, side: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the square tiles that cover an image, the last ones cut by its border."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield slice(top, min(top + side, height)), slice(left, min(left + side, width))


def _positions(span: slice) -> Tensor:
    return torch.arange(span.start, span.stop, dtype=torch.float64)


def _tile(pixels: Pixels, points: Tensor, interpolation: str, fill: float) -> Pixels:
    """One tile (c, h', w') read at points (h', w', 2); positions are exact because only their distance from a window's corner is sampled."""
    height, width = pixels.shape[1:]
    shown = sampling.inside(points, height, width)
    if interpolation == "nearest":
        points = (points + 0.5).floor()  # rounded before tiles shift the origin, so that ties fall the same way in all of them
    elif torch.equal(points, points.round()):
        interpolation = "nearest"  # pixels on pixels: their values as they are, to the last bit
    if not bool(shown.any()):
        return _cast(torch.full((len(pixels), *points.shape[:2]), fill, dtype=torch.float64), pixels.dtype)
    seen = points[shown]
    low = (seen.amin(0).floor().long() - REACH).clamp(min=0)
    high = torch.minimum(seen.amax(0).ceil().long() + REACH + 1, torch.tensor([width, height]))
    window = pixels[:, low[1] : high[1], low[0] : high[0]]
    exact = torch.float32 if pixels.dtype.itemsize == 1 else torch.float64
    image = torch.from_numpy(window.astype(np.float32 if exact == torch.float32 else np.float64))[None]
    values = _sample_around_nan(image, (points - low)[None].to(exact), interpolation)[0]
    return _cast(torch.where(shown, values, fill), pixels.dtype)


def _sample_around_nan(image: Tensor, points: Tensor, interpolation: str) -> Tensor:
    """Values (1, c, h', w'); those into which a NaN is mixed with any weight are NaN, all others as if there were none."""
    broken = torch.isnan(image)
    if not bool(broken.any()):
        return sampling.sample(image, points, interpolation=interpolation)
    values = sampling.sample(torch.where(broken, 0.0, image), points, interpolation=interpolation)
    touched = sampling.sample(broken.to(image), points, interpolation=interpolation).abs() > 1e-9
    return torch.where(touched, torch.nan, values)


def _cast(values: Tensor, dtype: np.dtype[np.generic]) -> Pixels:
    """Values in the image's own dtype: integers rounded and clipped to its range."""
    array: NDArray[np.float64] = values.numpy()
    if dtype.kind == "f":
        return array.astype(dtype)
    if dtype.kind == "b":
        return array > 0.5
    limits = np.iinfo(str(dtype))
    return np.rint(np.clip(array, limits.min, limits.max)).astype(dtype)
