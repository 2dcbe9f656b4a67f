"""Interpolate images at positions in pixels.

Only this module calls ``grid_sample`` and uses its normalised coordinates.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from register.compute import tensors

BANDS = 16
"""Bands of rows, each sampled by one thread."""


def axes(
    height: int,
    width: int,
    *,
    margin: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """The positions x (width + 2 margin,) and y (height + 2 margin,) of the pixel centres of an image.

    The image is extended by ``margin`` pixels on every side.
    """
    x = torch.arange(-margin, width + margin, dtype=dtype, device=device)
    y = torch.arange(-margin, height + margin, dtype=dtype, device=device)
    return x, y


def sample(
    image: Tensor, points: Tensor, *, interpolation: str = "bilinear", padding: str = "border"
) -> Tensor:
    """Values (b, c, h', w') of images (b, c, h, w) at points (b, h', w', 2), ``(x, y)`` in pixels.

    ``interpolation`` is ``nearest``, ``bilinear`` or ``bicubic`` (Keys 1981, a = -0.75); ``padding`` is
    ``border`` (the value of the nearest pixel is repeated outside) or ``zeros``. Differentiable in both
    arguments (``nearest``: in the image only). On the CPU ``grid_sample`` uses one thread per batch item, so
    one image is read in bands of rows.
    """
    scale, offset = _normaliser_of(image, points)
    grid = points * scale + offset
    return sample_normalised(image, grid, interpolation=interpolation, padding=padding)


def sample_with_gradient(image: Tensor, points: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Values as ``sample`` computes them, and their backward function.

    That function takes the gradient (b, c, h', w') of a loss with respect to the values to its gradient
    (b, h', w', 2) with respect to the points.
    """
    scale, offset = _normaliser_of(image, points)
    grid = (points.detach() * scale + offset).requires_grad_()
    with torch.enable_grad():
        values = sample_normalised(image, grid)

    def backward(gradient: Tensor) -> Tensor:
        # grad_outputs would do the same, but torch imports sympy for it, which takes most of a second
        with torch.enable_grad():
            product = torch.dot(values.reshape(-1), gradient.expand_as(values).reshape(-1))
        (found,) = torch.autograd.grad(product, grid)
        return found.flatten(2).mul_(scale.repeat(grid.shape[2])).reshape(grid.shape)

    return values.detach(), backward


def normaliser(
    height: int, width: int, corner: tuple[int, int] = (0, 0)
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Scale and offset, per axis, from pixels to the normalised coordinates of ``grid_sample``.

    -1 and 1 are the edges of the image, whose first pixel is at ``corner``.
    """
    return (2 / width, 2 / height), ((1 - 2 * corner[0]) / width - 1, (1 - 2 * corner[1]) / height - 1)


def _normaliser_of(image: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and offset of ``normaliser`` as tensors (2,), for images (..., h, w) and points."""
    scale, offset = (
        tensors.constant(x, points.dtype, points.device) for x in normaliser(image.shape[-2], image.shape[-1])
    )
    return scale, offset


def sample_normalised(
    image: Tensor, grid: Tensor, *, interpolation: str = "bilinear", padding: str = "border"
) -> Tensor:
    """Values as ``sample`` computes them, at points (b, h', w', 2) in normalised coordinates."""
    grid = grid.to(image.dtype)
    batch, rows, columns, _ = grid.shape
    bands = _bands(batch, rows, grid.device)
    if bands > 1:
        if rows % bands:
            grid = pad(grid.movedim(-1, 1), (0, 0, 0, -rows % bands)).movedim(1, -1)
        grid = grid.reshape(bands, -1, columns, 2)
    image = image.expand(max(batch, bands), -1, -1, -1)
    out = grid_sample(image, grid, mode=interpolation, padding_mode=padding, align_corners=False)
    if bands > 1:
        out = out.transpose(0, 1).reshape(1, out.shape[1], -1, columns)[:, :, :rows]
    return out


def inside(points: Tensor, height: int, width: int) -> Tensor:
    """Whether points (..., 2) lie on an image, [-0.5, width - 0.5] x [-0.5, height - 0.5]: bool (...)."""
    x, y = points.unbind(-1)
    return (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)


def all_valid(mask: Tensor, points: Tensor) -> bool:
    """Whether a mask (b, 1, h, w) is 1 in the bounding box of points (b, h', w', 2), for a batch of one.

    Always False on a GPU, where the host would have to wait for the answer.
    """
    if not tensors.is_on_cpu(mask) or points.shape[0] != 1:
        return False
    (left, right), (top, bottom) = (
        (math.floor(low), math.floor(high) + 2)
        for low, high in (plane.aminmax() for plane in points.unbind(-1))
    )
    if left < 0 or top < 0 or right > mask.shape[-1] or bottom > mask.shape[-2]:
        return False
    return float(mask[0, 0, top:bottom, left:right].amin()) == 1.0


def _bands(batch: int, rows: int, device: torch.device) -> int:
    """The number of bands of rows into which a single image is divided, so that every thread has work.

    It does not depend on the number of threads, because the memory layout of the result, and with it the
    order of later sums, depends on the number of bands.
    """
    return min(BANDS, rows) if batch == 1 and device.type == "cpu" else 1
