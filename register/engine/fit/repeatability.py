"""Whether a small deformation is real: patches that are fitted to two halves of the windows must agree.

The noise of the two halves is independent, so that their deformations are uncorrelated where there is only
noise, and correlated where the images are deformed, however small the deformation is. The method is that of
the Fourier shell correlation between the reconstructions of two halves of the data, here with the
correlation of the displacements of patch centres.

Source of the idea: Harauz & van Heel, "Exact filters for general geometry three dimensional reconstruction",
Optik 73 (1986), 146-156.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from register.engine.fit import local_fit
from register.engine.fit.problem import Problem
from register.geometry import patch_tensors
from register.geometry.patch_grid import PatchGrid

METRIC, STEPS = "ncc", 4
"""The similarity, and the Gauss-Newton steps of each half, from no deformation."""
LEAST_CORRELATION, LEAST_SIGNIFICANCE = 0.3, 4.0
"""The correlation from which a deformation is real, and its smallest value in standard deviations of the
correlation of as many independent displacements. Without deformation the correlation of 512² pixels is
within -0.22 and 0.12, because the error of interpolation is the same in both halves."""
LEAST_PATCHES = 4
"""Rows and columns of patches, without the outer ones, below which nothing is said."""


@dataclass(frozen=True)
class Repeatability:
    """The ``correlation`` of the deformations that two halves of the windows show, the ``count`` of
    displacements it rests on, and the root mean square ``common`` to both, in pixels of the finest level."""

    correlation: float
    count: int
    common: float

    @property
    def is_real(self) -> bool:
        """Whether the deformation is more than noise."""
        least = max(LEAST_CORRELATION, LEAST_SIGNIFICANCE / math.sqrt(max(self.count, 1)))
        return self.correlation > least


def of_patches(problem: Problem, matrix: Tensor) -> Repeatability | None:
    """The repeatability of patches on the finest level over a global map (2, 3); None for small images.

    The patches are compared by correlation, the most precise similarity of images of one kind. Between
    images of different kinds it shows no deformation that repeats.
    """
    level = problem.finest
    grid = PatchGrid.cover(*level.size, problem.effort.patch_size)
    if min(grid.rows, grid.columns) < LEAST_PATCHES + 2:
        return None
    compare = problem.compare(level, matrix, METRIC)
    first, second = (
        _deviation(grid, local_fit.fit_half(problem, compare.half(parity), grid, STEPS)) for parity in (0, 1)
    )
    common = float((first * second).mean())
    power = float((first.square().mean() * second.square().mean()).sqrt())
    if not power > 0:
        return None
    return Repeatability(common / power, first.numel(), math.sqrt(max(2 * common, 0.0)))


def _deviation(grid: PatchGrid, parameters: Tensor) -> Tensor:
    """The displacements (2, rows - 2, columns - 2) of the inner patches without their affine part.

    ``parameters`` is (2, 3, rows, columns). The outer patches reach beyond the images.
    """
    shifts = parameters[:, 0].double().cpu()
    centres = patch_tensors.centres(grid).reshape(grid.rows, grid.columns, 2)[1:-1, 1:-1].reshape(-1, 2)
    inner = shifts[:, 1:-1, 1:-1].reshape(2, -1).T
    affine = torch.cat([centres, torch.ones(len(centres), 1, dtype=torch.float64)], 1)
    rest = inner - affine @ torch.linalg.lstsq(affine, inner).solution
    return rest.T.reshape(2, grid.rows - 2, grid.columns - 2)
