"""Compute figures of a map: its displacements and its Jacobian determinants."""

from typing import NamedTuple

import torch
from torch import Tensor

from register.engine.fit.estimate import Estimate
from register.geometry import affine, patch_tensors
from register.images import filters, interpolation
from register.images.pyramid import Level

LEAST_POINTS = 512
"""Points along the longer side, at least, at which displacements are measured."""


class Displacement(NamedTuple):
    """Median and largest displacement of a map, and of its local part, in fixed pixels."""

    median: float
    largest: float
    local_median: float
    local_largest: float


def displacements(level: Level, estimate: Estimate) -> Displacement:
    """The displacements of a map at a regular grid of pixels of a fixed level."""
    step, where = max(max(level.size) // LEAST_POINTS, 1), level.image.device
    x, y = (positions[::step] for positions in interpolation.axes(*level.size, device=where))
    patches = estimate.patches_on(level)
    shift = torch.zeros(1, 1, 2, dtype=torch.float64, device=where)
    if patches is not None:
        shift = patches.displacement(x, y).double()
    up = level.original_from_level.to(where)
    entire = affine.compose(estimate.matrix.double().cpu(), level.original_from_level).to(where)
    moved = affine.apply_to_grid((entire - up)[None], x.double(), y.double())[0] + shift @ entire[:, :2].T
    # norm() is slow where x and y are planes
    length, local_length = (torch.hypot(*each.unbind(2)) for each in (moved, shift * up.diagonal()[:2]))
    return Displacement(
        rounded(filters.median(length.flatten())),
        rounded(length.max()),
        rounded(filters.median(local_length.flatten())),
        rounded(local_length.max()),
    )


class Determinants(NamedTuple):
    """det J of the global map, its smallest value relative to that, and the number of cells that fold."""

    overall: float
    smallest: float
    folds: int


def determinants(estimate: Estimate) -> Determinants:
    """The determinants of a map; the smallest is a lower bound over all cells of the patch grid."""
    overall, patches = rounded(affine.determinant(estimate.matrix)), estimate.patches
    if patches is None:
        return Determinants(overall, 1.0, 0)
    bounds = patch_tensors.smallest_determinants(patches.grid, patches.parameters)
    return Determinants(overall, rounded(bounds.min()), int((bounds <= 0).sum()))


def rounded(value: Tensor | float) -> float:
    """A number to five decimals."""
    return round(float(value), 5)
