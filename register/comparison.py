"""What one level compares: features of the fixed image, features of the moving one, and the map between their pixels."""

import torch
from torch import Tensor

from register import affine, pyramid, sampling, structure
from register.descent import Comparison
from register.pyramid import Level


def prepare(fixed: Level, moving: Level, moving_from_fixed: Tensor, metric: str, *, window: int, margin: int, smoothing: float = 0.7) -> Comparison:
    """A comparison of two grey levels around the global fits ``moving_from_fixed`` (b, 2, 3), in original pixels.

    Intensities are smoothed by ``smoothing`` pixels (interpolation error would make half-pixel shifts attractive) and read in
    the moving image's own pixels. Orientation turns with the image: for ``structure`` the moving image is brought into the
    fixed frame first, ``margin`` pixels wider on every side, and its structure is taken there.
    """
    step = affine.compose(affine.compose(affine.invert(moving.original_from_level), moving_from_fixed), fixed.original_from_level)
    step = step.to(fixed.image)
    b, (height, width) = len(step), fixed.size
    moving_image, moving_mask = (x[None].expand(b, -1, -1, -1) for x in (moving.image, moving.mask))
    fixed_image, fixed_mask = fixed.image[None], fixed.mask[None]
    weight = structure.texture_weight(fixed.image, fixed.mask)[None]
    if metric != "structure":
        fixed_image, moving_image = (pyramid.smooth(x, smoothing) for x in (fixed_image, moving_image))
        return Comparison(fixed_image, weight, moving_image, moving_mask, step, metric, window)
    points = affine.apply_to_grid(step, *sampling.axes(height, width, margin=margin, device=step.device))
    seen = sampling.sample(moving_mask, points) * sampling.inside(points, *moving.size)[:, None]
    brought = sampling.sample(moving_image, points, interpolation="bicubic")
    back = affine.translation(margin, margin).to(step).expand(b, -1, -1)
    return Comparison(structure.orientation(fixed_image, fixed_mask), weight, structure.orientation(brought, seen), seen, back, metric, window)


def matching_level(moving: Level, fixed: Level, moving_from_fixed: Tensor) -> Level:
    """The moving image shrunk until its pixels are as large as those of the ``fixed`` level under one global fit (2, 3)."""
    step = affine.compose(moving_from_fixed, fixed.original_from_level)
    factor = float(affine.determinant(step).abs().sqrt() / affine.determinant(moving.original_from_level).abs().sqrt())
    return pyramid.shrink(moving, factor)


def residual_in_original(residual: Tensor, fixed: Level) -> Tensor:
    """Residual matrices (..., 2, 3) given in pixels of a fixed level, in original pixels (float64)."""
    up, residual = fixed.original_from_level, residual.detach().cpu().double()
    carried = affine.compose(affine.compose(up, residual), affine.invert(up))
    still = (residual == affine.identity()).all((-2, -1), keepdim=True)
    return torch.where(still, residual, carried)  # the identity stays exact, without the rounding of the way up and down


def similarity_of(compare: Comparison, displacement: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean similarity (b,) and total weight (b,) of a comparison under an optional displacement (h, w, 2) of the fixed level."""
    with torch.no_grad():
        windows = compare(compare.under() if displacement is None else compare.shifted(displacement))
        return windows.mean(), windows.weight.sum(1)
