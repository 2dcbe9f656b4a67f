"""Compare two images at one level: compute the similarity of windows under a map, and its derivatives."""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor

from register.compute import tensors
from register.geometry import affine, affine_tensors
from register.geometry.patch_grid import PatchGrid
from register.geometry.patch_tensors import Patches
from register.images import filters, interpolation, preprocess, pyramid
from register.images.pyramid import Level
from register.kernels import dispatch
from register.kernels.step_sums import PairInput
from register.similarity import registry
from register.similarity.base import FixedImage, Similarity, Windows

STRIP = 500_000
"""Pixels of a strip of a level: few enough for the cache of a processor, and enough for all of its
threads."""
SMOOTHING = 0.7
"""Standard deviation, in pixels, of the Gaussian by which intensities are smoothed. Without it the error of
the interpolation favours shifts by half pixels."""
SAME_SIZE = 1.2
"""Ratio of pixel sizes up to which images are compared without resampling."""


class LossExpansion(NamedTuple):
    """The loss to second order for small displacements of the pixels, by tensor operations."""

    losses: Tensor  # (b, n) weighted losses of n windows
    weights: Tensor  # (b, n) their weights
    gradient: Tensor  # (b, h, w, 2) derivatives with respect to the points of the moving image
    curvature: Tensor  # (b, 3, h', w') second derivatives xx, xy, yy to fixed displacements, by block


