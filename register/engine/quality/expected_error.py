"""Estimate the expected error of every patch; the estimate is calibrated on synthetic warps."""

import math
from collections.abc import Sequence
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

LOG_ERROR = {
    "one": 1.102,
    "bound": 0.728,
    "neighbour_disagreement": 0.638,
    "round_trip": 0.254,
    "dissimilarity": 0.13,
}
"""The log of the expected error, in pixels of the judging level, is the sum of these factors times the logs
of the terms of the same name (see ``terms``). Two thirds of the true errors are smaller. Fitted by ``python
-m benchmarks.calibration``."""
LEAST_DISAGREEMENT, LEAST_ROUND_TRIP, LEAST_BOUND, LEAST_DISSIMILARITY = 0.1, 0.05, 1e-4, 0.02
"""The smallest values of the terms: three in pixels, the last a difference of similarity."""
OTHER_KIND, ALIKE, WIDTH = 4.2, 0.8, 0.04
"""The error that different kinds of images add, relative to the geometric mean of the expected error of the
fit and a pixel of the judging level; the similarity on coarse levels below which images are of different
kinds, and the width of the step. Fitted to landmarks of 40 pairs by ``python -m benchmarks.calibration
--real``."""
AROUND = 2
"""Patches on either side over which terms are averaged."""


def bounds(compare: Comparison, grid: PatchGrid, parameters: Tensor, weight: float) -> Tensor:
    """The Cramér-Rao bound (n,) of the displacement of every patch's centre, in pixels of the level.

    The loss, the mean log of the unexplained variance, times half the number of valid pixels is the negative
    log-likelihood for Gaussian noise of unknown variance. ``weight`` is the sum of the weights of all
    windows, so the number of pixels is ``weight`` times the area of a window. The covariance of the six
    parameters of a patch is the inverse of its Hessian, to which the smoothness penalty contributes.

    Source: Robinson & Milanfar, "Fundamental performance limits in image registration", IEEE TIP 13 (2004),
    eq. 9.
    """
    objective = PatchObjective(compare, grid, local_fit.STIFFNESS, 1)
    curvature = objective.hessian_builder.hessian(objective.expand(parameters[None]).hessian[0]).own.double()
    covariance = torch.linalg.inv(
        curvature + 1e-9 * torch.eye(6, dtype=torch.float64, device=curvature.device)
    ) * (2 / (weight * compare.window**2))
    return (covariance[:, 0, 0] + covariance[:, 3, 3]).clamp(min=0).sqrt().cpu()


def errors(bound: Tensor, parameters: Tensor, back: Tensor, similarity: Tensor) -> Tensor:
    """The expected error (n,), in pixels of the level, from the arguments of ``terms``."""
    known = terms(bound, parameters, back, similarity)
    return (
        torch.stack([LOG_ERROR[name] * value.log() for name, value in known.items()])
        .sum(0)
        .add(LOG_ERROR["one"])
        .exp()
    )


def terms(bound: Tensor, parameters: Tensor, back: Tensor, similarity: Tensor) -> dict[str, Tensor]:
    """The terms (n,) of the expected error of n patches, by their names in ``LOG_ERROR``.

    They are the Cramér-Rao ``bound`` (n,), the disagreement of neighbouring patches with ``parameters`` (2,
    3, rows, columns), the error of the round trip at their centres, ``back`` (n,), and the dissimilarity,
    which is 1 minus the ``similarity`` (n,).
    """
    shape = parameters.shape[2:]
    disagreement = _around(smoothness.neighbour_disagreement(parameters.double().cpu()).square())
    returned = _around(back.clamp(min=1e-6).log().reshape(shape)).exp().square()
    return {
        "bound": bound.clamp(min=LEAST_BOUND),
        "neighbour_disagreement": (disagreement + LEAST_DISAGREEMENT**2).sqrt().flatten(),
        "round_trip": (returned + LEAST_ROUND_TRIP**2).sqrt().flatten(),
        "dissimilarity": 1 + LEAST_DISSIMILARITY - similarity.double().cpu(),
    }


def excess(shown: Tensor, errors: Sequence[float | None]) -> Tensor:
    """By how much the squares of the displacements that n patches have ``shown`` (n,) exceed those of their
    expected errors; NaN for patches without one."""
    return shown.square() - _numbers(errors, math.nan).square()


def with_excess(
    errors: Sequence[float | None], grid: PatchGrid, centres: Tensor, excess: Tensor
) -> list[float]:
    """The expected errors of the patches of a ``grid`` with a deformation that was not kept; infinite where
    unknown.

    What its patches, at ``centres`` (n, 2), show beyond noise may be real. The mean of the ``excess`` (n,) of
    squares, by the blend weights of the grid, is added to the square of each error; where all the patches
    around are without one, the mean of all.
    """
    bases = (grid.axis_basis(centres[:, axis], axis) for axis in (0, 1))
    x, y = (basis[:, : basis.shape[1] // 2] for basis in bases)
    known = excess.isfinite()
    weight = (y[:, :, None] * x[:, None, :]).flatten(1)[known]
    means = (weight * excess[known, None]).sum(0) / weight.sum(0)
    more = torch.where(means.isnan(), excess[known].mean(), means).nan_to_num().clamp(min=0)
    both: list[float] = (_numbers(errors, math.inf).square() + more).sqrt().tolist()
    return both


def between_kinds(errors: Sequence[float | None], alike: float, pixel: float) -> list[float]:
    """The expected errors, in moving pixels and infinite where unknown, of images that are ``alike`` to some
    degree on coarse levels.

    Two sensors or stains do not show an edge at one place, which the precision of the fit does not contain.
    ``pixel`` is the size of a pixel of the judging level in moving pixels.
    """
    other = OTHER_KIND / (1 + math.exp((alike - ALIKE) / WIDTH))
    fit = _numbers(errors, math.inf)
    both: list[float] = (fit.square() + other**2 * pixel * fit).sqrt().tolist()
    return both


def typical(figures: PatchFigures) -> float | None:
    """The median expected error of the patches, in moving pixels; None where no patch has one."""
    known = [error for error in figures.expected_error if error is not None]
    return round(median(known), 4) if known else None


def mostly_unknown(status: Sequence[str]) -> bool:
    """Whether at least half of the patches with content, of some ``status``, are not recognised, so that the
    median of their errors is not known."""
    return 2 * status.count("unrecognised") >= len(status)


def _numbers(errors: Sequence[float | None], unknown: float) -> Tensor:
    """Errors (n,) with a number in the place of those that are not known."""
    return torch.tensor([unknown if error is None else error for error in errors], dtype=torch.float64)


def _around(values: Tensor) -> Tensor:
    """Means (rows, columns) over every patch and its neighbours."""
    return avg_pool2d(pad(values[None, None], (AROUND,) * 4, mode="replicate"), 2 * AROUND + 1, 1)[0, 0]
