"""The transform of every frame of a series, in several processes; existing transform files are read."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from register._version import __version__
from register.compute.device import cores
from register.engine import frame
from register.errors import RegisterError
from register.images import pyramid
from register.images.arrays import grey_level
from register.images.pixels import EVERYTHING
from register.images.pyramid import Level
from register.io.images.masks import read_mask
from register.io.images.stacks import Stack
from register.settings import Settings
from register.transforms.quality import Provenance, Verdict
from register.transforms.resample import warp_pixels
from register.transforms.transform import Transform
from register.workflows import workers

ANCHOR = 10
"""Interval of frames at which ``previous`` aligns to the reference again, so that errors do not accumulate.
"""
AVERAGED = 40
"""Number of frames, spread over the series, whose mean is the reference ``mean``."""
AHEAD = 4
"""Frames per worker that are queued at a time."""
NAMED = "first", "previous", "mean", "middle"


@dataclass(frozen=True)
class Task:
    """The input of a worker: the frames, the reference, the settings and the folder of transforms.

    ``number`` is the reference's frame, None for the mean; ``image`` (1, h, w) its grey image, NaN where
    invalid.
    """

    stack: Stack
    number: int | None
    image: NDArray[np.float32]
    settings: Settings
    folder: Path
    chained: bool
    """Whether each frame is aligned to the frame before it."""


def task(stack: Stack, to: str, settings: Settings, folder: Path) -> Task:
    """The task of aligning frames to ``first``, ``previous``, ``mean``, ``middle`` or a number.

    Raises ``RegisterError`` for another word and for a frame that does not exist.
    """
    if to not in NAMED and not to.isdigit():
        raise RegisterError(
            f"--to {to!r}: first, previous, mean, middle or the number of a frame, counted from 0"
        )
    number = int(to) if to.isdigit() else {"first": 0, "previous": 0}.get(to, len(stack) // 2)
    if number >= len(stack):
        raise RegisterError(f"--to {number}: there are {len(stack)} frames, counted from 0")
    image = _with_nan(level(stack, number, settings, settings.fixed_mask))
    if to == "mean":
        image = _mean(stack, number, settings)
    return Task(stack, None if to == "mean" else number, image, settings, folder, to == "previous")


def level(stack: Stack, index: int, settings: Settings, mask: str | None) -> Level:
    """The grey level of a frame; pixels with the no-data value or outside the mask are invalid."""
    pixels = np.moveaxis(stack.frame(index), 0, 2)
    valid = read_mask(mask, stack.shape[1:])[EVERYTHING][0] if mask else None
    nodata = stack.nodata if settings.nodata is None else settings.nodata
    return grey_level(pixels, valid, channel=settings.fixed_channel, nodata=nodata).level


def transforms(asked: Task, count: int) -> Iterator[Transform]:
    """The transform of every frame from the reference or the frame before, in order, in ``count`` processes.

    ``provenance.against`` is ``reference`` or the number of the frame.
    """
    frames = range(len(asked.stack))
    if count == 1:
        _prepare_here(asked)
        yield from map(_load_or_align, frames)
        return
    context = get_context("spawn")
    threads, started = asked.settings.threads or max(cores() // count, 1), context.Value("i", 0)
    with ProcessPoolExecutor(
        count, context, initializer=_prepare, initargs=(threads, started, asked)
    ) as pool:
        queue = []
        try:
            for index in frames:
                queue.append(pool.submit(_load_or_align, index))
                if len(queue) >= AHEAD * count:
                    yield queue.pop(0).result()
            for future in queue:
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class Worker(NamedTuple):
    """State of a worker process: the task, and its prepared reference."""

    asked: Task
    reference: frame.Reference


_workers: list[Worker] = []
"""The state of this process, set when it starts; the last entry is used."""


def _prepare(threads: int, started: Any, asked: Task) -> None:
    workers.prepare(threads, started)
    _prepare_here(asked)


def _prepare_here(asked: Task) -> None:
    valid = np.isfinite(asked.image)
    reference = pyramid.base(
        torch.from_numpy(np.where(valid, asked.image, 0)), torch.from_numpy(valid).float()
    )
    _workers.append(Worker(asked, frame.prepare(reference, asked.settings)))


def _load_or_align(index: int) -> Transform:
    """The transform of one frame, read from its file if that exists."""
    worker = _workers[-1]
    path = worker.asked.folder / f"{index:05d}.json"
    if path.exists():
        return Transform.load(path)
    try:
        found, against = _align_frame(worker, index)
    except RegisterError as error:
        found = frame.identity(worker.reference, verdict=Verdict.FAILED, why=str(error))
        against = "reference"
    made = Provenance(register=__version__, frame=index, against=against)
    found = replace(found, provenance=made)
    found.save(path)
    return found


def _align_frame(worker: Worker, index: int) -> tuple[Transform, str | int]:
    """The transform of one frame, and the reference or the number of the frame that it was aligned to."""
    asked, reference = worker
    if index == asked.number:
        return frame.identity(reference), "reference"
    moving = level(asked.stack, index, asked.settings, asked.settings.moving_mask)
    if not asked.chained or index % ANCHOR == 0:
        aligned = frame.align(reference, moving)
        if not asked.chained or aligned.quality.verdict == Verdict.OK:
            return aligned, "reference"
    before = frame.prepare(
        level(asked.stack, index - 1, asked.settings, asked.settings.moving_mask), asked.settings
    )
    return frame.align(before, moving), index - 1


def _mean(stack: Stack, middle: int, settings: Settings) -> NDArray[np.float32]:
    """The mean (1, h, w) of frames aligned to the middle frame; NaN where none is valid."""
    ready = frame.prepare(level(stack, middle, settings, settings.fixed_mask), settings)
    chosen = sorted({round(k) for k in np.linspace(0, len(stack) - 1, min(AVERAGED, len(stack)))})
    total = weight = np.zeros((1, *stack.shape[1:]))
    for index in chosen:
        moving = level(stack, index, settings, settings.moving_mask)
        moved = warp_pixels(_with_nan(moving), frame.align(ready, moving), fill=float("nan"))
        total, weight = total + np.nan_to_num(moved), weight + np.isfinite(moved)
    return np.where(weight > 0, total / np.maximum(weight, 1), np.nan).astype(np.float32)


def _with_nan(of: Level) -> NDArray[np.float32]:
    """The image of a level, NaN where it is invalid."""
    grey: NDArray[np.float32] = torch.where(of.mask > 0, of.image, torch.nan).numpy()
    return grey
