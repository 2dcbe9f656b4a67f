"""What speaks for or against a map: similarity against chance, recognition, the way back, matched features, overlap. None of it is what a fit lowers."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import unfold

from register.engine.fit import global_fit, local_fit
from register.engine.fit.estimate import Estimate, patches_from_map, scaled_grid
from register.engine.fit.problem import MARGIN, Problem
from register.geometry import affine, patch_grid
from register.geometry.matches import Matches
from register.images import interpolation, preprocess, pyramid
from register.images.pyramid import Level
from register.transforms.transform import Transform

SCALES = (512, 24), (256, 16)
"""Longest side of the levels on which windows are told apart, and the windows' side, in pixels: where detail is noise, the coarser one knows more."""
LEAST_TEXTURE, LEAST_SEEN, LEAST_WINDOWS = 0.05, 0.9, 8
"""Texture and valid share below which a window is not asked, and how many must be left."""
LEAST_ACROSS, SMALLEST = 6, 8
"""Windows across a small image, and the side of the smallest one, in pixels."""
BACK_SIDE = 512
"""Longest side of the level on which the images are aligned the other way."""
PROBES = 24
"""Points per side at which the way there and back is measured."""


def recognised(
    fixed: Level,
    moving: Level,
    estimate: Estimate,
    scales: tuple[tuple[int, int], ...] = SCALES,
) -> tuple[float, float] | None:
    """How well windows of the fixed image know their partners on the aligned one from all other windows, and its standard deviations above chance.

    For every fixed window the share of other aligned windows that are less like it than its own, by the cosine of their structure, and the same the
    other way round; the mean, weighted by texture, is 0.5 for partners drawn at random, whose ranks are uniform: a permutation test (Good, "Permutation,
    Parametric and Bootstrap Tests of Hypotheses", 2005). Fits raise the likeness of partners, not their likeness against that of other windows. Of
    several scales the one that is surest counts. None where there are too few windows with texture to tell.
    """
    found = [
        _recognised(global_fit.at_side(fixed, side), moving, estimate, window) for side, window in scales
    ]
    return max((one for one in found if one is not None), key=lambda one: one[1], default=None)


