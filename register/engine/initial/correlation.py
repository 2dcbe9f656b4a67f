"""Find initial maps by correlating orientation structure over translations, rotations and scales, by FFT."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, pad

from register.compute import device, sums
from register.compute.budget import FOREVER, Budget
from register.engine.initial.finder import Proposal, StartFinder
from register.engine.initial.search_range import SearchRange, ShiftRange
from register.geometry import affine, affine_tensors
from register.images import descriptors, interpolation, preprocess, pyramid
from register.images.pyramid import Level

SIDE = 112
"""Geometric mean, in pixels, of the longer sides of both images while they are compared, at any scale
between them."""
LEAST_OVERLAP = 0.12
"""Share of the smaller image's textured area that must overlap. With less, small overlaps at the corners have
the best scores."""
LEAST_LENGTH = 0.25
"""Smallest overlap along an axis, as a share of the shorter side; fewer translations make the Fourier
transforms smaller."""
BLOCK = 4
"""Side, in pixels, of the blocks in which energies and overlap are correlated, because they vary slowly."""
DISTINCT = 0.04
"""Mean distance of the corners of two distinct starts, as a share of the moving image's longer side."""
LEAST_SCORE = 3.0
"""Standard score that every rotation reaches at some translation by chance."""
LEAST_RADIUS = 0.75
"""Pixels within which there is a shift of the correlation, however small the range of shifts."""
ROTATIONS = 12
"""Rotated images that are correlated at once."""
LEAST_PIXELS = 64.0
"""Pixels that must overlap."""
MOST_PIXELS, NARROWEST = 2**19, 1
"""Pixels of the plane of all shifts, at most; they are made larger where a long image needs more, until the
shorter side of an image has so many of them."""
MANY = 150
"""Number of starts of the second round: between images of different sensors, a hundred wrong starts can have
better scores than the correct one."""


def rounds(fixed: Level, moving: Level, within: SearchRange) -> Iterator[list[Proposal]]:
    """The best starts of a sweep over the full range and of a finer one over the ordinary range, then many
    of both."""
    full, ordinary = (_sweep(fixed, moving, within, *sweep) for sweep in within.sweeps())
    best = [distinct(found, within.count, fixed, moving) for found in (full, ordinary)]
    yield distinct(best[0] + best[1], 2 * within.count, fixed, moving)
    yield distinct(sorted(full + ordinary, key=lambda start: -start.score), MANY, fixed, moving)


def _sweep(
    fixed: Level, moving: Level, within: SearchRange, angles: Tensor, scales: Tensor
) -> list[Proposal]:
    """The starts of one sweep in all orientations of the moving image, best first.

    The image that is rotated is the fixed one where it is a small view: all rotations of a large image take
    many times as long.
    """
    found = list[Proposal]()
    for each in within.orientations(moving):
        if within.shift is None and within.is_view(fixed, each):
            inverse = candidates(each, fixed, angles=-angles, scales=1 / scales, budget=within.budget)
            found += [Proposal(affine.invert(one.matrix), one.score) for one in inverse]
        else:
            found += candidates(
                fixed, each, angles=angles, scales=scales, shift=within.shift, budget=within.budget
            )
    return sorted(found, key=lambda start: -start.score)


