"""Recover diverged patches by optimising them again from their converged neighbours.

An optimisation converges for displacements of up to about a window. A patch that is further from its solution
diverges, while its neighbours nearer to the centre of the image may converge. The similarity of such a patch
is close to zero, that of its neighbours is high. It is optimised again from the maps of its neighbours, then
the next patches outwards, front by front. Source: the reliability-guided order of Pan, "Reliability-guided
digital image correlation for image deformation measurement", Appl. Opt. 48 (2009), here for all patches of a
front at once.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from register.engine.fit import comparison
from register.engine.fit.comparison import Comparison
from register.geometry.patch_tensors import Patches
from register.optim.result import OptimisationResult

CONVERGED = 0.75
"""Quantile of the similarities of all patches that is taken as that of a converged patch."""
CLEAR, DIVERGED = 0.5, 0.5
"""Similarity of a converged patch from which diverged ones can be distinguished from it, and the share of it
below which a patch has diverged."""
LEAST_TEXTURE = 0.05
"""Texture of a patch below which its similarity is not meaningful."""
LEAST_DECREASE = 0.002
"""Decrease of the loss by a front from which another one is tried."""
ROUNDS = 12
"""Largest number of fronts."""


def recover(compare: Comparison, patches: Patches, optimise: Callable[..., OptimisationResult]) -> Tensor:
    """Recover the diverged patches and return the parameters (2, 3, rows, columns) of all.

    ``optimise`` takes the ``start`` of a front. The patches of a front whose similarity increased are kept.
    The first front that does not lower the loss is the last.
    """
    grid, best = patches
    before = comparison.windows(compare, patches)
    for _ in range(ROUNDS):
        similarity, texture = comparison.per_patch(compare, grid, before)
        bad = diverged(similarity, texture)
        if not bool(bad.any()):
            break
        tried = optimise(start=extrapolated(best, ~bad)).parameters
        better = (
            comparison.per_patch(compare, grid, comparison.windows(compare, Patches(grid, tried)))[0]
            > similarity
        )
        tried = torch.where(better | ~bad, tried, best)
        found = comparison.windows(compare, Patches(grid, tried))
        if before.loss_decrease(found) <= LEAST_DECREASE:
            break
        best, before = tried, found
    return best


def diverged(similarity: Tensor, texture: Tensor, *, quantile: float = CONVERGED) -> Tensor:
    """The patches (...) that are much less similar than the given ``quantile`` of all: bool (...).

    ``similarity`` and ``texture`` (...) are those of ``comparison.per_patch``. No patch has diverged where
    the quantile is not high.
    """
    textured = texture > LEAST_TEXTURE
    converged = float(similarity[textured].quantile(quantile)) if bool(textured.any()) else 0.0
    return textured & (similarity < DIVERGED * converged) & (converged >= CLEAR)


def extrapolated(parameters: Tensor, held: Tensor) -> Tensor:
    """Parameters (2, 3, rows, columns) in which all patches but the ``held`` ones are extrapolated.

    ``held`` (rows, columns) is a mask. Each other patch is the mean of its held neighbours' predictions at
    its centre, ring by ring.
    """
    parameters, known = parameters.clone(), held.clone()
    rows, columns = held.shape
    while bool(known.any()) and not bool(known.all()):
        padded, is_known = pad(parameters, (1,) * 4), pad(known.to(parameters), (1,) * 4)
        total, count = torch.zeros_like(parameters), torch.zeros_like(parameters[0, 0])
        for down, right in ((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)):
            here = slice(1 - down, 1 - down + rows), slice(1 - right, 1 - right + columns)
            predicted, weight = padded[(..., *here)].clone(), is_known[here]
            predicted[:, 0] += right * predicted[:, 1] + down * predicted[:, 2]
            total += predicted * weight
            count += weight
        new = ~known & (count > 0)
        parameters = torch.where(new, total / count.clamp(min=1), parameters)
        known = known | new
    return parameters