def _recognised(level: Level, moving: Level, estimate: Estimate, window: int) -> tuple[float, float] | None:
    """The same on one level; the windows of a small image are smaller."""
    window = min(window, max(min(level.size) // LEAST_ACROSS, SMALLEST))
    if min(level.size) < window:
        return None
    compare = global_fit.compare_at(level, moving, estimate.matrix[None], "structure", margin=MARGIN)
    patches = estimate.patches
    points = compare.under() if patches is None else compare.shifted(patches.displacement(level))
    seen = (
        interpolation.sample(compare.moving_mask, points)
        * interpolation.inside(points, *compare.moving.shape[-2:])[:, None]
    )
    ours, theirs = (
        compare.fixed * (level.mask[None] > 0.99),
        interpolation.sample(compare.moving, points) * seen,
    )
    one, other, texture, share = (
        unfold(x, window, stride=window)[0].T for x in (ours, theirs, compare.fixed_mask * seen, seen)
    )
    weight = texture.mean(1)
    asked = (share.mean(1) > LEAST_SEEN) & (weight > LEAST_TEXTURE)
    if int(asked.sum()) < LEAST_WINDOWS:
        return None
    one, other, weight = (x[asked] for x in (one, other, weight))
    likeness = (one / (one.norm(dim=1, keepdim=True) + 1e-6)) @ (
        other / (other.norm(dim=1, keepdim=True) + 1e-6)
    ).T
    own = likeness.diagonal()
    less = ((likeness < own[:, None]).sum(1) + (likeness < own[None]).sum(0)) / (2 * (len(own) - 1))
    mean = float((less * weight).sum() / weight.sum())
    independent = float(weight.sum().square() / weight.square().sum())
    return mean, (mean - 0.5) * math.sqrt(12 * independent)


@dataclass(frozen=True)
class Back:
    """The transform from moving to fixed that was found the other way round, beside the one it is held against."""

    forward: Transform
    backward: Transform

    def apart(self, points: Tensor) -> Tensor:
        """How far fixed points (n, 2) end from where they were after the way there and back (n,), in fixed pixels."""
        return (self.backward.map(self.forward.map(points)) - points).norm(dim=1)

    def typical(self, fixed: Level) -> float:
        """The median distance over what the fixed image shows and the moving one holds, in fixed pixels; infinite when there is nothing."""
        height, width = fixed.size
        x, y = (torch.linspace(0, n - 1, PROBES, dtype=torch.float64) for n in (width, height))
        at = affine.points_at(x, y).reshape(-1, 2)
        column, row = at.round().long().to(fixed.image.device).unbind(1)
        texture = preprocess.texture_of(fixed)[0, row, column].cpu()
        points = affine.apply(fixed.original_from_level, at)
        weight = texture.double() * interpolation.inside(
            self.forward.map(points), self.forward.moving.height, self.forward.moving.width
        )
        if float(weight.sum()) < 1:
            return math.inf
        distance, order = self.apart(points).sort()
        return float(distance[(weight[order].cumsum(0) < weight.sum() / 2).sum()])


def round_trip_error(problem: Problem, forward: Transform, matrix: Tensor, metric: str) -> Back:
    """Align the fixed image to the moving one on a coarse level, patches and all, from the inverse of what was found.

    Source: the consistency of Christensen & Johnson, "Consistent image registration", IEEE TMI 20 (2001), as a measurement and not as a penalty.
    """
    level = global_fit.at_side(problem.moving, BACK_SIDE)
    inverse = affine.invert(matrix)
    corners = torch.tensor(
        [[0.0, 0.0], [forward.moving.width - 1.0, forward.moving.height - 1.0]], dtype=torch.float64
    )
    begin = patches_from_map(
        forward.inverse().map, (corners[0], corners[1]), level, inverse, problem.effort.patch_size
    )
    reverse = Problem(
        levels=[level, problem.moving],
        moving=problem.finest,
        model="local",
        effort=problem.effort,
        max_shift=problem.max_shift / affine.scale(inverse),
    )
    found = Estimate(inverse, local_fit.fit(reverse, Estimate(inverse, begin), metric, [level]))
    return Back(forward, found.transform("local", (forward.moving, forward.fixed)))


def above_chance(fixed: Level, moving: Level, matrix: Tensor) -> float:
    """How many standard deviations the structure similarity of the global fit stands above that of the same images shifted apart.

    Cyclic shifts of the warped structure by at least a sixteenth of the level are what chance gives: a permutation test.
    """
    level = global_fit.at_side(fixed, global_fit.FIT_SIDE)
    compare = global_fit.compare_at(level, moving, matrix[None], "structure")
    height, width = level.size
    points = compare.under()
    warped = interpolation.sample(compare.moving, points)
    seen = preprocess.erode(interpolation.sample(compare.moving_mask, points), 3)
    solid = preprocess.erode(level.mask[None], 3)

    def spectra(image: Tensor, mask: Tensor) -> Tensor:
        return torch.fft.rfft2(torch.cat([image * mask, image.square().sum(1, True) * mask, mask], dim=1)[0])

    f, w = spectra(compare.fixed, solid).conj(), spectra(warped, seen)
    inner = torch.fft.irfft2(f[0] * w[0] + f[1] * w[1], s=(height, width))
    energy = torch.fft.irfft2(f[2] * w[3], s=(height, width)).clamp(min=1) * torch.fft.irfft2(
        f[3] * w[2], s=(height, width)
    ).clamp(min=1)
    overlap = torch.fft.irfft2(f[3] * w[3], s=(height, width)).clamp(min=0)
    score = inner / energy.sqrt() * overlap.sqrt()
    y, x = (torch.minimum(torch.arange(n), n - torch.arange(n)) for n in (height, width))
    far = (torch.hypot(y[:, None].float(), x[None].float()) > max(height, width) / 16).to(score.device)
    others = score[far & (overlap > 0.1 * overlap[0, 0])]
    if len(others) < 100 or float(overlap[0, 0]) < 64:
        return 0.0
    return float((score[0, 0] - others.mean()) / others.std().clamp(min=1e-6))


def agreeing(level: Level, estimate: Estimate, matched: Matches | None) -> int:
    """How many matched features, which the descent never saw, the answer takes to within 1 % of the image's diagonal of their partners."""
    if matched is None:
        return 0
    points = affine.apply(affine.invert(level.original_from_level), matched.fixed)
    matrix, patches = estimate.matrix, estimate.patches
    if patches is not None:
        ratio = pyramid.pixel(patches.level) / pyramid.pixel(level)
        grid, parameters = scaled_grid(patches.grid, ratio), patches.parameters.double().cpu() * ratio
        points = points + patch_grid.displacement_at(grid, parameters, points)
    error = (
        affine.apply(affine.compose(matrix.double().cpu(), level.original_from_level), points)
        - matched.moving
    ).norm(dim=1)
    return int((error < 0.01 * affine.scale(matrix) * math.hypot(*level.size) * pyramid.pixel(level)).sum())


def overlap(level: Level, moving: Level, matrix: Tensor) -> Tensor:
    """The share of the fixed image whose pixels land on the moving one."""
    step = affine.compose(
        affine.compose(affine.invert(moving.original_from_level), matrix.double().cpu()),
        level.original_from_level,
    )
    points = affine.apply_to_grid(
        step[None].to(level.image.device),
        *interpolation.axes(*level.size, dtype=torch.float64, device=level.image.device),
    )
    return interpolation.inside(points, *moving.size).double().mean()
