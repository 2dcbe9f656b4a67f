"""Candidates for rivals: other maps under which two images may be as similar.

Where content repeats (dies on a wafer, a lattice, wells of a plate, lines of text, copies of one
section), the correlation of the images has several maxima of nearly equal height, at further shifts and
after rotations by 90, 180 and 270 degrees. They are looked for around a map that was found, in three
ways: maxima of the correlation of orientation structure that are nearly as high as the one at the map
itself, those of them that are nearest to no displacement, and maxima of the whitened correlation of
intensities, which suppresses what is periodic and so keeps what differs from the period.
"""

import math

import torch
from torch import Tensor

from register.compute import sums
from register.engine.ambiguity.candidate import (
    LEAST_OVERLAP,
    LEAST_SCORE,
    NEARLY,
    Candidate,
    about,
    correlation,
    peaks,
)
from register.engine.fit import global_fit
from register.geometry import affine, affine_tensors
from register.images import filters, interpolation, preprocess, pyramid
from register.images.pyramid import Level

COARSE, FINE = 128, 384
"""Longest side, in pixels, of the levels on which copies of large objects, and small repeats, are looked
for."""
REPEATED = 0.6
"""Autocorrelation at some shift from which on an image is taken to repeat itself."""
SLIDES, LEFT = (2.5, 4.0, 6.0, 8.0), 0.9
"""Pixels of a level by which slides are tried, and the share of the correlation that must be left at all."""
LARGER, FARTHEST = 1.25, 500
"""Ratio of the longer sides of both images from which the fixed one is shifted through all of the other one,
and the most pixels by which it is."""
KEPT = 6
"""Candidates kept of those nearest to no displacement, and of the highest."""
WHITENED = 2
"""Maxima of the whitened correlation kept at every rotation."""


def around(fixed: Level, moving: Level, matrix: Tensor, rotations: list[float]) -> list[Candidate]:
    """Candidates around a map (2, 3), at further ``rotations`` in degrees about the fixed image's centre.

    An empty list where no other shift or rotation comes near to the correlation at the map itself. Where the
    fixed image is a small view, all shifts within the moving image are looked at.
    """
    levels, fine = [global_fit.at_side(fixed, COARSE)], global_fit.at_side(fixed, FINE)
    if is_repetitive(fixed, moving):
        levels.append(fine)
    found = [each for level in levels for each in _maxima(level, moving, matrix, rotations)]
    found += _elsewhere(fixed, moving, matrix)
    if not found:
        return []
    centre = centre_of(fixed)
    slides = [each for each in found if each.slides]
    nearest = sorted(found, key=lambda each: displacement(each.matrix, centre))
    highest = sorted(found, key=lambda each: -each.score)
    whitened = [
        each for angle in rotations for each in _whitened(fine, moving, rotated(matrix, fixed, angle))
    ]
    return [*slides, *nearest[:KEPT], *highest[:KEPT], *whitened]


def centre_of(level: Level) -> Tensor:
    """The centre (1, 2) of a level, in original pixels."""
    height, width = level.size
    middle = torch.tensor([[(width - 1) / 2, (height - 1) / 2]], dtype=torch.float64)
    return affine.apply(level.original_from_level, middle)


def corners_of(level: Level) -> Tensor:
    """The centre and the corners (5, 2) of a level, in original pixels."""
    height, width = level.size
    corners = torch.tensor([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]]).double()
    return torch.cat([centre_of(level), affine.apply(level.original_from_level, corners)])


def displacement(matrix: Tensor, centre: Tensor) -> tuple[int, float]:
    """The rotation of a map (2, 3) in eighths of a turn, and the shift of a centre (1, 2) in pixels."""
    turns = round(abs(affine.decompose(matrix).rotation) / 45)
    return turns, float((affine.apply(matrix, centre) - centre).norm())


def rotated(matrix: Tensor, fixed: Level, angle: float) -> Tensor:
    """A map (2, 3) after a rotation by ``angle`` degrees about the fixed image's centre."""
    return about(matrix, centre_of(fixed)[0], angle)


def is_repetitive(fixed: Level, moving: Level) -> bool:
    """Whether one of the images repeats itself at some shift."""
    return any(_repetition_of(each) > REPEATED for each in (fixed, moving))


def _repetition_of(level: Level) -> float:
    """The repetition of a level at the size at which small repeats are looked for, computed once."""
    return pyramid.cached(level, "repetition", lambda: repetition(global_fit.at_side(level, FINE)))


def repetition(level: Level) -> float:
    """The highest normalised autocorrelation of a level's detail at any shift beyond its own maximum at
    none."""
    solid = preprocess.erode(level.mask[None], 8)
    image = level.image[None]
    detail = (filters.smooth(image, 1.0) - filters.smooth_widely(image, 8.0)) * solid
    height, width = level.size
    shape = (2 * height, 2 * width)
    f, m, e = (torch.fft.rfft2(x[0, 0], s=shape) for x in (detail, solid, detail.square()))
    product, count = (torch.fft.irfft2(x.abs().square(), s=shape) for x in (f, m))
    one, other = (torch.fft.irfft2(x, s=shape).clamp(min=1e-9) for x in (e.conj() * m, m.conj() * e))
    score = torch.where(count > LEAST_OVERLAP * count.max(), product / (one * other).sqrt(), 0.0)
    rows, columns = peaks(torch.roll(score, (height, width), (0, 1)), 2)
    values = torch.roll(score, (height, width), (0, 1))[rows, columns]
    beyond = torch.hypot((rows - height).float(), (columns - width).float()) > 4
    return float(values[beyond].max()) if bool(beyond.any()) else 0.0


