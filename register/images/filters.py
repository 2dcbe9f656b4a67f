"""Gaussian, difference and maximum filters of images, and sums over windows.

On a CPU the filters are those of OpenCV; on other devices, and for gradients, they are sums and maxima of
shifted images. PyTorch's convolution and pooling are made for many channels and take ten times as long for a
single one.
"""

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

ROUNDING = 1e-5
"""Largest rounding error of a sum of weights that should be 1."""


def gaussian(sigma: float) -> list[float]:
    """The Gaussian kernel with a standard deviation of ``sigma`` pixels, truncated at three of these."""
    radius = max(round(3 * sigma), 1)
    weights = [math.exp(-0.5 * (x / sigma) ** 2) for x in range(-radius, radius + 1)]
    return [weight / sum(weights) for weight in weights]


def smooth(image: Tensor, sigma: float) -> Tensor:
    """Gaussian filter of (..., h, w) by ``sigma`` pixels; the border values are repeated outside."""
    return image if sigma <= 0 else separable(image, gaussian(sigma), gaussian(sigma))


def smooth_widely(image: Tensor, sigma: float) -> Tensor:
    """Approximate Gaussian filter of (b, c, h, w) by a ``sigma`` of several pixels, which is much faster.

    Blocks of sigma / 2 pixels are averaged and filtered, and the result is interpolated linearly.
    """
    block = max(int(sigma / 2), 1)
    coarse = block_means(image, block, cut=True)
    return enlarged(smooth(coarse, sigma / block), block)[..., : image.shape[-2], : image.shape[-1]]


def block_means(image: Tensor, side: int, *, cut: bool = False) -> Tensor:
    """Means (b, c, rows, columns) of adjoining squares of ``side`` pixels of (b, c, h, w).

    With ``cut`` the last squares, which the border cuts, are included; otherwise they are left out.
    """
    if side == 1 or not suits_opencv(image) or min(image.shape[-2:]) < side:
        return avg_pool2d(image, side, ceil_mode=cut, count_include_pad=not cut)
    cv2, (rows, columns) = opencv(), (n // side for n in image.shape[-2:])
    height, width = rows * side, columns * side
    below, right = (cut and n % side > 0 for n in image.shape[-2:])
    found = image.new_empty(*image.shape[:2], rows + below, columns + right)
    for plane, means in zip(planes(image), planes(found), strict=True):
        whole = plane[:height, :width]
        means[:rows, :columns] = cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)
    if below:
        found[..., rows:, :] = _cut_means(image[..., height:, :], side)
    if right:
        found[..., columns:] = _cut_means(image[..., width:], side)
    return found


def _cut_means(strip: Tensor, side: int) -> Tensor:
    """The means of the squares that the border cuts, of a strip (b, c, h, w) along it."""
    return avg_pool2d(strip, side, ceil_mode=True, count_include_pad=False)


def enlarged(image: Tensor, factor: int) -> Tensor:
    """Linear interpolation (b, c, factor h, factor w) between the pixels of (b, c, h, w)."""
    if not suits_opencv(image):
        return interpolate(image, scale_factor=float(factor), mode="bilinear", align_corners=False)
    cv2, (height, width) = opencv(), image.shape[-2:]
    found = image.new_empty(*image.shape[:2], factor * height, factor * width)
    for plane, larger in zip(planes(image), planes(found), strict=True):
        cv2.resize(plane, larger.shape[::-1], dst=larger, interpolation=cv2.INTER_LINEAR)
    return found


def separable(image: Tensor, along_x: Sequence[float], along_y: Sequence[float]) -> Tensor:
    """Correlate (..., h, w) with one kernel of odd length per axis; border values are repeated outside."""
    if not suits_opencv(image):
        return _along(_along(image, along_x, -1), along_y, -2)
    cv2, found = opencv(), torch.empty_like(image, memory_format=torch.contiguous_format)
    kernels = [image.new_tensor(kernel).numpy() for kernel in (along_x, along_y)]
    for plane, filtered in zip(planes(image), planes(found), strict=True):
        cv2.sepFilter2D(plane, -1, *kernels, dst=filtered, borderType=cv2.BORDER_REPLICATE)
    return found


def suits_opencv(image: Tensor) -> bool:
    """Whether OpenCV can filter an image: float values on the CPU that need no gradient."""
    return (
        image.device.type == "cpu"
        and image.dtype in (torch.float32, torch.float64)
        and not image.requires_grad
        and image.numel() > 0
    )


