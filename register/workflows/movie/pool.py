"""The processes that align and write the frames of a movie, or this process alone."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
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


@contextmanager
def pool_of(asked: Task, count: int) -> Iterator[Executor]:
    """The processes, each with the reference prepared."""
    if count == 1:
        tasks.prepare(asked)
        yield Here()
        return
    workers.start_quietly()
    context = get_context("spawn")
    threads, started = asked.settings.threads or max(cores() // count, 1), context.Value("i", 0)
    pool = ProcessPoolExecutor(count, context, initializer=_prepare, initargs=(threads, started, asked))
    try:
        yield pool
    finally:
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


def _prepare(threads: int, started: Any, asked: Task) -> None:
    workers.prepare(threads, started)
    tasks.prepare(asked)
