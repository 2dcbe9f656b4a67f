"""A candidate for a rival, and the correlation of structure whose maxima are candidates."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from register.engine.fit import comparison
from register.geometry import affine, affine_tensors
from register.images import descriptors, filters, interpolation, preprocess
from register.images.pyramid import Level

LEAST_SCORE, NEARLY = 0.3, 0.8
"""Correlation at the map itself below which nothing can be said, and the share of it from which on another
maximum is a candidate."""
LEAST_OVERLAP = 0.3
"""Share of the largest overlap below which a shift is not a candidate."""
UNDER_MAP = 0.9
"""Share of the overlap under the map itself from which a shift is a candidate in any case."""


@dataclass(frozen=True)
class Candidate:
    """A map (2, 3) of the originals, fixed to moving, and how high its correlation is.

    ``slides`` says that the correlation hardly falls from the map itself to this one: the images do not
    tell the shift in its direction.
    """

    matrix: Tensor
    score: float
    slides: bool = False


def about(matrix: Tensor, centre: Tensor, angle: float) -> Tensor:
    """A map (2, 3) after a rotation by ``angle`` degrees about a centre (2,) in original fixed pixels."""
    return affine.compose(matrix, affine_tensors.similarity(math.radians(angle), 1.0, centre, centre))


def between(level: Level, moving: Level, matrix: Tensor) -> Tensor:
    """A map (2, 3) of the originals as one from the pixels of a fixed level to those of a moving one."""
    return affine.compose(
        affine.compose(affine.invert(moving.original_from_level), matrix), level.original_from_level
    )


def correlation(level: Level, moving: Level, matrix: Tensor, pad: int) -> Tensor:
    """The normalised correlation of structure (2 p + 1, 2 p + 1) at shifts of up to p = ``pad`` pixels; 0
    at little overlap, and less than under the map itself.

    Source: Padfield, "Masked object registration in the Fourier domain", IEEE TIP 21 (2012).
    """
    height, width = level.size
    matched = comparison.match_pixel_size(moving, level, matrix)
    to_moving = between(level, matched, matrix)
    down, across = _reach(level.size, matched.size, to_moving, pad)
    x, y = (
        torch.arange(-margin, side + margin, dtype=torch.float32, device=level.image.device)
        for margin, side in ((across, width), (down, height))
    )
    points = affine.apply_to_grid(to_moving[None].to(level.image), x, y)
    inside = interpolation.inside(points, *matched.size)[:, None]
    valid = (interpolation.sample(matched.mask[None], points) * inside > 0.99).to(level.image)
    warped = descriptors.orientation(interpolation.sample(matched.image[None], points), valid)
    solid, solid_warped = preprocess.erode(level.mask[None], 3), preprocess.erode(valid, 3)
    ours = descriptors.orientation(level.image[None], level.mask[None]) * solid
    theirs = warped * solid_warped
    shape = (height + 2 * down, width + 2 * across)

    def spectrum(planes: Tensor) -> Tensor:
        return torch.fft.rfft2(planes[0], s=shape)

    f, g = spectrum(ours), spectrum(theirs)
    f_energy, g_energy = (spectrum(x.square().sum(1, True)) for x in (ours, theirs))
    f_mask, g_mask = spectrum(solid), spectrum(solid_warped)
    products = torch.cat(
        [
            (f.conj() * g).sum(0, True),
            f_energy.conj() * g_mask,
            f_mask.conj() * g_energy,
            f_mask.conj() * g_mask,
        ]
    )
    numerator, one, other, count = torch.fft.irfft2(products, s=shape)[:, : 2 * down + 1, : 2 * across + 1]
    score = numerator / (one.clamp(min=1) * other.clamp(min=1)).sqrt()
    least = min(LEAST_OVERLAP * float(count.max()), UNDER_MAP * float(count[down, across]))
    beyond = (pad - across, pad - across, pad - down, pad - down)
    return torch.nn.functional.pad(torch.where(count > least, score, 0.0), beyond)


def _reach(size: tuple[int, int], moving: tuple[int, int], to_moving: Tensor, pad: int) -> tuple[int, int]:
    """The pixels down and across, ``pad`` at most, beyond which no shift leaves an overlap.

    ``size`` is that of the fixed level, ``moving`` that of the moving one, and ``to_moving`` the map (2, 3).
    """
    height, width = moving
    corners = torch.tensor([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]]).double()
    shown = affine.apply(affine.invert(to_moving.double()), corners)
    (left, top), (right, bottom) = shown.amin(0).tolist(), shown.amax(0).tolist()
    down, across = max(abs(top - size[0]), abs(bottom)), max(abs(left - size[1]), abs(right))
    return min(pad, math.ceil(down) + 1), min(pad, math.ceil(across) + 1)


def peaks(score: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Rows (n,) and columns (n,) of the positive local maxima of (h, w) within a square of some radius."""
    highest = filters.widened(score, radius)
    rows, columns = torch.nonzero((score == highest) & (score > 0), as_tuple=True)
    return rows, columns
