"""Set the number of threads of MKL, so that results do not depend on the number of threads of PyTorch.

An alignment has the same bits for any number of threads only with a PyTorch that uses MKL (x86 processors).
Elsewhere this is not promised: matrix products may differ in their last bits.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

LIBRARIES = "lib/libtorch_cpu.so", "lib/torch_cpu.dll", "lib/libtorch_cpu.dylib"
"""Files of an installed PyTorch that may contain MKL."""


def use_one_thread() -> None:
    """Let MKL compute with one thread in this Python thread, until PyTorch's number of threads is set again.

    MKL divides a matrix product or a Fourier transform differently for each number of threads and adds the
    blocks in another order. The products of an alignment are small, so one thread is hardly slower. Without
    MKL (processors other than x86) this does nothing, and the last bits of products may depend on the number
    of threads.
    """
    set_threads = _mkl_set_threads()
    if set_threads is not None:
        set_threads(1)


@contextmanager
def keep_threads() -> Iterator[None]:
    """Restore MKL's number of threads after the block; setting that of PyTorch inside it changes MKL's
    too."""
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
    """MKL's function that sets the calling thread's number of threads and returns the previous number."""
    for name in LIBRARIES:
        with suppress(OSError, AttributeError):
            return ctypes.CDLL(str(Path(torch.__file__).parent / name)).MKL_Set_Num_Threads_Local
    return None
