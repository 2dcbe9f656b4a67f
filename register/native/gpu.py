"""A step of the descent in one compiled pass over the pixels on a CUDA device."""

import os
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import torch
from torch import Tensor

from register import replay
from register.native.summed import METRICS, Summed
from register.patches import PatchGrid

TRITON = 3, 4
"""The oldest version that compiles the kernels."""
GROUPS = 2
"""Groups of columns that a program sums windows of: the fewer columns are left over."""
STEP = 2
"""Rows that are worked on at once at most, a power of two."""


class Pair(NamedTuple):
    """What is compared: pixels in one piece, float32, and the map (2, 3) between them, all on one device; ``whole`` (1,) is 1 where all of ``seen`` is."""

    fixed: Tensor  # (c, h, w)
    weight: Tensor  # (h, w)
    moving: Tensor  # (c, h', w')
    seen: Tensor  # (h', w')
    whole: Tensor
    moving_from_fixed: Tensor
    metric: str
    window: int


@cache
def there() -> bool:
    """Whether there is a compiler that knows all that the kernel needs, and it is wanted."""
    with suppress(PackageNotFoundError):
        return os.environ.get("REGISTER_NATIVE") != "0" and tuple(int(x) for x in version("triton").split(".")[:2]) >= TRITON
    return False


@cache
def compiles(device: torch.device) -> bool:
    """Whether kernels can be compiled where a device is, which the smallest one tells: Triton wants a C compiler there. Warns where it has none."""
    (grid, parameters), done = PatchGrid.cover(2, 2, 1).still(device=device), list[Tensor]()
    with replay.told("compiled"):
        done.append(_moved(grid, parameters, 2))
    return bool(done)


def works_on(tensor: Tensor) -> bool:
    """Whether kernels can read a tensor of its kind, where it is."""
    return replay.records(tensor.device) and tensor.dtype == torch.float32 and there() and compiles(tensor.device)


def pair(fixed: Tensor, weight: Tensor, moving: Tensor, seen: Tensor, moving_from_fixed: Tensor, metric: str, window: int) -> Pair:
    """A pair of images (c, h, w) with a weight and a mask (1, h, w) of their pixels and a map (2, 3) between them."""
    whole = (seen.amin() == 1)[None].int()
    return Pair(fixed.contiguous(), weight[0].contiguous(), moving.contiguous(), seen[0].contiguous(), whole, moving_from_fixed.contiguous(), metric, window)


def expand(pair: Pair, grid: PatchGrid, parameters: Tensor, block: int) -> Summed:
    """The same as ``native.expand``."""
    from register.native import kernel, kernel_lines

    (channels, height, width), new, window = pair.fixed.shape, pair.fixed.new_empty, pair.window
    lines, cells, blocks_y, blocks_x = -(-height // window), int((window - 1) / grid.spacing[1]) + 2, -(-height // block), -(-width // block)
    moved = _moved(grid, parameters, width)
    _, weights, losses, derivatives = _compared(pair, grid, moved)
    pulled, bent = new(lines * cells, 6, width), new(3, blocks_y, width)
    sums, slope, curvature = new(lines * cells, 6, 2, grid.columns), new(2, 3, grid.rows, grid.columns), new(3, blocks_y, blocks_x)
    across, down = (grid.origin[0], grid.spacing[0]), (grid.origin[1], grid.spacing[1])
    kernel.pull[(-(-width // kernel.OWN.value), lines)](
        *(*_images(pair), moved, derivatives, pulled, bent, *_where(pair, grid), cells),
        CHANNELS=channels,
        WINDOW=window,
        BLOCK=block,
        STEP=min(STEP, power_of_two(block + 1) // 2),
        num_warps=1,
    )
    kernel_lines.gather_columns[(-(-grid.columns // 8), lines * cells)](
        pulled, sums, *across, *down, width, height, grid.rows, grid.columns, cells, WINDOW=window, N=8, LONG=128
    )
    kernel_lines.gather_rows[(-(-grid.columns // 32), grid.rows, 2)](
        sums, slope, *down, height, grid.rows, grid.columns, cells, WINDOW=window, N=32, num_warps=1
    )
    kernel_lines.pool[(-(-blocks_x // 64), 3 * blocks_y)](bent, curvature, width, blocks_x, BLOCK=block, HOLDS=power_of_two(block), SIDE=64, num_warps=2)
    return Summed(losses, weights, slope, curvature)


def similarities(pair: Pair, grid: PatchGrid, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """The same as ``native.similarities``."""
    values, weights, _, _ = _compared(pair, grid, _moved(grid, parameters, pair.fixed.shape[2]))
    return values, weights


def _moved(grid: PatchGrid, parameters: Tensor, width: int) -> Tensor:
    """How patches move the points of columns of pixels (rows - 1, 6, width), as ``kernel_lines.blend`` finds it."""
    from register.native import kernel_lines  # Triton is there on a GPU only, and takes a while to load

    moved = parameters.new_empty(grid.rows - 1, 6, width)
    kernel_lines.blend[(-(-width // 128), grid.rows - 1, 2)](
        parameters.contiguous(), moved, grid.origin[0], grid.spacing[0], width, grid.rows, grid.columns, N=128
    )
    return moved


def _compared(pair: Pair, grid: PatchGrid, moved: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The similarity (n,) of n windows, their weights (n,), their weighted losses (n,) and the derivatives (4, n) of these."""
    from register.native import kernel

    (channels, height, width), window = pair.fixed.shape, pair.window
    lines, per_line = -(-height // window), -(-width // window)
    (values, weights, losses), derivatives = (pair.fixed.new_empty(lines * per_line) for _ in range(3)), pair.fixed.new_empty(4, lines * per_line)
    lanes = kernel.LANES.value
    groups = max(GROUPS, power_of_two(-(-window // lanes)))
    side = groups * lanes // window
    kernel.compare[(-(-per_line // side), lines)](
        *(*_images(pair), moved, values, weights, losses, derivatives, *_where(pair, grid)),
        CHANNELS=channels,
        WINDOW=window,
        STEP=STEP,
        COSINE=METRICS[pair.metric] == 1,
        GROUPS=groups,
        SIDE=side,
        WINDOWS=power_of_two(side),
        SPANS=power_of_two(-(-(lanes - 1) // window) + 1),
        num_warps=1,
    )
    return values, weights, losses, derivatives


def _images(pair: Pair) -> tuple[Tensor, ...]:
    """What kernels read of a pair."""
    return pair.fixed, pair.weight, pair.moving, pair.seen, pair.whole, pair.moving_from_fixed


def _where(pair: Pair, grid: PatchGrid) -> tuple[float, ...]:
    """What they are told of its sizes."""
    return grid.origin[1], grid.spacing[1], pair.fixed.shape[2], pair.fixed.shape[1], pair.moving.shape[2], pair.moving.shape[1], grid.rows


def power_of_two(least: int) -> int:
    """The smallest one that is not less."""
    return 1 << (least - 1).bit_length()
