"""Retry work in smaller batches when a device runs out of memory."""

from collections.abc import Callable
from typing import TypeVar

import torch

from register.compute import cuda_graphs

Result = TypeVar("Result")
BATCHES = (1, 2, 4, 8, 16)


def in_batches(work: Callable[[int], Result]) -> Result:
    """The result of ``work(batches)`` with the fewest of 1, 2, 4, 8 and 16 batches for which memory suffices.

    Raises ``torch.OutOfMemoryError`` when memory does not suffice for 16. A caught exception keeps its frames
    and with them the tensors, so the retry happens after the ``except`` block.
    """
    left = list(BATCHES)
    while left:
        try:
            return work(left[0])
        except torch.OutOfMemoryError:
            pass
        if not cuda_graphs.free_recordings():  # otherwise try again without the memory of the recordings
            del left[0]
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    raise torch.OutOfMemoryError(f"out of memory even in {BATCHES[-1]} batches")
