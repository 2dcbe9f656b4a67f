"""What a kernel is given and what it computes in one optimisation step, whichever kernel it is."""

from typing import Literal, NamedTuple

from torch import Tensor

Kind = Literal["ncc", "cosine"]
"""Similarities for which there are kernels: squared correlation of one channel, and cosine of descriptor
vectors."""


class PairInput(NamedTuple):
    """Two images to compare: the input of every kernel, before it is brought into the kernel's layout."""

    fixed: Tensor  # (c, h, w)
    weight: Tensor  # (1, h, w) weights of the fixed pixels
    moving: Tensor  # (c, h', w')
    moving_mask: Tensor  # (1, h', w') validity of the moving pixels
    moving_from_fixed: Tensor  # (2, 3) the map without patches
    kind: Kind
    window: int  # side of a window, in pixels


class StepSums(NamedTuple):
    """The loss of a level to second order, for patches that move points of the moving image."""

    losses: Tensor  # (n,) weighted losses of n windows
    weights: Tensor  # (n,) their weights
    gradient: Tensor  # (2, 3, rows, columns) derivatives with respect to the parameters of the patches
    curvature: Tensor  # (3, h', w') second derivatives xx, xy, yy to displacements of fixed pixels, by block
