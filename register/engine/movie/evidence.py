"""Whether the blocks of a frame are recognised where the fit has put them."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from register.engine.movie import tensors
from register.engine.movie.fit import Fit
from register.engine.movie.reference import Prepared, Reference
from register.engine.quality import recognition, verdict
from register.images.pyramid import cached

BLOCK, SMALLEST, ACROSS = 16, 8, 8
"""Side of a block in pixels of the coarse level, the smallest one, and blocks across a small image."""
LEAST_VALID, LEAST_BLOCKS = 0.9, 8


class Evidence(NamedTuple):
    """The probability that a frame is wrong, and the correlation of its blocks with the reference's."""

    wrong: float
    correlation: float


def evidence(reference: Reference, frame: Prepared, fit: Fit) -> Evidence:
    """Rank the correlation of matching blocks of a prepared frame among those of all pairs of blocks.

    The test is that of ``engine.quality.recognition``, with grey values instead of their structure. Where the
    reference is a mean, the share of it that a frame may have itself is subtracted: otherwise a frame of
    noise would be recognised in the mean that it is part of. In a mean of one frame, which no other one
    supports, none is recognised.
    """
    if reference.share >= 1:
        return Evidence(1.0, 0.0)
    level = reference.coarse
    warped = tensors.resample(fit.displaced(level, frame.on(level)), math.nan)
    side = min(BLOCK, max(min(level.size) // ACROSS, SMALLEST))
    planes = cached(reference.grey, ("blocks", side), lambda: _fixed_blocks(reference, side))
    moving = _blocks(warped, side)
    used = planes.used & torch.isfinite(moving.sum(1))
    if int(used.sum()) < LEAST_BLOCKS:
        return Evidence(1.0, 0.0)
    texture, centred = planes.texture[used], _centred(moving[used])
    fixed, moving = planes.fixed[used], _unit(centred)
    if reference.share > 0:
        fixed = _unit(fixed * texture[:, None] - reference.share * centred)
    similarity = fixed @ moving.T
    own = similarity.diagonal()
    less = (similarity < own[:, None]).sum(1) + (similarity < own[None]).sum(0)
    share = texture / texture.sum().clamp(min=1e-30)
    rank = float((less / (2 * (len(own) - 1)) * share).sum())
    independent = 1 / float(share.square().sum())
    found = recognition.Recognition(rank, (rank - 0.5) * math.sqrt(12 * independent))
    return Evidence(verdict.probability_wrong(found, 0.0, 0), float((own * share).sum()))


class FixedBlocks(NamedTuple):
    """Blocks (n, values) of the reference with length 1, their length before, and whether they are valid."""

    fixed: Tensor
    texture: Tensor
    used: Tensor


def _fixed_blocks(reference: Reference, side: int) -> FixedBlocks:
    """The blocks of a reference."""
    target = reference.coarse.target
    valid = _blocks((target.weight > 0).float(), side).mean(1) > LEAST_VALID
    blocks = _centred(_blocks(target.reference, side))
    return FixedBlocks(_unit(blocks), blocks.norm(dim=1), valid)


def _blocks(image: Tensor, side: int) -> Tensor:
    """The square blocks (n, side * side) of an image (h, w); a rest at the end is left out."""
    rows, columns = image.shape[0] // side, image.shape[1] // side
    whole = image[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return whole.transpose(1, 2).reshape(rows * columns, side * side)


def _centred(blocks: Tensor) -> Tensor:
    """Blocks (n, values) with mean 0."""
    return blocks - blocks.mean(1, keepdim=True)


def _unit(blocks: Tensor) -> Tensor:
    """Blocks (n, values) with length 1."""
    return blocks / (blocks.norm(dim=1, keepdim=True) + 1e-12)
