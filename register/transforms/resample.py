"""Resample an image by a transform, window by window, with a single interpolation of the original pixels."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from register.compute import forks
from register.errors import RegisterError
from register.images import filters
from register.images import interpolation as sampling
from register.images.pixels import EVERYTHING, Key, Pixels, check_dtype, spans
from register.transforms.canvas import Canvas
from register.transforms.transform import Inverse, Transform

TILE = 1024
REACH = 3
"""Pixels read around the positions of a tile: the radius of the widest kernel, plus rounding."""
TIE = 1e-7
"""Pixels added to positions before rounding, so that a position halfway between two pixels always has the
same nearest neighbour."""
LARGEST_WINDOW = 2**24
"""Most pixels of the moving image that are read for one tile; a tile that needs more is divided into four."""


@dataclass(frozen=True)
class Warped:
    """The moving image resampled on the fixed grid: pixels (c, H, W), computed when they are read.

    With an inverse transform the fixed image is resampled on the moving grid. Integers are rounded and
    clipped to the range of their type, never rescaled; bicubic values are clipped to the range of the 16
    pixels they are interpolated from. Pixels outside the moving image get ``fill`` (None: NaN for floats, 0
    otherwise), and 0 in the last channel when that is opacity (``alpha``). A value is NaN where a NaN pixel
    has any weight in it. Raises ``RegisterError`` for dtypes that cannot be interpolated exactly.
    """

    pixels: Pixels
    transform: Transform | Inverse
    interpolation: str = "bilinear"
    fill: float | None = None
    alpha: bool = False
    canvas: Canvas | None = None
    tile: int = TILE

    def __post_init__(self) -> None:
        check_dtype(self.pixels.dtype)
        forks.check()

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, rows, columns."""
        canvas = self.canvas or Canvas.of(self.transform)
        return (self.pixels.shape[0], canvas.height, canvas.width)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a value."""
        return self.pixels.dtype

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """A window, computed tile by tile."""
        channels, rows, columns = spans(key, self.shape)
        out = np.empty((len(channels), len(rows), len(columns)), self.dtype)
        for down, across in tiles(len(rows), len(columns), self.tile):
            out[:, down, across] = self._tile(
                slice(channels.start, channels.stop), rows[down], columns[across]
            )
        return out

    def _tile(self, channels: slice, rows: range, columns: range) -> NDArray[Any]:
        """One tile (c, h', w'). Positions are relative to the window that is read, which keeps them exact."""
        height, width = self.pixels.shape[1:]
        canvas = self.canvas or Canvas.of(self.transform)
        # a map without folds maps the inside of a border to the inside of the mapped border
        border = canvas.border(self.transform, rows, columns)
        low, high = border.amin(0), border.amax(0)
        size = torch.tensor([width, height])
        on_pixels = border.equal(border.round())
        if (
            self.interpolation == "nearest"
            or on_pixels
            or isinstance(self.transform, Inverse)
            or not self.transform.continuous
            or bool((low < -0.5).any() or (high > size - 0.5).any())
        ):
            return self._careful_tile(
                channels, rows, columns, canvas.map(self.transform, rows, columns), on_pixels=on_pixels
            )
        window, corner = self._window(channels, low, high)
        if window is None:
            return self._in_quarters(channels, rows, columns)
        grid = canvas.map(
            self.transform, rows, columns, sampling.normaliser(window.shape[1], window.shape[2], corner)
        )[None]
        sample = _sample_around_nan if self.dtype.kind == "f" else _sample
        return _cast(sample(self._floats(window), grid, self.interpolation)[0], self.dtype)

    def _careful_tile(
        self, channels: slice, rows: range, columns: range, points: Tensor, *, on_pixels: bool
    ) -> NDArray[Any]:
        """A tile at moving points (h', w', 2), some of which may be outside the moving image.

        ``on_pixels``: all points of the border are pixel centres. If all points are, pixels are copied.
        """
        height, width = self.pixels.shape[1:]
        fill = torch.full(
            (channels.stop - channels.start, 1, 1),
            default_fill(self.dtype) if self.fill is None else self.fill,
            dtype=torch.float64,
        )
        if self.alpha and channels.stop == self.pixels.shape[0]:
            fill[-1] = 0.0
        inside = sampling.inside(points, height, width)
        if not bool(inside.any()):
            return _cast(fill.expand(-1, len(rows), len(columns)), self.dtype)
        interpolation = self.interpolation
        if interpolation == "nearest":
            points = (points + (0.5 + TIE)).floor()  # rounded in image coordinates, so that all tiles agree
        elif on_pixels and torch.equal(points, points.round()):
            interpolation = "nearest"  # pixels on pixels: values are copied exactly
        low, high = (
            torch.stack(ends)
            for ends in zip(*(_ends(plane, inside) for plane in points.unbind(-1)), strict=True)
        )
        window, corner = self._window(channels, low, high)
        if window is None:
            return self._in_quarters(channels, rows, columns)
        scale, offset = sampling.normaliser(window.shape[1], window.shape[2], corner)
        grid = (points * points.new_tensor(scale) + points.new_tensor(offset))[None]
        sample = _sample_around_nan if self.dtype.kind == "f" else _sample
        image = self._floats(window)
        return _cast(torch.where(inside, sample(image, grid, interpolation)[0], fill.to(image)), self.dtype)

    def _window(
        self, channels: slice, low: Tensor, high: Tensor
    ) -> tuple[NDArray[Any] | None, tuple[int, int]]:
        """The moving pixels around a box of positions, None if too many, and the position of the first."""
        size = torch.tensor([self.pixels.shape[2], self.pixels.shape[1]])
        first = torch.minimum((low.floor().long() - REACH).clamp(min=0), size - 1)
        last = torch.minimum(high.ceil().long() + REACH + 1, size)
        corner = int(first[0]), int(first[1])
        if int((last - first).prod()) > LARGEST_WINDOW:
            return None, corner
        return self.pixels[channels, corner[1] : int(last[1]), corner[0] : int(last[0])], corner

    def _floats(self, window: NDArray[Any]) -> Tensor:
        """A window as a batch of one, in a precision that represents every value of its type."""
        return torch.from_numpy(window.astype(np.float32 if self.dtype.itemsize == 1 else np.float64))[None]

    def _in_quarters(self, channels: slice, rows: range, columns: range) -> NDArray[Any]:
        """A tile that needs too many moving pixels, computed in four quarters."""
        middle = (len(rows) + 1) // 2, (len(columns) + 1) // 2
        bands = [
            [self._tile(channels, r, c) for c in (columns[: middle[1]], columns[middle[1] :]) if len(c)]
            for r in (rows[: middle[0]], rows[middle[0] :])
            if len(r)
        ]
        return np.concatenate([np.concatenate(band, axis=2) for band in bands], axis=1)


@dataclass(frozen=True)
class ValidMask:
    """The pixels (1, H, W) of the fixed grid at which the moving image is valid: 255 there, elsewhere 0.

    ``valid`` (1, h, w) is not 0 where the moving image is valid; None: everywhere. A window is computed when
    it is read.
    """

    transform: Transform | Inverse
    valid: Pixels | None = None
    canvas: Canvas | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """One, rows, columns."""
        canvas = self.canvas or Canvas.of(self.transform)
        return (1, canvas.height, canvas.width)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Bytes."""
        return np.dtype(np.uint8)

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """A window."""
        if self.valid is not None:
            return Warped(self.valid, self.transform, "nearest", 0.0, canvas=self.canvas)[key]
        _, rows, columns = spans(key, self.shape)
        moving = self.transform.moving
        points = (self.canvas or Canvas.of(self.transform)).map(self.transform, rows, columns)
        inside: NDArray[np.bool_] = sampling.inside(points, moving.height, moving.width)[None].numpy()
        return inside.astype(np.uint8) * np.uint8(255)


