"""What a compiled pass over the pixels of a pair gives, wherever it runs."""

from typing import Literal, NamedTuple

from torch import Tensor

Kind = Literal["ncc", "cosine"]
"""Similarities for which there is a kernel: of intensities, and of descriptors."""


class Summed(NamedTuple):
    """Weighted losses (n,) of n windows and their weights (n,), how the loss follows the numbers (2, 3, rows, columns) of patches that move points of the
    moving image, and its curvature (3, h', w') to displacements of fixed pixels, summed over blocks of them: xx, xy and yy."""

    losses: Tensor
    weights: Tensor
    slope: Tensor
    curvature: Tensor
