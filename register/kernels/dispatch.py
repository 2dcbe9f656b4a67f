"""Which kernel runs: C for float32 tensors on the CPU, Triton for those on a CUDA device, or none.

Kernels compute one optimisation step in a single pass over the pixels. They return the same numbers, within
rounding, as the tensor code in ``engine/fit/objective.py`` and ``engine/fit/hessian.py``, which is the
reference and runs everywhere. Kernels are used where they are available and support the images;
``REGISTER_NATIVE=0`` in the environment disables them. Triton itself is imported only when a kernel is
launched on a CUDA device.
"""

from contextlib import suppress

import torch
from torch import Tensor

from register.compute import cuda_graphs, device
from register.geometry.patch_grid import PatchGrid
from register.kernels import cpu, cpu_layout
from register.kernels.step_sums import PairInput, StepSums
from register.kernels.triton import compile_ahead, launch, launch_system

PreparedPair = cpu_layout.PreparedPair | launch.PreparedPair
PatchSystem = cpu.PatchSystem | launch_system.PatchSystem
LEAST_SIDE = 2
"""Pixels that each side of an image must have."""


def is_available(place: torch.device) -> bool:
    """Whether there are kernels for a device. They need not be faster than tensors there."""
    if place.type == "cpu":
        return cpu.library() is not None
    return cuda_graphs.can_record(place) and launch.is_available()


def supports(fixed: Tensor, moving: Tensor) -> bool:
    """Whether there is a kernel for images (1, c, h, w) and (b, c, h', w') of their type and device."""
    if len(fixed) > 1 or min(*fixed.shape[-2:], *moving.shape[-2:]) < LEAST_SIDE:
        return False
    return any(
        supported(fixed) and supported(moving) for supported in (cpu.supports_tensor, launch.supports_tensor)
    )


def warm_up(place: torch.device) -> None:
    """Compile the kernels of a CUDA device, or load compiled ones; this takes seconds. On a CPU nothing is
    done."""
    with suppress(torch.OutOfMemoryError), device.current(place):
        if launch.supports_tensor(torch.zeros(1, device=place)):
            with cuda_graphs.warn_on_failure("compiled"):
                compile_ahead.compile_all(place)


def prepare(images: PairInput) -> PreparedPair:
    """Two images in the layout that a kernel for their device reads."""
    if launch.supports_tensor(images.fixed):
        return launch.prepare(images)
    return cpu_layout.prepare(images)


def expand(pair: PreparedPair, grid: PatchGrid, parameters: Tensor, block: int) -> StepSums:
    """The loss to second order under patches with ``parameters`` (2, 3, rows, columns): displacements in
    moving pixels.

    The side of a window must be a multiple of ``block`` pixels. Raises ``ValueError`` for arguments of a
    wrong shape or type, and ``MemoryError``.
    """
    if isinstance(pair, launch.PreparedPair):
        return launch.expand(pair, grid, parameters, block)
    return cpu.expand(pair, grid, parameters, block)


def similarities(pair: PreparedPair, grid: PatchGrid, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """The similarity (n,) of n windows under patches as in ``expand``, and their weights (n,)."""
    if isinstance(pair, launch.PreparedPair):
        return launch.similarities(pair, grid, parameters)
    return cpu.similarities(pair, grid, parameters)


def patch_system(grid: PatchGrid, x: Tensor, y: Tensor, penalty: tuple[Tensor, Tensor]) -> PatchSystem | None:
    """The linear system of the patches' Gauss-Newton step, see ``cpu.PatchSystem``; None where there is no
    kernel."""
    if cpu.supports_tensor(x):
        return cpu.PatchSystem(grid, x, y, penalty)
    return launch_system.PatchSystem(grid, x, y, penalty) if launch.supports_tensor(x) else None
