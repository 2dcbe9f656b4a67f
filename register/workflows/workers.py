"""Align pairs in several processes; the pairs of a process that died are repeated one by one."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import torch

from register.compute.device import cores
from register.compute.free_memory import free_memory
from register.errors import RegisterError
from register.files.remote import is_remote
from register.files.scratch import remove_open
from register.workflows.batch import PairOutcome, Runner, align_pair, sequential
from register.workflows.job import Job
from register.workflows.pairs import Pair
from register.workflows.plan import plan

MEASURED = 8
"""Number of pairs, those with the largest files, whose memory is estimated."""
KILLED = "its process was killed twice; memory may not suffice: use fewer --workers or a smaller --max-size"
SHARE = 0.8
"""Fraction of the free memory that workers may use."""


def worker_count(pairs: list[Pair], asked: int | None = None) -> int:
    """The number of workers: the given one, or the largest that cores (or GPUs), pairs and memory allow."""
    if asked is not None:
        return max(min(asked, len(pairs)), 1)
    on_gpu = torch.cuda.is_available() and any(pair.settings.device in ("auto", "cuda") for pair in pairs)
    count, free = min(torch.cuda.device_count() if on_gpu else cores(), len(pairs)), free_memory()
    if free is not None and count > 1:
        count = min(count, int(SHARE * free / max(_memory_needed(pairs), 1)))
    return max(count, 1)


def _memory_needed(pairs: list[Pair]) -> int:
    """Bytes that the largest pair needs; 0 where it cannot be estimated."""

    def size(pair: Pair) -> int:
        return sum(Path(name).stat().st_size for name in (pair.fixed, pair.moving) if Path(name).is_file())

    found = [0]
    for pair in sorted((x for x in pairs if not (is_remote(x.fixed) or is_remote(x.moving))), key=size)[
        -MEASURED:
    ]:
        with contextlib.suppress(RegisterError):  # its own alignment reports the error
            found.append(
                plan(
                    Job(Path(pair.fixed), Path(pair.moving), Path("."), pair.settings, overwrite=True)
                ).memory
            )
    return max(found)


def in_processes(output: str, count: int, redo: bool = False) -> Runner:
    """The runner that aligns pairs in ``count`` processes, or in this one if ``count`` is 1.

    When a process dies, the pairs that were running are repeated one by one; a pair whose process dies again
    is an error. When the runner is closed, as by Ctrl-C, running pairs are finished; a second Ctrl-C cancels
    them.
    """
    if count == 1:
        return sequential(output, redo)

    def runner(pairs: list[Pair]) -> Iterator[PairOutcome]:
        waiting, repeated = list(pairs), list[Pair]()
        while waiting or repeated:
            alone, broken = bool(repeated), list[Pair]()
            yield from _pool(
                [repeated.pop(0)] if alone else waiting, output, redo, 1 if alone else count, broken
            )
            if alone:
                yield from (PairOutcome(pair.id, pair.fixed, pair.moving, error=KILLED) for pair in broken)
            else:
                repeated = broken

    return runner


def _pool(
    queue: list[Pair], output: str, redo: bool, count: int, broken: list[Pair]
) -> Iterator[PairOutcome]:
    """Outcomes of pairs taken from a queue, until it is empty or a process dies.

    The pairs that were running then are added to ``broken``.
    """
    start_quietly()
    context = multiprocessing.get_context("spawn")
    started = context.Value("i", 0)
    pool = ProcessPoolExecutor(
        count, context, initializer=prepare, initargs=(max(cores() // count, 1), started)
    )
    running: dict[Future[PairOutcome], Pair] = {}
    try:
        while queue or running:
            while queue and len(running) < 2 * count:
                running[pool.submit(align_pair, queue[0], output, redo)] = queue[0]
                queue.pop(0)
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                outcome = future.result()
                del running[future]
                yield outcome
    except BrokenProcessPool:
        broken += running.values()
    finally:
        try:
            pool.shutdown(wait=True, cancel_futures=True)
        except KeyboardInterrupt:
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def start_quietly() -> None:
    """Start the process that frees the semaphores of killed programs, so that it does so without a word."""
    option = "ignore::UserWarning:multiprocessing.resource_tracker"
    sys.warnoptions.append(option)
    try:
        if hasattr(os, "fork"):  # Windows frees them itself
            resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(option)


def prepare(threads: int, started: "Synchronized[int]") -> None:
    """Prepare a worker: it ignores Ctrl-C and a closed terminal, ends with its parent, and takes its share of
    threads and a GPU."""
    for name in ("SIGINT", "SIGHUP"):  # of the terminal or scheduler, which the parent gets too
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    with started.get_lock():
        number, started.value = started.value, started.value + 1
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        remove_open()
        os._exit(1)
