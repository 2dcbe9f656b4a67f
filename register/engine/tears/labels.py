"""Which side of a line each pixel is on, and which pixels have no counterpart: from what each side's map
leaves of the difference of the images."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from register.images import filters
from register.images.split_mask import Labels

LEAST_GOOD, BETWEEN = 0.003, 0.5
"""Smallest difference of pixels that match, and that of pixels that do not, in units of unrelated ones; the
limit is the geometric mean."""
MOST_GOOD = 0.3
"""Median difference of the images from which on matching pixels cannot be told."""
HIDDEN, WORST = 0.1, 3.0
"""Difference from which on a pixel has no counterpart, in units of unrelated ones, and the largest one that
counts, in units of that."""
ROUNDS, SIGMA, PULL = 15, 2.5, 1.8
"""Rounds in which each pixel is compared with its neighbours, the standard deviation of their weights in
pixels, and the weight of their agreement."""


def limit_of(difference: Tensor) -> float | None:
    """The difference (h, w) from which on pixels do not match; None where too few match."""
    known = difference[~difference.isnan()]
    good = filters.median(known) if known.numel() else math.inf
    return None if good > MOST_GOOD else math.sqrt(max(good, LEAST_GOOD) * BETWEEN)


def chosen(differences: list[Tensor], initial: Labels, zone: Tensor, hidden: float = HIDDEN) -> Labels:
    """The labels (h, w) by the ``differences`` (h, w) that each side leaves.

    A pixel of the ``zone`` (h, w) is on the side that leaves least, or has no counterpart if all leave more
    than ``hidden``, and agrees with its neighbours: a Potts model, whose mean field is iterated with
    Gaussian weights (Krähenbühl & Koltun, "Efficient inference in fully connected CRFs with Gaussian edge
    potentials", NIPS 2011). Other pixels keep their ``initial`` label. One without counterpart belongs to the
    side that leaves least around it.
    """
    count = len(differences)
    cost = (torch.stack(differences) / hidden).nan_to_num(WORST).clamp(max=WORST)
    every = torch.cat([cost, torch.ones_like(cost[:1])])
    kept = torch.from_numpy(np.abs(initial).astype(np.int64) - 1).to(cost.device)
    label = torch.where(zone, every.argmin(0), kept)
    support = torch.zeros_like(every)
    for _ in range(ROUNDS):
        support = filters.smooth(one_hot(label, count + 1).movedim(-1, 0)[None].float(), SIGMA)[0]
        new = torch.where(zone, (every - PULL * support).argmin(0), kept)
        if bool((new == label).all()):
            break
        label = new
    side = torch.where(label < count, label, nearest(label, count, kept))
    return (torch.where(label < count, 1, -1) * (side + 1)).cpu().numpy().astype(np.int8)


def nearest(label: Tensor, count: int, kept: Tensor) -> Tensor:
    """The side (h, w) of which most is around each pixel, at the smallest distance at which there is any."""
    found, radius = torch.full_like(label, -1), 2.0
    planes = one_hot(label, count + 1).movedim(-1, 0)[None, :count].float()
    while bool((found < 0).any()) and radius < 2 * max(label.shape):
        share = filters.smooth_widely(planes, radius)[0]
        found = torch.where((found < 0) & (share.amax(0) > 1e-3), share.argmax(0), found)
        radius *= 2
    return torch.where(found < 0, kept, found)
