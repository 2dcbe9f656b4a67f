"""``register align --dry-run``: what an alignment would do, without PyTorch where that is possible."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from register.compute.build import built_for_cpu_only
from register.io.images.masks import read_mask
from register.settings import Settings, working_size
from register.workflows.images import open_images
from register.workflows.job import Job, output_files, refuse_overwrite

BASE_MEMORY, PER_WORKING_PIXEL = 700_000_000, 110
"""Bytes that PyTorch, caches and buffers take, and bytes per pixel of a working copy; measured."""


@dataclass(frozen=True)
class Plan:
    """What a job would do: sizes (width, height), device, memory in bytes, and the files it would write."""

    fixed: tuple[int, int]
    moving: tuple[int, int]
    moving_dtype: str
    working: tuple[int, int]
    device: str
    memory: int
    files: tuple[Path, ...]


def plan(job: Job) -> Plan:
    """What ``align.run`` would do with a job. Opens the images, reads no pixels and writes nothing."""
    refuse_overwrite(job)
    fixed, moving = open_images(job)
    chosen = job.settings
    for mask, image in ((chosen.fixed_mask, fixed), (chosen.moving_mask, moving), (chosen.split_mask, fixed)):
        if mask and mask != "auto":
            read_mask(mask, image.size)  # raises FileError for a mask that cannot be used
    shrink = max(max(fixed.size) / working_size(job.settings), 1.0)
    working = round(fixed.size[1] / shrink), round(fixed.size[0] / shrink)
    memory = BASE_MEMORY + PER_WORKING_PIXEL * working[0] * working[1]
    memory += sum(image.nbytes for image in (fixed, moving) if isinstance(image.pixels, np.ndarray))
    files = output_files(job, moving)
    if files["aligned"].suffix == ".png":  # a PNG is written from memory
        memory += moving.nbytes
    return Plan(
        (fixed.size[1], fixed.size[0]),
        (moving.size[1], moving.size[0]),
        str(moving.dtype),
        working,
        device_name(job.settings),
        memory,
        tuple(files.values()),
    )


def device_name(settings: Settings) -> str:
    """The device that an alignment would use. Raises ``DeviceError`` for one that is not available."""
    if settings.device == "cpu" or (settings.device == "auto" and built_for_cpu_only()):
        return "cpu"
    from register.compute import device

    return str(device.choose(settings.device))
