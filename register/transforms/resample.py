"""Resample an image through a transform, window by window, from its original pixels."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from register.errors import RegisterError
from register.geometry import affine
from register.geometry.arrays import Float64
from register.images import filters
from register.images import interpolation as sampling
from register.images.pixels import EVERYTHING, Key, Pixels, check_dtype, spans
from register.transforms.transform import Inverse, Transform, Units

TILE = 1024
REACH = 3
"""Pixels read around the positions of a tile: the reach of the widest kernel, plus rounding."""
OUTLINE = 65
"""Points along each edge of the moving image that are mapped to find the size of a union."""
EDGE = 0.01
"""Pixels by which an image may stand over a union: a row for the sake of rounding is none."""
LARGEST_CANVAS = 4
"""Pixels of a union in units of those of both images, above which it is refused."""
TIE = 1e-7
"""Pixels that nearest neighbours are moved by, so that a position halfway between two pixels goes to the same one however it was rounded."""
LARGEST_WINDOW = 2**24
"""Pixels of the moving image that one tile may need; a tile that needs more is cut in four."""


@dataclass(frozen=True)
class Canvas:
    """The pixels that are computed: ``left`` and ``top`` are the fixed position of the first one."""

    left: int
    top: int
    width: int
    height: int

    @staticmethod
    def of(transform: Transform | Inverse) -> "Canvas":
        """The fixed image itself."""
        return Canvas(0, 0, transform.fixed.width, transform.fixed.height)

    @staticmethod
    def union(transform: Transform) -> "Canvas":
        """The smallest that holds the fixed image and where the moving one comes to lie.

        Raises ``RegisterError`` when it would have more than ``LARGEST_CANVAS`` times the pixels of both,
        as after a degenerate transform.
        """
        fixed, moving = transform.fixed, transform.moving
        found = transform.inverse().map(_outline(moving.width, moving.height))
        if not np.isfinite(found).all():
            raise RegisterError("the union of both images has no finite size; use --canvas fixed")
        left, top = np.minimum(np.floor(found.min(0) + 0.5 + EDGE), 0).tolist()
        right, bottom = np.maximum(np.ceil(found.max(0) + 0.5 - EDGE), (fixed.width, fixed.height)).tolist()
        width, height = int(right - left), int(bottom - top)
        enlarged = max(1.0, 1 / abs(float(affine.determinant(transform.matrix))))
        both = fixed.width * fixed.height + moving.width * moving.height * enlarged
        if width * height > LARGEST_CANVAS * both:
            raise RegisterError(
                f"the union of both images would be {width} × {height} pixels, because the transform maps them"
                " far from each other; use --canvas fixed"
            )
        return Canvas(int(left), int(top), width, height)

    def map(
        self, transform: Transform | Inverse, rows: range, columns: range, then: Units | None = None
    ) -> Tensor:
        """Moving points (h', w', 2) of some of the canvas, in other units ``then`` if given."""
        x, y = _positions(columns, self.left), _positions(rows, self.top)
        return torch.from_numpy(transform.map_grid(x, y, then))

    def border(self, transform: Transform | Inverse, rows: range, columns: range) -> Tensor:
        """Moving points (n, 2) of the border of some of the canvas."""
        x, y = _positions(columns, self.left), _positions(rows, self.top)
        across = transform.map_grid(x, y[[0, -1]]).reshape(-1, 2)
        down = transform.map_grid(x[[0, -1]], y).reshape(-1, 2)
        return torch.from_numpy(np.concatenate([across, down]))


@dataclass(frozen=True)
class Warped:
    """The moving pixels (c, H, W) on the fixed grid, in their own type, each window computed when it is
    read; through an inverse, the other way round.

    Integers are rounded and clipped to the range of their type, never rescaled, and a cubic goes no further
    than the 16 pixels it is made of. Pixels the moving image does not show get ``fill`` (None: NaN for
    floats, 0 otherwise), and 0 in the last channel when that is opacity (``alpha``). A NaN spreads to the
    pixels its neighbours are mixed into, and no further. Raises ``RegisterError`` for dtypes that cannot be
    held exactly.
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
        """One tile (c, h', w'); positions are exact because only their distance from a window's corner is sampled."""
        height, width = self.pixels.shape[1:]
        canvas = self.canvas or Canvas.of(self.transform)
        border = canvas.border(
            self.transform, rows, columns
        )  # what does not fold maps the inside of a border into its image
        low, high = border.amin(0), border.amax(0)
        size = torch.tensor([width, height])
        whole = border.equal(border.round())
        if (
            self.interpolation == "nearest"
            or whole
            or isinstance(self.transform, Inverse)
            or bool((low < -0.5).any() or (high > size - 0.5).any())
        ):
            return self._careful_tile(
                channels, rows, columns, canvas.map(self.transform, rows, columns), whole=whole
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
        self, channels: slice, rows: range, columns: range, points: Tensor, *, whole: bool
    ) -> NDArray[Any]:
        """A tile at moving points (h', w', 2) of which some may lie outside, or all on pixels, as those of its border do when it is ``whole``."""
        height, width = self.pixels.shape[1:]
        fill = torch.full(
            (channels.stop - channels.start, 1, 1),
            default_fill(self.dtype) if self.fill is None else self.fill,
            dtype=torch.float64,
        )
        if self.alpha and channels.stop == self.pixels.shape[0]:
            fill[-1] = 0.0
        shown = sampling.inside(points, height, width)
        if not bool(shown.any()):
            return _cast(fill.expand(-1, len(rows), len(columns)), self.dtype)
        interpolation = self.interpolation
        if interpolation == "nearest":
            points = (
                points + (0.5 + TIE)
            ).floor()  # rounded before tiles shift the origin, so that ties fall the same way in all of them
        elif whole and torch.equal(points, points.round()):
            interpolation = "nearest"  # pixels on pixels: their values as they are, to the last bit
        low, high = (
            torch.stack(ends)
            for ends in zip(*(_ends(plane, shown) for plane in points.unbind(-1)), strict=True)
        )
        window, corner = self._window(channels, low, high)
        if window is None:
            return self._in_quarters(channels, rows, columns)
        scale, offset = sampling.normaliser(window.shape[1], window.shape[2], corner)
        grid = (points * points.new_tensor(scale) + points.new_tensor(offset))[None]
        sample = _sample_around_nan if self.dtype.kind == "f" else _sample
        image = self._floats(window)
        return _cast(torch.where(shown, sample(image, grid, interpolation)[0], fill.to(image)), self.dtype)

    def _window(
        self, channels: slice, low: Tensor, high: Tensor
    ) -> tuple[NDArray[Any] | None, tuple[int, int]]:
        """The moving pixels about a box of positions and the position of their first; None when they are too many."""
        size = torch.tensor([self.pixels.shape[2], self.pixels.shape[1]])
        first = torch.minimum((low.floor().long() - REACH).clamp(min=0), size - 1)
        last = torch.minimum(high.ceil().long() + REACH + 1, size)
        corner = int(first[0]), int(first[1])
        if int((last - first).prod()) > LARGEST_WINDOW:
            return None, corner
        return self.pixels[channels, corner[1] : int(last[1]), corner[0] : int(last[0])], corner

    def _floats(self, window: NDArray[Any]) -> Tensor:
        """A window as a batch of one, in the precision that keeps every value of its type."""
        return torch.from_numpy(window.astype(np.float32 if self.dtype.itemsize == 1 else np.float64))[None]

    def _in_quarters(self, channels: slice, rows: range, columns: range) -> NDArray[Any]:
        """A tile whose part of the moving image is too large, in parts; a single pixel needs few."""
        middle = (len(rows) + 1) // 2, (len(columns) + 1) // 2
        bands = [
            [self._tile(channels, r, c) for c in (columns[: middle[1]], columns[middle[1] :]) if len(c)]
            for r in (rows[: middle[0]], rows[middle[0] :])
            if len(r)
        ]
        return np.concatenate([np.concatenate(band, axis=2) for band in bands], axis=1)


