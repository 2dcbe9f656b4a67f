"""The second derivative of a loss of patches: how the six numbers of every patch are tied to each other and to those of the eight patches around it.

Hat weights reach to the next centre only, so nothing else is tied. A multiplication takes the numbers around every patch and one small matrix per patch,
whatever the size of the image the curvature was measured in. Vectors are (rows * columns, 6): two components of a displacement and of its slopes each.
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
"""Which of the two functions of an axis basis, the weight or the weighted offset, each of a patch's three functions holds along x and along y."""


@dataclass(frozen=True)
class BlockHessian:
    """The matrices (rows * columns, 6, 9, 6) by which the slope at a patch follows the numbers of the patches around it, row by row, itself the fifth."""

    grid: PatchGrid
    blocks: Tensor
    around: (
        Tensor  # (rows * columns, 9): the patches' numbers in a vector; beyond the border one past the last
    )

    @property
    def own(self) -> Tensor:
        """The blocks (rows * columns, 6, 6) that tie every patch to itself."""
        return self.blocks[:, :, 4]

    def __matmul__(self, vector: Tensor) -> Tensor:
        """The product with a vector (rows * columns, 6)."""
        near = pad(vector, (0, 0, 0, 1))[self.around].flatten(1)
        return (self.blocks.flatten(2) @ near[..., None])[..., 0]

    def damped(self, extra: Tensor) -> "BlockHessian":
        """The same with ``extra`` (rows * columns, 6) added to the diagonal."""
        blocks = self.blocks.clone()
        blocks[:, :, 4].diagonal(dim1=-2, dim2=-1).add_(extra)
        return BlockHessian(self.grid, blocks, self.around)


