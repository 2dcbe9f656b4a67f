"""Compute the loss of a level, its gradient and its Hessian for global or patch parameters."""

import math
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d

from register.compute import sums, tensors
from register.engine.fit.comparison import Comparison, LossExpansion
from register.engine.fit.hessian import HessianBuilder
from register.geometry import affine, models, patch_grid, patch_tensors
from register.geometry.patch_grid import PatchGrid
from register.geometry.smoothness import SmoothnessPenalty
from register.kernels import dispatch
from register.kernels.step_sums import StepSums
from register.optim.conjugate_gradients import inverse
from register.optim.gauss_newton import Expansion

LARGEST_STEP = 1.0
"""Largest displacement of a patch in one Gauss-Newton step, in pixels of the level, because the linear
approximation of the image is not valid for more."""


class Strip(NamedTuple):
    """A strip of rows of a level.

    ``compare`` is the comparison of these rows, ``anchor`` (1, h, w, 2) their points in the moving image
    under the global map. ``span`` is the range of rows of patches with non-zero weight, ``basis_y`` their
    basis functions along y.
    """

    compare: Comparison
    anchor: Tensor
    span: slice
    basis_y: Tensor


class GlobalObjective:
    """The loss of parameters (b, n) of a global model about the centre of the fixed level."""

    def __init__(self, compare: Comparison, model: str) -> None:
        height, width = compare.size
        self.compare, self.model = compare, model
        self.centre = tensors.constant(
            ((width - 1) / 2, (height - 1) / 2), compare.fixed.dtype, compare.fixed.device
        )
        self.x, self.y = (
            positions - middle for positions, middle in zip(compare.axes(), self.centre, strict=True)
        )  # about the centre
        self.radius = max(math.hypot(height, width) / 4, 1.0)
        self.block = block_of(compare)

    def matrix(self, parameters: Tensor) -> Tensor:
        """Residual matrices (b, 2, 3) of parameters (b, n)."""
        return models.get(self.model).matrix(parameters, self.centre, self.radius)

    def evaluate(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The loss (b,) and its gradient (b, n)."""
        if self.compare.compiled:
            return self._with_gradient(parameters, self._moved_by(self.matrix(parameters)))[:2]
        parameters = parameters.detach().requires_grad_()
        matrices = affine.compose(self.compare.moving_from_fixed, self.matrix(parameters))
        x, y = self.compare.axes()
        points = affine.apply_to_grid(matrices.detach(), x, y).requires_grad_()
        loss = self.compare(points).loss()
        gradient = _gradient_of_matrix(torch.autograd.grad(loss.sum(), points)[0], x, y)
        return loss.detach(), torch.autograd.grad((matrices * gradient).sum(), parameters)[0]

    def expand(self, parameters: Tensor) -> Expansion:
        """The loss to second order: its gradient (b, n) and Hessian (b, n, n)."""
        found = self._moved_by(self.matrix(parameters))
        loss, gradient, tangents = self._with_gradient(parameters, found)
        x, y = (block_centres(positions, self.block) for positions in (self.x, self.y))
        moved = affine.apply_to_grid(tangents.flatten(0, 1), x, y).reshape(
            *tangents.shape[:2], len(y), len(x), 2
        )
        xx, xy, yy = found.curvature.unbind(1)
        tensor = torch.stack([torch.stack([xx, xy], -1), torch.stack([xy, yy], -1)], -2)
        curvature = (
            torch.einsum("bnhwi,bhwij,bmhwj->bnm", moved, tensor, moved)
            / sums.last(found.weights).clamp(min=1e-6)[:, None, None]
        )
        return Expansion(loss, loss[:, None], gradient, curvature)

    def solve(self, at: Expansion, damping: Tensor) -> Tensor:
        """The damped Gauss-Newton step (b, n)."""
        diagonal = at.hessian.diagonal(dim1=-2, dim2=-1)
        damped = at.hessian + torch.diag_embed(diagonal * damping + 1e-9)
        return -(inverse(damped) @ at.gradient[..., None])[..., 0]

    def _moved_by(self, matrices: Tensor) -> LossExpansion:
        """The loss to second order under residual matrices (b, 2, 3).

        Its gradient (b, 2, 3) is with respect to a matrix that moves points of the moving image, about the
        centre. Kernels compute with patches only: two by two patches with equal maps are an affine map.
        """
        if not self.compare.compiled:
            found = self.compare.expand(self.compare.points_under(matrices), self.block)
            return found._replace(gradient=_gradient_of_matrix(found.gradient, self.x, self.y))
        height, width = self.compare.size
        grid = PatchGrid.cover(height, width, 2 * max(height, width))
        patches = patch_grid.from_matrices(
            grid, matrices.double()[:, None, None].expand(-1, grid.rows, grid.columns, -1, -1)
        )
        in_moving = self.compare.in_moving_frame(patches.float())
        each = [
            dispatch.expand(pair, grid, parameters, self.block)
            for pair, parameters in zip(self.compare.compiled, in_moving, strict=True)
        ]
        losses, weights, gradients, curvature = (torch.stack(x) for x in zip(*each, strict=True))
        return LossExpansion(
            losses, weights, patch_tensors.gradient_of_affine(grid, gradients, self.centre), curvature
        )

    def _with_gradient(self, parameters: Tensor, found: LossExpansion) -> tuple[Tensor, Tensor, Tensor]:
        """The loss (b,), its gradient (b, n), and the derivatives of the matrix with respect to each
        parameter."""
        weight = sums.last(found.weights).clamp(min=1e-6)
        tangents = self._tangents(parameters)
        of_matrix = self.compare.moving_from_fixed[:, :, :2].mT @ found.gradient
        return (
            sums.last(found.losses) / weight,
            torch.einsum("bnij,bij->bn", tangents, of_matrix) / weight[:, None],
            tangents,
        )

    def _tangents(self, parameters: Tensor, h: float = 1e-4) -> Tensor:
        """The derivatives (b, n, 2, 3) of the matrix with respect to each parameter, about the centre.

        They are central differences in float64.
        """
        steps = h * torch.eye(parameters.shape[1], dtype=torch.float64, device=parameters.device)
        ends = (parameters.double()[:, None] + torch.cat([steps, -steps])).flatten(0, 1)
        matrices = models.get(self.model).matrix(ends, self.centre.double(), self.radius)
        after, before = matrices.reshape(len(parameters), 2 * len(steps), 2, 3).chunk(2, 1)
        tangents = (after - before) / (2 * h)
        at_centre = tangents[..., :2] @ self.centre.double()[:, None] + tangents[..., 2:]
        return torch.cat([tangents[..., :2], at_centre], -1).to(parameters)


def _gradient_of_matrix(gradient: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The gradient (b, 2, 3) with respect to a matrix that maps positions x (w,) and y (h,) to points.

    ``gradient`` (b, h, w, 2) is that with respect to the points. Rows and columns are summed first, because
    the rounding of sums to few numbers depends on the number of threads.
    """
    rows, columns = gradient.sum(2), gradient.sum(1)
    return torch.stack([columns.mT @ x, rows.mT @ y, rows.sum(1)], -1)


class PatchObjective:
    """The loss of patch parameters (1, 2, 3, rows, columns), computed in ``parts`` strips of complete
    windows."""

    def __init__(self, compare: Comparison, grid: PatchGrid, stiffness: float, parts: int) -> None:
        x, y = compare.axes()
        self.compare, self.grid, self.parts = compare, grid, parts
        self.linear = compare.moving_from_fixed[0, :, :2]
        self.block = block_of(compare)
        self.windows_x = grid.axis_basis(block_centres(x, compare.window), 0)[:, : grid.columns]
        self.windows_y = grid.axis_basis(block_centres(y, compare.window), 1)[:, : grid.rows]
        smoothness = SmoothnessPenalty.of(grid, dtype=compare.fixed.dtype, device=compare.fixed.device)
        centres = block_centres(x, self.block), block_centres(y, self.block)
        self.hessian_builder = HessianBuilder(
            grid, *centres, smoothness, stiffness / grid.count, tensors_only=compare.tensors_only
        )

    @cached_property
    def strips(self) -> list["Strip"]:
        """The level in strips of complete windows."""
        basis_y, anchor = self.grid.axis_basis(self.compare.axes()[1], 1), self.compare.points_under()
        return [self._strip(anchor, basis_y, rows) for rows in self.compare.strips(self.parts)]

    @cached_property
    def basis_x(self) -> Tensor:
        """The basis functions of the patches along x, at every pixel."""
        return self.grid.axis_basis(self.compare.axes()[0], 0)

    def evaluate(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The loss (1,) and its gradient."""
        if self.compare.compiled:
            return self.expand(parameters)[::2]
        total, weight, gradient = (
            parameters.new_zeros(1),
            parameters.new_zeros(1),
            torch.zeros_like(parameters[0]),
        )
        for strip, points in self._points(parameters):
            if points is None:
                continue
            points.requires_grad_()
            part, part_weight = strip.compare(points).summed_loss()
            (of_points,) = torch.autograd.grad(part.sum(), points)
            gradient[:, :, strip.span] += patch_tensors.gather(of_points[0], self.basis_x, strip.basis_y)
            total, weight = total + part.detach(), weight + part_weight
        return self._with_penalty(parameters, total, weight.clamp(min=1e-6), gradient)

    def expand(self, parameters: Tensor) -> Expansion:
        """The loss to second order: its gradient, and second derivatives (1, 3, h, w) by block of pixels."""
        pairs = self.compare.compiled
        found = (
            dispatch.expand(pairs[0], self.grid, self.compare.in_moving_frame(parameters)[0], self.block)
            if pairs
            else self._in_strips(parameters)
        )
        weight = sums.total(found.weights)[None].clamp(min=1e-6)
        total = sums.total(found.losses)[None]
        loss, gradient = self._with_penalty(parameters, total, weight, found.gradient)
        near = (self.windows_y.T @ found.losses.reshape(len(self.windows_y), -1) @ self.windows_x).flatten()[
            None
        ]
        return Expansion(loss, near, gradient, found.curvature[None] / weight)

    def solve(self, at: Expansion, damping: Tensor) -> Tensor:
        """The damped Gauss-Newton step."""
        step = self.hessian_builder.step(at.hessian[0], at.gradient[0], damping[0])
        return limit_shift(step, LARGEST_STEP)[None]

    def _in_strips(self, parameters: Tensor) -> StepSums:
        """The same as ``dispatch.expand``, by tensor operations."""
        each, gradient = [], torch.zeros_like(parameters[0])
        for strip, points in self._points(parameters):
            each.append(
                found := strip.compare.zero_expansion(self.block)
                if points is None
                else strip.compare.expand(points, self.block)
            )
            if points is not None:
                gradient[:, :, strip.span] += patch_tensors.gather(
                    found.gradient[0], self.basis_x, strip.basis_y
                )
        losses, weights = (torch.cat([getattr(x, name)[0] for x in each]) for name in ("losses", "weights"))
        return StepSums(losses, weights, gradient, torch.cat([x.curvature[0] for x in each], 1))

    def _strip(self, anchor: Tensor, basis_y: Tensor, rows: slice) -> "Strip":
        """Some rows, with the patches that have non-zero weight in them."""
        span = self.grid.cells(rows.start, rows.stop - 1, 1)
        basis = torch.cat(
            [basis_y[rows, first + span.start : first + span.stop] for first in (0, self.grid.rows)], 1
        )
        return Strip(self.compare.rows(rows), anchor[:, rows], span, basis)

    def _points(self, parameters: Tensor) -> Iterator[tuple["Strip", Tensor | None]]:
        """Each strip with the moving points at its pixels; None where no pixel has weight."""
        in_moving = self.compare.in_moving_frame(parameters)[0]
        for strip in self.strips:
            displacement = (
                patch_grid.displacement(in_moving[:, :, strip.span], self.basis_x, strip.basis_y)
                if strip.compare.has_weight
                else None
            )
            yield strip, None if displacement is None else strip.anchor + displacement

    def _with_penalty(
        self, parameters: Tensor, total: Tensor, weight: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss and its gradient with the smoothness penalty, from the sums over the images.

        ``gradient`` is that with respect to parameters in the moving frame.
        """
        gradient = (self.linear.mT @ gradient.flatten(1)).reshape_as(gradient)
        penalty, penalty_gradient = self.hessian_builder.penalise(parameters[0])
        return total / weight + penalty, torch.addcdiv(penalty_gradient, gradient, weight)[None]


def limit_shift(parameters: Tensor, max_shift: float) -> Tensor:
    """Limit parameters (..., 2, 3, rows, columns): displacements, and their changes per spacing, are at most
    ``max_shift`` pixels."""
    return parameters / (torch.hypot(*parameters.unbind(-4)) / max_shift).clamp(min=1).unsqueeze(-4)


def block_of(compare: Comparison) -> int:
    """The side of the blocks of pixels over which second derivatives are summed: half of a window, or the
    largest smaller divisor of it."""
    return next(side for side in range(-(-compare.window // 2), 0, -1) if compare.window % side == 0)


def block_centres(positions: Tensor, block: int) -> Tensor:
    """The mean position of every ``block`` positions (n,); the last block may be smaller."""
    return avg_pool1d(positions[None], min(block, len(positions)), ceil_mode=True)[0]
