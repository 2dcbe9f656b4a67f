"""Frames of a source that are changed when they are read: fewer of them, or with odd lines moved."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from register.errors import RegisterError
from register.images.line_offset import line_offset
from register.io.movies.source import FrameSource
from register.io.movies.stack import Stack

MOST = 0.25
"""Share of the width beyond which odd lines are not moved."""
MEASURED = 30
"""Number of frames, spread over a movie, from which the offset of odd lines is measured."""


@dataclass(frozen=True)
class Adapted:
    """The first ``count`` frames of a source, all without one, with odd lines moved left by ``offset``
    pixels; the value at their end is repeated. ``size`` is the height and width of the canvas that they are
    written on, where it is another one than the largest frame."""

    source: FrameSource
    count: int | None = None
    offset: int = 0
    size: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """See ``FrameSource``."""
        channels, height, width = self.source.shape
        return (channels, *(self.size or (height, width)))

    @property
    def dtype(self) -> np.dtype[Any]:
        """See ``FrameSource``."""
        return self.source.dtype

    def __len__(self) -> int:
        return len(self.source) if self.count is None else min(self.count, len(self.source))

    def read(self, index: int) -> NDArray[Any]:
        """See ``FrameSource``."""
        frame = self.source.read(index)
        if not self.offset:
            return frame
        columns = np.clip(np.arange(frame.shape[2]) + self.offset, 0, frame.shape[2] - 1)
        moved = frame.copy()
        moved[:, 1::2] = frame[:, 1::2][:, :, columns]
        return moved

    def close(self) -> None:
        """See ``FrameSource``."""
        self.source.close()


def shortened(stack: Stack, count: int | None) -> Stack:
    """The stack with its first ``count`` frames."""
    return stack if count is None else replace(stack, source=Adapted(stack.source, count))


def straightened(stack: Stack, offset: int) -> Stack:
    """The stack with odd lines moved left by ``offset`` pixels."""
    return replace(stack, source=Adapted(stack.source, offset=offset)) if offset else stack


def on_canvas(stack: Stack, size: tuple[int, int]) -> Stack:
    """The stack whose frames are written on a canvas of a size (height, width)."""
    if stack.shape[1:] == size:
        return stack
    return replace(stack, source=Adapted(stack.source, size=size))


def offset_of_lines(stack: Stack, asked: str) -> int:
    """The number of pixels that ``asked`` names: a number, or ``auto`` to measure it.

    Raises ``RegisterError`` for another text, and for a number beyond ``MOST`` of the width.
    """
    if asked == "auto":
        chosen = sorted(set(np.linspace(0, len(stack) - 1, MEASURED).round().astype(int).tolist()))
        frames = (stack.frame(n)[0] for n in chosen)
        whole = (frame for frame in frames if frame.shape == stack.shape[1:])
        return line_offset(torch.from_numpy(frame.astype(np.float32)) for frame in whole)
    try:
        offset = int(asked)
    except ValueError:
        raise RegisterError(f"--bidirectional {asked!r}: auto, or a number of pixels") from None
    width = stack.shape[2]
    if abs(offset) > MOST * width:
        raise RegisterError(f"--bidirectional {asked}: more than a quarter of the {width} px of a line")
    return offset
