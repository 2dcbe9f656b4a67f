"""What a writer needs to know of a movie besides its pixels."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.io.movies.stack import Stack

Encoded = bytes | NDArray[Any]
"""A frame as a worker hands it over: encoded, or as an array that the writer encodes."""
Add = Callable[[Encoded], None]
"""Adds one frame to a file."""


@dataclass(frozen=True, eq=False)
class About:
    """The movie whose frames are written and the compression; where it was aligned, the shifts (n, 2) of the
    centres, which frames (n,) are bad, and the image (h, w) that they are aligned to."""

    stack: Stack
    compression: str
    shifts: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    bad: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    reference: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))


Writer = Callable[[Path, About], AbstractContextManager[Add]]
"""Opens a file and gives the function that adds a frame; the file appears when all frames were added."""
