"""The processes that align and write the frames of a movie, or this process alone."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from register.compute.device import cores
from register.workflows import workers
from register.workflows.movie import tasks
from register.workflows.movie.tasks import Task

AHEAD = 3
"""Tasks per worker that are queued at a time."""
Result = TypeVar("Result")


class Here(Executor):
    """Runs a function in this process when it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """A future with the result of the function."""
        future = Future[Any]()
        future.set_result(fn(*args, **kwargs))
        return future


@dataclass(frozen=True)
class Workers:
    """Processes that run functions, and the function that gives all of them their task before the first."""

    pool: Executor
    give: Callable[[Task], None]


@contextmanager
def workers_of(count: int, threads: int | None) -> Iterator[Workers]:
    """The processes of a movie. They start at once, and wait for their task when they are ready."""
    if count == 1:
        yield Workers(Here(), tasks.prepare)
        return
    workers.start_quietly()
    context = get_context("spawn")
    given: SimpleQueue[Task | None] = context.SimpleQueue()
    started = context.Value("i", 0)
    values = (threads or max(cores() // count, 1), started, given)
    pool = ProcessPoolExecutor(count, context, initializer=_prepare, initargs=values)
    asked = list[Task | None]()

    def give(task: Task) -> None:
        asked.append(task)
        Thread(target=_put, args=(given, [task] * count), daemon=True).start()

    try:
        pool.submit(_ready)  # starts all processes
        yield Workers(pool, give)
    finally:
        if not asked:
            _put(given, [None] * count)
        pool.shutdown(wait=True, cancel_futures=True)


def in_order(
    submit: "Callable[[int], Future[Result]]", numbers: "range | list[int]", ahead: int
) -> Iterator[Result]:
    """The results of tasks with the given numbers, in order, of which some are computed ``ahead``."""
    queue = list[Future[Result]]()
    for number in numbers:
        queue.append(submit(number))
        if len(queue) >= ahead:
            yield queue.pop(0).result()
    for future in queue:
        yield future.result()


def _put(queue: "SimpleQueue[Task | None]", values: "Sequence[Task | None]") -> None:
    for value in values:
        queue.put(value)


def _prepare(threads: int, started: Any, given: "SimpleQueue[Task | None]") -> None:
    workers.prepare(threads, started)
    asked = given.get()
    if asked is not None:
        tasks.prepare(asked)


def _ready() -> None:
    """Do nothing."""
