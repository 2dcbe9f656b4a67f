"""Settings of the process that save time: memory, waiting threads and garbage collection."""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

MALLOC_OPTIONS = {"MALLOC_MMAP_THRESHOLD_": (-3, 32 * 2**20), "MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1)}
"""Options of GNU's C library: the number that ``mallopt`` knows each by, and its value in bytes.

Freed blocks below the first size, and the free end of the heap below the second, are kept for the next
allocation. Otherwise they are returned to the system, which fills them with zeros when they are allocated
again.
"""
ENVIRONMENT = {
    **{name: str(value) for name, (_, value) in MALLOC_OPTIONS.items()},  # for child processes
    "OPENBLAS_NUM_THREADS": "1",  # NumPy's own threads have little to do here and wait actively
    "GOMP_SPINCOUNT": "10000",  # PyTorch's threads wait actively; the default slows busy machines
    "PYDANTIC_DISABLE_PLUGINS": "__all__",  # pydantic searches all installed packages for plugins
}
"""Environment variables that libraries read when they are loaded; those that the user has set are kept."""
NEW_OBJECTS = 200_000
"""New objects after which the garbage collector runs. Starting the program creates more than half as many."""


@contextmanager
def configured_process() -> Iterator[None]:
    """Run the program with these settings. For the command line: a library must not change its process."""
    gc.set_threshold(NEW_OBJECTS)
    if "torch" not in sys.modules:
        if (
            not os.environ.keys() & MALLOC_OPTIONS.keys()
        ):  # unless the user or the parent process has set them
            keep_freed_memory()
        os.environ.update(ENVIRONMENT | os.environ)
    try:
        yield
    finally:
        gc.freeze()  # otherwise the interpreter visits every object once more before it exits


def keep_freed_memory() -> None:
    """Set ``MALLOC_OPTIONS`` for this process, where its C library is GNU's."""
    with suppress(OSError, AttributeError, TypeError):
        for number, value in MALLOC_OPTIONS.values():
            ctypes.CDLL(None).mallopt(number, value)
