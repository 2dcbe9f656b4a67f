"""Matrix products and Fourier transforms whose bits do not depend on the number of threads."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

LIBRARIES = "lib/libtorch_cpu.so", "lib/torch_cpu.dll", "lib/libtorch_cpu.dylib"
"""Where MKL is found in an installed PyTorch."""


def use_one_thread() -> None:
    """Let MKL compute with one thread in this Python thread, until PyTorch's number of threads is set again.

    MKL cuts a matrix product differently for each number of threads and adds its parts in another order. The
    products of an alignment are small; one thread loses little time. Without MKL (processors other than x86)
    nothing is done, and the last bits of products may depend on the number of threads.
    """
    set_threads = _mkl_set_threads()
    if set_threads is not None:
        set_threads(1)


@contextmanager
def keep_threads() -> Iterator[None]:
    """Restore the number of threads of MKL after the block, which sets PyTorch's and thereby MKL's."""
    set_threads = _mkl_set_threads()
    if set_threads is None:
        yield
        return
    before = set_threads(1)
    set_threads(before)
    try:
        yield
    finally:
        set_threads(before)


@cache
def _mkl_set_threads() -> Any:
    """MKL's function that sets the number of threads of the calling thread and returns the one before."""
    for name in LIBRARIES:
        with suppress(OSError, AttributeError):
            return ctypes.CDLL(str(Path(torch.__file__).parent / name)).MKL_Set_Num_Threads_Local
    return None
