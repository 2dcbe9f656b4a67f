"""The transform of every frame of a movie, in several processes; existing transform files are read."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
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
from register.images.pyramid import Level
from register.io.movies.stack import Stack
from register.settings import Settings
from register.transforms.quality import Provenance, Verdict
from register.transforms.transform import Transform
from register.workflows import workers
from register.workflows.movie import chain, reference

AHEAD = 4
"""Frames per worker that are queued at a time."""


@dataclass(frozen=True)
class Task:
    """The input of a worker: the frames, the reference, the settings and the folder of transforms.

    ``number`` is the reference's frame, None for an image that is not a frame; ``image`` (1, h, w) its grey
    image, NaN where invalid.
    """

    stack: Stack
    number: int | None
    image: NDArray[np.float32]
    settings: Settings
    folder: Path
    chained: bool
    """Whether each frame is aligned to the frame before it."""

    def path(self, index: int) -> Path:
        """The file of a frame's transform."""
        return self.folder / f"{index:05d}.json"

    def known(self, index: int) -> Transform | None:
        """The transform of a frame from an interrupted run."""
        return Transform.load(self.path(index)) if self.path(index).exists() else None


def task(stack: Stack, to: str, settings: Settings, folder: Path) -> Task:
    """The task of aligning frames to ``first``, ``previous``, ``mean``, ``middle``, a number or an image.

    Raises ``RegisterError`` for another word and for a frame that does not exist or cannot be used.
    """
    chosen = reference.choose(stack, to, settings)
    return Task(stack, chosen.number, chosen.image, settings, folder, to == "previous")


def transforms(asked: Task, count: int) -> Iterator[Transform]:
    """The transform of every frame from the reference, in order, computed in ``count`` processes.

    ``provenance.against`` is ``reference`` or the number of the frame that it was aligned to.
    """
    with _pool(asked, count) as pool:
        ahead = AHEAD * count if count > 1 else 1

        def submit(index: int, against: int | None) -> "Future[Transform]":
            return pool.submit(_link, index, against)

        if asked.chained and asked.number is not None:
            found = chain.chained(len(asked.stack), asked.number, submit, ahead, asked.known)
        else:
            found = _each(asked, submit, ahead)
        for index, transform in enumerate(found):
            path = asked.path(index)
            if not path.exists():
                transform.save(path)
            yield transform


def _each(asked: Task, submit: chain.Submit, ahead: int) -> Iterator[Transform]:
    """The transforms of all frames to the reference, in order."""
    queue = list["Transform | Future[Transform]"]()
    for index in range(len(asked.stack)):
        queue.append(asked.known(index) or submit(index, None))
        if len(queue) >= ahead:
            yield _result(queue.pop(0))
    yield from map(_result, queue)


def _result(of: "Transform | Future[Transform]") -> Transform:
    return of if isinstance(of, Transform) else of.result()


class Here(Executor):
    """Runs a function in this process when it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """A future with the result of the function."""
        future = Future[Any]()
        future.set_result(fn(*args, **kwargs))
        return future


@contextmanager
def _pool(asked: Task, count: int) -> Iterator[Executor]:
    """The processes of the workers, or this process."""
    if count == 1:
        _prepare_here(asked)
        yield Here()
        return
    context = get_context("spawn")
    threads, started = asked.settings.threads or max(cores() // count, 1), context.Value("i", 0)
    with ProcessPoolExecutor(
        count, context, initializer=_prepare, initargs=(threads, started, asked)
    ) as pool:
        try:
            yield pool
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
    image = pyramid.base(torch.from_numpy(np.where(valid, asked.image, 0)), torch.from_numpy(valid).float())
    _workers.append(Worker(asked, frame.prepare(image, asked.settings)))


def _link(index: int, against: int | None) -> Transform:
    """The transform of a frame from another one, or from the reference; failed where that is impossible."""
    worker = _workers[-1]
    try:
        found = _align_frame(worker, index, against)
    except RegisterError as error:
        found = frame.identity(worker.reference, verdict=Verdict.FAILED, why=str(error))
    made = Provenance(register=__version__, frame=index, against="reference" if against is None else against)
    return replace(found, provenance=made)


def _align_frame(worker: Worker, index: int, against: int | None) -> Transform:
    """The transform of one frame."""
    asked, prepared = worker
    if index == asked.number:
        return frame.identity(prepared)
    moving = _level(asked, index)
    if against is None:
        return frame.align(prepared, moving)
    return frame.align(frame.prepare(_level(asked, against), asked.settings), moving)


def _level(asked: Task, index: int) -> Level:
    """The grey level of a frame with the mask of the moving image."""
    return reference.level(asked.stack, index, asked.settings, asked.settings.moving_mask)
