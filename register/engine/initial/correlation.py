"""Where to start: masked correlation of orientation structure by FFT, over rotation and scale, without a hint."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, pad

from register.compute import device
from register.geometry import affine
from register.images import interpolation, preprocess, pyramid
from register.images.pyramid import Level

SIDE = 112
"""Pixels: geometric mean of the longer sides of both images while they are compared, whatever the scale between them."""
LEAST_OVERLAP = 0.12
"""Share of the smaller image's textured area that must overlap, or the best score is a sliver in a corner."""
LEAST_LENGTH = 0.25
"""Share of the shorter side along which both images overlap at least; less room for the shifts makes the transforms smaller."""
BLOCK = 4
"""Energies and overlap vary slowly: they are correlated in blocks of so many pixels."""
APART = 0.04
"""Starts whose corners differ by less than this share of the moving image's longer side are one."""
LEAST_SCORE = 3.0
"""Standard deviations that every turn reaches somewhere by chance."""
TURNS = 12
"""Turned images that are correlated at once."""


@dataclass(frozen=True)
class Candidate:
    """A start: the similarity matrix (2, 3) in original pixels, and by how many standard deviations its correlation stands out."""

    matrix: Tensor
    score: float


class Planes(NamedTuple):
    """Spectra of masked structure (b, 2, H, W'), and of its energy and mask in blocks (b, 2, H / BLOCK, W'')."""

    structure: Tensor
    energy: Tensor

    def reversed(self, side: int) -> "Planes":
        """The same images turned by 180° on a canvas of ``side`` pixels: structure is its own mirror image in a point."""
        return Planes(_reverse(self.structure, side), _reverse(self.energy, side // BLOCK))


def candidates(fixed: Level, moving: Level, *, angles: Tensor, scales: Tensor) -> list[Candidate]:
    """Starts among all translations, ``angles`` (degrees, fixed to moving) and ``scales`` (moving pixels per fixed pixel), best first.

    At every scale both images are shrunk to one pixel size, their orientation structure is taken once, and that of the moving image is
    turned with its vectors; the normalised correlation of both over their overlap follows for all translations at once.
    Correlations (cosine times the square root of the overlap) are ranked by how far they stand above the mean over all translations of their turn: a
    direction that dominates both images makes every translation alike. Source: Padfield, "Masked object registration in the
    Fourier domain", IEEE TIP 21 (2012).
    """
    with device.worker_threads() as pool:
        found = [
            hits
            for each in pool.map(lambda scale: list(_at_scale(fixed, moving, angles, scale)), scales.tolist())
            for hits in each
        ]
    scores, matrices = (torch.cat(x) for x in zip(*found, strict=True))
    order = scores.argsort(descending=True)
    return [
        Candidate(matrices[i], float(scores[i])) for i in order[: int((scores > LEAST_SCORE).sum())].tolist()
    ]


def distinct(found: list[Candidate], count: int, fixed: Level, moving: Level) -> list[Candidate]:
    """The first ``count`` candidates that are not alike."""
    if not found:
        return []
    height, width = fixed.size
    corners = affine.apply(
        fixed.original_from_level,
        torch.tensor([[0, 0], [width, 0], [0, height], [width, height]], dtype=torch.float64),
    )
    least = APART * max(moving.size) * pyramid.pixel(moving)
    places = affine.apply(torch.stack([hit.matrix for hit in found]), corners)
    free, kept = torch.ones(len(found), dtype=torch.bool), list[int]()
    while len(kept) < count and bool(free.any()):
        kept.append(first := int(free.int().argmax()))
        free &= (places - places[first]).norm(dim=-1).mean(-1) > least
    return [found[i] for i in kept]


def _at_scale(fixed: Level, moving: Level, angles: Tensor, scale: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Scores (n,) and maps (n, 2, 3) in original pixels of the best translations of all turns at one scale, in groups."""
    extents = max(fixed.size) * pyramid.pixel(fixed), max(moving.size) * pyramid.pixel(moving) / scale
    size = math.sqrt(extents[0] * extents[1]) / SIDE
    fixed, moving = (
        pyramid.shrink(fixed, size / pyramid.pixel(fixed)),
        pyramid.shrink(moving, size * scale / pyramid.pixel(moving)),
    )
    ratio = scale * pyramid.pixel(fixed) / pyramid.pixel(moving)
    side = _blocks(math.hypot(*moving.size) / ratio + 2)
    room = LEAST_LENGTH * min(*fixed.size, *(n / ratio for n in moving.size))
    shape = tuple(_fast_size(math.ceil(n + side - room)) for n in fixed.size)
    f, f_mask = _structure(fixed)
    spectra = _spectra(f, f_mask, shape)
    image = torch.cat(_structure(moving), dim=1)
    least = LEAST_OVERLAP * min(float(f_mask.sum()), float(image[:, 2].sum()) / ratio**2)
    to_level, from_level = moving.original_from_level, affine.invert(fixed.original_from_level)
    for chunk, both in _half_turns(angles):
        for turns, planes in _turned(image, chunk, both, ratio, side, moving.size, shape):
            scores, shifts = _peaks(*_correlation(spectra, planes, shape, least), fixed.size)
            steps = affine.compose(torch.stack(turns)[:, None], affine.translations(shifts))
            yield scores.flatten(), affine.compose(to_level, affine.compose(steps, from_level)).flatten(0, 1)


def _half_turns(angles: Tensor) -> Iterator[tuple[Tensor, bool]]:
    """Angles in chunks, and whether each stands for the one 180° further too."""
    wrapped = {round(a, 6) for a in (angles % 360).tolist()}
    pairs = sorted(a for a in wrapped if a < 180 and a + 180 in wrapped)
    single = sorted(wrapped - set(pairs) - {a + 180 for a in pairs})
    for group, both in ((pairs, True), (single, False)):
        for begin in range(0, len(group), TURNS):
            yield torch.tensor(group[begin : begin + TURNS]), both


def _turned(
    image: Tensor,
    angles: Tensor,
    both: bool,
    ratio: float,
    side: int,
    size: tuple[int, int],
    shape: tuple[int, ...],
) -> Iterator[tuple[list[Tensor], Planes]]:
    """The matrices and spectra of the moving structure and mask (1, 3, h, w) turned by some angles, then by 180° more."""
    centre, centre_moving = (
        torch.tensor([(side - 1) / 2] * 2),
        torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2]),
    )
    turns = [affine.similarity(math.radians(a), ratio, centre, centre_moving) for a in angles.tolist()]
    points = affine.apply_to_grid(
        torch.stack(turns).to(image), *interpolation.axes(side, side, device=image.device)
    )
    turned = interpolation.sample(image.expand(len(turns), -1, -1, -1), points, padding="zeros")
    mask = (turned[:, 2:] > 0.99).to(image.dtype)
    double = torch.deg2rad(2 * angles).to(image)[:, None, None]
    x, y = turned[:, 0], turned[:, 1]
    vectors = torch.stack([x * double.cos() + y * double.sin(), y * double.cos() - x * double.sin()], dim=1)
    planes = _spectra(vectors * mask, mask, shape)
    yield turns, planes
    if both:
        yield (
            [affine.similarity(math.radians(a + 180), ratio, centre, centre_moving) for a in angles.tolist()],
            planes.reversed(side),
        )


def _structure(level: Level) -> tuple[Tensor, Tensor]:
    """Orientation structure (1, 2, h, w), zero where it does not hold, and where it does."""
    mask = preprocess.erode(level.mask[None], 3)
    return preprocess.orientation(level.image[None], level.mask[None]) * mask, mask


def _spectra(vectors: Tensor, mask: Tensor, shape: tuple[int, ...]) -> Planes:
    """Spectra of masked vectors (b, 2, h, w) where ``mask`` (b, 1, h, w) is 1."""
    blocks = avg_pool2d(
        torch.cat([vectors.square().sum(1, True), mask], dim=1), BLOCK, ceil_mode=True, divisor_override=1
    )
    return Planes(torch.fft.rfft2(vectors, s=shape), torch.fft.rfft2(blocks, s=[n // BLOCK for n in shape]))


def _reverse(spectrum: Tensor, side: int) -> Tensor:
    """The spectrum (b, c, H, W') of real images (b, c, side, side) turned by 180°."""
    height, width = spectrum.shape[-2], 2 * (spectrum.shape[-1] - 1)
    y = torch.arange(height, device=spectrum.device) * (-2 * math.pi * (side - 1) / height)
    x = torch.arange(spectrum.shape[-1], device=spectrum.device) * (-2 * math.pi * (side - 1) / width)
    return spectrum.conj() * torch.polar(torch.ones_like(y), y)[:, None] * torch.polar(torch.ones_like(x), x)


def _correlation(
    fixed: Planes, moving: Planes, shape: tuple[int, ...], least: float
) -> tuple[Tensor, Tensor, Tensor]:
    """For every cyclic shift of the fixed image the correlation (b, H, W), 0 where too little overlaps, and its mean and standard deviation (b,) elsewhere."""
    f, w = fixed.energy.conj(), moving.energy
    coarse = torch.stack([f[:, 0] * w[:, 1], f[:, 1] * w[:, 0], f[:, 1] * w[:, 1]], dim=1)
    energy_f, energy_w, overlap = (
        torch.fft.irfft2(coarse, s=[n // BLOCK for n in shape]).clamp(min=0) / BLOCK**2
    ).unbind(1)
    norm = torch.where(
        overlap > max(least, 64.0), (overlap / (energy_f.clamp(min=1) * energy_w.clamp(min=1))).sqrt(), 0.0
    )
    round_about = pad(norm[:, None], (0, 1, 0, 1), mode="circular")
    norm = interpolate(round_about, size=[n + 1 for n in shape], mode="bilinear", align_corners=True)[
        :, 0, :-1, :-1
    ]
    score = torch.fft.irfft2((fixed.structure.conj() * moving.structure).sum(1), s=shape).mul_(norm)
    count = (max_pool2d(round_about, 2, 1) > 0).sum((1, 2, 3)).clamp(
        min=1
    ) * BLOCK**2  # shifts in blocks with any overlap at a corner
    mean = score.sum((1, 2)) / count
    return score, mean, (score.square().sum((1, 2)) / count - mean.square()).clamp(min=1e-6).sqrt()


def _peaks(
    score: Tensor, mean: Tensor, spread: Tensor, size: tuple[int, int], count: int = 3
) -> tuple[Tensor, Tensor]:
    """By how many standard deviations (b, count) the best scores of (b, H, W) in different blocks of eight pixels lie above the mean of their turn, and their
    shifts (x, y): canvas = fixed + shift."""
    rows, columns = score.shape[1:]
    best, index = max_pool2d(score[:, None], 8, ceil_mode=True, return_indices=True)
    top, where = best.flatten(1).topk(count, dim=1)
    top = torch.where(top > 0, (top - mean[:, None]) / spread[:, None], 0.0)
    index = index.flatten(1).gather(1, where)
    y, x = index // columns, index % columns
    y, x = torch.where(y > rows - size[0], y - rows, y), torch.where(x > columns - size[1], x - columns, x)
    return top.cpu(), torch.stack([x, y], dim=-1).cpu()


def _blocks(n: float) -> int:
    """The least whole number of blocks, in pixels, that holds n pixels."""
    return math.ceil(n / BLOCK) * BLOCK


def _fast_size(n: int) -> int:
    """The least size from n on that holds an even number of whole blocks and has only the factors 2, 3 and 5."""
    blocks = math.ceil(n / (2 * BLOCK))
    while True:
        rest = blocks
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return blocks * 2 * BLOCK
        blocks += 1