class Planes(NamedTuple):
    """Spectra of masked structure (b, 2, H, W'), and of its energy and mask in blocks (b, 2, H / BLOCK,
    W'')."""

    structure: Tensor
    energy: Tensor

    def reversed(self, canvas: tuple[int, int]) -> "Planes":
        """The spectra of the images rotated by 180° on a ``canvas`` (height, width), which does not change
        structure."""
        height, width = canvas
        return Planes(
            _reverse(self.structure, canvas), _reverse(self.energy, (height // BLOCK, width // BLOCK))
        )


def candidates(
    fixed: Level,
    moving: Level,
    *,
    angles: Tensor,
    scales: Tensor,
    shift: ShiftRange | None = None,
    budget: Budget = FOREVER,
) -> list[Proposal]:
    """Starts among all translations, or those in the range of ``shift``, ``angles`` (degrees, fixed to
    moving) and ``scales`` (moving pixels per fixed pixel), best first. Their score is in standard deviations
    above the mean. Those near the middle of the scales are compared first, and no more when the ``budget`` is
    spent.

    At every scale both images are shrunk to one pixel size and their orientation structure is computed
    once; that of the moving image is rotated with its vectors, and the normalised correlation over the
    overlap is computed for all translations at once. Correlations (cosine times the square root of the
    overlap) are ranked by their standard score over all translations of their rotation, because a dominant
    direction in both images increases all of these. Source: Padfield, "Masked object registration in
    the Fourier domain", IEEE TIP 21 (2012).
    """

    def at(scale: float) -> list[tuple[Tensor, Tensor]]:
        return list(_at_scale(fixed, moving, angles, scale, shift, budget))

    every = scales.tolist()
    middle = math.sqrt(every[0] * every[-1])
    likely_first = sorted(every, key=lambda scale: abs(math.log(scale / middle)))
    with device.worker_threads() as pool:
        groups = dict(zip(likely_first, pool.map(at, likely_first), strict=True))
    found = [each for scale in every for each in groups[scale]]
    if not found:
        return []
    scores, matrices = (torch.cat(x) for x in zip(*found, strict=True))
    order = scores.argsort(descending=True)
    kept = order[: int((scores > LEAST_SCORE).sum())]
    return [Proposal(matrices[i], float(scores[i])) for i in kept.tolist()]


def distinct(found: list[Proposal], count: int, fixed: Level, moving: Level) -> list[Proposal]:
    """The first ``count`` starts that map the corners of the fixed image to different places."""
    if not found:
        return []
    height, width = fixed.size
    corners = affine.apply(
        fixed.original_from_level,
        torch.tensor([[0, 0], [width, 0], [0, height], [width, height]], dtype=torch.float64),
    )
    least = DISTINCT * max(moving.size) * pyramid.pixel(moving)
    places = affine.apply(torch.stack([start.matrix for start in found]), corners)
    free, kept = torch.ones(len(found), dtype=torch.bool), list[int]()
    while len(kept) < count and bool(free.any()):
        kept.append(first := int(free.int().argmax()))
        free &= (places - places[first]).norm(dim=-1).mean(-1) > least
    return [found[i] for i in kept]


def _at_scale(
    fixed: Level, moving: Level, angles: Tensor, scale: float, shift: ShiftRange | None, budget: Budget
) -> Iterator[tuple[Tensor, Tensor]]:
    """Scores (n,) and maps (n, 2, 3), in original pixels, of the best translations of all rotations at one
    scale."""
    fixed, moving, ratio = _alike(fixed, moving, scale)
    f, f_mask = _structure(fixed)
    image = torch.cat(_structure(moving), dim=1)
    smaller = min(float(sums.total(f_mask)), float(sums.total(image[:, 2])) / ratio**2)
    if smaller <= LEAST_PIXELS:
        return
    least = LEAST_OVERLAP * smaller
    least_length = LEAST_LENGTH * min(*fixed.size, *(n / ratio for n in moving.size))
    to_level, from_level = moving.original_from_level, affine.invert(fixed.original_from_level)
    height, width = (n / ratio for n in moving.size)
    angles = angles[_largest_overlap(fixed.size, (height, width), angles) > max(least, LEAST_PIXELS)]
    for chunk, both in _half_turns(angles):
        if not budget.left:
            return
        canvas = _canvas((height, width), chunk)
        shape = _shape(fixed.size, canvas, least_length)
        spectra = _spectra(f, f_mask, shape)
        for rotations, planes in _rotated(image, chunk, both, ratio, canvas, moving.size, shape):
            correlation, mean, spread = _correlation(spectra, planes, shape, least)
            if shift:
                discs = [
                    shift.shifts(affine.compose(to_level, one.double()), from_level) for one in rotations
                ]
                correlation = _near(correlation, discs, fixed.size)
            scores, shifts = _peaks(correlation, mean, spread, fixed.size)
            steps = affine.compose(torch.stack(rotations)[:, None], affine_tensors.translations(shifts))
            yield scores.flatten(), affine.compose(to_level, affine.compose(steps, from_level)).flatten(0, 1)


def _alike(fixed: Level, moving: Level, scale: float) -> tuple[Level, Level, float]:
    """Both images at one pixel size, and the pixels of the moving one per pixel of the fixed one.

    The pixels are larger where the plane of all shifts would otherwise have more than ``MOST_PIXELS``: that
    of a long image and a wide one.
    """
    pixels = pyramid.pixel(fixed), pyramid.pixel(moving) / scale
    extents = max(fixed.size) * pixels[0], max(moving.size) * pixels[1]
    size, narrowest = math.sqrt(extents[0] * extents[1]) / SIDE, pyramid.LEAST
    while True:
        one, other = (
            pyramid.shrink(level, size / pixel, least=narrowest)
            for level, pixel in zip((fixed, moving), pixels, strict=True)
        )
        ratio = scale * pyramid.pixel(one) / pyramid.pixel(other)
        moved = other.size[0] / ratio, other.size[1] / ratio
        least = LEAST_OVERLAP * min(math.prod(one.size), math.prod(moved))
        every = torch.arange(0.0, 180.0)
        overlapping = every[_largest_overlap(one.size, moved, every) > least]
        plane = math.prod(_shape(one.size, _canvas(moved, overlapping), 0.0))
        if plane <= MOST_PIXELS or min(one.size) <= NARROWEST:
            return one, other, ratio
        size, narrowest = max(size, pyramid.pixel(one)) * math.sqrt(plane / MOST_PIXELS), NARROWEST


def _largest_overlap(one: Sequence[float], other: Sequence[float], angles: Tensor) -> Tensor:
    """The largest area (n,) that two rectangles of sizes (height, width) can share at ``angles`` (degrees)
    between them: no more than two endless strips of their heights or widths share."""
    (h, w), (height, width) = ([n + 1 for n in size] for size in (one, other))
    sine, cosine = (
        x.abs().clamp(min=1e-6) for x in (torch.deg2rad(angles).sin(), torch.deg2rad(angles).cos())
    )
    crossed = torch.minimum(min(h * height, w * width) / sine, min(h * width, w * height) / cosine)
    return crossed.clamp(max=min(h * w, height * width))


def _canvas(size: Sequence[float], angles: Tensor) -> tuple[int, int]:
    """The size (height, width) in entire blocks that holds an image of a ``size`` at all ``angles``."""
    sine, cosine = torch.deg2rad(angles).sin().abs(), torch.deg2rad(angles).cos().abs()
    height, width = size
    return (
        _blocks(float((height * cosine + width * sine).max()) + 2),
        _blocks(float((width * cosine + height * sine).max()) + 2),
    )


def _shape(size: tuple[int, int], canvas: tuple[int, int], least_length: float) -> tuple[int, int]:
    """The size of the plane of all shifts of a fixed image that overlaps a canvas by some length."""
    rows, columns = (_fast_size(math.ceil(n + m - least_length)) for n, m in zip(size, canvas, strict=True))
    return rows, columns


def _half_turns(angles: Tensor) -> Iterator[tuple[Tensor, bool]]:
    """Angles in chunks, and whether the angles 180° further are also searched."""
    wrapped = {round(a, 6) for a in (angles % 360).tolist()}
    pairs = sorted(a for a in wrapped if a < 180 and a + 180 in wrapped)
    single = sorted(wrapped - set(pairs) - {a + 180 for a in pairs})
    for group, both in ((pairs, True), (single, False)):
        for start in range(0, len(group), ROTATIONS):
            yield torch.tensor(group[start : start + ROTATIONS]), both


def _rotated(
    image: Tensor,
    angles: Tensor,
    both: bool,
    ratio: float,
    canvas: tuple[int, int],
    size: tuple[int, int],
    shape: tuple[int, ...],
) -> Iterator[tuple[list[Tensor], Planes]]:
    """Matrices and spectra of the moving structure and mask (1, 3, h, w) rotated by some angles.

    With ``both``, those of the angles 180° further are yielded too.
    """
    height, width = canvas
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2])
    centre_moving = torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2])

    def rotations(more: float) -> list[Tensor]:
        each = [math.radians(angle + more) for angle in angles.tolist()]
        return [affine_tensors.similarity(angle, ratio, centre, centre_moving) for angle in each]

    matrices = rotations(0.0)
    points = affine.apply_to_grid(
        torch.stack(matrices).to(image), *interpolation.axes(height, width, device=image.device)
    )
    rotated = interpolation.sample(image.expand(len(matrices), -1, -1, -1), points, padding="zeros")
    mask = (rotated[:, 2:] > 0.99).to(image.dtype)
    double = torch.deg2rad(2 * angles).to(image)[:, None, None]
    x, y = rotated[:, 0], rotated[:, 1]
    vectors = torch.stack([x * double.cos() + y * double.sin(), y * double.cos() - x * double.sin()], dim=1)
    planes = _spectra(vectors * mask, mask, shape)
    yield matrices, planes
    if both:
        yield rotations(180.0), planes.reversed(canvas)


