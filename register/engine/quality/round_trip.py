"""Measure the round-trip error: an independent alignment from moving to fixed, after the one to be tested."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from register.compute import sums
from register.engine.fit import global_fit, local_fit
from register.engine.fit.estimate import Estimate, patches_from_map
from register.engine.fit.problem import Problem
from register.geometry import affine
from register.images import interpolation, preprocess
from register.images.pyramid import Level
from register.transforms.transform import Transform

SIDE = 512
"""Longest side, in pixels, of the level on which the images are aligned in the other direction."""
PROBES = 24
"""Points per side at which the error is measured."""


@dataclass(frozen=True)
class RoundTrip:
    """The transform from fixed to moving, and one from moving to fixed that was estimated independently."""

    forward: Transform
    backward: Transform

    def errors(self, points: Tensor) -> Tensor:
        """The distance (n,) between fixed points (n, 2) and their positions after the round trip, in fixed
        pixels."""
        return (self.backward.map(self.forward.map(points)) - points).norm(dim=1)

    def median(self, fixed: Level) -> float:
        """The median error, in fixed pixels, of points that have texture and are mapped onto the moving
        image.

        It is weighted by texture, and infinite where there is no such point.
        """
        height, width = fixed.size
        x, y = (torch.linspace(0, n - 1, PROBES, dtype=torch.float64) for n in (width, height))
        at = affine.points_at(x, y).reshape(-1, 2)
        column, row = at.round().long().to(fixed.image.device).unbind(1)
        texture = preprocess.texture_of(fixed)[0, row, column].cpu()
        points = affine.apply(fixed.original_from_level, at)
        frame = self.forward.moving
        weight = texture.double() * interpolation.inside(self.forward.map(points), frame.height, frame.width)
        if float(sums.total(weight)) < 1:
            return math.inf
        errors, order = self.errors(points).sort()
        return float(errors[(weight[order].cumsum(0) < sums.total(weight) / 2).sum()])


def round_trip(problem: Problem, forward: Transform, matrix: Tensor, metric: str) -> RoundTrip:
    """Align the fixed image to the moving one on a coarse level, starting from the inverse of ``forward``.

    ``matrix`` (2, 3) is the global map of ``forward``.

    Source: the inverse consistency of Christensen & Johnson, "Consistent image registration", IEEE TMI 20
    (2001), as a measurement and not as a penalty.
    """
    level = global_fit.at_side(problem.moving, SIDE)
    inverse, frame = affine.invert(matrix), forward.moving
    corners = torch.tensor([[0.0, 0.0], [frame.width - 1.0, frame.height - 1.0]], dtype=torch.float64)
    start = patches_from_map(
        forward.inverse().map, (corners[0], corners[1]), level, inverse, problem.effort.patch_size
    )
    reverse = Problem(
        levels=[level, problem.moving],
        moving=problem.finest,
        model="local",
        effort=problem.effort,
        max_shift=problem.max_shift / affine.scale(inverse),
    )
    found = Estimate(inverse, local_fit.fit(reverse, Estimate(inverse, start), metric, [level]))
    return RoundTrip(forward, found.transform("local", (forward.moving, forward.fixed)))
