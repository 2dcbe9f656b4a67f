"""Similarity, gradient and curvature in one compiled pass over the pixels on a CUDA device."""

import os
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import torch
from torch import Tensor

from register.compute import cuda_graphs
from register.geometry.patch_grid import PatchGrid
from register.geometry.patch_tensors import Patches
from register.kernels.step_sums import Kind, PairInput, StepSums

TRITON = 3, 4
"""The oldest version of Triton that compiles the kernels."""
GROUPS = 2
"""The least number of groups of columns, one warp each, that a program processes. With more groups, fewer
columns remain unused after the last window."""
REGISTERS = 80
"""The most registers per thread; a multiprocessor has 65536. One channel needs hardly more: one or two values
are kept in memory instead."""


class PreparedPair(NamedTuple):
    """Two images to compare and the map (2, 3) between them: contiguous float32 tensors on one device.

    ``covered`` is 1 where a tile of ``moving_mask`` is 1 everywhere.
    """

    fixed: Tensor  # (c, h, w)
    weight: Tensor  # (h, w)
    moving: Tensor  # (c, h', w')
    moving_mask: Tensor  # (h', w')
    covered: Tensor  # (tiles along y, tiles along x)
    moving_from_fixed: Tensor
    kind: Kind
    window: int


@cache
def is_available() -> bool:
    """Whether a new enough Triton is installed and ``REGISTER_NATIVE`` is not 0."""
    with suppress(PackageNotFoundError):
        return (
            os.environ.get("REGISTER_NATIVE") != "0"
            and tuple(int(x) for x in version("triton").split(".")[:2]) >= TRITON
        )
    return False


@cache
def compiles(device: torch.device) -> bool:
    """Whether kernels can be compiled for a device, tried with the smallest one; if not, a warning is given.

    Triton needs a C compiler.
    """
    (grid, parameters), done = Patches.identity(PatchGrid.cover(2, 2, 1), device=device), list[Tensor]()
    with cuda_graphs.warn_on_failure("compiled"):
        done.append(_moved(grid, parameters, 2))
    return bool(done)


def supports_tensor(tensor: Tensor) -> bool:
    """Whether kernels support a tensor's type and device."""
    return (
        cuda_graphs.can_record(tensor.device)
        and tensor.dtype == torch.float32
        and is_available()
        and compiles(tensor.device)
    )


