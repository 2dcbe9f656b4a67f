"""Resample a frame by its map."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from register.engine.movie import tensors
from register.geometry import affine
from register.geometry.spline_map import SplineMap
from register.images.pixels import EVERYTHING
from register.kernels import movie
from register.kernels.movie import Axis, Displaced
from register.transforms.canvas import Canvas
from register.transforms.frame import Frame
from register.transforms.movie import FrameTransform, transform_of
from register.transforms.quality import Verdict
from register.transforms.resample import Warped

EXACT = 2**24
"""Integers below this are exact in float32."""
LARGEST = 4096
"""Longest side, in pixels, at which float32 positions are exact to 0.0005 pixels."""


def resampled(
    pixels: NDArray[Any], of: SplineMap, interpolation: str, fill: float, canvas: Canvas | None = None
) -> NDArray[Any]:
    """The frame (c, h, w) on the grid of the reference, or on a canvas, ``fill`` outside it.

    The map is that of its patches, as in ``transforms.resample``. One pass in float32 computes it where
    values and positions are exact in that type.
    """
    if not _suits(pixels, interpolation):
        transform = transform_of("local", FrameTransform(of, Verdict.UNKNOWN))
        transform = replace(transform, moving=Frame(pixels.shape[2], pixels.shape[1]))
        return Warped(pixels, transform, interpolation, fill, canvas=canvas)[EVERYTHING]
    canvas = canvas or Canvas(0, 0, of.width, of.height)
    y, x, coefficients = _bases(of, canvas)
    moved = affine.compose(of.matrix, np.array([[1.0, 0.0, canvas.left], [0.0, 1.0, canvas.top]]))
    numbers = tuple(moved.ravel().tolist())
    planes = []
    for plane in pixels:
        frame = torch.from_numpy(np.ascontiguousarray(plane, dtype=np.float32))
        planes.append(tensors.resample(Displaced(frame, y, x, coefficients, numbers), fill).numpy())
    found = np.stack(planes)
    if pixels.dtype.kind == "f":
        return found
    limits = np.iinfo(pixels.dtype)
    np.rint(found, out=found)
    return np.clip(found, limits.min, limits.max, out=found).astype(pixels.dtype)


def _suits(pixels: NDArray[Any], interpolation: str) -> bool:
    """Whether float32 is exact enough, and there is compiled code: tensors are not exact on pixels."""
    if not movie.is_available():
        return False
    if interpolation != "bilinear" or not 2 <= min(pixels.shape[1:]) <= max(pixels.shape[1:]) <= LARGEST:
        return False
    if pixels.dtype == np.float32:
        return bool(np.isfinite(pixels).all())
    return pixels.dtype.kind in "ui" and pixels.dtype.itemsize <= 2


def _bases(of: SplineMap, canvas: Canvas) -> tuple[Axis, Axis, torch.Tensor]:
    """The basis of the patches along y and x, and their coefficients (2, 2 rows, 2 columns): of each patch in
    turn its displacement and its derivatives."""
    patches = SplineMap(of.height, of.width, np.eye(2, 3), of.coefficients).patches()
    if patches is None:
        axes = [
            Axis(4, torch.zeros(4, n), torch.zeros(n, dtype=torch.int32))
            for n in (canvas.height, canvas.width)
        ]
        return axes[0], axes[1], torch.zeros(2, 4, 4)
    from register.geometry import patch_grid

    grid, matrices = patches
    parameters = patch_grid.from_matrices(grid, matrices)
    found = np.zeros((2, 2 * grid.rows, 2 * grid.columns), np.float32)
    found[:, ::2, ::2], found[:, ::2, 1::2], found[:, 1::2, ::2] = np.moveaxis(parameters, 1, 0)
    y = _hats(canvas.top, canvas.height, grid.rows, grid.spacing[1])
    x = _hats(canvas.left, canvas.width, grid.columns, grid.spacing[0])
    return y, x, torch.from_numpy(found)


@lru_cache(maxsize=16)
def _hats(start: int, length: int, count: int, spacing: float) -> Axis:
    """The basis of patches along an axis, at ``length`` pixels from ``start`` on: of each a hat, and the hat
    times the distance from its centre. The outermost patch holds beyond its centre."""
    steps = (np.arange(start, start + length) + 0.5) / spacing
    first = np.clip(np.floor(steps), 0, count - 2).astype(np.int32)
    t = steps - first
    near = np.clip(t, 0, 1)
    values = np.stack([1 - near, (1 - near) * t, near, near * (t - 1)]).astype(np.float32)
    return Axis(2 * count, torch.from_numpy(values), torch.from_numpy(2 * first))