def _elsewhere(fixed: Level, moving: Level, matrix: Tensor) -> list[Candidate]:
    """Maxima at all shifts within a moving image that is larger than the fixed one."""
    pixel = pyramid.pixel(moving) / affine.scale(matrix)
    far = max(moving.size) * pixel
    if far < LARGER * max(fixed.size) * pyramid.pixel(fixed):
        return []
    coarse = global_fit.at_side(fixed, COARSE)
    level = pyramid.shrink(coarse, far / pyramid.pixel(coarse) / FARTHEST)
    return _maxima(level, moving, matrix, [0.0], math.ceil(far / pyramid.pixel(level)))


def _maxima(
    level: Level, moving: Level, matrix: Tensor, rotations: list[float], pad: int | None = None
) -> list[Candidate]:
    """Maxima of the correlation of structure on one level that are nearly as high as the one at the map, at
    shifts of up to ``pad`` pixels, by default half of the longer side."""
    found, own = [], 0.0
    pad = max(level.size) // 2 if pad is None else pad
    for angle in rotations:
        start = rotated(matrix, level, angle)
        score = correlation(level, moving, start, pad)
        if angle == 0:
            own = float(score[pad - 1 : pad + 2, pad - 1 : pad + 2].max())
            found += _slides(score, pad, own, start, level)
        rows, columns = peaks(score, 2)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            x, y, value = column - pad, row - pad, float(score[row, column])
            if value > NEARLY * own and (angle != 0 or math.hypot(x, y) > 3):
                found.append(Candidate(_shifted(start, level, x, y), value))
    return found if own > LEAST_SCORE else []


def _slides(score: Tensor, pad: int, own: float, matrix: Tensor, level: Level) -> list[Candidate]:
    """Shifts by a few pixels in the directions in which the correlation hardly falls on the way there."""
    found = []
    for number in range(8):
        angle = math.pi * number / 8
        steps = [(d * math.cos(angle), d * math.sin(angle)) for d in SLIDES]
        way = [float(score[pad + round(k * y), pad + round(k * x)]) for x, y in steps for k in (1, -1)]
        if min(way) > LEFT * own:
            found.append(Candidate(_shifted(matrix, level, *steps[-1]), min(way), slides=True))
    return found


def _whitened(level: Level, moving: Level, matrix: Tensor) -> list[Candidate]:
    """The highest maxima of the whitened correlation of intensities under a map.

    Source: Kuglin & Hines, "The phase correlation image alignment method", IEEE Cybernetics and Society
    (1975).
    """
    height, width = level.size
    compare = global_fit.compare_at(level, moving, matrix[None], "ncc")
    points = compare.points_under()
    inside = interpolation.inside(points, *compare.moving.shape[-2:])[:, None]
    valid = interpolation.sample(compare.moving_mask, points) * inside > 0.99
    warped = interpolation.sample(compare.moving, points)
    taper = torch.hann_window(height, periodic=False)[:, None] * torch.hann_window(width, periodic=False)
    shape = (2 * height, 2 * width)

    def spectrum(image: Tensor, mask: Tensor) -> Tensor:
        weight = mask.to(image) * taper.sqrt().to(image)
        mean = sums.total(image * weight) / sums.total(weight).clamp(min=1)
        return torch.fft.rfft2(((image - mean) * weight)[0, 0], s=shape)

    cross = spectrum(compare.fixed, level.mask[None] > 0.99).conj() * spectrum(warped, valid)
    size = cross.abs()
    y, x = torch.fft.fftfreq(shape[0])[:, None], torch.fft.rfftfreq(shape[1])
    smooth = torch.exp(-2 * (math.pi * 1.0) ** 2 * (x.square() + y.square())).to(size)
    score = torch.fft.irfft2(cross / (size + 3 * size.median()) * smooth, s=shape)
    score = torch.roll(score, (height, width), (0, 1))
    rows, columns = (torch.arange(-n, n, device=score.device).abs() / n for n in (height, width))
    score = torch.where((1 - rows)[:, None] * (1 - columns) > 0.25, score, 0.0)
    rows, columns = peaks(score, 4)
    best = score[rows, columns].argsort(descending=True)[:WHITENED]
    shifts = torch.stack([columns[best] - width, rows[best] - height], 1).tolist()
    return [Candidate(_shifted(matrix, level, x, y), 0.0) for x, y in shifts]


def _shifted(matrix: Tensor, level: Level, x: float, y: float) -> Tensor:
    """A map (2, 3) of the originals after a shift in pixels of a level of the fixed image."""
    size = pyramid.pixel(level)
    return affine.compose(matrix, affine_tensors.translation(x * size, y * size))
