"""A simple float64 implementation with loops, against which the tensor code is checked."""

import math

import numpy as np


def affine_map(matrix, x, y):
    (a, b, tx), (c, d, ty) = matrix
    return a * x + b * y + tx, c * x + d * y + ty


def pixel(image, column, row, padding):
    """One pixel of (h, w); outside, the nearest one (border) or nothing (zeros)."""
    height, width = image.shape
    if padding == "border":
        return image[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
    return image[row, column] if 0 <= row < height and 0 <= column < width else 0.0


def keys(t, a=-0.75):
    """The cubic convolution kernel of Keys (1981)."""
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def sample(image, x, y, interpolation, padding):
    """The value of (h, w) at one point."""
    height, width = image.shape
    if padding == "border" and interpolation != "bicubic":
        x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    if interpolation == "nearest":
        return pixel(image, round(x), round(y), padding)
    reach = range(2) if interpolation == "bilinear" else range(-1, 3)
    left, top = math.floor(x), math.floor(y)
    total = 0.0
    for j in reach:
        for i in reach:
            dx, dy = x - (left + i), y - (top + j)
            weight = (1 - abs(dx)) * (1 - abs(dy)) if interpolation == "bilinear" else keys(dx) * keys(dy)
            total += weight * pixel(image, left + i, top + j, padding)
    return total


def blend(transform, x, y):
    """A local transform at one point, from the numbers in its file alone: hat weights of the four nearest
    centres."""
    grid, matrices = transform["patches"], transform["patches"]["matrices"]
    u = min(max((x - grid["origin"][0]) / grid["spacing"][0], 0), grid["columns"] - 1)
    v = min(max((y - grid["origin"][1]) / grid["spacing"][1], 0), grid["rows"] - 1)
    i, j = min(int(u), grid["columns"] - 2), min(int(v), grid["rows"] - 2)
    total = np.zeros(2)
    for row, wy in ((j, 1 - (v - j)), (j + 1, v - j)):
        for column, wx in ((i, 1 - (u - i)), (i + 1, u - i)):
            total += wx * wy * np.array(affine_map(matrices[row * grid["columns"] + column], x, y))
    return total
