"""The C code of ``c/``, called with tensors: their shape, type and layout are checked before each call."""

import ctypes
import os
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from register.geometry import patch_tensors
from register.geometry.patch_grid import PatchGrid
from register.kernels.checks import require, require_positive, require_rows
from register.kernels.cpu_layout import PreparedPair
from register.kernels.step_sums import StepSums

FORMAT = 7
"""The version of the two structures below, which a compiled library must report."""
CHUNKS = 16
"""Chunks of an image, each summed by one thread. Their number does not depend on the number of threads, so
sums do not."""
PATCH_NUMBERS = 2, 3
"""Numbers of a patch: displacement, derivative along x and derivative along y, each of x and y."""


def _members(kind: type, names: str) -> list[tuple[str, type]]:
    return [(name, kind) for name in names.split()]


class _Step(ctypes.Structure):
    _fields_ = (
        *_members(ctypes.c_int, "channels height width moving_height moving_width moving_stride"),
        *_members(ctypes.c_int, "window block rows columns cosine"),
        ("matrix", ctypes.c_float * 6),
        ("origin", ctypes.c_float * 2),
        ("spacing", ctypes.c_float * 2),
        ("valid_box", ctypes.c_float * 4),
        *_members(ctypes.c_void_p, "fixed weight moving moving_mask parameters fixed_sums"),
        *_members(ctypes.c_void_p, "values weights losses curvature"),
    )


class _Grid(ctypes.Structure):
    _fields_ = (
        *_members(ctypes.c_int, "rows columns height width"),
        *_members(ctypes.c_void_p, "cell_y cell_x share_y share_x penalty_y penalty_x"),
    )


@cache
def library() -> ctypes.CDLL | None:
    """The library for this processor; None where none was built, or ``REGISTER_NATIVE=0`` is in the
    environment."""
    if os.environ.get("REGISTER_NATIVE") == "0":
        return None
    for name in (torch.backends.cpu.get_cpu_capability().lower(), "default"):
        with suppress(OSError, AttributeError):
            found = ctypes.CDLL(str(Path(__file__).parent / "c" / f"fused-{name}.so"))
            if found.format() == FORMAT:
                return found
    return None


def supports_tensor(tensor: Tensor) -> bool:
    """Whether there is C code for tensors of this type and device."""
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32 and library() is not None


