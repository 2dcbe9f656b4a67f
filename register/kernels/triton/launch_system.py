"""The damped Gauss-Newton step of patches on a CUDA device: what ``stencil.c`` computes on a CPU."""

import torch
from torch import Tensor

from register.geometry import patch_tensors
from register.geometry.patch_grid import PatchGrid

PATCHES, WARPS = 32, 4
"""Patches that a program processes at once, and its number of warps."""
PROGRAMS = 512
"""The largest number of programs, a power of two. The same code runs fewer, which saves compilations."""
RESIDENT, REGISTERS = 4, 80
"""Programs per multiprocessor, and registers per thread. The multiprocessor's 65536 registers suffice for all
of its programs at once, which is necessary because programs wait for each other."""


class PatchSystem:
    """The same as ``cpu.PatchSystem`` on a CUDA device; holds the memory that ``solve`` needs."""

    def __init__(self, grid: PatchGrid, x: Tensor, y: Tensor, penalty: tuple[Tensor, Tensor]) -> None:
        self.grid, self.penalty = grid, [along.contiguous() for along in penalty]
        (cell_x, share_x), (cell_y, share_y) = (
            patch_tensors.cells_before(grid, positions, axis) for axis, positions in enumerate((x, y))
        )
        self.tables = (
            cell_y,
            share_y,
            reached(cell_y, grid.rows),
            cell_x,
            share_x,
            reached(cell_x, grid.columns),
        )
        self.programs = min(-(-grid.count // PATCHES), at_once(x.device))
        self.stencil = x.new_zeros(grid.count, 9, 3, 3, 4)
        self.memory = (
            x.new_empty(grid.count, 8, 8),
            x.new_empty(10, grid.count, 8),
            x.new_empty(2, 2, PROGRAMS),
        )
        self.counter = torch.empty(1, dtype=torch.int32, device=x.device)

    def penalty_gradient(self, parameters: Tensor) -> Tensor:
        """The gradient (2, 3, rows, columns) of the smoothness penalty at parameters of the same shape."""
        from register.kernels.triton import cells

        parameters, found = (
            parameters.contiguous(),
            torch.empty_like(parameters, memory_format=torch.contiguous_format),
        )
        cells.bend[(-(-self.grid.count // 128), 2)](
            *self.penalty[::-1], parameters, found, self.grid.rows, self.grid.columns, N=128
        )
        return found

    def solve(
        self, curvature: Tensor, damping: Tensor, right: Tensor, *, steps: int, tolerance: float
    ) -> Tensor:
        """An approximate solution (2, 3, rows, columns) of (stencil + damping) x = ``right``.

        The stencil is that of a curvature (3, h, w) of blocks; ``damping`` (rows * columns,) is relative to
        the diagonal of each patch's own block. At most ``steps`` iterations of conjugate gradients, until the
        preconditioned residual has fallen to ``tolerance`` times the first one.
        """
        from register.kernels.triton import cells

        curvature, damping, right = (x.contiguous() for x in (curvature, damping, right))
        found, size = torch.empty_like(right), (self.grid.rows, self.grid.columns)
        cells.make[(-(-self.grid.count // 8), 5)](
            curvature,
            *self.tables,
            *self.penalty[::-1],
            damping,
            self.stencil,
            self.counter,
            *size,
            *curvature.shape[1:],
            N=8,
            num_warps=2,
        )
        cells.solve[(self.programs,)](
            *(self.stencil, right, *self.memory, self.counter, found, *size, steps, tolerance),
            N=PATCHES,
            PROGRAMS=PROGRAMS,
            num_warps=WARPS,
            maxnreg=REGISTERS,
            launch_cooperative_grid=True,
        )
        return found


def reached(cells: Tensor, count: int) -> Tensor:
    """The first block of pixels in the range of each of ``count`` patches, int32 (count + 2,).

    ``cells`` (n,) is the patch before each block, ascending. Patch i has non-zero weight in the blocks from
    ``result[i]`` up to, but not including, ``result[i + 2]``.
    """
    return torch.searchsorted(
        cells, torch.arange(-1, count + 1, dtype=cells.dtype, device=cells.device)
    ).int()


def at_once(device: torch.device) -> int:
    """The number of programs that a device runs at the same time; 1 without a GPU."""
    return (
        min(RESIDENT * torch.cuda.get_device_properties(device).multi_processor_count, PROGRAMS)
        if device.type == "cuda"
        else 1
    )
