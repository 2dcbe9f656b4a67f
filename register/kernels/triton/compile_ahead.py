"""Compilation of the kernels that an alignment on a CUDA device needs, before it starts, on all cores."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import torch

from register.compute import device
from register.geometry import patch_tensors
from register.geometry.patch_grid import PatchGrid
from register.kernels.step_sums import Kind, PairInput
from register.kernels.triton import launch, launch_system

WANTED: tuple[tuple[Kind, int, int], ...] = (
    ("cosine", 8, 16),
    ("cosine", 2, 16),
    ("ncc", 1, 16),
    ("ncc", 1, 20),
    ("cosine", 2, 20),
)
"""Kind, channels and window of the default similarities: first for global transforms, then for patches."""
SIDE = 40
"""Side in pixels of the images that the kernels are run on for compilation."""


@cache
def compile_all(place: torch.device) -> None:
    """Compile the kernels for a device, or read them from Triton's cache on disk."""
    grid = PatchGrid.cover(SIDE, SIDE, SIDE // 2)
    with ThreadPoolExecutor(device.cores()) as pool:
        for done in [
            pool.submit(_on, place, task)
            for task in (
                partial(_system, grid, place),
                *(partial(_expand, grid, place, *kind) for kind in WANTED),
            )
        ]:
            done.result()


def _on(place: torch.device, task: Callable[[], object]) -> None:
    with device.current(place):
        task()


def _expand(grid: PatchGrid, place: torch.device, kind: Kind, channels: int, window: int) -> None:
    image, mask = torch.zeros(channels, SIDE, SIDE, device=place), torch.ones(1, SIDE, SIDE, device=place)
    pair = launch.prepare(PairInput(image, mask, image, mask, torch.eye(3, device=place)[:2], kind, window))
    launch.expand(pair, grid, patch_tensors.zeros(grid, device=place), window // 2)


def _system(grid: PatchGrid, place: torch.device) -> None:
    x = torch.arange(5.0, SIDE, 10, device=place)
    penalty = torch.zeros(2, 2, 2, grid.columns, device=place), torch.zeros(2, 2, 2, grid.rows, device=place)
    system = launch_system.PatchSystem(grid, x, x, penalty)
    system.penalty_gradient(patch_tensors.zeros(grid, device=place))
    curvature = torch.ones(3, len(x), len(x), device=place)
    system.solve(
        curvature,
        torch.ones(grid.count, device=place),
        patch_tensors.zeros(grid, device=place),
        steps=1,
        tolerance=0.1,
    )
