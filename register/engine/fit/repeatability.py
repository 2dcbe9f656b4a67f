"""Whether a small deformation is real: patches that are fitted to two halves of the windows must agree.

The noise of the two halves is independent, so that their deformations are uncorrelated where there is only
noise, and correlated where the images are deformed, however small the deformation is. The method is that of
the Fourier shell correlation between the reconstructions of two halves of the data, here with the
correlation of the displacements of patch centres.

Source of the idea: Harauz & van Heel, "Exact filters for general geometry three dimensional reconstruction",
Optik 73 (1986), 146-156.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from register.engine.fit import comparison, local_fit
from register.engine.fit.problem import Problem
from register.geometry import affine, patch_tensors
from register.geometry.patch_grid import PatchGrid
from register.images import interpolation
from register.images.pyramid import Level

METRIC, STEPS = "ncc", 4
"""The similarity, and the Gauss-Newton steps of each half, from no deformation."""
LEAST_CORRELATION, LEAST_SIGNIFICANCE = 0.3, 4.0
"""The correlation from which a deformation is real, and its smallest value in standard deviations of the
correlation of as many independent displacements. Without deformation the correlation of 512² pixels is
within -0.22 and 0.12, because the error of interpolation is the same in both halves."""
LEAST_COMMON = 0.006
"""Root mean square displacement, in pixels, below which it is within the error of interpolation."""
RATIO, INTERPOLATED = 3.0, 0.2
"""Deformation that is real, in units of what interpolation alone shows, and the largest one, in pixels, that
may come from it."""
LEAST_PATCHES = 4
"""Rows and columns of patches, without the outer ones, below which nothing is said."""


@dataclass(frozen=True)
class Repeatability:
    """The ``correlation`` of the deformations that two halves of the windows show, the ``count`` of
    displacements it rests on, and the root mean square ``common`` to both, in pixels of the finest level.
    ``interpolated`` is what interpolation alone shows, where ``common`` may come from it. Patches are
    weighted by their texture."""

    correlation: float
    count: int
    common: float
    interpolated: float = 0.0

    @property
    def is_real(self) -> bool:
        """Whether the deformation is more than noise."""
        least = max(LEAST_CORRELATION, LEAST_SIGNIFICANCE / math.sqrt(max(self.count, 1)))
        return self.correlation > least and self.common > max(LEAST_COMMON, RATIO * self.interpolated)


def of_patches(problem: Problem, matrix: Tensor, metric: str = METRIC) -> Repeatability | None:
    """The repeatability of patches on the finest level over a global map (2, 3); None for small images.

    The patches are compared by a ``metric`` with second derivatives. Correlation is the most precise one
    of images of one kind. Between images of different kinds it shows no deformation that repeats.

    Where lines are as thin as a pixel, the error of interpolation varies over the image as the positions of
    the pixels to each other do, and both halves show it. So it is measured too, between the fixed image and
    itself, resampled as the moving one.
    """
    found = _of_patches(problem, matrix, metric)
    if found is None or not found.is_real or found.common > INTERPOLATED:
        return found
    alone = _of_patches(replace(problem, moving=_resampled(problem, matrix)), matrix, metric)
    return replace(found, interpolated=alone.common if alone else 0.0)


def _of_patches(problem: Problem, matrix: Tensor, metric: str) -> Repeatability | None:
    """``of_patches`` without regard to interpolation."""
    level = problem.finest
    grid = PatchGrid.cover(*level.size, problem.effort.patch_size)
    if min(grid.rows, grid.columns) < LEAST_PATCHES + 2:
        return None
    compare = problem.compare(level, matrix, metric)
    halves = [compare.half(parity) for parity in (0, 1)]
    textures = [comparison.per_patch(half, grid, comparison.windows(half))[1] for half in halves]
    texture = _inner(_surrounded(torch.minimum(*textures)))
    if not float(texture.sum()) > 0:
        return None
    weight = texture / texture.sum()
    first, second = (
        _deviation(grid, local_fit.fit_half(problem, half, grid, STEPS), weight) for half in halves
    )
    common = float((weight * first * second).sum()) / 2
    power = float(((weight * first.square()).sum() * (weight * second.square()).sum()).sqrt()) / 2
    if not power > 0:
        return None
    count = round(2 / float(weight.square().sum()))
    return Repeatability(common / power, count, math.sqrt(max(2 * common, 0.0)))


def _resampled(problem: Problem, matrix: Tensor) -> Level:
    """The moving level under a global map (2, 3), with the values of the fixed image."""
    fixed, moving = problem.finest, problem.moving
    back = affine.compose(affine.invert(matrix.double().cpu()), moving.original_from_level)
    step = affine.compose(affine.invert(fixed.original_from_level), back)
    axes = interpolation.axes(*moving.size, dtype=torch.float64, device=fixed.image.device)
    points = affine.apply_to_grid(step[None].to(fixed.image.device), *axes).to(fixed.image)
    image = interpolation.sample(fixed.image[None], points, interpolation="bicubic")[0].clamp(0, 1)
    inside = interpolation.inside(points, *fixed.size)
    mask = (interpolation.sample(fixed.mask[None], points, padding="zeros")[0] * inside > 0.99).to(image)
    return Level(image, mask, moving.original_from_level)


def _deviation(grid: PatchGrid, parameters: Tensor, weight: Tensor) -> Tensor:
    """The displacements (n, 2) of the n inner patches without their affine part.

    ``parameters`` is (2, 3, rows, columns), ``weight`` (n, 1). The outer patches reach beyond the images.
    """
    centres = patch_tensors.centres(grid).permute(2, 0, 1)
    x, shifts = (torch.cat([_inner(plane) for plane in planes], 1) for planes in (centres, parameters[:, 0]))
    affine = torch.cat([x, torch.ones_like(weight)], 1)
    root = weight.sqrt()
    return shifts - affine @ torch.linalg.lstsq(root * affine, root * shifts).solution


def _surrounded(texture: Tensor) -> Tensor:
    """The texture (rows, columns) of patches whose eight neighbours all have at least half of the median;
    else 0.

    Near pixels without data both halves are biased alike.
    """
    least = -max_pool2d(-texture[None, None], 3, stride=1, padding=1)[0, 0]
    return torch.where(least > 0.5 * texture.median(), texture, 0.0)


def _inner(plane: Tensor) -> Tensor:
    """The values (n, 1) of the n inner patches of a plane (rows, columns)."""
    return plane[1:-1, 1:-1].double().cpu().reshape(-1, 1)
