"""What is computed once per movie: the reference on a level, its gradients, the inverse of the Hessian."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from register.engine.movie.space import Space, both, space_of
from register.images import filters
from register.kernels.movie import Target

BORDER = 6
"""Pixels along the border that are not compared: filters are not certain there."""
RIDGE = 1e-4
"""The part of the Hessian's mean diagonal that is added to it."""
CUT = 4.0
"""Standard deviations beyond which an error counts no more."""


@dataclass(frozen=True, eq=False)
class LevelTarget:
    """The reference on a level whose pixels are ``step`` times as large as those of the frames.

    ``inverse`` (p, p) is that of the Hessian with the prior, ``prior`` (p, p) the latter, both for
    displacements in pixels of the level; ``share`` is the weight of a pixel's error relative to independent
    ones; ``limit`` is the largest error that counts. ``weight`` is the sum of the weights, ``pixels`` the
    number of pixels that have one.
    """

    step: int
    target: Target
    space: Space
    inverse: Tensor
    prior: Tensor
    share: float
    limit: float
    weight: float
    pixels: float

    @cached_property
    def error(self) -> float:
        """The root mean square over the image, in pixels of the level, of the error that noise causes."""
        space = self.space
        down, across = space.y.dense().double(), space.x.dense().double()
        gram = torch.kron(down.T @ down / len(down), across.T @ across / len(across))
        gram = both(gram)
        if space.directions is not None:
            gram = space.directions.T @ gram @ space.directions
        return max(float((self.inverse * gram).sum()), 0.0) ** 0.5

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the level."""
        height, width = self.target.reference.shape
        return height, width


def level_target(
    image: Tensor, variance: Tensor, model: str, patch_size: int | None, *, step: int, sigma: float
) -> LevelTarget:
    """The target of a filtered reference (h, w) at full resolution, NaN where invalid, with the ``variance``
    (h, w) of frames about it, on the level of a ``step``. ``sigma`` is the smoothing in pixels."""
    full = (image.shape[0], image.shape[1])
    valid = torch.isfinite(image).float()
    reference, valid, variance = (
        shrunk(x, step) for x in (torch.where(valid > 0, image, 0.0), valid, variance.float())
    )
    weight = (valid > 0.999) / (variance + variance.median() + 1e-12)
    border = max(BORDER // step, 1)
    inner = torch.zeros_like(weight)
    inner[border:-border, border:-border] = 1
    weight = weight * inner
    gx, gy = _gradient(reference, 1), _gradient(reference, 0)
    size = (reference.shape[0], reference.shape[1])
    space = space_of(model, full, patch_size, (size, step))
    area = max(4 * torch.pi * (sigma / step) ** 2, 1.0)  # pixels that share their noise
    hessian = _hessian(space, weight, gx, gy) / area
    prior = space.prior * step**2  # of displacements in pixels of the level
    ridge = RIDGE * hessian.diagonal().mean() + 1e-12
    inverse = torch.linalg.inv(hessian + prior + ridge * torch.eye(len(hessian), dtype=torch.float64))
    noise = float(variance[weight > 0].median()) ** 0.5 if bool((weight > 0).any()) else 1.0
    steer = Target(reference, weight, (weight * gx).contiguous(), (weight * gy).contiguous())
    limit, pixels = CUT * 1.5 * noise + 1e-12, float((weight > 0).sum())
    return LevelTarget(step, steer, space, inverse, prior, 1 / area, limit, float(weight.sum()), pixels)


def shrunk(image: Tensor, step: int) -> Tensor:
    """The means of squares of ``step`` pixels of an image (h, w), NaN where any of them is; a rest at the end
    is left out."""
    return image.contiguous() if step == 1 else filters.block_means(image[None, None], step)[0, 0]


def _gradient(image: Tensor, axis: int) -> Tensor:
    """Central differences along an axis."""
    return torch.gradient(image, dim=axis)[0]


def _hessian(space: Space, weight: Tensor, gx: Tensor, gy: Tensor) -> Tensor:
    """The Hessian (p, p) float64 of half the weighted squared error by the parameters of a space."""
    down, across = space.y.dense(), space.x.dense()
    rows, columns = space.y.count, space.x.count
    pairs_y = torch.einsum("yi,yk->yik", down, down).flatten(1)
    pairs_x = torch.einsum("xj,xl->xjl", across, across).flatten(1)
    found = torch.zeros(2, rows, columns, 2, rows, columns, dtype=torch.float64)
    for a, one in enumerate((gx, gy)):
        for b, other in enumerate((gx, gy)):
            product = (pairs_y.T @ (weight * one * other) @ pairs_x).double()
            found[a, :, :, b] = product.reshape(rows, rows, columns, columns).permute(0, 2, 1, 3)
    flat = found.reshape(2 * rows * columns, -1)
    return flat if space.directions is None else space.directions.T @ flat @ space.directions
