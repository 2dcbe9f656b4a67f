"""Layers of napari as images of ``register``: the pixels that they show, and where these lie in the world.

napari orders coordinates as (row, column); here they are ``(x, y)``, as everywhere in ``register``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import RegisterError
from register.geometry import affine
from register.geometry.arrays import Float64
from register.geometry.pixel_size import METRES, PixelSize
from register.images.pixels import Key, Pixels
from register.io.images.model import UNASSOCIATED, Image

LARGEST = 2**31 - 1
"""The largest value of 64-bit integers that are used: they are computed with as 32 bits."""


@dataclass(frozen=True)
class LayerPixels:
    """What an image or labels layer shows, or one of its levels, as pixels (c, h, w).

    ``data`` is any array of napari, (..., h, w) or (..., h, w, c) with ``colours``; ``plane`` is the index of
    the axes before the rows. A window is read from the data when it is asked for. 64-bit integers become
    32-bit ones; ``RegisterError`` is raised where a value does not fit.
    """

    data: Any
    plane: tuple[int, ...] = ()
    colours: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, rows, columns."""
        shape = tuple(self.data.shape)
        return (shape[-1], *shape[-3:-1]) if self.colours else (1, *shape[-2:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a value."""
        given = np.dtype(self.data.dtype)
        return np.dtype(np.int32) if given.kind in "iu" and given.itemsize > 4 else given

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """A window (c, h, w)."""
        window = np.asarray(self.data[(*self.plane, key[1], key[2])])
        window = np.moveaxis(window, -1, 0)[key[0]] if self.colours else window[None][key[0]]
        if window.dtype != self.dtype:
            if window.size and (int(window.max()) > LARGEST or int(window.min()) < -LARGEST):
                raise RegisterError("a layer of 64-bit integers has a value that 32 bits cannot hold")
            window = window.astype(self.dtype)
        return np.ascontiguousarray(window)


def image_of(layer: Any, viewer: Any) -> Image:
    """The image that an image or labels layer shows in a viewer, with its coarser levels.

    Of stacks it is the plane that is shown. Nothing is read before it is needed. Raises ``RegisterError``
    where the last two axes of the layer are not those that the viewer shows.
    """
    shown = tuple(viewer.dims.displayed)
    if shown != tuple(range(viewer.dims.ndim))[-2:]:
        raise RegisterError(f"layer {layer.name!r}: show its last two axes, in two dimensions")
    levels = list(layer.data) if layer.multiscale else [layer.data]
    colours = bool(getattr(layer, "rgb", False))
    plane = plane_of(layer, viewer.dims.point)
    pixels: list[Pixels] = []
    for level in levels:
        steps = [n / of for n, of in zip(level.shape, levels[0].shape, strict=True)][: len(plane)]
        index = tuple(int(p * step) for p, step in zip(plane, steps, strict=True))
        pixels.append(LayerPixels(level, index, colours))
    if 0 in pixels[0].shape:
        raise RegisterError(f"layer {layer.name!r} has no pixels")
    return Image(
        pixels[0],
        kind="other",
        colour="rgb" if colours else "grey",
        extra=(UNASSOCIATED,) if colours and pixels[0].shape[0] == 4 else (),
        pixel_size=pixel_size_of(layer),
        path=layer.source.path,
        smaller=tuple(pixels[1:]),
    )


def plane_of(layer: Any, point: Sequence[float]) -> tuple[int, ...]:
    """The index of the axes of a layer before its last two, at a point of the world.

    Raises ``RegisterError`` where the layer shows nothing there.
    """
    if layer.ndim == 2:
        return ()
    position = np.round(layer.world_to_data(tuple(point)[-layer.ndim :]))[:-2]
    shape = (layer.data[0] if layer.multiscale else layer.data).shape
    for index, count in zip(position, shape, strict=False):
        if not 0 <= index < count:
            raise RegisterError(f"layer {layer.name!r} shows nothing at this position of the sliders")
    return tuple(int(index) for index in position)


def pixel_size_of(layer: Any) -> PixelSize | None:
    """The pixel size of a layer whose unit is a length; None for layers in pixels."""
    unit = f"{layer.units[-1]:~}" if layer.units else ""
    if unit not in METRES or layer.units[-1] != layer.units[-2]:
        return None
    down, across = (abs(float(side)) for side in layer.scale[-2:])
    return PixelSize(across, down, unit)


def world_from(layer: Any) -> Float64:
    """The matrix (2, 3) from the pixels (or points) of a layer to the world, ``(x, y)``."""
    corners = np.zeros((3, layer.ndim))
    corners[1, -1] = corners[2, -2] = 1.0
    origin, along_x, along_y = (
        np.asarray(layer.data_to_world(tuple(corner)), np.float64)[-2:][::-1] for corner in corners
    )
    return np.stack([along_x - origin, along_y - origin, origin], axis=1)


def pixels_from(points: Any, image: Any) -> Float64:
    """The matrix (2, 3) from the coordinates of one layer to the pixels of another, where they lie on each
    other in the world."""
    return affine.compose(affine.invert(world_from(image)), world_from(points))


def layer_affine(matrix: Float64, ndim: int = 2) -> Float64:
    """The ``affine`` (ndim + 1, ndim + 1) of a layer whose pixels a matrix (2, 3) maps to the world."""
    whole = np.eye(ndim + 1)
    rows = matrix[::-1]
    whole[-3:-1, -3:-1] = rows[:, [1, 0]]
    whole[-3:-1, -1] = rows[:, 2]
    return whole


def xy(coordinates: NDArray[Any]) -> Float64:
    """Points (n, 2), ``(x, y)``, of coordinates (n, ndim) of napari."""
    return np.asarray(coordinates, np.float64)[:, -2:][:, ::-1]


def with_xy(coordinates: NDArray[Any], points: Float64) -> Float64:
    """Coordinates (n, ndim) of napari with their last two replaced by points (n, 2), ``(x, y)``."""
    changed = np.array(coordinates, np.float64)
    changed[:, -2:] = points[:, ::-1]
    return changed