@dataclass(frozen=True)
class ValidMask:
    """Where (1, H, W) the moving image shows something on the fixed grid: 255, elsewhere 0, window by window.

    ``valid`` are pixels (1, h, w) that are not 0 where the moving image itself is valid; None: everywhere.
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
        shown: NDArray[np.bool_] = sampling.inside(points, moving.height, moving.width)[None].numpy()
        return shown.astype(np.uint8) * np.uint8(255)


def warp_pixels(
    pixels: Pixels,
    transform: Transform | Inverse,
    *,
    interpolation: str = "bilinear",
    fill: float | None = None,
    tile: int = TILE,
) -> NDArray[Any]:
    """All of ``Warped`` at once: the aligned image (c, H, W) of a moving one (c, h, w). Raises ``RegisterError``."""
    return Warped(pixels, transform, interpolation, fill, tile=tile)[EVERYTHING]


def default_fill(dtype: np.dtype[Any]) -> float:
    """NaN for floats, 0 for everything else."""
    return float("nan") if dtype.kind == "f" else 0.0


def tiles(height: int, width: int, side: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the square tiles that cover an image, the last ones cut by its border."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield slice(top, min(top + side, height)), slice(left, min(left + side, width))


def _ends(plane: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest of the numbers (h, w) that are shown, of which there is one at least."""
    return torch.where(shown, plane, torch.inf).amin(), torch.where(shown, plane, -torch.inf).amax()


def _positions(span: range, first: int) -> Float64:
    return np.arange(span.start + first, span.stop + first, dtype=np.float64)


def _outline(width: int, height: int) -> Float64:
    """Points (n, 2) along the edges of an image."""
    x, y = (np.linspace(-0.5, side - 0.5, OUTLINE) for side in (width, height))
    sides = affine.points_at(x, y[[0, -1]]), affine.points_at(x[[0, -1]], y)
    return np.concatenate([side.reshape(-1, 2) for side in sides])


def _sample_around_nan(image: Tensor, grid: Tensor, interpolation: str) -> Tensor:
    """Values (1, c, h', w'); those into which a NaN is mixed with any weight are NaN, all others as if there were none."""
    broken = torch.isnan(image)
    if not bool(broken.any()):
        return _sample(image, grid, interpolation)
    values = _sample(torch.where(broken, 0.0, image), grid, interpolation)
    touched = sampling.sample_normalised(broken.to(image), grid, interpolation=interpolation).abs() > 1e-9
    return torch.where(touched, torch.nan, values)


def _sample(image: Tensor, grid: Tensor, interpolation: str) -> Tensor:
    """Values (1, c, h', w') at normalised points (1, h', w', 2), cubics held within the range of the pixels they are made of."""
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
