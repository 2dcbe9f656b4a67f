"""Landmarks that hold: combine what the images determine with pairs of points, by their errors.

Where the images determine the map, its displacement has a small standard deviation, and landmarks hardly
move it; where they show nothing, landmarks and smoothness determine it. A landmark that disagrees with all
others and with the images by more than ``MOST_SIGMAS`` standard deviations is an outlier and not used.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from register.engine.fit import comparison
from register.engine.fit.comparison import Comparison
from register.engine.fit.estimate import Estimate, LocalFit
from register.geometry import affine, patch_grid, patch_tensors
from register.geometry.landmark_lattice import Lattice, Observed, leave_one_out
from register.geometry.landmark_map import Agreed, agree
from register.geometry.models import GlobalModel
from register.geometry.patch_grid import PatchGrid
from register.geometry.patch_tensors import Patches
from register.images import pyramid
from register.images.pyramid import Level

CELLS = 20
"""Cells of the lattice of the correction along the longer side."""
SEEN_ERROR, BLIND_ERROR = 0.5, 0.25
"""Standard deviation per axis of a displacement that the images determine, in pixels of the level, and of one
that they do not, as a share of the diagonal."""
SEEN_FROM, BLIND_FROM, LEAST_CONFIDENCE = 0.6, 0.3, 0.15
"""Confidence, as a share of that of good patches, from which the images determine a patch, and below which
they do not; and the smallest confidence of good patches."""
GOOD = 0.75
"""Quantile of the confidences that is that of good patches."""
MOST_SIGMAS = 3.0
"""Standard deviations from which a landmark is an outlier."""
UNKNOWN_SIGMA, LEAST_SIGMA, MOST_SIGMA, LEAST_SEEN = 0.002, 0.5, 0.01, 4
"""The standard deviation of landmarks where their scatter does not tell, as a share of the diagonal; its
bounds, in moving pixels and as a share of the diagonal; and the fewest landmarks, where the images determine
the map, that tell."""
NEAR, ALIKE = 0.2, 0.25
"""Distance, as a share of the diagonal, and difference of the residuals, as a share of them, up to which two
landmarks support each other against the images."""
GAUSS_NEWTON_STEPS, DIFFERENCE = 6, 1e-4
"""Steps of the fit of a global map, and the step of its numerical derivatives, in pixels."""
START_TOLERANCE = 0.02
"""Distance, as a share of the diagonal, within which landmarks agree on a global map in any case."""


@dataclass(frozen=True)
class Landmarks:
    """Pairs of points: ``fixed`` and ``moving`` (n, 2), float64, in pixels of the originals.

    ``sigma`` is the standard deviation of the moving points per axis, in moving pixels, or None where it is
    estimated.
    """

    fixed: Tensor
    moving: Tensor
    sigma: float | None = None

    def agreed(self) -> Agreed:
        """The global map that most of them agree on."""
        extent = float((self.moving.amax(0) - self.moving.amin(0)).norm())
        return agree(self.fixed, self.moving, max(3 * (self.sigma or 0.0), START_TOLERANCE * extent))

    def errors(self, estimate: Estimate) -> Tensor:
        """The distances (n,) in moving pixels between the mapped fixed points and the moving ones."""
        return (estimate.map(self.fixed) - self.moving).norm(dim=1)


@dataclass(frozen=True)
class Held:
    """An estimate with landmarks held: which were ``kept`` (n,), and their standard deviation ``sigma`` in
    moving pixels."""

    estimate: Estimate
    kept: Tensor
    sigma: float


def hold(
    compare: Comparison, level: Level, estimate: Estimate, landmarks: Landmarks, *, blind: bool = False
) -> Held:
    """The patches of an estimate, or those of the coarse lattice where it has none, with landmarks held.

    ``compare`` compares the images at a ``level`` under the global map; ``blind`` is whether the images are
    known not to determine the map anywhere. The displacement of the patches is not limited. An estimate
    without patches that agrees with the landmarks stays without.
    """
    problem = _Problem.of(compare, level, estimate, landmarks, blind=blind)
    observed = problem.lattice.observed(problem.points)
    kept = _without_outliers(problem, observed)
    chosen = observed.choose(problem.residual, problem.sigma, kept)
    correction = observed.parameters(chosen, problem.residual[kept])
    sigma = problem.sigma * problem.moving_pixels
    furthest = float(problem.residual[kept].norm(dim=1).max())
    if estimate.patches is None and furthest < MOST_SIGMAS * math.hypot(problem.sigma, SEEN_ERROR):
        return Held(estimate, kept, sigma)
    grid, before = problem.patches
    added = patch_tensors.refine(problem.lattice.grid, correction, grid, 1.0)
    parameters, folds = patch_tensors.unfold(grid, before + added.to(before))
    local = estimate.patches or LocalFit(level, grid, before)
    changed = replace(local, level=level, grid=grid, parameters=parameters, folds=local.folds + folds)
    return Held(Estimate(estimate.matrix, changed), kept, sigma)


def hold_global(
    compare: Comparison,
    level: Level,
    estimate: Estimate,
    landmarks: Landmarks,
    model: GlobalModel,
    *,
    blind: bool = False,
) -> Held:
    """The global map of an estimate with landmarks held, as ``hold``: the least-squares map of a ``model``
    between the places that the images determine and the landmarks, weighted by their errors."""
    problem = _Problem.of(compare, level, estimate, landmarks, blind=blind)
    cells, deviation = problem.lattice.grid, problem.lattice.deviation.flatten()
    seen = deviation < 2 * SEEN_ERROR
    centres = torch.from_numpy(cells.centres()).reshape(-1, 2)[seen]
    fixed = torch.cat([centres, problem.points])
    moving = torch.cat([centres, problem.points + problem.residual])
    weight = torch.cat(
        [1 / deviation[seen], problem.points.new_full((len(problem.points),), 1 / problem.sigma)]
    )
    kept = torch.ones(len(problem.points), dtype=torch.bool)
    while True:
        used = torch.cat([torch.ones(len(centres), dtype=torch.bool), kept])
        residual = _weighted_fit(model, fixed[used], moving[used], weight[used], level)
        distance = (affine.apply(residual, problem.points) - problem.points - problem.residual).norm(dim=1)
        scatter = float(distance[kept].median()) / 1.1774  # the model need not follow a deformation
        sigmas = torch.where(kept, distance / max(math.hypot(problem.sigma, SEEN_ERROR), scatter), 0.0)
        if float(sigmas.max()) <= MOST_SIGMAS or int(kept.sum()) <= max(len(kept) // 2, model.least_points):
            break
        kept[int(sigmas.argmax())] = False
    matrix = affine.compose(estimate.matrix, comparison.residual_in_original_pixels(residual, level))
    return Held(Estimate(matrix, estimate.patches), kept, problem.sigma * problem.moving_pixels)


def _weighted_fit(model: GlobalModel, fixed: Tensor, moving: Tensor, weight: Tensor, level: Level) -> Tensor:
    """The least-squares matrix (2, 3) of a model between points (n, 2) with weights (n,), near the identity.

    Gauss-Newton steps; 0 is the start, and a parameter that nothing determines stays 0.
    """
    height, width = level.size
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64)

    def matrix(parameters: Tensor) -> Tensor:
        return model.matrix(parameters[None], centre, max(math.hypot(height, width) / 4, 1.0))[0]

    def residuals(parameters: Tensor) -> Tensor:
        return ((affine.apply(matrix(parameters), fixed) - moving) * weight[:, None]).flatten()

    parameters = torch.zeros(model.parameters, dtype=torch.float64)
    for _ in range(GAUSS_NEWTON_STEPS):
        steps = DIFFERENCE * torch.eye(len(parameters), dtype=torch.float64)
        slope = torch.stack(
            [(residuals(parameters + h) - residuals(parameters - h)) / (2 * DIFFERENCE) for h in steps], 1
        )
        parameters = parameters - torch.linalg.pinv(slope) @ residuals(parameters)
    return matrix(parameters)


@dataclass(frozen=True)
class _Problem:
    """The landmarks at one level: points (n, 2), ``residual`` (n, 2) from the patches and ``sigma`` in its
    pixels, each of which is ``moving_pixels`` pixels of the moving image."""

    patches: Patches
    lattice: Lattice
    points: Tensor
    residual: Tensor
    sigma: float
    moving_pixels: float

    @classmethod
    def of(
        cls, compare: Comparison, level: Level, estimate: Estimate, landmarks: Landmarks, *, blind: bool
    ) -> "_Problem":
        """The landmarks and what the images determine, at one level."""
        cells = PatchGrid.cover(*level.size, max(max(level.size) / CELLS, compare.window))
        patches = estimate.patches_on(level) or Patches(cells, patch_tensors.zeros(cells))
        seen = torch.zeros(cells.rows, cells.columns) if blind else _seen(compare, cells, patches)
        to_moving = affine.compose(estimate.matrix.double().cpu(), level.original_from_level)
        points = affine.apply(affine.invert(level.original_from_level), landmarks.fixed)
        target = affine.apply(affine.invert(to_moving), landmarks.moving)
        parameters = patches.parameters.double().cpu()
        residual = target - points - patch_grid.displacement_at(patches.grid, parameters, points)
        moving_pixels = affine.scale(estimate.matrix) * pyramid.pixel(level)
        diagonal = math.hypot(*level.size)
        share = cells.axis_basis(points[:, 1], 1)[:, : cells.rows] @ seen.double()
        share = (share * cells.axis_basis(points[:, 0], 0)[:, : cells.columns]).sum(1)
        sigma = (landmarks.sigma or _sigma(residual[share > 0.5], diagonal, moving_pixels)) / moving_pixels
        seen = _overruled(cells, seen.double(), points, residual, share, sigma, diagonal)
        precision = seen / SEEN_ERROR**2 + (1 - seen) / (BLIND_ERROR * diagonal) ** 2
        lattice = Lattice(cells, precision.rsqrt())
        return cls(patches, lattice, points, residual, sigma, moving_pixels)


def _seen(compare: Comparison, cells: PatchGrid, patches: Patches) -> Tensor:
    """To what share (rows, columns) the images determine each patch of a lattice."""
    found = comparison.windows(compare, patches)
    similarity, texture = comparison.per_patch(compare, cells, found)
    confidence = (similarity.clamp(0, 1) * texture / (texture + 0.1)).cpu()
    textured = confidence[texture.cpu() > 0.02]
    good = max(float(textured.quantile(GOOD)) if len(textured) else 0.0, LEAST_CONFIDENCE)
    share = ((confidence / good - BLIND_FROM) / (SEEN_FROM - BLIND_FROM)).clamp(0, 1)
    return -max_pool2d(-share[None], 3, 1, 1)[0]  # the border of lost tissue is an edge that misleads


def _sigma(residual: Tensor, diagonal: float, moving_pixels: float) -> float:
    """The standard deviation of landmarks, in moving pixels, from their residuals (n, 2) where the images
    determine the map: for a Gaussian of two axes the median distance is 1.1774 times it."""
    if len(residual) < LEAST_SEEN:
        return max(UNKNOWN_SIGMA * diagonal * moving_pixels, LEAST_SIGMA)
    median = float(residual.norm(dim=1).median()) / 1.1774
    return max(min(median, MOST_SIGMA * diagonal) * moving_pixels, LEAST_SIGMA)


def _overruled(
    cells: PatchGrid,
    seen: Tensor,
    points: Tensor,
    residual: Tensor,
    share: Tensor,
    sigma: float,
    diagonal: float,
) -> Tensor:
    """The determined shares (rows, columns) without those around landmarks that overrule the images.

    Two landmarks near each other that disagree with the images by the same displacement do. Around each, as
    far as the distance between them, the images are taken to be wrong.
    """
    limit = MOST_SIGMAS * math.hypot(sigma, SEEN_ERROR)
    against = (share > 0.5) & (residual.norm(dim=1) > limit)
    apart = torch.cdist(points, points)
    difference = torch.cdist(residual, residual)
    tolerance = ALIKE * residual.norm(dim=1) + 3 * math.sqrt(2) * sigma
    supports = against[:, None] & against & (apart < NEAR * diagonal) & (difference < tolerance)
    supports.fill_diagonal_(False)
    radius = torch.where(supports, apart, math.inf).amin(1).clamp(min=1.5 * max(cells.spacing))
    overruling = supports.any(1)
    if not bool(overruling.any()):
        return seen
    distance = torch.cdist(torch.from_numpy(cells.centres()).reshape(-1, 2), points[overruling])
    wrong = (distance < radius[overruling]).any(1).reshape(seen.shape)
    return torch.where(wrong, 0.0, seen)


def _without_outliers(problem: _Problem, observed: Observed) -> Tensor:
    """Which landmarks (n,) are kept: the worst outlier is removed as long as there is one, at most half."""
    count = len(problem.points)
    kept = torch.ones(count, dtype=torch.bool)
    while int(kept.sum()) > max(count // 2, 1):
        chosen = observed.choose(problem.residual, problem.sigma, kept)
        found = leave_one_out(chosen.covariance, problem.residual[kept]).sigmas
        if float(found.max()) <= MOST_SIGMAS:
            break
        kept[torch.nonzero(kept)[int(found.argmax()), 0]] = False
    return kept
