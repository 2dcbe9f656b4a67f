"""Points that users give: arrays of any strides, nested lists, masked arrays or tensors, checked."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import RegisterError
from register.geometry import arrays
from register.geometry.arrays import Float64


def over_points(points: object, compute: Callable[[Float64], Float64]) -> Any:
    """What ``compute`` gives for points (n, 2) of finite values: (n, 2) or (n,), in the form of ``points``.

    ``points`` (..., 2) are an array, nested lists or a tensor; the result is an array (...,) or (..., 2), or
    for a tensor a tensor on the CPU. Where a point is not finite the result is NaN. A masked array gives a
    masked array. Raises ``RegisterError`` for another last axis, and for values that are no real numbers.
    """
    given = real_numbers(points, "points")
    if given.ndim == 0 or given.shape[-1] != 2:
        raise RegisterError(f"points have shape {given.shape}; the last axis must be 2, for x and y")
    flat = np.ascontiguousarray(given.reshape(-1, 2))
    finite = np.isfinite(flat).all(axis=1)
    found = compute(flat[finite])
    result = np.full((len(flat), *found.shape[1:]), np.nan)
    result[finite] = found
    result = result.reshape(given.shape[:-1] + found.shape[1:])
    if arrays.is_masked(points):
        hidden = np.asarray(np.ma.getmaskarray(points).any(axis=-1))
        shaped = hidden[..., None] if result.ndim > hidden.ndim else hidden
        return np.ma.masked_array(result, np.broadcast_to(shaped, result.shape))
    return arrays.in_kind_of(result, points)


def positions(values: object, name: str) -> Float64:
    """Positions (n,) along an axis, none smaller than the one before.

    Raises ``RegisterError`` for anything else.
    """
    given = real_numbers(values, name)
    if given.ndim != 1 or not len(given) or not np.isfinite(given).all() or (np.diff(given) < 0).any():
        raise RegisterError(f"{name} must be finite numbers in one dimension that do not decrease")
    return given


def real_numbers(values: object, name: str) -> Float64:
    """Numbers of any kind as a float64 array of the same shape; NaN where a masked array is masked.

    Raises ``RegisterError`` for values that are no real numbers.
    """
    problem = f"{name} must be real numbers in an array, nested lists or a tensor"
    if arrays.is_masked(values):
        return np.ma.filled(real_array(values, name).astype(np.float64), np.nan)
    try:
        if arrays.is_tensor(values):
            tensor: Any = values
            if tensor.is_complex():
                raise RegisterError(f"{problem}, not {tensor.dtype}")
            return np.asarray(tensor.detach().cpu().double().numpy())
        return real_array(values, name).astype(np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RegisterError(f"{problem} ({str(error).splitlines()[0]})") from None


def real_array(values: object, name: str) -> NDArray[Any]:
    """An array of booleans or real numbers. Raises ``RegisterError`` for any other type."""
    given = values if isinstance(values, np.ndarray) else np.asarray(values)
    if given.dtype.kind == "O" and all(isinstance(x, int | float | np.number) for x in given.flat):
        given = given.astype(np.float64)
    if given.dtype.kind not in "biuf":
        raise RegisterError(f"{name} must be real numbers, not {given.dtype}")
    return given
