"""Build the reference of a movie from some of its frames: their mean after they were aligned."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from register.compute import sums
from register.engine.movie import tensors
from register.engine.movie.evidence import evidence
from register.engine.movie.filtered import filtered_with_nan, is_constant, sigma_of, structure_of
from register.engine.movie.fit import Fit, fit
from register.engine.movie.reference import COARSE_SIDE, Reference, prepare
from register.engine.movie.shift import shift_between, shift_of, spectrum, whitened
from register.engine.movie.target import shrunk
from register.engine.quality import verdict
from register.errors import AlignmentError
from register.geometry import affine_tensors
from register.settings import Settings
from register.transforms.quality import Verdict

SEED, THUMBNAIL = 8, 64
"""Frames whose mean is the first reference, and the longest side of the images by which they are chosen."""
PASSES, FIRST_SHARE, MORE = 4, 0.3, 0.13
"""Passes with shifts alone, the share of the frames that the first one averages, and how it grows."""
AVERAGED = 60
"""Number of frames, spread over a movie, of which its reference is made."""
MANY = 40
"""Frames from which on the first of the two passes in which frames are fitted takes every fourth one."""
FEW = 12
"""Frames, at most, of which each must be recognised in the mean of the others to be part of the reference."""
LEAST_WITHIN, LEAST_BETWEEN = 0.2, 0.3
"""Correlation of means of some frames of one part from which it shows something, and that of two parts, in
units of it, below which they show two scenes."""
FEWEST, LEAST = 3, 0.1
"""Frames of which the first mean and a variance are made at least, and the least share of the frames that
must be recognised for a mean of those alone."""


def build(frames: Sequence[Tensor], settings: Settings, *, fixed: Tensor | None = None) -> Reference:
    """The reference of grey frames (h, w) float32, NaN where invalid.

    The frames that are most similar to one another are averaged; all are aligned to the mean by their
    shift, and the best of them averaged, a growing share of them; then they are fitted, and the mean and the
    variance of those that are recognised are taken. With an image ``fixed`` (h, w), frames are aligned to it
    instead, and where too few are recognised it is the reference itself. Constant frames are left out.
    Raises ``AlignmentError`` where all are.

    Source: the order of steps is that of suite2p (Pachitariu et al., bioRxiv 061507, 2017).
    """
    used = [one for one in frames if not is_constant(one)]
    if fixed is None and not used:
        raise AlignmentError("has no frame that is not constant", "reference")
    sigma = sigma_of(used or [fixed if fixed is not None else frames[0]])
    if len(used) < FEWEST:
        return prepare(used[0] if fixed is None else fixed, settings, sigma=sigma)
    start, share = _shifted_mean(used, settings, sigma) if fixed is None else (fixed, 0.0)
    reference = prepare(start, settings, sigma=sigma, share=share)
    for some in (used[::4] if len(used) >= MANY else used, used):
        made = _fitted_mean(some, reference)
        if made is None:
            return reference
        reference = prepare(made.image, settings, sigma=sigma, variance=made.variance, share=1 / made.frames)
    return reference


def _shifted_mean(frames: list[Tensor], settings: Settings, sigma: float) -> tuple[Tensor, float]:
    """The mean (h, w) of frames after shifts, NaN where none is valid, and the share of each in it."""
    step = max(round(max(frames[0].shape) / COARSE_SIDE), 1)
    small = [shrunk(filtered_with_nan(one, sigma), step) for one in frames]
    kept, moves = _alike(small), [(0, 0)] * len(frames)
    size, spectra = (small[0].shape[0], small[0].shape[1]), list[Tensor]()
    for number in range(PASSES):
        mean = torch.stack([torch.roll(small[n], moves[n], (0, 1)) for n in kept]).mean(0)
        target = spectrum(mean)
        spectra = spectra or [whitened(target, one) for one in small]
        shifts = [shift_between(target, one, size) for one in spectra]
        moves = [(-round(y), -round(x)) for x, y in shifts]
        alike = torch.tensor(
            [
                _correlation(mean, torch.roll(one, move, (0, 1)))
                for one, move in zip(small, moves, strict=True)
            ]
        )
        count = max(FEWEST, round(len(frames) * (FIRST_SHARE + MORE * number)))
        kept = alike.argsort(descending=True)[:count].tolist()
        of_one = _of_one_scene(torch.stack([torch.roll(small[n], moves[n], (0, 1)) for n in kept]))
        kept = [kept[n] for n in of_one]
    whole = [torch.roll(frames[n], (step * moves[n][0], step * moves[n][1]), (0, 1)) for n in kept]
    if len(frames) <= FEW:
        whole = [whole[n] for n in _supported(whole, settings, sigma)]
    return torch.stack(whole).nanmean(0), 1 / len(whole)


def _alike(frames: list[Tensor]) -> list[int]:
    """The frames that are most similar to one of them: that for which their similarity is highest."""
    side = max(max(frames[0].shape) // THUMBNAIL, 1)
    small = torch.stack([avg_pool2d(one[None], side).flatten() for one in frames])
    small = small - small.mean(1, keepdim=True)
    small = small / small.norm(dim=1, keepdim=True).clamp(min=1e-12)
    likeness = small @ small.T
    count = min(SEED, len(frames))
    seed = int(likeness.sort(dim=1, descending=True)[0][:, 1:count].mean(1).argmax())
    return likeness[seed].argsort(descending=True)[:count].tolist()


def _of_one_scene(frames: Tensor) -> list[int]:
    """The numbers of aligned frames (n, h, w) that show one scene: all, or the larger of two parts.

    A mean of two scenes recognises the frames of both. The parts are those of opposite sign in the first
    principal component; they show two scenes if their means are much less alike than means of some frames
    of either part are.
    """
    everything, flat = list(range(len(frames))), frames.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    flat = flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-12)
    about = flat - flat.mean(0)
    first = torch.linalg.eigh(about @ about.T)[1][:, -1]
    parts = [torch.nonzero(side)[:, 0].tolist() for side in (first > 0, first <= 0)]
    larger = max(parts, key=len)
    if min(map(len, parts)) < 2:
        return everything
    means = [[flat[part[k::2]].mean(0) for k in (0, 1)] for part in parts]
    within = [_correlation(*pair) for pair in means]
    between = sum(_correlation(one, other) for one in means[0] for other in means[1]) / 4
    if min(within) < LEAST_WITHIN or between > LEAST_BETWEEN * math.sqrt(within[0] * within[1]):
        return everything
    return larger


class FittedMean(NamedTuple):
    """The mean (h, w) of fitted frames, the variance (h, w) of filtered ones, None for too few, and their
    number."""

    image: Tensor
    variance: Tensor | None
    frames: int


def _fitted_mean(frames: list[Tensor], reference: Reference) -> FittedMean | None:
    """The mean of the frames that are recognised after the fit; None where these are too few."""
    total, weight = torch.zeros(2, *reference.size, dtype=torch.float64)
    seen, squares = torch.zeros(2, *reference.size, dtype=torch.float64)
    count, found = 0, _recognised(frames, reference)
    if len(frames) <= FEW:
        pairs = list(found)
        kept = _supported([warped for warped, _ in pairs], reference.settings, reference.sigma)
        found = iter([pairs[n] for n in kept])
    for warped, other in found:
        count += 1
        inside = torch.isfinite(warped)
        total += warped.nan_to_num()
        weight += inside
        seen += other
        squares += other.square()
    if count < max(2, LEAST * len(frames)):
        return None
    mean = torch.where(weight > 0.5 * count, total / weight.clamp(min=1), torch.nan)
    number = weight.clamp(min=1)
    variance = (squares / number - (seen / number).square()).clamp(min=0)
    return FittedMean(mean.float(), variance.float() if count >= FEWEST else None, count)


def _recognised(frames: list[Tensor], reference: Reference) -> Iterator[tuple[Tensor, Tensor]]:
    """The frames (h, w) that are recognised after the fit, resampled, NaN outside, and the same filtered."""
    finest = reference.levels[-1]
    for frame in frames:
        mask = None if sums.all_finite(frame) else torch.isfinite(frame).float()
        prepared = reference.prepared(frame.nan_to_num(), mask)
        x, y = shift_of(reference.spectrum, prepared.on(reference.coarse).nan_to_num())
        move = affine_tensors.translation(x * reference.coarse.step, y * reference.coarse.step)
        found = fit(reference, prepared, move)
        if verdict.called(evidence(reference, prepared, found).wrong) == Verdict.OK and found.moving <= 1:
            warped = tensors.resample(found.displaced(finest, frame), math.nan)
            other = tensors.resample(found.displaced(finest, prepared.full), math.nan).nan_to_num()
            yield warped, other


def _supported(frames: list[Tensor], settings: Settings, sigma: float) -> list[int]:
    """The numbers of those of a few aligned frames (h, w) that are recognised in the mean of the others.

    The frame that is recognised least is left out until all are; where none are, the one that shows the most
    structure is left.
    """
    kept, chosen = list(range(len(frames))), replace(settings, model="translation")
    while len(kept) > 1:
        wrong = [_wrong(frames[n], [frames[k] for k in kept if k != n], chosen, sigma) for n in kept]
        worst = max(range(len(kept)), key=wrong.__getitem__)
        if verdict.called(wrong[worst]) == Verdict.OK:
            return kept
        if len(kept) == 2:
            return [max(kept, key=lambda n: structure_of(frames[n]))]
        del kept[worst]
    return kept


def _wrong(frame: Tensor, others: list[Tensor], settings: Settings, sigma: float) -> float:
    """The probability that an aligned frame (h, w) is wrong in the mean of other ones."""
    mean = torch.stack(others).nanmean(0)
    if is_constant(mean):
        return 1.0
    reference = prepare(mean, settings, sigma=sigma)
    prepared = reference.prepared(frame.nan_to_num(), torch.isfinite(frame).float())
    return evidence(reference, prepared, Fit(affine_tensors.identity(), None, 0.0, 1.0, 1.0)).wrong


def _correlation(one: Tensor, other: Tensor) -> float:
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).sum() / (one.norm() * other.norm()).clamp(min=1e-12))
