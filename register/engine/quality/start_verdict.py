"""The verdict on an alignment whose start stands out among all shifts."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from register.engine.fit.estimate import Estimate
from register.geometry import affine
from register.transforms.frame import Frame
from register.transforms.quality import Quality, Verdict

NEAR = 0.05
"""Distance, as a share of the diagonal of the smaller image, up to which an alignment is the one it started
from."""
REASON = (
    "the correlation at this shift is far above that at all others, but matching regions are not recognised"
)


def with_start(
    quality: Quality, start: Tensor | None, estimate: Estimate, frames: tuple[Frame, Frame]
) -> Quality:
    """The quality, suspect instead of failed where the alignment stayed near a start (2, 3) for which the
    correlation decided among all shifts.

    One of millions of shifts that is far above all others is no chance, even where too little is seen to
    recognise regions. ``frames`` are those of the fixed and the moving image.
    """
    if quality.verdict != Verdict.FAILED or start is None:
        return quality
    start = start.double()
    centre = _centre(frames[0])
    if frames[1].width * frames[1].height < frames[0].width * frames[0].height:
        centre = affine.apply(affine.invert(start), _centre(frames[1]))
    moved = estimate.map(centre) - affine.apply(start, centre)
    smaller = min(math.hypot(frame.width, frame.height) for frame in frames)
    if float(moved.norm()) > NEAR * smaller:
        return quality
    return replace(quality, verdict=Verdict.SUSPECT, reasons=(REASON, *quality.reasons[1:]))


def _centre(frame: Frame) -> Tensor:
    """The centre (1, 2) of an image."""
    return torch.tensor([[frame.width - 1, frame.height - 1]], dtype=torch.float64) / 2
