"""Functions for formulas that accept both NumPy arrays and PyTorch tensors, which name them differently.

The engine computes with tensors, on any device and with gradients; a finished transform needs NumPy alone.
PyTorch is never imported here: an argument that is a tensor shows that it has been imported already.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import TypeIs

Array = TypeVar("Array", NDArray[Any], "Tensor")
"""A NumPy array or a tensor; a function returns the kind that it is given."""
Float64 = NDArray[np.float64]
Points = "ArrayLike | Tensor"
"""Points (..., 2) as an array, as nested lists, or as a tensor on any device."""


def is_tensor(value: object) -> bool:
    """Whether a value is a PyTorch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_masked(value: object) -> "TypeIs[np.ma.MaskedArray[Any, Any]]":
    """Whether a value is a masked array of NumPy, whose module is imported by whoever makes one."""
    return "numpy.ma" in sys.modules and isinstance(value, np.ma.MaskedArray)


def to_numpy(value: "ArrayLike | Tensor") -> Float64:
    """An array, nested lists or a tensor on any device, as a float64 array; not copied where it is one."""
    if is_tensor(value):
        value = value.detach().cpu().numpy()  # type: ignore[union-attr]
    return np.asarray(value, dtype=np.float64)


def in_kind_of(result: NDArray[Any], given: object) -> Any:
    """A result as a tensor on the CPU where a tensor was ``given``, or else unchanged."""
    if not is_tensor(given):
        return result
    return sys.modules["torch"].from_numpy(result if result.flags.writeable else result.copy())


def namespace(array: object) -> Any:
    """The module, NumPy or PyTorch, whose functions take an array."""
    return np if isinstance(array, np.ndarray) else sys.modules["torch"]


def stack(arrays: Sequence[Array], axis: int) -> Array:
    """Arrays of equal shape along a new axis."""
    return namespace(arrays[0]).stack(arrays, axis)


def concatenate(arrays: Sequence[Array], axis: int) -> Array:
    """Arrays one after the other along an axis."""
    return namespace(arrays[0]).concatenate(arrays, axis)


def move_axis(array: Array, source: int | tuple[int, ...], target: int | tuple[int, ...]) -> Array:
    """An array with some axes moved to other positions."""
    return namespace(array).moveaxis(array, source, target)


def broadcast(array: Array, shape: tuple[int, ...]) -> Array:
    """An array repeated to a shape, without a copy."""
    return namespace(array).broadcast_to(array, shape)


def counting(count: int, like: Array) -> Array:
    """The numbers 0 to count - 1 in the type, and on the device, of another array."""
    if isinstance(like, np.ndarray):
        return np.arange(count, dtype=like.dtype)
    return namespace(like).arange(count, dtype=like.dtype, device=like.device)


def identity(size: int, like: Array) -> Array:
    """The identity matrix (size, size) in the type, and on the device, of another array."""
    if isinstance(like, np.ndarray):
        return np.eye(size, dtype=like.dtype)
    return namespace(like).eye(size, dtype=like.dtype, device=like.device)


def to_index(array: Array) -> Array:
    """Integral values as 64-bit integers, for indexing."""
    return array.astype(np.int64) if isinstance(array, np.ndarray) else array.long()


def in_type_of(values: Array, like: Array) -> Array:
    """The same numbers in the type of another array."""
    return values.astype(like.dtype) if isinstance(values, np.ndarray) else values.to(like.dtype)


def median(values: Float64) -> float:
    """The median of numbers (n,), the lower one of two as in PyTorch. ``numpy.median`` imports much more."""
    middle = (len(values) - 1) // 2
    return float(np.partition(values, middle)[middle])
