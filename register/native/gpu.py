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


def works_on(tensor: Tensor) -> bool:
    """Whether kernels can read a tensor of its kind, where it is."""
    return replay.records(tensor.device) and tensor.dtype == torch.float32 and there()


def pair(fixed: Tensor, weight: Tensor, moving: Tensor, seen: Tensor, moving_from_fixed: Tensor, metric: str, window: int) -> Pair:
    """A pair of images (c, h, w) with a weight and a mask (1, h, w) of their pixels and a map (2, 3) between them."""
    whole = (seen.amin() == 1)[None].int()
    return Pair(fixed.contiguous(), weight[0].contiguous(), moving.contiguous(), seen[0].contiguous(), whole, moving_from_fixed.contiguous(), metric, window)


def expand(pair: Pair, grid: PatchGrid, parameters: Tensor, block: int) -> Summed:
    """The same as ``native.expand``."""
    from register.native import kernel, kernel_lines  # Triton is there on a GPU only, and takes a while to load

    (channels, height, width), (moving_height, moving_width) = pair.fixed.shape, pair.moving.shape[1:]
    new, window, lines, per_line = pair.fixed.new_empty, pair.window, -(-height // pair.window), -(-width // pair.window)
    cells, blocks_y, blocks_x = int((window - 1) / grid.spacing[1]) + 2, -(-height // block), -(-width // block)
    weights, losses, derivatives = new(lines * per_line), new(lines * per_line), new(4, lines * per_line)
    moved, pulled, bent = new(grid.rows - 1, 6, width), new(lines * cells, 6, width), new(3, blocks_y, width)
    sums, slope, curvature = new(lines * cells, 6, 2, grid.columns), new(2, 3, grid.rows, grid.columns), new(3, blocks_y, blocks_x)
    across, down = (grid.origin[0], grid.spacing[0]), (grid.origin[1], grid.spacing[1])
    kernel_lines.blend[(-(-width // 128), grid.rows - 1, 2)](parameters.contiguous(), moved, *across, width, grid.rows, grid.columns, N=128)
    images = pair.fixed, pair.weight, pair.moving, pair.seen, pair.whole, pair.moving_from_fixed, moved
    where = *down, width, height, moving_width, moving_height, grid.rows
    lanes, own = kernel.LANES.value, kernel.OWN.value
    groups = max(GROUPS, power_of_two(-(-window // lanes)))
    side = groups * lanes // window
    kernel.compare[(-(-per_line // side), lines)](
        *(*images, weights, losses, derivatives, *where),
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
    kernel.pull[(-(-width // own), lines)](
        *(*images, derivatives, pulled, bent, *where, cells),
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


def power_of_two(least: int) -> int:
    """The smallest one that is not less."""
    return 1 << (least - 1).bit_length()
