"""Patches that were lost on the way, begun again from neighbours that were not.

A descent follows a patch no further than about a window; one whose partner lies beyond ends anywhere, while its neighbours nearer to the
middle arrive. Such a patch explains next to nothing of what it shows where they explain nearly all: it is put where they say it should be
and descends again, and so on outwards, as seeds grow regions. Source: the reliability-guided order of Pan, "Reliability-guided digital
image correlation for image deformation measurement", Appl. Opt. 48 (2009), here for all patches of a front at once.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from register.engine.fit import comparison
from register.engine.fit.comparison import Comparison
from register.geometry.patch_tensors import Patches
from register.optim.result import OptimisationResult

ARRIVED = 0.75
"""Share of all patches that are less alike than one that surely arrived."""
CLEAR, LOST = 0.5, 0.5
"""Similarity of that one from which on it is clear what a patch that arrived looks like, and the share of it below which a patch is lost."""
LEAST_TEXTURE = 0.05
"""Texture of a patch below which nothing can be told of it."""
LEAST_FALL = 0.002
"""Fall of the mean log of what is left unexplained from which on a front is worth another."""
ROUNDS = 12
"""Fronts at most."""


def recover(compare: Comparison, patches: Patches, descend: Callable[..., OptimisationResult]) -> Tensor:
    """The parameters (2, 3, rows, columns) of patches, those that were lost put where their neighbours say and descended again, front by front.

    ``descend`` goes on from a ``start``. Of a front those patches are kept that are more alike than they were; one that does not lower the loss is the last.
    """
    grid, best = patches
    seen = comparison.windows(compare, patches)
    for _ in range(ROUNDS):
        similarity, texture = comparison.per_patch(compare, grid, seen)
        gone = lost(similarity, texture)
        if not bool(gone.any()):
            break
        tried = descend(start=carried_on(best, ~gone)).parameters
        better = (
            comparison.per_patch(compare, grid, comparison.windows(compare, Patches(grid, tried)))[0]
            > similarity
        )
        tried = torch.where(better | ~gone, tried, best)
        found = comparison.windows(compare, Patches(grid, tried))
        if seen.loss_decrease(found) <= LEAST_FALL:
            break
        best, seen = tried, found
    return best


def lost(similarity: Tensor, texture: Tensor, *, below: float = ARRIVED) -> Tensor:
    """Which patches (...) are much less alike than those that arrived, above a share ``below`` of all; none where these are not clearly alike.

    ``similarity`` and ``texture`` (...) are what ``comparison.per_patch`` tells.
    """
    told = texture > LEAST_TEXTURE
    arrived = float(similarity[told].quantile(below)) if bool(told.any()) else 0.0
    return told & (similarity < LOST * arrived) & (arrived >= CLEAR)


def carried_on(parameters: Tensor, held: Tensor) -> Tensor:
    """Parameters (2, 3, rows, columns) in which patches that are not ``held`` (rows, columns) go on as their nearest held neighbours do, ring by ring."""
    parameters, known = parameters.clone(), held.clone()
    rows, columns = held.shape
    while bool(known.any()) and not bool(known.all()):
        wide, there = pad(parameters, (1,) * 4), pad(known.to(parameters), (1,) * 4)
        total, count = torch.zeros_like(parameters), torch.zeros_like(parameters[0, 0])
        for down, right in ((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)):
            here = slice(1 - down, 1 - down + rows), slice(1 - right, 1 - right + columns)
            says, say = wide[(..., *here)].clone(), there[here]
            says[:, 0] += right * says[:, 1] + down * says[:, 2]
            total += says * say
            count += say
        fresh = ~known & (count > 0)
        parameters = torch.where(fresh, total / count.clamp(min=1), parameters)
        known = known | fresh
    return parameters
