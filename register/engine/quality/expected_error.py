"""The error to expect at each patch: from curvature, from the neighbours, from the way back, calibrated on known warps."""

from statistics import median

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from register.engine.fit import local_fit
from register.engine.fit.comparison import Comparison
from register.engine.fit.objective import PatchObjective
from register.geometry import smoothness
from register.geometry.patch_grid import PatchGrid
from register.transforms.quality import PatchFigures

LOG_ERROR = {"one": 1.102, "bound": 0.728, "neighbour_disagreement": 0.638, "back": 0.254, "unlike": 0.13}
"""The log of the error that two of three patches stay below is this sum over the logs of what is known of a patch, in pixels of the judging level.
Fitted by ``python -m benchmarks.calibration``."""
LEAST_DISCORD, LEAST_BACK, LEAST_BOUND, LEAST_UNLIKE = 0.1, 0.05, 1e-4, 0.02
"""Pixels, and a similarity, below which nothing is told apart."""
AROUND = 2
"""Patches on either side over which the neighbours' neighbour_disagreement is averaged."""


def bounds(compare: Comparison, grid: PatchGrid, parameters: Tensor, weight: float) -> Tensor:
    """The Cramér-Rao bound (n,) of the displacement of every patch's centre, in pixels of the level.

    The loss, the mean log of what is left unexplained, is the log-likelihood of Gaussian noise of unknown size, but for a factor: half the number of
    pixels seen, the ``weight`` of all windows times their area. The covariance of a patch's six parameters is the inverse of its curvature with the
    stiffness that ties it to its neighbours. Source: Robinson & Milanfar, "Fundamental performance limits in image registration", IEEE TIP 13 (2004), eq. 9.
    """
    objective = PatchObjective(compare, grid, local_fit.STIFFNESS, 1)
    curvature = objective.couplings.stencil(objective.expand(parameters[None]).hessian[0]).own.double()
    covariance = torch.linalg.inv(
        curvature + 1e-9 * torch.eye(6, dtype=torch.float64, device=curvature.device)
    ) * (2 / (weight * compare.window**2))
    return (covariance[:, 0, 0] + covariance[:, 3, 3]).clamp(min=0).sqrt().cpu()


def errors(bound: Tensor, parameters: Tensor, back: Tensor, similarity: Tensor) -> Tensor:
    """The error (n,), in pixels of the level, that two of three patches stay below, from what ``terms`` makes of the same."""
    known = terms(bound, parameters, back, similarity)
    return (
        torch.stack([LOG_ERROR[name] * value.log() for name, value in known.items()])
        .sum(0)
        .add(LOG_ERROR["one"])
        .exp()
    )


def terms(bound: Tensor, parameters: Tensor, back: Tensor, similarity: Tensor) -> dict[str, Tensor]:
    """What is known (n,) of every patch, by its name in ``LOG_ERROR``.

    Of n patches: their ``bound``, their ``parameters`` (2, 3, rows, columns), how far their centres come ``back`` from where they were (n,), and their
    ``similarity`` (n,).
    """
    shape = parameters.shape[2:]
    apart = _around(smoothness.neighbour_disagreement(parameters.double().cpu()).square())
    returned = _around(back.clamp(min=1e-6).log().reshape(shape)).exp().square()
    return {
        "bound": bound.clamp(min=LEAST_BOUND),
        "neighbour_disagreement": (apart + LEAST_DISCORD**2).sqrt().flatten(),
        "back": (returned + LEAST_BACK**2).sqrt().flatten(),
        "unlike": 1 + LEAST_UNLIKE - similarity.double().cpu(),
    }


def typical(figures: PatchFigures) -> float | None:
    """The median expected error of the patches, in moving pixels; None where no patch has one."""
    known = [error for error in figures.expected_error if error is not None]
    return round(median(known), 4) if known else None


def _around(values: Tensor) -> Tensor:
    """Means (rows, columns) over the neighbours of every patch."""
    return avg_pool2d(pad(values[None, None], (AROUND,) * 4, mode="replicate"), 2 * AROUND + 1, 1)[0, 0]
