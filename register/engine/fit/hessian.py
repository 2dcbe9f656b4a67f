"""Compute the Gauss-Newton Hessian of the loss of patches, in blocks for each patch and its neighbours.

The hat weights of a patch reach to the next centre only, so all other blocks are zero. A product with a
vector needs the parameters around every patch and one small matrix per patch, whatever the image size.
Vectors are (rows * columns, 6): the x and y components of a displacement and of its derivatives along x and
y.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from register.compute import tensors
from register.geometry.patch_grid import PatchGrid
from register.geometry.smoothness import SmoothnessPenalty
from register.kernels import dispatch
from register.optim import conjugate_gradients

ALONG_X, ALONG_Y = (0, 1, 0), (0, 0, 1)
"""The function of the axis basis, weight (0) or weighted offset (1), that each of the three basis functions
of a patch has along x and along y."""


@dataclass(frozen=True)
class BlockHessian:
    """The second derivatives between the parameters of every patch and those of the patches around it.

    ``blocks`` (rows * columns, 6, 9, 6) hold the neighbours row by row, the patch itself as the fifth.
    ``around`` (rows * columns, 9) are their indices; beyond the border the index is one past the last.
    """

    grid: PatchGrid
    blocks: Tensor
    around: Tensor

    @property
    def own(self) -> Tensor:
        """The blocks (rows * columns, 6, 6) on the diagonal: those of every patch with itself."""
        return self.blocks[:, :, 4]

    def __matmul__(self, vector: Tensor) -> Tensor:
        """The product with a vector (rows * columns, 6)."""
        near = pad(vector, (0, 0, 0, 1))[self.around].flatten(1)
        return (self.blocks.flatten(2) @ near[..., None])[..., 0]

    def damped(self, extra: Tensor) -> "BlockHessian":
        """The Hessian with ``extra`` (rows * columns, 6) added to its diagonal."""
        blocks = self.blocks.clone()
        blocks[:, :, 4].diagonal(dim1=-2, dim2=-1).add_(extra)
        return BlockHessian(self.grid, blocks, self.around)


class HessianBuilder:
    """Assembles Hessians from second derivatives per block of pixels, and adds the smoothness penalty."""

    def __init__(
        self,
        grid: PatchGrid,
        x: Tensor,
        y: Tensor,
        smoothness: SmoothnessPenalty,
        stiffness: float,
        *,
        tensors_only: bool = False,
    ) -> None:
        """For blocks of pixels centred at the positions ``x`` (w,) and ``y`` (h,), and a penalty of weight
        ``stiffness``."""
        self.grid, self.at, self.smoothness, self.stiffness = grid, (x, y), smoothness, stiffness
        self.compiled = (
            None
            if tensors_only
            else dispatch.patch_system(
                grid,
                x,
                y,
                (stiffness * _with_next(smoothness.along_x), stiffness * _with_next(smoothness.along_y)),
            )
        )
        if self.compiled is None:  # a recording computes them at its start, for all steps
            _ = self.penalty, self.around

    @cached_property
    def products(self) -> tuple[Tensor, Tensor]:
        """The products of the basis functions of neighbouring patches along x and along y."""
        return _products(self.grid.axis_basis(self.at[0], 0)), _products(self.grid.axis_basis(self.at[1], 1))

    @cached_property
    def blocks(self) -> Tensor:
        """The blocks of the smoothness penalty; they are kept as long as a recording uses them."""
        return _blocks(self.smoothness)

    @cached_property
    def penalty(self) -> Tensor:
        """The blocks (rows * columns, 6, 9, 6) of the smoothness penalty, times its weight."""
        return self.stiffness * self.blocks

    @cached_property
    def around(self) -> Tensor:
        """The indices (rows * columns, 9) of the patches around each, as in ``BlockHessian``."""
        return _around(self.grid, self.at[0].device)

    def penalise(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The smoothness penalty of parameters (2, 3, rows, columns), times its weight, and its gradient."""
        if self.compiled is not None:
            gradient = self.compiled.penalty_gradient(parameters)
            return torch.dot(parameters.flatten(), gradient.flatten()) / 2, gradient
        penalty, gradient = self.smoothness(parameters)
        return self.stiffness * penalty, self.stiffness * gradient

    def step(self, curvature: Tensor, gradient: Tensor, damping: Tensor) -> Tensor:
        """The damped Gauss-Newton step (2, 3, rows, columns).

        ``curvature`` (3, h, w) are the second derivatives xx, xy, yy by block of pixels, ``gradient`` (2, 3,
        rows, columns) is that of the loss, ``damping`` (rows * columns,) a share of the diagonal of each
        patch. The method is conjugate gradients, preconditioned with the block of each patch with itself.
        """
        if self.compiled is not None:
            return self.compiled.solve(
                curvature,
                damping,
                gradient,
                steps=conjugate_gradients.STEPS,
                tolerance=conjugate_gradients.TOLERANCE,
            ).neg_()
        hessian = self.hessian(curvature)
        damped = hessian.damped(hessian.own.diagonal(dim1=-2, dim2=-1) * damping[:, None] + 1e-9)
        inverse = conjugate_gradients.inverse(damped.own)
        found = conjugate_gradients.conjugate_gradients(
            damped.__matmul__, lambda r: (inverse @ r[..., None])[..., 0], gradient.reshape(6, -1).T
        )
        return -found.T.reshape_as(gradient)

    def hessian(self, curvature: Tensor) -> BlockHessian:
        """The Hessian of second derivatives (3, h, w), xx, xy and yy, by block of pixels."""
        rows, columns = self.grid.rows, self.grid.columns
        x, y = self.products
        sums = y.flatten(1).T @ (curvature @ x.flatten(1))
        sums = sums.reshape(3, 2, 2, 2, rows, 2, 2, 2, columns)
        sums = _with_previous(
            _with_previous(sums, 1), 5
        )  # (3, step, function, neighbour's function, rows, step, function, neighbour's function, columns)
        px, py, which = (
            tensors.constant(numbers, torch.long, sums.device) for numbers in (ALONG_X, ALONG_Y, (0, 1, 1, 2))
        )
        each = sums.permute(0, 4, 8, 1, 5, 2, 3, 6, 7)[
            ..., py[:, None], py, px[:, None], px
        ]  # (3, rows, columns, step y, step x, function, neighbour's)
        entries = each[which.reshape(2, 2)]  # (component, neighbour's component, ...)
        blocks = entries.permute(2, 3, 0, 6, 4, 5, 1, 7).reshape(self.grid.count, 6, 9, 6)
        return BlockHessian(self.grid, blocks + self.penalty, self.around)


