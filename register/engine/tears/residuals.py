"""How much two images differ under a map, at every pixel of a working copy of the fixed image."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from register.compute import sums
from register.engine.fit.working_copy import working_copy
from register.geometry import affine
from register.geometry.arrays import Float64
from register.images import filters, interpolation
from register.images.pyramid import Level
from register.similarity import registry
from register.transforms.transform import Transform

SMOOTHING = 0.7
"""Standard deviation, in pixels, of the Gaussian before images are compared."""
AROUND = 1.5
"""Standard deviation, in pixels, of the Gaussian by which squared differences are averaged."""
SHIFTS = (0.17, 0.23), (0.31, -0.11), (-0.26, 0.37)
"""Displacements, as shares of height and width, after which pixels are unrelated."""
ROUNDS = 3
"""Times that the relation of the grey values is fitted, each to the better half of the pixels."""


@dataclass(frozen=True)
class Views:
    """Working copies of a fixed and a moving image, grey in [0, 1], and the similarity they are compared
    by."""

    fixed: Level
    moving: Level
    metric: str

    @classmethod
    def of(cls, fixed: Level, moving: Level, metric: str, side: int) -> "Views":
        """Working copies of at most ``side`` pixels, of grey levels of any size and range."""
        copies = working_copy(fixed, side, "fixed"), working_copy(moving, side, "moving")
        return cls(*copies, metric)

    def difference(self, transform: Transform, among: Tensor | None = None) -> Tensor:
        """The local squared difference (h, w) under a transform, in units of the mean of unrelated pixels.

        That of a pixel counts as 1 at most. NaN where the moving image is not valid. Grey values are compared
        after the linear relation that fits best, others by the descriptor of the similarity. With ``among``
        (h, w), the pixels of a side, the relation is theirs, and the difference around each of them is
        averaged over them.
        """
        points = self._points(transform)
        image = interpolation.sample(self.moving.image[None], points, interpolation="bicubic")
        valid = self.fixed.mask * interpolation.sample(self.moving.mask[None], points, padding="zeros")[0]
        valid = (valid > 0.99) & interpolation.inside(points, *self.moving.size)
        fixed, warped = (self._described(x, valid[None].float()) for x in (self.fixed.image[None], image))
        mask = valid[0]
        if registry.get(self.metric).descriptor is None:
            use = mask if among is None else mask & among
            warped = _related(fixed[0, 0], warped[0, 0], use)[None, None]
        squares = ((fixed - warped).square().sum(1, keepdim=True) / self._unrelated).clamp(max=1.0)
        near = mask[None, None].float()
        local = _mean(squares, near, AROUND)
        if among is not None:
            mine = near * among
            local = torch.where(mine > 0, _mean(squares, mine, AROUND), local)
        return torch.where(mask, local[0, 0], torch.nan)

    @cached_property
    def _unrelated(self) -> float:
        """The mean squared difference of unrelated pixels of the fixed image."""
        image, mask = self._described(self.fixed.image[None], self.fixed.mask[None]), self.fixed.mask[0] > 0.5
        height, width = self.fixed.size
        found = []
        for y, x in SHIFTS:
            shift = round(y * height), round(x * width)
            both = mask & mask.roll(shift, (0, 1))
            squares = (image - image.roll(shift, (2, 3))).square().sum(1)[0]
            found.append(float(sums.total(squares * both)) / max(int(both.sum()), 1))
        return max(sum(found) / len(found), 1e-9)

    def _described(self, image: Tensor, mask: Tensor) -> Tensor:
        descriptor = registry.get(self.metric).descriptor
        return filters.smooth(image, SMOOTHING) if descriptor is None else descriptor(image, mask)

    def points(self) -> Float64:
        """The pixels (h, w, 2) of the fixed copy, in those of the original."""
        height, width = self.fixed.size
        x, y = (np.arange(n, dtype=np.float64) for n in (width, height))
        up = self.fixed.original_from_level.numpy()
        return affine.apply(up, affine.points_at(x, y).reshape(-1, 2)).reshape(height, width, 2)

    def _points(self, transform: Transform) -> Tensor:
        """The pixels (1, h, w, 2) of the moving copy at those of the fixed one."""
        mapped = affine.apply(
            affine.invert(self.moving.original_from_level), torch.from_numpy(transform.map(self.points()))
        )
        return mapped[None].to(self.fixed.image)


def _mean(values: Tensor, mask: Tensor, sigma: float) -> Tensor:
    """The local mean (1, c, h, w) of values where the mask (1, 1, h, w) is not 0."""
    return filters.smooth(values * mask, sigma) / filters.smooth(mask, sigma).clamp(min=1e-3)


def _related(fixed: Tensor, warped: Tensor, use: Tensor) -> Tensor:
    """One plane (h, w) in the values of the other, by a line through the better half of the pixels."""
    scaled = warped
    for _ in range(ROUNDS):
        a, b = fixed[use], warped[use]
        if len(a) < 16:
            return scaled
        centred = b - b.mean()
        slope = (centred * a).mean() / centred.square().mean().clamp(min=1e-9)
        scaled = slope * (warped - b.mean()) + a.mean()
        away = (fixed - scaled).abs()
        use = use & (away <= filters.median(away[use]) * 2)
    return scaled
