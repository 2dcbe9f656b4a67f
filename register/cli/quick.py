"""A quicker start and end: what of PyTorch only its compiler needs is not loaded, and nothing is searched for garbage at the end."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

UNUSED = "torch._meta_registrations"
"""Shapes of results without values, for the compiler: a third of the time that ``import torch`` takes, and of no use to a program that compiles nothing."""


@contextmanager
def quickly() -> Iterator[None]:
    """Run the program. For the program, not for the library: ``torch.compile`` and tensors on the ``meta`` device would not work."""
    if "torch" not in sys.modules:
        sys.modules.setdefault(UNUSED, ModuleType(UNUSED))
    try:
        yield
    finally:
        gc.freeze()  # the interpreter looks through every object once more before it ends, for nearly half a second