def planes(image: Tensor) -> list[NDArray[Any]]:
    """The planes (h, w) of (..., h, w) as NumPy arrays, which share its memory if it is contiguous."""
    return list(image.reshape(-1, *image.shape[-2:]).numpy())


def opencv() -> ModuleType:
    """The module ``cv2``, set to use as many threads as PyTorch."""
    import cv2

    if (
        cv2.getNumThreads() != torch.get_num_threads()
    ):  # by default each of several workers would use all cores
        cv2.setNumThreads(torch.get_num_threads())
    return cv2


def _along(image: Tensor, kernel: Sequence[float], axis: int) -> Tensor:
    radius, size = len(kernel) // 2, image.shape[axis]
    first, last = image.narrow(axis, 0, 1), image.narrow(axis, size - 1, 1)
    wide = torch.cat([*[first] * radius, image, *[last] * radius], axis)
    total = wide.narrow(axis, 0, size) * kernel[0]
    for shift, weight in enumerate(kernel[1:], 1):
        total = total.add_(wide.narrow(axis, shift, size), alpha=weight)
    return total


def highest(image: Tensor, side: int) -> Tensor:
    """The largest value (..., h - side + 1, w - side + 1) in every square of ``side`` pixels of (..., h,
    w)."""
    if suits_opencv(image):
        cv2, found = opencv(), torch.empty_like(image, memory_format=torch.contiguous_format)
        for plane, largest in zip(planes(image), planes(found), strict=True):
            cv2.dilate(plane, np.ones((side, side), np.uint8), dst=largest, anchor=(0, 0))
        return found[..., : image.shape[-2] - side + 1, : image.shape[-1] - side + 1]
    for axis in (-1, -2):
        reach = 1
        while reach < side:
            step = min(reach, side - reach)
            size = image.shape[axis] - step
            image = torch.maximum(image.narrow(axis, 0, size), image.narrow(axis, step, size))
            reach += step
    return image


def widened(mask: Tensor, radius: int) -> Tensor:
    """Dilation: the largest value, at least 0, of (..., h, w) in a square of ``radius`` pixels around
    each."""
    return highest(pad(mask, (radius,) * 4), 2 * radius + 1)


def differences(image: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences along x and y of (..., h, w), one-sided at the border."""
    return _differences(image, -1), _differences(image, -2)


def _differences(image: Tensor, axis: int) -> Tensor:
    size = image.shape[axis]
    before = torch.cat([image.narrow(axis, 0, 1), image.narrow(axis, 0, size - 1)], axis)
    return (
        torch.cat([image.narrow(axis, 1, size - 1), image.narrow(axis, size - 1, 1)], axis)
        .sub_(before)
        .mul_(0.5)
    )


def window_sums(image: Tensor, side: int) -> Tensor:
    """Sums (b, c, rows, columns) over adjoining square windows of (b, c, h, w).

    The border of the image may cut the last windows.
    """
    height, width = image.shape[-2:]
    if height % side or width % side:
        image = pad(image, (0, -width % side, 0, -height % side))
    rows, columns = image.shape[-2] // side, image.shape[-1] // side
    along_y = image.reshape(*image.shape[:2], rows, side, columns * side).sum(-2)
    return along_y.reshape(*image.shape[:2], rows, columns, side).sum(-1)


def over_windows(values: Tensor, side: int, size: tuple[int, int]) -> Tensor:
    """Values (b, c, rows, columns), one per window of ``window_sums``, repeated at all pixels (b, c, h, w).

    ``size`` is the height and width of the image.
    """
    each = values[:, :, :, None, :, None].expand(-1, -1, -1, side, -1, side)
    return each.reshape(*values.shape[:2], values.shape[2] * side, values.shape[3] * side)[
        ..., : size[0], : size[1]
    ]


def median(values: Tensor) -> float:
    """The lower median of values (n,).

    NumPy computes it on a CPU, in a fifth of the time of PyTorch.
    """
    if values.device.type != "cpu":
        return float(values.median())
    middle = (len(values) - 1) // 2
    return float(np.partition(values.numpy(), middle)[middle])


def clipped(values: Tensor, known: Tensor, times: float) -> Tensor:
    """Values that are at most some times as large as the median size of those that are ``known``, a mask of
    the same shape; 0 where none is."""
    chosen = values[known]
    limit = times * median(chosen.abs()) if len(chosen) else 0.0
    return values.clamp(-limit, limit)


def shares(values: Tensor) -> Tensor:
    """Valid shares of pixels, changed in place: exactly 1 where they differ from 1 by rounding only.

    Images whose mask is 1 everywhere are compared in half the time.
    """
    return values.masked_fill_(values > 1 - ROUNDING, 1.0)
