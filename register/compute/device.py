"""Which device computes, and with how many threads."""

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
BESIDE_GPU = 8
"""Threads at most of what the processor does beside a GPU: pieces are small, and more threads wait for each
other longer than they compute."""


def choose(name: str) -> torch.device:
    """The device of a ``--device`` value; ``auto`` takes CUDA where it is, or else the CPU. Raises
    ``DeviceError`` when it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"--device {name}: this PyTorch ({torch.__version__}) sees no CUDA device; use --device cpu, or install a CUDA build of torch"
        )
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise DeviceError(
            f"--device {name}: there are {torch.cuda.device_count()} CUDA devices, counted from 0"
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("--device mps: this machine or this PyTorch has no Metal device; use --device cpu")
    return torch.device(name)


def current(place: torch.device) -> AbstractContextManager[object]:
    """A while in which kernels that name no device run on this one."""
    return torch.cuda.device(place) if place.type == "cuda" else nullcontext()


def upload(tensors: Sequence[Tensor], place: torch.device) -> list[Tensor]:
    """Tensors brought to a device. To a CUDA device from memory that stays where it is, so that one is on
    its way while the next is prepared."""
    if place.type != "cuda":
        return [x.to(place) for x in tensors]
    aside, here = torch.cuda.Stream(place), torch.cuda.current_stream(place)  # type: ignore[no-untyped-call]
    with torch.cuda.stream(aside):
        there = [
            x.pin_memory().to(place, non_blocking=True) if x.device.type == "cpu" else x.to(place)
            for x in tensors
        ]
    here.wait_stream(aside)
    for x in there:
        x.record_stream(here)
    return there


def threads() -> int:
    """How many threads PyTorch may use."""
    return torch.get_num_threads()


def cores() -> int:
    """How many cores this process may use: its affinity, and its control group's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        count = min(count, max(int(quota) // int(period), 1))
    return count


def thread_count(place: torch.device, count: int | None) -> int:
    """How many threads an alignment on a device uses: ``count``, or as many as PyTorch has, and no more
    than ``cores`` or than pay beside a GPU."""
    return count or min(threads(), cores(), BESIDE_GPU if place.type == "cuda" else threads())


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
def beside(work: Callable[[], Done]) -> Iterator[Callable[[], Done]]:
    """Some work done by a thread of its own while the block goes on; what is yielded waits for its result.
    With one thread to use it is done when asked for."""
    if threads() == 1:
        yield work
        return
    with worker_threads() as pool:
        yield pool.submit(work).result


@contextmanager
def run_in_background(work: Callable[[], object], place: torch.device) -> Iterator[None]:
    """What a GPU is to do, asked for by a thread of its own while the block goes on; on a CPU nothing,
    which has enough to do with the block."""
    if place.type != "cuda":
        yield
        return
    with beside(work) as done:
        yield
        done()


@contextmanager
def worker_threads() -> Iterator[ThreadPoolExecutor]:
    """As many threads as PyTorch has, each of which computes alone: for work that is cut in pieces."""
    count = threads()
    with blas.keep_threads():
        try:
            with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                yield pool
                pool.shutdown(wait=True, cancel_futures=True)
        finally:
            torch.set_num_threads(count)
