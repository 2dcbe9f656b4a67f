"""Two images in the memory layout that the C code reads; ``README.md`` beside this file describes it."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from register.kernels.step_sums import Kind, PairInput

ROTATED = 0.1
"""Rows by which the sampled row changes from one column to the next, from which on images are read across
their rows."""
CACHE_LINE, CACHE_PERIOD = 64, 1024
"""Bytes of a line of the processor's cache, and the distance in bytes at which addresses compete for the same
lines."""
Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels."""


class PreparedPair(NamedTuple):
    """Two images as the C code reads them: float32, on the CPU, pixels of a row side by side."""

    fixed: Tensor  # (c, h, w), contiguous
    weight: Tensor  # (h, w), contiguous
    moving: Tensor  # (c, h', w'), rows possibly further apart than their length
    moving_mask: (
        Tensor | None
    )  # (h', w'), rows as far apart as those of ``moving``; None where it is 1 everywhere
    valid_box: Box  # the moving mask is 1 between the centres of these pixels
    moving_from_fixed: tuple[float, ...]  # six numbers, row by row
    kind: Kind
    window: int
    fixed_sums: Tensor
    """Sums (3, n) over the fixed image in n windows, which are the same in each step: the first step that
    needs them computes them; until then they are NaN."""


def prepare(images: PairInput) -> PreparedPair:
    """Two images in the layout of the C code."""
    fixed, weight, moving, moving_mask, moving_from_fixed, kind, window = images
    box, matrix = _ones(moving_mask[0]), tuple(moving_from_fixed.flatten().tolist())
    in_rows = partial(_in_rows, rotated=abs(matrix[3]) > ROTATED)
    everywhere = box == (0, 0, moving_mask.shape[2] - 1, moving_mask.shape[1] - 1)
    lines, per_line = (-(-n // window) for n in fixed.shape[1:])
    return PreparedPair(
        fixed.contiguous(),
        weight[0].contiguous(),
        in_rows(moving),
        None if everywhere else in_rows(moving_mask)[0],
        box,
        matrix,
        kind,
        window,
        fixed.new_full((3, lines * per_line), torch.nan),
    )


def _in_rows(image: Tensor, *, rotated: bool) -> Tensor:
    """An image (c, h, w) with the pixels of each row side by side.

    Under a rotated map it is read down its columns. Rows that start at nearly a multiple of ``CACHE_PERIOD``
    bytes would then compete for the same lines of the cache, so they get one line of padding.
    """
    width = image.shape[2]
    if not rotated or (4 * width + CACHE_LINE) % CACHE_PERIOD > 2 * CACHE_LINE:
        return image.contiguous()
    rows = image.new_empty(*image.shape[:2], width + CACHE_LINE // 4)[..., :width]
    return rows.copy_(image)


def _ones(mask: Tensor) -> Box:
    """A large box of a mask (h, w) in which it is 1; empty (four zeros) where the mask is not 1 in its
    centre.

    The box is the entire image, or starts as the ones around the centre of its middle row and column and
    shrinks until it holds ones only.
    """
    if float(mask.amin()) == 1.0:
        return 0, 0, mask.shape[1] - 1, mask.shape[0] - 1
    height, width = mask.shape
    top, bottom = _ones_around_centre(mask[:, width // 2])
    left, right = _ones_around_centre(mask[height // 2])
    while bottom > top and right > left:
        if float(mask[top : bottom + 1, left : right + 1].amin()) == 1.0:
            return left, top, right, bottom
        across, down = (right - left) // 16 + 1, (bottom - top) // 16 + 1
        left, top, right, bottom = left + across, top + down, right - across, bottom - down
    return 0, 0, 0, 0


def _ones_around_centre(line: Tensor) -> tuple[int, int]:
    """The first and the last of the ones (n,) around the centre of a line; equal or reversed where it is not
    1."""
    holes, middle = (line != 1).nonzero()[:, 0], len(line) // 2
    before, after = holes[holes <= middle], holes[holes >= middle]
    return int(before[-1]) + 1 if len(before) else 0, int(after[0]) - 1 if len(after) else len(line) - 1