@lru_cache(4)
def _blocks(smoothness: SmoothnessPenalty) -> Tensor:
    """The blocks (rows * columns, 6, 9, 6) of the penalty; several optimisations of a level share them."""
    columns, rows = len(smoothness.along_x) // 2, len(smoothness.along_y) // 2
    blocks = smoothness.along_x.new_zeros(rows, columns, 2, 3, 3, 3, 2, 3)
    across, down = _lines(smoothness.along_x), _lines(smoothness.along_y)
    for k in (0, 1):
        for a in (0, 1):
            for b in (0, 1):
                for step in range(3):
                    blocks[:, :, k, a, 1, step, k, b] += across[a, b, step]
                    blocks[:, :, k, 2 * a, step, 1, k, 2 * b] += down[a, b, step][:, None]
    return blocks.reshape(rows * columns, 6, 9, 6)


def _lines(along: Tensor) -> Tensor:
    """The entries (2, 2, 3, count) of the penalty (2 count, 2 count) along a line: between the displacement
    and the derivative of each patch and those of the patch before it, of itself and of the next one; 0
    where there is none."""
    each = along.reshape(2, len(along) // 2, 2, -1).transpose(1, 2)
    return torch.stack(
        [pad(each.diagonal(step, 2, 3), (1, 0) if step < 0 else (0, step)) for step in (-1, 0, 1)], 2
    )


def _with_next(along: Tensor) -> Tensor:
    """The entries (2, 2, 2, count) of the penalty along a line of each patch with itself and with the next
    one."""
    return _lines(along)[:, :, 1:].movedim(2, 0)


def _products(basis: Tensor) -> Tensor:
    """The products (n, 2, 2, 2, count) of the basis functions (n, 2 count) of each patch with its own and
    the next ones."""
    each = basis.reshape(len(basis), 2, 1, -1)
    following = pad(each, (-1, 1))
    return torch.stack([each * each.transpose(1, 2), each * following.transpose(1, 2)], 1)


def _with_previous(sums: Tensor, at: int) -> Tensor:
    """Sums (…, 3, 2, 2, count, …) of products with the patch before, the same and the next patch, from
    those (…, 2, 2, 2, count, …) with the same and the next one: the matrix is symmetric."""
    own, following = sums.unbind(at)
    # the last patch has no next one: its zero is used for the patch before the first
    before = following.roll(1, at + 2).transpose(at, at + 1)
    return torch.stack([before, own, following], at)


def _around(grid: PatchGrid, device: torch.device) -> Tensor:
    numbers = pad(
        torch.arange(grid.count, device=device).reshape(grid.rows, grid.columns),
        (1, 1, 1, 1),
        value=grid.count,
    )
    return torch.stack(
        [
            numbers[dy : dy + grid.rows, dx : dx + grid.columns].flatten()
            for dy in range(3)
            for dx in range(3)
        ],
        1,
    )
