"""What to do when a device runs out of memory: the same work in more parts, outside the ``except`` that would hold the memory."""

from collections.abc import Callable
from typing import TypeVar

import torch

from register.compute import cuda_graphs

Result = TypeVar("Result")
PARTS = (1, 2, 4, 8, 16)


def in_parts(work: Callable[[int], Result]) -> Result:
    """``work(parts)`` for 1, 2, 4, 8, 16 parts until one fits; raises ``torch.OutOfMemoryError`` when none does.

    A caught exception keeps its frames alive and with them the tensors, so the retry happens after the ``except`` block.
    """
    parts = list(PARTS)
    while parts:
        try:
            return work(parts[0])
        except torch.OutOfMemoryError:
            pass
        if not cuda_graphs.forget():  # else they may have been all that stood in the way
            del parts[0]
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    raise torch.OutOfMemoryError(f"out of memory even in {PARTS[-1]} parts")
