"""Find initial maps that only shift: every overlap, however small, at the resolution of the images.

The sweep over rotations and scales compares small copies and leaves small overlaps out. Where an image is a
small view of the other, or neighbours hardly overlap, what tells the shift is detail, and there are
millions of shifts to choose from. Both images are brought to one pixel size, and the normalised correlation
over the overlap is computed for all shifts at once (masked correlation), of two kinds of detail: the
orientation of edges, which other contrasts share, and the differences from the local mean.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from register.engine.initial.finder import Proposal, StartFinder
from register.engine.initial.search_range import SearchRange
from register.geometry import affine, affine_tensors
from register.images import descriptors, filters, preprocess, pyramid
from register.images.pyramid import Level

MOST_PIXELS = 2_600_000
"""Shifts that are compared, at most; larger images are shrunk."""
LEAST_OVERLAP, LEAST_PIXELS = 0.02, 120
"""Share of the smaller image, and pixels, that overlap at least."""
APART = 6
"""Pixels between two proposals, at least."""
SAME = 3
"""Pixels up to which peaks of both kinds of detail are at one shift."""
KEPT = 5
"""Proposals of each kind of detail."""
NEAR, AROUND = 0.7, 5.0
"""Standard deviations, in pixels, of the Gaussian of the detail and of the local mean it is measured from."""
LEAST_SIGMA = 5.0
"""Standard deviations above the mean of all shifts that a proposal has at least."""

Peak = tuple[float, int, int]
"""A standard score, and the shifts x and y of the fixed pixels."""


def rounds(fixed: Level, moving: Level, within: SearchRange) -> Iterator[list[Proposal]]:
    """The highest correlations of all shifts at the scale in the middle of the range, best first.

    Their score is in standard deviations above the mean of all shifts; where both kinds of detail have a high
    correlation at one shift, it is the root of the sum of the squares of both. None where images as they are
    lie outside the range.
    """
    found = list[Proposal]()
    for each in within.orientations(moving):
        found += proposals(fixed, each, within)
    yield sorted(found, key=lambda start: -start.score)


def proposals(fixed: Level, moving: Level, within: SearchRange) -> list[Proposal]:
    """The highest correlations of two levels."""
    fixed, moving, ratio = _alike(fixed, moving, within.middle)
    shape = [_fast(a + b - 1) for a, b in zip(fixed.size, moving.size, strict=True)]
    kinds = [
        _peaks(_scores(described(fixed), described(moving), shape), fixed.size)
        for described in (_edges, _detail)
    ]
    found = list[Proposal]()
    for value, x, y in _together(*kinds):
        step = affine.compose(affine_tensors.scaling(ratio, ratio), affine_tensors.translation(x, y))
        matrix = affine.compose(moving.original_from_level, step)
        matrix = affine.compose(matrix, affine.invert(fixed.original_from_level))
        if value >= LEAST_SIGMA and within.contains(matrix):
            found.append(Proposal(matrix, value))
    return found


def _together(edges: list[Peak], detail: list[Peak]) -> list[Peak]:
    """The peaks of both kinds of detail; those at one shift are one, at the place of the higher one."""
    found, alone = list[Peak](), list(detail)
    for one in edges:
        same = [other for other in alone if math.dist(one[1:], other[1:]) <= SAME]
        if same:
            alone.remove(same[0])
            score, (_, x, y) = math.hypot(one[0], same[0][0]), max(one, same[0])
            found.append((score, x, y))
        else:
            found.append(one)
    return found + alone


def _alike(fixed: Level, moving: Level, scale: float) -> tuple[Level, Level, float]:
    """Both levels at one pixel size, at most as large as can be compared, and the ratio that is left of
    their pixels."""
    pixels = pyramid.pixel(fixed), pyramid.pixel(moving) / scale
    size = max(pixels)

    def shifts(size: float) -> float:
        height, width = (a * pixels[0] + b * pixels[1] for a, b in zip(fixed.size, moving.size, strict=True))
        return height * width / size**2

    size *= max(math.sqrt(shifts(size) / MOST_PIXELS), 1.0)
    fixed, moving = pyramid.shrink(fixed, size / pixels[0]), pyramid.shrink(moving, size / pixels[1])
    return fixed, moving, pyramid.pixel(fixed) * scale / pyramid.pixel(moving)


def _edges(level: Level) -> tuple[Tensor, Tensor]:
    """Orientation structure (2, h, w) and the pixels (h, w) where it is known."""
    mask = preprocess.erode(level.mask[None], 3 if min(level.size) >= 32 else 1)
    return (descriptors.orientation(level.image[None], level.mask[None]) * mask)[0], mask[0, 0]


def _detail(level: Level) -> tuple[Tensor, Tensor]:
    """Differences from the local mean (1, h, w) in units of their local size, and the valid pixels (h, w)."""
    mask = (level.mask[None] > 0.99).to(level.image)
    near, far = (
        filters.smooth(level.image[None] * mask, NEAR),
        filters.smooth_widely(torch.cat([level.image[None] * mask, mask]), AROUND),
    )
    detail = (near / filters.smooth(mask, NEAR).clamp(min=0.1) - far[:1] / far[1:].clamp(min=0.1)) * mask
    energy = filters.smooth_widely(detail.square(), 2 * AROUND) / filters.smooth_widely(
        mask, 2 * AROUND
    ).clamp(min=0.05)
    floor = energy.mean() * 0.25 + 1e-9
    return (detail / (energy + floor).sqrt())[0], mask[0, 0]


def _scores(fixed: tuple[Tensor, Tensor], moving: tuple[Tensor, Tensor], shape: list[int]) -> Tensor:
    """The standard scores (H, W) of the correlation at all cyclic shifts of the fixed image.

    The correlation is the cosine over the overlap times the square root of the overlap, which by chance has
    the same spread for every overlap. Source: Padfield, "Masked object registration in the Fourier domain",
    IEEE TIP 21 (2012).
    """

    def spectra(vectors: Tensor, mask: Tensor) -> Tensor:
        planes = torch.cat([vectors, vectors.square().sum(0, True), mask[None]])
        return torch.fft.rfft2(planes, s=shape)

    def correlated(spectrum: Tensor) -> Tensor:
        return torch.fft.irfft2(spectrum, s=shape)

    least = max(LEAST_OVERLAP * min(float(fixed[1].sum()), float(moving[1].sum())), LEAST_PIXELS)
    f, m = spectra(*fixed).conj(), spectra(*moving)
    overlap = correlated(f[-1] * m[-1])
    energies = correlated(f[-2] * m[-1]).clamp(min=1e-3) * correlated(f[-1] * m[-2]).clamp(min=1e-3)
    score = correlated((f[:-2] * m[:-2]).sum(0)) * (overlap.clamp(min=0) / energies).sqrt()
    known = overlap >= least
    values = score[known]
    if len(values) < 2:
        return torch.zeros_like(score)
    mean, spread = values.mean(), values.std().clamp(min=1e-6)
    return torch.where(known, (score - mean) / spread, 0.0)


def _peaks(score: Tensor, size: tuple[int, int]) -> list[Peak]:
    """The highest scores that are apart from each other, with the shifts x and y of the fixed pixels."""
    rows, columns = score.shape
    highest = max_pool2d(score[None, None], 2 * APART + 1, 1, APART)[0, 0]
    values = torch.where(score == highest, score, 0.0).flatten()
    top, index = values.topk(min(KEPT, len(values)))
    found = []
    for value, place in zip(top.tolist(), index.tolist(), strict=True):
        y, x = divmod(place, columns)
        found.append(
            (value, x if x <= columns - size[1] else x - columns, y if y <= rows - size[0] else y - rows)
        )
    return found


def _fast(n: int) -> int:
    """The least even size of at least n that has only the prime factors 2, 3 and 5."""
    n += n % 2
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 2


FINDER = StartFinder("shifts", rounds)