def prepare(images: PairInput) -> PreparedPair:
    """Two images as the kernels need them: contiguous, with the tiles in which the moving mask is 1."""
    from register.kernels.triton import expand  # imported late: Triton is optional and slow to import

    fixed, weight, moving, moving_mask, moving_from_fixed, kind, window = images
    fixed, weight, moving, mask = (x.contiguous() for x in (fixed, weight[0], moving, moving_mask[0]))
    height, width = mask.shape
    tiles = -(-width // expand.TILE.value), -(-height // expand.TILE.value)
    covered = mask.new_empty(tiles[::-1])
    expand.ones[tiles](mask, covered, width, height, tiles[0])
    return PreparedPair(fixed, weight, moving, mask, covered, moving_from_fixed.contiguous(), kind, window)


def expand(pair: PreparedPair, grid: PatchGrid, parameters: Tensor, block: int) -> StepSums:
    """See ``dispatch.expand``."""
    from register.kernels.triton import lines as kernel_lines

    (_, height, width), new, window = pair.fixed.shape, pair.fixed.new_empty, pair.window
    lines, blocks_y, blocks_x = -(-height // window), -(-height // block), -(-width // block)
    per_program, side = _shape(window)
    _, weights, losses, bends, pulled, bent = _summed(pair, grid, parameters, block)
    _, cells, _, groups, segments = pulled.shape
    sums, slope, curvature = (
        new(lines * cells, 6, 2, grid.columns),
        new(2, 3, grid.rows, grid.columns),
        new(3, blocks_y, blocks_x),
    )
    across, down = (grid.origin[0], grid.spacing[0]), (grid.origin[1], grid.spacing[1])
    kernel_lines.gather_columns[(-(-grid.columns // 16), lines * cells, 6)](
        *(pulled, sums, *across, *down, width, height, grid.rows, grid.columns, cells, groups, segments),
        WINDOW=window,
        SPAN=side * window,
        GROUPS=per_program,
        N=16,
        LONG=4,
        num_warps=1,
    )
    kernel_lines.gather_rows[(-(-grid.columns // 32), grid.rows, 2)](
        sums, slope, *down, height, grid.rows, grid.columns, cells, WINDOW=window, N=32, num_warps=1
    )
    kernel_lines.pool[(-(-blocks_x // 64), blocks_y, 3)](
        bent,
        bends,
        curvature,
        width,
        blocks_x,
        -(-width // window),
        BLOCK=block,
        WINDOW=window,
        HOLDS=power_of_two(block),
        SIDE=64,
        num_warps=2,
    )
    return StepSums(losses, weights, slope, curvature)


def similarities(pair: PreparedPair, grid: PatchGrid, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """See ``dispatch.similarities``."""
    values, weights, *_ = _summed(pair, grid, parameters, pair.window)
    return values, weights


def _moved(grid: PatchGrid, parameters: Tensor, width: int) -> Tensor:
    """The displacement (rows - 1, 6, width) of columns of pixels between rows of patches.

    See ``lines.blend``.
    """
    from register.kernels.triton import (
        lines as kernel_lines,  # imported late: Triton is optional and slow to import
    )

    moved = parameters.new_empty(grid.rows - 1, 6, width)
    kernel_lines.blend[(-(-width // 128), grid.rows - 1, 2)](
        parameters.contiguous(), moved, grid.origin[0], grid.spacing[0], width, grid.rows, grid.columns, N=128
    )
    return moved


def _summed(pair: PreparedPair, grid: PatchGrid, parameters: Tensor, block: int) -> tuple[Tensor, ...]:
    """The results of the kernel ``expand.expand``.

    The similarity of n windows, their weights, weighted losses and the curvature of these, (n,) each, and the
    sums ``pulled`` for the gradient and ``bent`` for the curvature.
    """
    from register.kernels.triton import expand

    (channels, height, width), window = pair.fixed.shape, pair.window
    groups, side = _shape(window)
    lines, per_line, programs = -(-height // window), -(-width // window), -(-width // (side * window))
    values, weights, losses, bends = (pair.fixed.new_empty(lines * per_line) for _ in range(4))
    apart, pulled, bent = _buffers(pair, grid, block, programs * groups)
    _, cells, _, _, segments = pulled.shape
    expand.expand[(programs, lines)](
        *(
            pair.fixed,
            pair.weight,
            pair.moving,
            pair.moving_mask,
            pair.covered,
            pair.moving_from_fixed,
            _moved(grid, parameters, width),
        ),
        *(
            values,
            weights,
            losses,
            bends,
            apart,
            pulled,
            bent,
            grid.origin[0],
            grid.spacing[0],
            grid.origin[1],
            grid.spacing[1],
        ),
        *(
            width,
            height,
            pair.moving.shape[2],
            pair.moving.shape[1],
            grid.rows,
            grid.columns,
            cells,
            segments,
            block,
        ),
        CHANNELS=channels,
        WINDOW=window,
        COSINE=pair.kind == "cosine",
        GROUPS=groups,
        SIDE=side,
        WINDOWS=power_of_two(side),
        num_warps=groups,
        maxnreg=REGISTERS,
    )
    return values, weights, losses, bends, pulled, bent


def _buffers(pair: PreparedPair, grid: PatchGrid, block: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Memory ``apart``, ``pulled`` and ``bent`` of ``expand.expand``, for so many groups in a line."""
    from register.kernels.triton import expand

    _, height, width = pair.fixed.shape
    lines, new = -(-height // pair.window), pair.fixed.new_empty
    segments, cells = (
        int((pixels - 1) / spacing) + 2
        for pixels, spacing in zip((expand.OWN.value, pair.window), grid.spacing, strict=True)
    )
    return (
        new(lines, cells - 1, 18, width),
        new(lines, cells, 18, groups, segments),
        new(3, -(-height // block), width),
    )


def _shape(window: int) -> tuple[int, int]:
    """The number of groups of columns that a program processes, and of windows side by side in them."""
    from register.kernels.triton import expand

    groups = max(GROUPS, power_of_two(-(-window // expand.OWN.value)))
    return groups, groups * expand.OWN.value // window


def power_of_two(least: int) -> int:
    """The smallest power of two that is at least ``least``."""
    return 1 << (least - 1).bit_length()
