"""Refuse to compute in a process that was forked after threads had computed, where it would wait for ever.

A fork copies memory and not the threads of OpenMP, for which PyTorch then waits.
"""

import os

import torch

from register.errors import RegisterError

_state = {"threads": False, "forked": False}


def check() -> None:
    """Note that this process computes.

    Raises ``RegisterError`` in a process that was forked from one that had computed with several threads.
    """
    if _state["forked"]:
        raise RegisterError(
            "this process was forked after images had been aligned in several threads, which it does not"
            " have; start processes by multiprocessing.get_context('spawn'), or fork before the first"
            " alignment"
        )
    _state["threads"] |= torch.get_num_threads() > 1


def _after_fork() -> None:
    _state["forked"] |= _state["threads"]


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)
