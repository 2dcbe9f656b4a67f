"""Evidence for an alignment that the fit does not optimise: similarity above chance, matches, overlap."""

import math

import torch
from torch import Tensor

from register.compute import sums
from register.engine.fit import global_fit
from register.engine.fit.comparison import Comparison
from register.engine.fit.estimate import Estimate
from register.geometry import affine
from register.geometry.matches import Matches
from register.images import interpolation, preprocess, pyramid
from register.images.pyramid import Level

SMALLEST_SHIFT = 1 / 16
"""Smallest shift that represents chance, as a share of the longer side."""
LEAST_SHIFTS, LEAST_PIXELS = 100, 64
"""Smallest numbers of shifts and of overlapping pixels for which chance is measured."""
AGREES = 0.01
"""Distance of a feature from its match, as a share of the diagonal, up to which it agrees with the map."""


def above_chance(fixed: Level, moving: Level, matrix: Tensor) -> float:
    """The similarity under a global map (2, 3), in standard deviations above chance.

    The similarity is that of the structure. Chance is its distribution over cyclic shifts of the aligned
    image by at least ``SMALLEST_SHIFT`` of the level: a permutation test. 0 where the images overlap too
    little.
    """
    level = global_fit.at_side(fixed, global_fit.FIT_SIDE)
    compare = global_fit.compare_at(level, moving, matrix[None], "structure")
    score, overlap = _scores_of_shifts(level, compare)
    y, x = (torch.minimum(torch.arange(n), n - torch.arange(n)) for n in level.size)
    distance = torch.hypot(y[:, None].float(), x[None].float()).to(score.device)
    others = score[(distance > max(level.size) * SMALLEST_SHIFT) & (overlap > 0.1 * overlap[0, 0])]
    if len(others) < LEAST_SHIFTS or float(overlap[0, 0]) < LEAST_PIXELS:
        return 0.0
    return float((score[0, 0] - sums.mean(others)) / sums.deviation(others).clamp(min=1e-6))


def _scores_of_shifts(level: Level, compare: Comparison) -> tuple[Tensor, Tensor]:
    """Similarity times the root of the overlap, and overlap in pixels, for every cyclic shift (h, w)."""
    size, points = level.size, compare.points_under()
    warped = interpolation.sample(compare.moving, points)
    valid = preprocess.erode(interpolation.sample(compare.moving_mask, points), 3)
    solid = preprocess.erode(level.mask[None], 3)

    def spectra(image: Tensor, mask: Tensor) -> Tensor:
        return torch.fft.rfft2(torch.cat([image * mask, image.square().sum(1, True) * mask, mask], dim=1)[0])

    def correlated(spectrum: Tensor) -> Tensor:
        return torch.fft.irfft2(spectrum, s=size)

    f, w = spectra(compare.fixed, solid).conj(), spectra(warped, valid)
    inner = correlated(f[0] * w[0] + f[1] * w[1])
    energy = correlated(f[2] * w[3]).clamp(min=1) * correlated(f[3] * w[2]).clamp(min=1)
    overlap = correlated(f[3] * w[3]).clamp(min=0)
    return inner / energy.sqrt() * overlap.sqrt(), overlap


def agreeing(level: Level, estimate: Estimate, matches: Matches | None) -> int:
    """The number of matched features that agree with the map; the optimisation did not use them.

    A feature agrees if the map takes it to within ``AGREES`` of the image's diagonal of its match.
    """
    if matches is None:
        return 0
    error = (estimate.map(matches.fixed) - matches.moving).norm(dim=1)
    limit = AGREES * affine.scale(estimate.matrix) * math.hypot(*level.size) * pyramid.pixel(level)
    return int((error < limit).sum())


def overlap(level: Level, moving: Level, matrix: Tensor) -> Tensor:
    """The share of the pixels of the fixed image that a global map (2, 3) takes onto the moving image."""
    to_original = affine.compose(matrix.double().cpu(), level.original_from_level)
    step = affine.compose(affine.invert(moving.original_from_level), to_original)
    where = level.image.device
    axes = interpolation.axes(*level.size, dtype=torch.float64, device=where)
    points = affine.apply_to_grid(step[None].to(where), *axes)
    return interpolation.inside(points, *moving.size).double().mean()