@dataclass(frozen=True)
class Comparison:
    """Two images of b pairs at one level; ``moving_from_fixed`` maps pixels of the fixed level to pixels of
    ``moving``.

    The images hold intensities or descriptors of c channels, as the similarity needs.
    """

    fixed: Tensor  # (1, c, h, w)
    fixed_mask: Tensor  # (1, 1, h, w)
    moving: Tensor  # (b, c, h', w')
    moving_mask: Tensor  # (b, 1, h', w')
    moving_from_fixed: Tensor  # (b, 2, 3) float32
    similarity: Similarity
    window: int
    tensors_only: bool = False
    """Whether tensor operations are used where a compiled kernel exists."""

    def __call__(self, points: Tensor) -> Windows:
        """The similarity of every window when the fixed pixels are compared with ``moving`` at points (b,
        h, w, 2)."""
        fixed = self._fixed_image(points.detach())
        return self.similarity.function(fixed, interpolation.sample(self.moving, points))

    def expand(self, points: Tensor, block: int) -> "LossExpansion":
        """The loss at ``points`` (b, h, w, 2) to second order; second derivatives are summed over blocks of
        pixels."""
        warped, backward = interpolation.sample_with_gradient(self.moving, points)
        fixed = self._fixed_image(points)
        windows = self.similarity.function(fixed, warped)
        rows, columns = (-(-n // self.window) for n in warped.shape[-2:])
        known = windows.derivatives().reshape(len(warped), 4, rows, columns)
        a, b, c, second = filters.over_windows(known, self.window, self.size).chunk(4, 1)
        gradient = torch.addcmul(c, a, fixed.image).addcmul(b, warped).mul_(fixed.weight)
        gx, gy = filters.differences(warped)
        squares = torch.cat([(gx * gx).sum(1, True), (gx * gy).sum(1, True), (gy * gy).sum(1, True)], 1)
        curvature = filters.window_sums(squares.mul_(second * fixed.weight), block)
        return LossExpansion(windows.losses(), windows.weight, backward(gradient), curvature)

    def axes(self) -> tuple[Tensor, Tensor]:
        """The positions x (w,) and y (h,) of the fixed pixels."""
        return interpolation.axes(*self.size, dtype=self.fixed.dtype, device=self.fixed.device)

    def points_under(self, residual: Tensor | None = None) -> Tensor:
        """Points (b, h, w, 2) of ``moving`` at the fixed pixels, under residual matrices (b, 2, 3) of the
        fixed level."""
        matrices = (
            self.moving_from_fixed if residual is None else affine.compose(self.moving_from_fixed, residual)
        )
        return affine.apply_to_grid(matrices, *self.axes())

    def shifted(self, displacement: Tensor) -> Tensor:
        """Points (1, h, w, 2) of ``moving`` at the fixed pixels after a displacement (h, w, 2) of the fixed
        level."""
        return self.points_under()[:1] + self.in_moving(displacement)

    def in_moving(self, displacement: Tensor) -> Tensor:
        """A displacement (h, w, 2) of fixed pixels in moving pixels; x and y are contiguous planes."""
        planes = self.moving_from_fixed[0, :, :2] @ displacement.movedim(-1, 0).flatten(1)
        return planes.reshape(2, *displacement.shape[:2]).movedim(0, -1)

    @cached_property
    def compiled(self) -> list[dispatch.PreparedPair]:
        """The images in the layout that a kernel reads, one pair per batch item; empty where there is no
        kernel for them."""
        kind = self.similarity.compiled
        if self.tensors_only or kind is None or not dispatch.supports(self.fixed, self.moving):
            return []
        moving = zip(self.moving, self.moving_mask, self.moving_from_fixed, strict=True)
        fixed = self.fixed[0], self.fixed_mask[0]
        return [dispatch.prepare(PairInput(*fixed, *one, kind, self.window)) for one in moving]

    def in_moving_frame(self, parameters: Tensor) -> Tensor:
        """Parameters (b, 2, 3, rows, columns) of patches that move points of the moving image, from those
        that move fixed pixels.

        The blend is linear, so it suffices to multiply the parameters by the map, instead of the
        displacements of all pixels.
        """
        return (self.moving_from_fixed[:, :, :2] @ parameters.flatten(2)).reshape(-1, *parameters.shape[1:])

    def batches(self, parts: int) -> list["Comparison"]:
        """The comparisons of up to ``parts`` groups of the batch items."""
        groups = torch.arange(len(self.moving)).chunk(parts)
        return [
            replace(
                self,
                moving=self.moving[i],
                moving_mask=self.moving_mask[i],
                moving_from_fixed=self.moving_from_fixed[i],
            )
            for i in groups
        ]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors of the comparison, as ``with_tensors`` takes them."""
        return self.fixed, self.fixed_mask, self.moving, self.moving_mask, self.moving_from_fixed

    def with_tensors(self, *tensors: Tensor) -> "Comparison":
        """The comparison of other ``tensors``, by the same similarity and window."""
        fixed, fixed_mask, moving, moving_mask, moving_from_fixed = tensors
        return Comparison(
            fixed,
            fixed_mask,
            moving,
            moving_mask,
            moving_from_fixed,
            self.similarity,
            self.window,
            self.tensors_only,
        )

    @cached_property
    def has_weight(self) -> bool:
        """Whether any pixel has weight; always true on a GPU, whose values the host does not read here."""
        return not tensors.is_on_cpu(self.fixed_mask) or bool((self.fixed_mask > 0).any())

    def half(self, parity: int) -> "Comparison":
        """The comparison of every second window, as the black (0) or white (1) squares of a chessboard.

        In a level of several strips, every second strip has no weight.
        """
        y, x = (torch.arange(n, device=self.fixed.device) // self.window % 2 == 0 for n in self.size)
        chosen = torch.zeros_like(self.fixed_mask)
        for rows in self.strips(1)[::2]:
            squares = y[rows, None] ^ x if parity else y[rows, None] == x
            torch.mul(self.fixed_mask[:, :, rows], squares, out=chosen[:, :, rows])
        return replace(self, fixed_mask=chosen)

    def zero_expansion(self, block: int) -> "LossExpansion":
        """The result of ``expand`` where no pixel has weight."""
        sizes = [[-(-n // side) for n in self.size] for side in (self.window, block)]
        zero, count = self.fixed_mask.new_zeros, len(self.moving)
        zeros = zero(count, sizes[0][0] * sizes[0][1])
        return LossExpansion(zeros, zeros, zero(count, 1, 1, 2), zero(count, 3, *sizes[1]))

    def rows(self, rows: slice) -> "Comparison":
        """The comparison of some rows of the fixed level only."""
        return replace(self, fixed=self.fixed[:, :, rows], fixed_mask=self.fixed_mask[:, :, rows])

    def strips(self, parts: int) -> list[slice]:
        """About ``parts`` ranges of rows that consist of complete windows.

        On a CPU there are as many as make strips of ``STRIP`` pixels, and a single one for a similarity of
        the entire image.
        """
        height, width = self.size
        if tensors.is_on_cpu(self.fixed):
            parts = max(parts, round(height * width / STRIP))
        lines = -(-height // self.window)
        step = -(-lines // (parts if self.similarity.windowed else 1)) * self.window
        return [slice(start, min(start + step, height)) for start in range(0, height, step)]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the fixed level, in pixels."""
        return self.fixed.shape[-2], self.fixed.shape[-1]

    @cached_property
    def _entire(self) -> FixedImage:
        """The fixed image where the moving image is valid everywhere."""
        return FixedImage(self.fixed, self.fixed_mask, self.window)

    def _fixed_image(self, points: Tensor) -> FixedImage:
        """The fixed image, weighted by the validity of the moving image at points (b, h, w, 2)."""
        if interpolation.all_valid(self.moving_mask, points):
            return self._entire
        valid = filters.shares(interpolation.sample(self.moving_mask, points, padding="zeros"))
        return FixedImage(self.fixed, self.fixed_mask * valid, self.window)


def prepare(
    fixed: Level,
    moving: Level,
    moving_from_fixed: Tensor,
    metric: str,
    *,
    window: int,
    margin: int,
    smoothing: float = SMOOTHING,
) -> Comparison:
    """The comparison of two grey levels under the global maps ``moving_from_fixed`` (b, 2, 3), in original
    pixels.

    Intensities are smoothed by ``smoothing`` pixels and sampled from the moving level. Descriptors rotate
    with the image: for a similarity with a descriptor, the moving image is resampled on the fixed grid
    first, ``margin`` pixels wider on every side, and the descriptors are computed there.
    """
    similarity = registry.get(metric)
    step = affine.compose(
        affine.compose(affine.invert(moving.original_from_level), moving_from_fixed),
        fixed.original_from_level,
    )
    step = step.to(fixed.image)
    b, (height, width) = len(step), fixed.size
    moving_image, moving_mask = (x[None].expand(b, -1, -1, -1) for x in (moving.image, moving.mask))
    fixed_image, fixed_mask = fixed.image[None], fixed.mask[None]
    weight = preprocess.texture_of(fixed)[None]
    descriptor = similarity.descriptor
    if descriptor is None:
        fixed_image, moving_image = (_smoothed(x, smoothing) for x in (fixed, moving))
        moving_image = moving_image.expand(b, -1, -1, -1)
        return Comparison(fixed_image, weight, moving_image, moving_mask, step, similarity, window)
    points = affine.apply_to_grid(step, *interpolation.axes(height, width, margin=margin, device=step.device))
    valid = filters.shares(
        interpolation.sample(moving_mask, points) * interpolation.inside(points, *moving.size)[:, None]
    )
    resampled = interpolation.sample(moving_image, points, interpolation="bicubic")
    back = affine_tensors.translation(margin, margin).to(step).expand(b, -1, -1)
    described = pyramid.cached(fixed, metric, lambda: descriptor(fixed_image, fixed_mask))
    return Comparison(described, weight, descriptor(resampled, valid), valid, back, similarity, window)


def ready(levels: list[Level]) -> None:
    """Compute and cache the weights and smoothed images of fixed levels, which every comparison needs."""
    for level in levels:
        preprocess.texture_of(level)
        _smoothed(level, SMOOTHING)


def _smoothed(level: Level, sigma: float) -> Tensor:
    """The image (1, 1, h, w) of a level smoothed by a Gaussian, computed once per level."""
    return pyramid.cached(level, ("smooth", sigma), lambda: filters.smooth(level.image[None], sigma))


def batch(comparisons: list[Comparison]) -> Comparison:
    """Combine comparisons of one fixed level with moving images of equal size into a batch."""
    moving, mask, maps = (
        torch.cat([getattr(x, name) for x in comparisons])
        for name in ("moving", "moving_mask", "moving_from_fixed")
    )
    return replace(comparisons[0], moving=moving, moving_mask=mask, moving_from_fixed=maps)


def match_pixel_size(moving: Level, fixed: Level, moving_from_fixed: Tensor) -> Level:
    """The moving image shrunk to the pixel size of the ``fixed`` level under one global map (2, 3).

    It is returned unchanged if its pixels are nearly as large, because resampling would only blur it.
    """
    factor = affine.scale(moving_from_fixed) * pyramid.pixel(fixed) / pyramid.pixel(moving)
    return pyramid.shrink(moving, factor if factor > SAME_SIZE else 1.0)


def residual_in_original_pixels(residual: Tensor, fixed: Level) -> Tensor:
    """Residual matrices (..., 2, 3) given in pixels of a fixed level, in original pixels (float64)."""
    up, residual = fixed.original_from_level, residual.detach().cpu().double()
    in_originals = affine.compose(affine.compose(up, residual), affine.invert(up))
    identity = (residual == affine_tensors.identity()).all((-2, -1), keepdim=True)
    return torch.where(identity, residual, in_originals)  # the identity is exact, without rounding


def windows(compare: Comparison, moved: Patches | None = None) -> Windows:
    """The similarity of every window, without gradients, after the fixed pixels are moved by patches, if
    any."""
    if compare.compiled:
        grid, parameters = moved or Patches.identity(
            PatchGrid.cover(*compare.size, max(compare.size)), device=compare.fixed.device
        )
        in_moving = compare.in_moving_frame(parameters.expand(len(compare.moving), -1, -1, -1, -1))
        values, weights = zip(
            *(dispatch.similarities(*item) for item in zip(compare.compiled, repeat(grid), in_moving)),
            strict=True,
        )
        return Windows(torch.stack(values), torch.stack(weights))
    found = []
    with torch.no_grad():
        displacement = None if moved is None else moved.displacement(*compare.axes())
        anchor = compare.points_under()
        for rows in compare.strips(1):
            strip, points = compare.rows(rows), anchor[:, rows]
            if not strip.has_weight:
                zero = strip.zero_expansion(strip.window).losses
                found.append(Windows(zero, zero))
                continue
            if displacement is not None:
                points = points[:1] + compare.in_moving(displacement[rows])
            found.append(strip(points))
    return Windows(torch.cat([x.value for x in found], 1), torch.cat([x.weight for x in found], 1))


def per_patch(compare: Comparison, grid: PatchGrid, found: Windows) -> tuple[Tensor, Tensor]:
    """The similarity around every patch (rows, columns), and its texture, the mean weight of its windows.

    Both are means over the windows ``found`` of the first batch item, weighted by the weight of the patch
    at the centre of each window.
    """
    rows, columns = (-(-n // compare.window) for n in compare.size)
    value, share = found.value[0], found.weight[0]
    x, y = ((torch.arange(n, device=value.device) + 0.5) * compare.window - 0.5 for n in (columns, rows))
    along_x, along_y = grid.axis_basis(x, 0)[:, : grid.columns], grid.axis_basis(y, 1)[:, : grid.rows]
    sums = (
        along_y.T
        @ torch.stack([share * value, share, torch.ones_like(share)]).reshape(3, rows, columns)
        @ along_x
    )
    total, weight, covered = sums.unbind()
    return total / weight.clamp(min=1e-6), weight / covered.clamp(min=1e-6)