def expand(pair: PreparedPair, grid: PatchGrid, parameters: Tensor, block: int) -> StepSums:
    """See ``dispatch.expand``."""
    require_positive(block=block)
    height, width = pair.weight.shape
    curvature = torch.empty(3, -(-height // block), -(-width // block))
    _, weights, losses, gradient = _pass(pair, grid, parameters, block, curvature)
    return StepSums(losses, weights, gradient, curvature)


def similarities(pair: PreparedPair, grid: PatchGrid, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """See ``dispatch.similarities``."""
    return _pass(pair, grid, parameters, pair.window, None)[:2]


def _pass(
    pair: PreparedPair, grid: PatchGrid, parameters: Tensor, block: int, curvature: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values, weights and losses (n,) of the windows, and the gradient (2, 3, rows, columns)."""
    parameters = parameters.contiguous()
    require("parameters", parameters, (*PATCH_NUMBERS, grid.rows, grid.columns))
    _check(pair, grid, block)
    values, weights, losses = torch.empty_like(pair.fixed_sums).unbind()
    gradient = torch.empty_like(parameters)
    step = _step(pair, grid, block)
    step.parameters, step.values, step.weights = map(_address, (parameters, values, weights))
    if curvature is not None:
        step.losses, step.curvature = _address(losses), _address(curvature)
    chunks = min(CHUNKS, -(-pair.weight.shape[0] // pair.window))
    _call("expand", ctypes.byref(step), chunks, torch.get_num_threads(), _pointer(gradient))
    return values, weights, losses, gradient


def _check(pair: PreparedPair, grid: PatchGrid, block: int) -> None:
    """Raise ``ValueError`` for a pair or a grid that the C code cannot read."""
    require_positive(window=pair.window, block=block, spacing_x=grid.spacing[0], spacing_y=grid.spacing[1])
    if pair.window % block:
        raise ValueError(f"a window of {pair.window} pixels is not a multiple of blocks of {block}")
    if min(grid.rows, grid.columns) < 2:
        raise ValueError(f"a grid of {grid.columns} x {grid.rows} patches is too small; 2 x 2 are needed")
    if pair.fixed.ndim != 3 or pair.moving.ndim != 3:
        raise ValueError("images must be (channels, height, width)")
    (channels, height, width), moving_size = pair.fixed.shape, tuple(pair.moving.shape[1:])
    if pair.kind == "ncc" and channels != 1:
        raise ValueError(f"ncc is of one channel; the images have {channels}")
    if min(channels, height, width) < 1 or min(moving_size) < 2:
        raise ValueError(
            f"images of {width} x {height} and {moving_size[1]} x {moving_size[0]} are too small"
        )
    require("fixed", pair.fixed, (channels, height, width))
    require("weight", pair.weight, (height, width))
    require("fixed_sums", pair.fixed_sums, (3, -(-height // pair.window) * -(-width // pair.window)))
    require_rows("moving", pair.moving, (channels, *moving_size), pair.moving.stride(1))
    if pair.moving_mask is not None:
        require_rows("moving_mask", pair.moving_mask, moving_size, pair.moving.stride(1))
    left, top, right, bottom = pair.valid_box
    if not (0 <= left <= right < moving_size[1] and 0 <= top <= bottom < moving_size[0]):
        raise ValueError(f"valid_box {pair.valid_box} is not inside the moving image")


def _step(pair: PreparedPair, grid: PatchGrid, block: int) -> _Step:
    """The arguments of one pass, without the arrays that are different in each."""
    (channels, height, width), (moving_height, moving_width) = pair.fixed.shape, pair.moving.shape[1:]
    step = _Step(channels, height, width, moving_height, moving_width, pair.moving.stride(1))
    step.window, step.block, step.cosine = pair.window, block, int(pair.kind == "cosine")
    step.rows, step.columns = grid.rows, grid.columns
    step.matrix[:], step.valid_box[:] = pair.moving_from_fixed, pair.valid_box
    step.origin[:], step.spacing[:] = grid.origin, grid.spacing
    step.fixed, step.weight, step.moving = map(_address, (pair.fixed, pair.weight, pair.moving))
    step.moving_mask, step.fixed_sums = map(_address, (pair.moving_mask, pair.fixed_sums))
    return step


class PatchSystem:
    """The linear system of the patches' Gauss-Newton step, for curvatures that are given by blocks of pixels.

    ``x`` (w,) and ``y`` (h,) are the positions of the blocks. ``penalty`` holds the coefficients of the
    smoothness penalty along x (2, 2, 2, columns) and along y (2, 2, 2, rows): between displacement and
    derivative of each patch and those of itself and of the next patch of the line. Raises ``ValueError`` for
    arrays of another shape or type.
    """

    def __init__(self, grid: PatchGrid, x: Tensor, y: Tensor, penalty: tuple[Tensor, Tensor]) -> None:
        if min(grid.rows, grid.columns) < 2:
            raise ValueError(f"a grid of {grid.columns} x {grid.rows} patches is too small; 2 x 2 are needed")
        self.grid, self.blocks = grid, (len(y), len(x))
        self.penalty = [along.contiguous() for along in penalty]
        require("penalty along x", self.penalty[0], (2, 2, 2, grid.columns))
        require("penalty along y", self.penalty[1], (2, 2, 2, grid.rows))
        self.cells = [
            patch_tensors.cells_before(grid, positions, axis) for axis, positions in enumerate((x, y))
        ]
        (cell_x, share_x), (cell_y, share_y) = self.cells
        for cell, share, count in ((cell_x, share_x, grid.columns), (cell_y, share_y, grid.rows)):
            require("cells", cell, tuple(cell.shape[:1]), dtype=torch.int32)
            require("shares", share, tuple(cell.shape))
            if len(cell) and not (int(cell.min()) >= 0 and int(cell.max()) <= count - 2):
                raise ValueError("blocks of pixels lie in cells that the grid does not have")
        arrays = (cell_y, cell_x, share_y, share_x, *self.penalty[::-1])
        self._arguments = _Grid(grid.rows, grid.columns, *self.blocks, *map(_address, arrays))

    def penalty_gradient(self, parameters: Tensor) -> Tensor:
        """The gradient (2, 3, rows, columns) of the smoothness penalty at parameters (2, 3, rows,
        columns)."""
        parameters = require("parameters", parameters.contiguous(), self._shape)
        found = torch.empty(parameters.shape)
        _call("bend", ctypes.byref(self._arguments), _pointer(parameters), _pointer(found))
        return found

    def solve(
        self, curvature: Tensor, damping: Tensor, right: Tensor, *, steps: int, tolerance: float
    ) -> Tensor:
        """The solution (2, 3, rows, columns) of (H + damping) solution = ``right`` by conjugate gradients.

        H is the Hessian of a loss with ``curvature`` (3, h, w) plus that of the penalty; the ``damping``
        (rows * columns,) of a patch is relative to its own diagonal. Stops after ``steps``, or when the
        preconditioned residual has fallen by ``tolerance``. Raises ``ValueError`` for arrays of another
        shape, and ``MemoryError``.
        """
        curvature, damping, right = (x.contiguous() for x in (curvature, damping, right))
        require("curvature", curvature, (3, *self.blocks))
        require("damping", damping, (self.grid.count,))
        require("right", right, self._shape)
        found = torch.empty(right.shape)
        arrays = (_pointer(x) for x in (curvature, damping, right))
        limits = steps, ctypes.c_double(tolerance), torch.get_num_threads()
        _call("solve", ctypes.byref(self._arguments), *arrays, *limits, _pointer(found))
        return found

    @property
    def _shape(self) -> tuple[int, ...]:
        return (*PATCH_NUMBERS, self.grid.rows, self.grid.columns)


def _call(name: str, *arguments: object) -> None:
    if getattr(library(), name)(*arguments):
        raise MemoryError(f"not enough memory for the compiled function {name!r}")


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