def _structure(level: Level) -> tuple[Tensor, Tensor]:
    """Orientation structure (1, 2, h, w), zero where it is not valid, and the mask (1, 1, h, w) of valid
    pixels."""
    mask = preprocess.erode(level.mask[None], 3)
    return descriptors.orientation(level.image[None], level.mask[None]) * mask, mask


def _spectra(vectors: Tensor, mask: Tensor, shape: tuple[int, ...]) -> Planes:
    """Spectra of masked vectors (b, 2, h, w) where ``mask`` (b, 1, h, w) is 1."""
    blocks = avg_pool2d(
        torch.cat([vectors.square().sum(1, True), mask], dim=1), BLOCK, ceil_mode=True, divisor_override=1
    )
    return Planes(torch.fft.rfft2(vectors, s=shape), torch.fft.rfft2(blocks, s=[n // BLOCK for n in shape]))


def _reverse(spectrum: Tensor, canvas: tuple[int, int]) -> Tensor:
    """The spectrum (b, c, H, W') of real images (b, c, *canvas) rotated by 180°."""
    height, width = spectrum.shape[-2], 2 * (spectrum.shape[-1] - 1)
    y = torch.arange(height, device=spectrum.device) * (-2 * math.pi * (canvas[0] - 1) / height)
    x = torch.arange(spectrum.shape[-1], device=spectrum.device) * (-2 * math.pi * (canvas[1] - 1) / width)
    return spectrum.conj() * torch.polar(torch.ones_like(y), y)[:, None] * torch.polar(torch.ones_like(x), x)


def _correlation(
    fixed: Planes, moving: Planes, shape: tuple[int, ...], least: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The correlation (b, H, W) for every cyclic shift of the fixed image, its mean and its standard
    deviation (b,).

    It is 0 where too little overlaps; the mean and the standard deviation are of the other shifts.
    """
    f, w = fixed.energy.conj(), moving.energy
    coarse = torch.stack([f[:, 0] * w[:, 1], f[:, 1] * w[:, 0], f[:, 1] * w[:, 1]], dim=1)
    energy_f, energy_w, overlap = (
        torch.fft.irfft2(coarse, s=[n // BLOCK for n in shape]).clamp(min=0) / BLOCK**2
    ).unbind(1)
    norm = torch.where(
        overlap > max(least, LEAST_PIXELS),
        (overlap / (energy_f.clamp(min=1) * energy_w.clamp(min=1))).sqrt(),
        0.0,
    )
    wrapped = pad(norm[:, None], (0, 1, 0, 1), mode="circular")
    norm = interpolate(wrapped, size=[n + 1 for n in shape], mode="bilinear", align_corners=True)[
        :, 0, :-1, :-1
    ]
    score = torch.fft.irfft2((fixed.structure.conj() * moving.structure).sum(1), s=shape).mul_(norm)
    count = (max_pool2d(wrapped, 2, 1) > 0).sum((1, 2, 3)).clamp(
        min=1
    ) * BLOCK**2  # shifts in blocks with any overlap at a corner
    mean = sums.plane(score).flatten() / count
    return score, mean, (sums.plane(score.square()).flatten() / count - mean.square()).clamp(min=1e-6).sqrt()


def _near(score: Tensor, discs: list[tuple[Tensor, float]], size: tuple[int, int]) -> Tensor:
    """The correlation (b, H, W), 0 at the shifts that are outside of each one's disc (centre, radius)."""
    rows, columns = score.shape[1:]
    y, x = (torch.arange(n, device=score.device, dtype=torch.float64) for n in (rows, columns))
    y, x = torch.where(y > rows - size[0], y - rows, y), torch.where(x > columns - size[1], x - columns, x)
    kept = torch.zeros_like(score)
    for each, (centre, radius) in zip(range(len(score)), discs, strict=True):
        inside = torch.hypot(x - centre[0], (y - centre[1])[:, None]) <= max(radius, LEAST_RADIUS)
        kept[each] = score[each] * inside
    return kept


def _peaks(
    score: Tensor, mean: Tensor, spread: Tensor, size: tuple[int, int], count: int = 3
) -> tuple[Tensor, Tensor]:
    """The best standard scores (b, count) of (b, H, W) in different blocks of eight pixels, and their shifts.

    A standard score is in standard deviations above the mean of the rotation. A shift (x, y) takes fixed
    pixels to those of the canvas.
    """
    rows, columns = score.shape[1:]
    best, index = max_pool2d(score[:, None], 8, ceil_mode=True, return_indices=True)
    top, where = best.flatten(1).topk(count, dim=1)
    top = torch.where(top > 0, (top - mean[:, None]) / spread[:, None], 0.0)
    index = index.flatten(1).gather(1, where)
    y, x = index // columns, index % columns
    y, x = torch.where(y > rows - size[0], y - rows, y), torch.where(x > columns - size[1], x - columns, x)
    return top.cpu(), torch.stack([x, y], dim=-1).cpu()


def _blocks(n: float) -> int:
    """The length, in pixels, of the fewest entire blocks that hold n pixels."""
    return math.ceil(n / BLOCK) * BLOCK


def _fast_size(n: int) -> int:
    """The least size of at least n that is an even number of blocks and has only the prime factors 2, 3 and
    5."""
    blocks = math.ceil(n / (2 * BLOCK))
    while True:
        rest = blocks
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return blocks * 2 * BLOCK
        blocks += 1


FINDER = StartFinder("correlation", rounds)
