"""The C code for frames of movies: samples at displaced positions, and the sums of a Gauss-Newton step.

``engine.movie.tensors`` computes the same with tensors. ``REGISTER_NATIVE=0`` in the environment disables the
C code.
"""

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from register.kernels import cpu
from register.kernels.checks import require, require_positive

TAPS = 4
"""Basis functions of an axis that are not zero at a pixel."""
SUMS = 6


@dataclass(frozen=True)
class Axis:
    """The basis of one axis: ``count`` functions, of which four from ``first`` (n,) int32 on, with ``values``
    (4, n) float32, are not zero at each of n pixels."""

    count: int
    values: Tensor
    first: Tensor

    def __post_init__(self) -> None:
        """Raise ``ValueError`` where the arrays have a wrong shape or type, or ``first`` is out of range."""
        require("basis", self.values, (TAPS, len(self.first)))
        require("first of a basis", self.first, (len(self.first),), dtype=torch.int32)
        if len(self.first) and not 0 <= int(self.first.min()) <= int(self.first.max()) <= self.count - TAPS:
            raise ValueError(f"a basis has functions beyond its {self.count}")

    def dense(self) -> Tensor:
        """All values (n, count)."""
        places = self.first.long()[:, None] + torch.arange(TAPS)
        return torch.zeros(len(self.first), self.count).scatter_(1, places, self.values.T)


@dataclass(frozen=True)
class Displaced:
    """A frame (h, w) float32, NaN where invalid, at M (x + u(x)): ``matrix`` M (2, 3), and the displacement u
    with ``coefficients`` (2, rows, columns) float32 in a basis along ``y`` and one along ``x``."""

    frame: Tensor
    y: Axis
    x: Axis
    coefficients: Tensor
    matrix: tuple[float, ...]


@dataclass(frozen=True)
class Target:
    """The reference (h, w), weights (h, w), and the weights times its gradients along x and y."""

    reference: Tensor
    weight: Tensor
    steer_x: Tensor
    steer_y: Tensor


class _Motion(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int) for name in ("height", "width", "frame_height", "frame_width")),
        *((name, ctypes.c_int) for name in ("rows", "columns")),
        ("matrix", ctypes.c_float * 6),
        *((name, ctypes.c_float) for name in ("gain", "level", "limit", "fill")),
        *((name, ctypes.c_void_p) for name in ("frame", "basis_y", "basis_x", "first_y", "first_x")),
        *((name, ctypes.c_void_p) for name in ("coefficients", "reference", "weight", "steer_x", "steer_y")),
    )


def is_available() -> bool:
    """Whether there is C code for frames on this processor."""
    return hasattr(cpu.library() or object(), "movie_step")


def resample(displaced: Displaced, fill: float) -> Tensor:
    """The frame on the pixels of the reference (h, w), ``fill`` outside it.

    Raises ``ValueError`` for arrays of a wrong shape or type, and ``MemoryError``.
    """
    motion = _motion(displaced)
    motion.fill = fill
    out = torch.empty(len(displaced.y.first), len(displaced.x.first))
    _call("movie_resample", ctypes.byref(motion), ctypes.c_void_p(out.data_ptr()))
    return out


def step(displaced: Displaced, target: Target, grey: tuple[float, float, float]) -> tuple[Tensor, Tensor]:
    """The gradient (2, rows, columns) float64 by which half the weighted squared error falls, and six sums:
    of weight, sample, its square, sample times reference, reference, its square.

    ``grey`` is gain, level and limit: a sample s counts as (s - level) / gain, and errors beyond the limit
    are cut. Raises ``ValueError`` for arrays of a wrong shape or type, and ``MemoryError``.
    """
    motion = _motion(displaced)
    size = (motion.height, motion.width)
    for name in ("reference", "weight", "steer_x", "steer_y"):
        setattr(motion, name, require(name, getattr(target, name), size).data_ptr())
    motion.gain, motion.level, motion.limit = grey
    require_positive(gain=abs(grey[0]))
    gradient = torch.empty(displaced.coefficients.shape, dtype=torch.float64)
    sums = torch.empty(SUMS, dtype=torch.float64)
    _call("movie_step", ctypes.byref(motion), *(ctypes.c_void_p(x.data_ptr()) for x in (gradient, sums)))
    return gradient, sums


def _motion(displaced: Displaced) -> _Motion:
    """The arguments of a call. Raises ``ValueError``."""
    y, x, frame = displaced.y, displaced.x, displaced.frame
    if frame.ndim != 2 or min(frame.shape) < 2:
        raise ValueError(f"a frame of shape {tuple(frame.shape)} is too small")
    require("frame", frame, (frame.shape[0], frame.shape[1]))
    require("coefficients", displaced.coefficients, (2, y.count, x.count))
    motion = _Motion(len(y.first), len(x.first), *frame.shape, y.count, x.count)
    motion.matrix[:] = displaced.matrix
    motion.frame, motion.coefficients = frame.data_ptr(), displaced.coefficients.data_ptr()
    motion.basis_y, motion.basis_x = y.values.data_ptr(), x.values.data_ptr()
    motion.first_y, motion.first_x = y.first.data_ptr(), x.first.data_ptr()
    return motion


def _call(name: str, *arguments: object) -> None:
    if getattr(cpu.library(), name)(*arguments):
        raise MemoryError(f"not enough memory for the compiled function {name!r}")
