"""Where to start: masked correlation of orientation structure by FFT, over rotation and scale, without a hint."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from register import affine, sampling, structure
from register.pyramid import Level

LEAST_OVERLAP = 0.12
"""Share of the smaller image's textured area that must overlap, or the best score is a sliver in a corner."""


@dataclass(frozen=True)
class Candidate:
    """A start: the similarity matrix (2, 3) in level pixels and the significance of its correlation."""

    moving_from_fixed: Tensor
    score: float


def candidates(fixed: Level, moving: Level, *, angles: Tensor, scales: Tensor, count: int = 8, peaks: int = 3) -> list[Candidate]:
    """The ``count`` most significant starts among all translations, ``angles`` (degrees) and ``scales``, best first.

    ``fixed`` and ``moving`` are grey levels of about a hundred pixels. For every angle and scale the moving image is turned
    about its centre, its orientation structure is taken in the turned frame, and the normalised correlation of both structures over
    their overlap is computed for all translations at once. Source: Padfield, "Masked object registration in the Fourier
    domain", IEEE TIP 21 (2012). Scores are ranked by significance, score times the square root of the overlap.
    """
    found = list(_sweep(fixed, moving, angles, scales, peaks))
    found.sort(key=lambda hit: -hit.score)
    kept: list[Candidate] = []
    for hit in found:
        if all(_distance(hit, other, fixed.size) > 0.04 * max(fixed.size) for other in kept):
            kept.append(hit)
        if len(kept) == count:
            break
    return kept


def _sweep(fixed: Level, moving: Level, angles: Tensor, scales: Tensor, peaks: int) -> Iterator[Candidate]:
    height, width = fixed.size
    extent = math.hypot(*moving.size)
    f, f_mask = _structure(fixed.image[None], fixed.mask[None])
    centre_moving = torch.tensor([(moving.size[1] - 1) / 2, (moving.size[0] - 1) / 2])
    for scale in scales.tolist():
        side = math.ceil(extent / scale) + 2
        centre = torch.tensor([(side - 1) / 2, (side - 1) / 2])
        shape = (_fast_size(height + side), _fast_size(width + side))
        spectra = _spectra(f, f_mask, shape)
        canvas = sampling.axes(side, side, device=f.device)
        for chunk in torch.split(angles, 16):
            turns = torch.stack([affine.similarity(math.radians(a), scale, centre, centre_moving) for a in chunk.tolist()])
            points = affine.apply_to_grid(turns.to(f), *canvas)
            n = len(points)
            mask = sampling.sample(moving.mask[None].expand(n, -1, -1, -1), points) * sampling.inside(points, *moving.size)[:, None]
            turned = sampling.sample(moving.image[None].expand(n, -1, -1, -1), points)
            w, w_mask = _structure(turned, (mask > 0.99).to(mask.dtype))
            score = _correlation(spectra, _spectra(w, w_mask, shape), shape)
            for item, turn in zip(score, turns, strict=True):
                yield from _peaks(item, turn, (height, width), peaks)


def _structure(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Orientation structure and where it holds."""
    return structure.orientation(image, mask), structure.erode(mask, 3)


def _spectra(vectors: Tensor, mask: Tensor, shape: tuple[int, int]) -> Tensor:
    """Spectra (b, 4, ...) of the masked vectors (two), their energy and the mask."""
    planes = torch.cat([vectors * mask, vectors.square().sum(1, True) * mask, mask], dim=1)
    return torch.fft.rfft2(planes, s=shape)


def _correlation(fixed: Tensor, moving: Tensor, shape: tuple[int, int]) -> Tensor:
    """Significance (b, H, W) of the structures' cosine over the overlap, for every cyclic shift of the fixed image."""
    f, w = fixed.conj(), moving
    products = torch.stack([f[:, 0] * w[:, 0] + f[:, 1] * w[:, 1], f[:, 2] * w[:, 3], f[:, 3] * w[:, 2], f[:, 3] * w[:, 3]], dim=1)
    inner, energy_f, energy_w, overlap = torch.fft.irfft2(products, s=shape).unbind(1)
    areas = torch.minimum(fixed[:, 3, 0, 0].real, moving[:, 3, 0, 0].real)[:, None, None]
    cosine = inner / (energy_f.clamp(min=1e-3) * energy_w.clamp(min=1e-3)).sqrt()
    enough = (overlap > LEAST_OVERLAP * areas) & (overlap > 64)
    return torch.where(enough, cosine * overlap.clamp(min=0).sqrt(), 0.0)


def _peaks(score: Tensor, turn: Tensor, size: tuple[int, int], count: int) -> Iterator[Candidate]:
    """The best translations of one turned image: canvas = fixed + shift."""
    rows, columns = score.shape
    score = score.clone()
    for _ in range(count):
        index = int(score.argmax())
        value = float(score.flatten()[index])
        if value <= 0:
            return
        y, x = divmod(index, columns)
        for dy in range(-4, 5):
            score[(y + dy) % rows, [(x + dx) % columns for dx in range(-4, 5)]] = 0
        shift_y = y - rows if y > rows - size[0] else y
        shift_x = x - columns if x > columns - size[1] else x
        yield Candidate(affine.compose(turn, affine.translation(shift_x, shift_y)), value)


def _distance(a: Candidate, b: Candidate, size: tuple[int, int]) -> float:
    """The mean distance of the fixed image's corners under two candidates, in moving pixels."""
    height, width = size
    corners = torch.tensor([[0, 0], [width, 0], [0, height], [width, height]], dtype=torch.float64)
    apart = affine.apply(a.moving_from_fixed, corners) - affine.apply(b.moving_from_fixed, corners)
    return float(apart.norm(dim=1).mean())


def _fast_size(n: int) -> int:
    """The least size from n on that has only the factors 2, 3 and 5."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
