"""A cubic B-spline that follows a map: what ITK and elastix call a B-spline transform."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from register.geometry import affine

ORDER = 3
SAMPLES = 4
"""Points per knot interval and axis that a fit looks at, and as many halfway between them that judge it."""
MARGIN = 1.0
"""Pixels by which the domain is wider than the pixel centres on every side: outside, other programs take the displacement to be zero."""

Map = Callable[[Tensor], Tensor]
"""Takes points (n, 2) float64 to points (n, 2)."""


@dataclass(frozen=True)
class BSpline:
    """Coefficients (rows, columns, 2) of a displacement in pixels; knot (i, j) stands at ``origin + (i, j) * spacing``, in pixels ``(x, y)``."""

    coefficients: Tensor
    origin: tuple[float, float]
    spacing: tuple[float, float]

    def displacement(self, x: Tensor, y: Tensor) -> Tensor:
        """The displacement (len(y), len(x), 2) at the product of positions."""
        return torch.einsum("yr,rck,xc->yxk", self._basis(y, 1), self.coefficients, self._basis(x, 0))

    def _basis(self, positions: Tensor, axis: int) -> Tensor:
        count = self.coefficients.shape[1 - axis]
        return basis((positions - self.origin[axis]) / self.spacing[axis], count)


def basis(positions: Tensor, count: int) -> Tensor:
    """The cubic B-splines (n, count) centred on knots 0 to count - 1, at positions (n,) in knots."""
    return cubic_spline((positions[:, None] - torch.arange(count, dtype=positions.dtype)).abs())


def cubic_spline(distance: Tensor) -> Tensor:
    """The cubic B-spline at distances >= 0 from its centre, in knots; zero from 2 on."""
    near = 2 / 3 - distance.square() * (1 - distance / 2)
    far = (2 - distance).clamp(min=0).pow(3) / 6
    return torch.where(distance < 1, near, far)


def fit(
    target: Map, width: int, height: int, spacing: float, *, tolerance: float, least: float = 1.0
) -> tuple[BSpline, float]:
    """The spline nearest to the displacement of ``target`` over an image, and its largest error in pixels, seen between the fitted points.

    Knots stand about ``spacing`` pixels apart, and nearer until the error is within ``tolerance`` or they are ``least`` pixels apart. The tensor
    product makes the least-squares fit one small linear system per axis.
    """
    while True:
        spline, error = _fit_once(target, width, height, spacing)
        if error <= tolerance or spacing <= least:
            return spline, error
        spacing = max(spacing / 2, least)


def _fit_once(target: Map, width: int, height: int, spacing: float) -> tuple[BSpline, float]:
    cells = [max(round((side - 1 + 2 * MARGIN) / spacing), 1) for side in (width, height)]
    steps = [(side - 1 + 2 * MARGIN) / n for side, n in zip((width, height), cells, strict=True)]
    origin = (-MARGIN - steps[0], -MARGIN - steps[1])
    positions = [
        torch.linspace(-MARGIN, side - 1 + MARGIN, SAMPLES * n + 1, dtype=torch.float64)
        for side, n in zip((width, height), cells, strict=True)
    ]
    x, y = positions
    bases = [
        basis((p - o) / s, n + ORDER) for p, o, s, n in zip(positions, origin, steps, cells, strict=True)
    ]
    inverse = [torch.linalg.solve(b.T @ b, b.T) for b in bases]
    coefficients = torch.einsum("ry,yxk,cx->rck", inverse[1], _displacement(target, x, y), inverse[0])
    spline = BSpline(coefficients, origin, (steps[0], steps[1]))
    between = [(p[1:] + p[:-1]) / 2 for p in positions]
    return spline, float((spline.displacement(*between) - _displacement(target, *between)).norm(dim=-1).max())


def _displacement(target: Map, x: Tensor, y: Tensor) -> Tensor:
    """Mapped minus original points (len(y), len(x), 2)."""
    points = affine.points_at(x, y)
    return target(points.reshape(-1, 2)).reshape(points.shape) - points