class HessianBuilder:
    """What makes stencils of curvatures: the products of the functions of neighbouring patches, and the stiffness that ties them whatever is seen."""

    def __init__(
        self,
        grid: PatchGrid,
        x: Tensor,
        y: Tensor,
        ties: SmoothnessPenalty,
        stiffness: float,
        *,
        tensors_only: bool = False,
    ) -> None:
        """For curvatures measured at the positions ``x`` (w,) and ``y`` (h,) of a grid's pixels."""
        self.grid, self.at, self.ties, self.stiffness = grid, (x, y), ties, stiffness
        self.compiled = (
            None
            if tensors_only
            else dispatch.patch_system(
                grid, x, y, (stiffness * _onward(ties.along_x), stiffness * _onward(ties.along_y))
            )
        )
        if (
            self.compiled is None
        ):  # every step needs them: a recording makes them at its begin, and keeps them
            _ = self.tied, self.around

    @cached_property
    def products(self) -> tuple[Tensor, Tensor]:
        """Those of the functions of neighbouring patches along x and along y."""
        return _products(self.grid.axis_basis(self.at[0], 0)), _products(self.grid.axis_basis(self.at[1], 1))

    @cached_property
    def blocks(self) -> Tensor:
        """Those of the ties, kept for as long as a recording reads them."""
        return _blocks(self.ties)

    @cached_property
    def tied(self) -> Tensor:
        """The blocks (rows * columns, 6, 9, 6) of what ties neighbours."""
        return self.stiffness * self.blocks

    @cached_property
    def around(self) -> Tensor:
        """The numbers (rows * columns, 9) of the patches around each, as in ``BlockHessian``."""
        return _around(self.grid, self.at[0].device)

    def bend(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """What ties neighbours in parameters (2, 3, rows, columns), times the stiffness, and its slope."""
        if self.compiled is not None:
            slope = self.compiled.penalty_gradient(parameters)
            return torch.dot(parameters.flatten(), slope.flatten()) / 2, slope
        bending, slope = self.ties(parameters)
        return self.stiffness * bending, self.stiffness * slope

    def step(self, curvature: Tensor, slope: Tensor, damping: Tensor) -> Tensor:
        """The damped Gauss-Newton step (2, 3, rows, columns) down a ``slope`` (2, 3, rows, columns) of a loss with a ``curvature`` (3, h, w).

        By conjugate gradients preconditioned with each patch's own block. A patch's ``damping`` (rows * columns,) is a share of its own diagonal.
        """
        if self.compiled is not None:
            return self.compiled.solve(
                curvature,
                damping,
                slope,
                steps=conjugate_gradients.STEPS,
                tolerance=conjugate_gradients.TOLERANCE,
            ).neg_()
        stencil = self.stencil(curvature)
        tied = stencil.damped(stencil.own.diagonal(dim1=-2, dim2=-1) * damping[:, None] + 1e-9)
        inverse = conjugate_gradients.inverse(tied.own)
        found = conjugate_gradients.conjugate_gradients(
            tied.__matmul__, lambda r: (inverse @ r[..., None])[..., 0], slope.reshape(6, -1).T
        )
        return -found.T.reshape_as(slope)

    def stencil(self, curvature: Tensor) -> BlockHessian:
        """The stencil of a curvature (3, h, w), its xx, xy and yy."""
        rows, columns = self.grid.rows, self.grid.columns
        x, y = self.products
        sums = y.flatten(1).T @ (curvature @ x.flatten(1))
        sums = sums.reshape(3, 2, 2, 2, rows, 2, 2, 2, columns)
        sums = _both_ways(
            _both_ways(sums, 1), 5
        )  # (3, step, function, neighbour's function, rows, step, function, neighbour's function, columns)
        px, py, which = (
            tensors.constant(numbers, torch.long, sums.device) for numbers in (ALONG_X, ALONG_Y, (0, 1, 1, 2))
        )
        each = sums.permute(0, 4, 8, 1, 5, 2, 3, 6, 7)[
            ..., py[:, None], py, px[:, None], px
        ]  # (3, rows, columns, step y, step x, function, neighbour's)
        parts = each[which.reshape(2, 2)]  # (component, neighbour's component, ...)
        blocks = parts.permute(2, 3, 0, 6, 4, 5, 1, 7).reshape(self.grid.count, 6, 9, 6)
        return BlockHessian(self.grid, blocks + self.tied, self.around)


@lru_cache(4)
def _blocks(ties: SmoothnessPenalty) -> Tensor:
    """The blocks (rows * columns, 6, 9, 6) of ties: several descents of a level share them."""
    columns, rows = len(ties.along_x) // 2, len(ties.along_y) // 2
    blocks = ties.along_x.new_zeros(rows, columns, 2, 3, 3, 3, 2, 3)
    across, down = _lines(ties.along_x), _lines(ties.along_y)
    for k in (0, 1):
        for a in (0, 1):
            for b in (0, 1):
                for step in range(3):
                    blocks[:, :, k, a, 1, step, k, b] += across[a, b, step]
                    blocks[:, :, k, 2 * a, step, 1, k, 2 * b] += down[a, b, step][:, None]
    return blocks.reshape(rows * columns, 6, 9, 6)


def _lines(along: Tensor) -> Tensor:
    """Of the ties (2 count, 2 count) of a line, how the displacement and the slope of each patch follow those of the patch before it, of itself, and of the
    next one (2, 2, 3, count); 0 where there is none."""
    each = along.reshape(2, len(along) // 2, 2, -1).transpose(1, 2)
    return torch.stack(
        [pad(each.diagonal(step, 2, 3), (1, 0) if step < 0 else (0, step)) for step in (-1, 0, 1)], 2
    )


def _onward(along: Tensor) -> Tensor:
    """Of the ties of a line those of each patch to itself and to the next one (2, 2, 2, count)."""
    return _lines(along)[:, :, 1:].movedim(2, 0)


def _products(basis: Tensor) -> Tensor:
    """Of an axis basis (n, 2 count) the products (n, 2, 2, 2, count) of each patch's functions with its own ones and with the next patch's."""
    each = basis.reshape(len(basis), 2, 1, -1)
    following = pad(each, (-1, 1))
    return torch.stack([each * each.transpose(1, 2), each * following.transpose(1, 2)], 1)


def _both_ways(sums: Tensor, at: int) -> Tensor:
    """Sums (…, 2, 2, 2, count, …) of products with a patch's own and the next patch's functions, and those with the one before it: (…, 3, 2, 2, count, …)."""
    own, following = sums.unbind(at)
    before = following.roll(1, at + 2).transpose(
        at, at + 1
    )  # the last patch has none that follows: its zero comes before the first
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
