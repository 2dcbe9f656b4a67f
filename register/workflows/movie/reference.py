"""The image to which the frames of a movie are aligned: their mean, one of them, or a file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from register.engine.movie import template
from register.engine.movie.filtered import is_constant, structure_of
from register.engine.movie.follow import LEAST_STRUCTURE
from register.engine.movie.reference import Reference
from register.errors import AlignmentError, FileError, RegisterError
from register.io.movies.stack import Stack
from register.settings import Settings
from register.workflows.movie.greys import grey, of_file, with_nan
from register.workflows.movie.job import NAMED

TRIED = 50
"""Frames of noise after which the first of them is the reference."""


def number_of(stack: Stack, to: str, settings: Settings) -> int | None:
    """The frame that ``to`` names; None for ``mean`` and for a file.

    Raises ``RegisterError`` for another word, and for a frame that does not exist or is constant.
    """
    if to == "mean":
        return None
    if to not in NAMED and not to.isdigit():
        if Path(to).exists():
            return None
        named = "first, previous, mean, middle, the number of a frame, counted from 0, or an image file"
        raise RegisterError(f"--to {to!r}: {named}")
    if to.isdigit():
        if int(to) >= len(stack):
            raise RegisterError(f"--to {to}: there are {len(stack)} frames, counted from 0")
        return _usable(stack, [int(to)], settings)
    middle = len(stack) // 2
    order = (
        sorted(range(len(stack)), key=lambda n: (abs(n - middle), n)) if to == "middle" else range(len(stack))
    )
    return _usable(stack, order, settings)


def build(stack: Stack, to: str, settings: Settings) -> Reference:
    """The reference of a movie. Raises ``RegisterError``."""
    number = number_of(stack, to, settings)
    fixed = None
    if number is not None:
        fixed = with_nan(grey(stack, number, settings, settings.fixed_mask))
    elif to != "mean":
        fixed = _of_file(stack, to, settings)
    chosen = np.linspace(0, len(stack) - 1, min(template.AVERAGED, len(stack))).round().astype(int).tolist()
    mask = settings.moving_mask or settings.fixed_mask
    frames = [with_nan(grey(stack, n, settings, mask)) for n in sorted(set(chosen))]
    try:
        return template.build(frames, settings, fixed=fixed)
    except AlignmentError as error:
        raise FileError(stack.files[0], f"has no reference: it {error.message}", "check the file") from None


def _usable(stack: Stack, order: Sequence[int], settings: Settings) -> int:
    """The first frame in an order that shows more than noise, or else that is not constant.

    Raises ``FileError`` where there is none.
    """
    noisy = list[int]()
    for index in order:
        image = with_nan(grey(stack, index, settings, settings.fixed_mask))
        if is_constant(image):
            continue
        if structure_of(image) > LEAST_STRUCTURE or len(order) == 1:
            return index
        noisy.append(index)
        if len(noisy) == TRIED:
            break
    if noisy:
        return noisy[0]
    which = f"frame {order[0]}" if len(order) == 1 else "every frame"
    raise FileError(stack.files[0], f"{which} is constant and cannot be the reference", "choose another --to")


def _of_file(stack: Stack, path: str, settings: Settings) -> Tensor:
    """The grey values (h, w) of a file of the size of a frame."""
    found, (rows, columns) = of_file(path, settings), stack.shape[1:]
    height, width = found.shape
    if (height, width) != (rows, columns):
        sizes = f"is {width} × {height} pixels, a frame {columns} × {rows}"
        raise FileError(path, sizes, "choose another --to")
    return found
