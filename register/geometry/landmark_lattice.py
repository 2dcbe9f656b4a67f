"""A smooth correction of a displacement from a few points, on a lattice of patches, as a Gaussian posterior.

The correction is a displacement field of patches (see ``patch_grid``) with a Gaussian prior: neighbouring
patches disagree by ``tau`` pixels (see ``smoothness``), and each patch deviates from zero by its own standard
deviation, small where the images determine the displacement. Points observe it with noise. It is the
conditional mean of that prior; with patches of large deviations it is close to a thin plate.

Source: Rasmussen & Williams, "Gaussian Processes for Machine Learning" (2006), eqs. 2.25 and 5.12 (leave one
out).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from register.geometry.patch_grid import PatchGrid
from register.geometry.smoothness import SmoothnessPenalty

STIFFEST, SOFTEST, STEPS = 0.003, 0.2, 6
"""The range of ``tau`` that is tried, as shares of the spacing, and the number of values."""
OUTLIERS = 0.05
"""Probability that a point is an outlier."""


class Choice(NamedTuple):
    """The covariance (n, n) of the points' displacements with noise, the ``field`` (3 count, n) by which
    weights of the points become a correction, and how well the points predict each other."""

    covariance: Tensor
    field: Tensor
    score: float


class LeftOut(NamedTuple):
    """The residual (n, 2) of each point from the prediction by all others, and its standard deviation (n,)
    per axis."""

    residual: Tensor
    deviation: Tensor

    @property
    def sigmas(self) -> Tensor:
        """The length (n,) of the residuals in standard deviations."""
        return self.residual.norm(dim=1) / self.deviation


@dataclass(frozen=True)
class Lattice:
    """The prior on a grid: ``deviation`` (rows, columns) of each patch from zero, in pixels, float64."""

    grid: PatchGrid
    deviation: Tensor

    def basis(self, points: Tensor) -> Tensor:
        """The weights (n, 3 count) of the parameters of one component at points (n, 2)."""
        x, y = (self.grid.axis_basis(points[:, axis], axis) for axis in (0, 1))
        (wx, ox), (wy, oy) = x.chunk(2, 1), y.chunk(2, 1)
        each = [wy[:, :, None] * wx[:, None], wy[:, :, None] * ox[:, None], oy[:, :, None] * wx[:, None]]
        return torch.cat([one.flatten(1) for one in each], 1)

    def observed(self, points: Tensor) -> "Observed":
        """The lattice observed at points (n, 2), for every ``tau`` that is tried."""
        basis, spacing = self.basis(points), max(self.grid.spacing)
        penalty, own = _penalty(self.grid), torch.diag(1 / self.deviation.flatten().square().repeat(3))
        shares = torch.logspace(0, 1, STEPS, SOFTEST / STIFFEST, dtype=torch.float64) * STIFFEST
        fields = [
            torch.cholesky_solve(basis.T.contiguous(), torch.linalg.cholesky(penalty / tau**2 + own))
            for tau in (shares * spacing).tolist()
        ]
        return Observed(self, basis, tuple(fields))


@dataclass(frozen=True)
class Observed:
    """A lattice observed at points: their ``basis`` (n, 3 count) and, for every ``tau``, the covariance (3
    count, n) of the parameters with the points' displacements."""

    lattice: Lattice
    basis: Tensor
    fields: tuple[Tensor, ...]

    def choose(self, residual: Tensor, sigma: float, used: Tensor) -> Choice:
        """The covariance of the ``used`` (n,) points for the ``tau`` that predicts each of their residuals
        (n, 2) best from the others.

        ``sigma`` is the standard deviation of the points per axis. An outlier costs as much as a point
        anywhere on the lattice, so it does not change the choice.
        """
        tried = [self._scored(field[:, used], residual[used], sigma, used) for field in self.fields]
        return max(tried, key=lambda one: one.score)

    def _scored(self, field: Tensor, residual: Tensor, sigma: float, used: Tensor) -> Choice:
        """The covariance for one ``tau``, and how well it predicts the residuals."""
        grid = self.lattice.grid
        covariance = self.basis[used] @ field + sigma**2 * torch.eye(len(residual), dtype=torch.float64)
        found = leave_one_out(covariance, residual)
        cost = found.sigmas.square() / 2 + 2 * found.deviation.log()
        area = grid.count * grid.spacing[0] * grid.spacing[1]
        most = torch.tensor(area / (2 * torch.pi) / OUTLIERS, dtype=torch.float64).log()
        return Choice(covariance, field, -float(torch.minimum(cost, most).sum()))

    def parameters(self, chosen: Choice, residual: Tensor) -> Tensor:
        """The parameters (2, 3, rows, columns) of the correction by the residuals (n, 2) of the used
        points."""
        found = chosen.field @ torch.linalg.solve(chosen.covariance, residual)
        return found.T.reshape(2, 3, self.lattice.grid.rows, self.lattice.grid.columns)


def leave_one_out(covariance: Tensor, residual: Tensor) -> LeftOut:
    """The prediction of each residual (n, 2) from all others, by the ``covariance`` (n, n) with noise."""
    inverse = torch.linalg.inv(covariance)
    own = inverse.diagonal()
    return LeftOut((inverse @ residual) / own[:, None], own.rsqrt())


def _penalty(grid: PatchGrid) -> Tensor:
    """The second derivatives (3 count, 3 count) of half the summed squared disagreement in pixels."""
    smooth = SmoothnessPenalty.of(grid, dtype=torch.float64)
    x, y = (
        along * spacing**2 / 2
        for along, spacing in ((smooth.along_x, grid.spacing[0]), (smooth.along_y, grid.spacing[1]))
    )
    (xdd, xde), (xed, xee) = (half.chunk(2, 1) for half in x.chunk(2, 0))
    (ydd, yde), (yed, yee) = (half.chunk(2, 1) for half in y.chunk(2, 0))
    rows, columns = (torch.eye(n, dtype=torch.float64) for n in (grid.rows, grid.columns))
    none = torch.zeros(grid.count, grid.count, dtype=torch.float64)
    kron = torch.kron
    upper = [kron(rows, xdd) + kron(ydd, columns), kron(rows, xde), kron(yde, columns)]
    middle = [kron(rows, xed), kron(rows, xee), none]
    lower = [kron(yed, columns), none, kron(yee, columns)]
    return torch.cat([torch.cat(each, 1) for each in (upper, middle, lower)])
