"""Checks of the arrays that C code reads and writes: a wrong one raises an error here and never reaches C."""

import torch
from torch import Tensor


def require(
    name: str, tensor: Tensor, shape: tuple[int, ...], *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """The tensor itself. Raises ``ValueError`` unless it is contiguous, on the CPU, of that shape and
    type."""
    problem = _kind_problem(tensor, shape, dtype)
    if not problem and not tensor.is_contiguous():
        problem = "is not contiguous in memory"
    if problem:
        raise ValueError(f"{name} {problem}; a contiguous {dtype} tensor {shape} on the CPU is needed")
    return tensor


def require_rows(name: str, tensor: Tensor, shape: tuple[int, ...], row: int) -> Tensor:
    """The tensor itself: planes (..., h, w) whose rows start ``row`` numbers apart and whose planes follow
    each other.

    Raises ``ValueError`` unless it is float32, on the CPU, of that shape and laid out like this.
    """
    problem = _kind_problem(tensor, shape, torch.float32)
    wanted = (row * shape[-2], row, 1)[-len(shape) :]
    steps = zip(tensor.stride(), wanted, shape, strict=False)  # those of a single plane do not matter
    if not problem and (row < shape[-1] or any(step != want for step, want, size in steps if size > 1)):
        problem = f"has strides {tuple(tensor.stride())} instead of {wanted}"
    if problem:
        raise ValueError(f"{name} {problem}; a float32 tensor {shape} on the CPU is needed")
    return tensor


def require_positive(**sizes: float) -> None:
    """Raises ``ValueError`` naming the first value that is not a finite number above 0."""
    for name, value in sizes.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} is {value}; it must be above 0")


def _kind_problem(tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> str:
    if tensor.device.type != "cpu":
        return f"is on {tensor.device}"
    if tensor.dtype != dtype:
        return f"is {tensor.dtype}"
    return "" if tuple(tensor.shape) == shape else f"has shape {tuple(tensor.shape)}"