def warp_pixels(
    pixels: Pixels,
    transform: Transform | Inverse,
    *,
    interpolation: str = "bilinear",
    fill: float | None = None,
    tile: int = TILE,
) -> NDArray[Any]:
    """The aligned image (c, H, W) of a moving image (c, h, w), as ``Warped``. Raises ``RegisterError``."""
    return Warped(pixels, transform, interpolation, fill, tile=tile)[EVERYTHING]


def check_fill(text: str, dtype: np.dtype[Any]) -> None:
    """Raise ``RegisterError`` for a ``--fill`` that pixels of a type cannot have: NaN among integers."""
    if text == "nan" and dtype.kind != "f":
        raise RegisterError(f"--fill nan: pixels of {dtype} have no NaN; name a number, or auto")


def default_fill(dtype: np.dtype[Any]) -> float:
    """NaN for floats, 0 for everything else."""
    return float("nan") if dtype.kind == "f" else 0.0


def tiles(height: int, width: int, side: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the square tiles that cover an image; the last ones are cut by its border."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield slice(top, min(top + side, height)), slice(left, min(left + side, width))


def _ends(plane: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and the largest value of a plane (h, w) where ``inside`` is true, which it is
    somewhere."""
    return torch.where(inside, plane, torch.inf).amin(), torch.where(inside, plane, -torch.inf).amax()


def _sample_around_nan(image: Tensor, grid: Tensor, interpolation: str) -> Tensor:
    """Values (1, c, h', w') of an image with NaN pixels: NaN wherever a NaN pixel has any weight."""
    broken = torch.isnan(image)
    if not bool(broken.any()):
        return _sample(image, grid, interpolation)
    values = _sample(torch.where(broken, 0.0, image), grid, interpolation)
    touched = sampling.sample_normalised(broken.to(image), grid, interpolation=interpolation).abs() > 1e-9
    return torch.where(touched, torch.nan, values)


def _sample(image: Tensor, grid: Tensor, interpolation: str) -> Tensor:
    """Values (1, c, h', w') at normalised points (1, h', w', 2).

    Bicubic values are clipped to the range of the 16 pixels they are interpolated from.
    """
    values = sampling.sample_normalised(image, grid, interpolation=interpolation)
    if interpolation != "bicubic":
        return values
    x, y = (
        (((grid[0, ..., k] + 1) * n - 1) / 2 + TIE).floor().long().clamp(0, n - 1)
        for k, n in enumerate((image.shape[-1], image.shape[-2]))
    )
    high, low = (
        sign * filters.highest(pad(sign * image, (1, 2, 1, 2), mode="replicate"), 4)[..., y, x]
        for sign in (1.0, -1.0)
    )
    return torch.minimum(torch.maximum(values, low), high)


def _cast(values: Tensor, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values in the image's own dtype: integers rounded and clipped to its range."""
    array: NDArray[np.float64] = values.numpy()
    if dtype.kind == "f":
        return array.astype(dtype)
    if dtype.kind == "b":
        return array > 0.5
    limits = np.iinfo(str(dtype))
    return np.rint(np.clip(array, limits.min, limits.max)).astype(dtype)
