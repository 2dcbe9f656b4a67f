"""Choose the device of a computation, and run work with a given number of threads or in the background."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from register.compute import blas
from register.errors import DeviceError

Done = TypeVar("Done")
CPU = torch.device("cpu")
MOST_THREADS_WITH_GPU = 8
"""Most CPU threads that are used with a GPU: the work on the CPU is then so small that more threads are
slower."""


def choose(name: str) -> torch.device:
    """The device of a ``--device`` value; ``auto`` is CUDA where available, or else the CPU.

    Raises ``DeviceError`` when the device is not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"--device {name}: this PyTorch ({torch.__version__}) finds no CUDA device;"
            " use --device cpu, or install a CUDA build of torch"
        )
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise DeviceError(
            f"--device {name}: there are {torch.cuda.device_count()} CUDA devices, numbered from 0;"
            " choose one of these"
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("--device mps: this machine or this PyTorch has no Metal device; use --device cpu")
    return torch.device(name)


def current(place: torch.device) -> AbstractContextManager[object]:
    """A context in which CUDA kernels run on a device by default."""
    return torch.cuda.device(place) if place.type == "cuda" else nullcontext()


def upload(tensors: Sequence[Tensor], place: torch.device) -> list[Tensor]:
    """Copies of tensors on a device.

    Tensors are copied to a CUDA device from pinned memory, so that one is transferred while the next is
    prepared.
    """
    if place.type != "cuda":
        return [x.to(place) for x in tensors]
    side = torch.cuda.Stream(place)  # type: ignore[no-untyped-call]
    current_stream = torch.cuda.current_stream(place)
    with torch.cuda.stream(side):
        uploaded = [
            x.pin_memory().to(place, non_blocking=True) if x.device.type == "cpu" else x.to(place)
            for x in tensors
        ]
    current_stream.wait_stream(side)
    for x in uploaded:
        x.record_stream(current_stream)
    return uploaded


def threads() -> int:
    """The number of threads that PyTorch uses."""
    return torch.get_num_threads()


def cores() -> int:
    """The number of cores this process may use, by its affinity and the quota of its control group."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        count = min(count, max(int(quota) // int(period), 1))
    return count


def thread_count(place: torch.device, count: int | None) -> int:
    """The number of threads that an alignment on a device uses: ``count`` if given.

    By default as many as PyTorch uses, but at most ``cores``, and at most ``MOST_THREADS_WITH_GPU`` with a
    GPU.
    """
    return count or min(threads(), cores(), MOST_THREADS_WITH_GPU if place.type == "cuda" else threads())


@contextmanager
def using_threads(count: int | None, place: torch.device = CPU) -> Iterator[None]:
    """Use the threads of ``thread_count`` within the block, one of them for matrix products."""
    before = threads()
    with blas.keep_threads():
        torch.set_num_threads(thread_count(place, count))
        blas.use_one_thread()
        try:
            yield
        finally:
            torch.set_num_threads(before)


@contextmanager
def concurrently(work: Callable[[], Done], place: torch.device = CPU) -> Iterator[Callable[[], Done]]:
    """Run ``work`` in another thread during the block; yields a function that waits for its result.

    Where PyTorch uses one thread, and for work on a GPU, whose steps another thread may be recording, the
    work is done when that function is called.
    """
    if threads() == 1 or place.type != "cpu":
        yield work
        return
    with worker_threads() as pool:
        yield pool.submit(work).result


@contextmanager
def run_in_background(work: Callable[[], object], place: torch.device) -> Iterator[None]:
    """Run ``work`` for a GPU in another thread during the block.

    Without a GPU the work is not done at all, because it would slow down the block.
    """
    if place.type != "cuda":
        yield
        return
    with concurrently(work) as done:
        yield
        done()


@contextmanager
def worker_threads() -> Iterator[ThreadPoolExecutor]:
    """A pool of as many threads as PyTorch uses; each of its tasks is computed by one thread."""
    count = threads()
    with blas.keep_threads():
        try:
            with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                yield pool
                pool.shutdown(wait=True, cancel_futures=True)
        finally:
            torch.set_num_threads(count)
