"""Frames of a movie that agree with a mean which most frames do not show."""

from collections.abc import Sequence
from dataclasses import replace

from register.transforms.movie import FrameTransform
from register.transforms.quality import Verdict

LEAST = 0.5
"""Share of the frames with content that must be aligned to their mean for it to be that of the movie."""


def doubted(found: Sequence[FrameTransform]) -> list[FrameTransform]:
    """The transforms to a mean of the frames, ``suspect`` instead of ``ok`` where most frames failed.

    The mean is then that of a minority, which may show something else than the movie. Frames without a
    similarity, which are constant, are not counted.
    """
    shown = [one for one in found if not one.bad or one.similarity]
    good = sum(not one.bad for one in shown)
    if good >= LEAST * len(shown):
        return list(found)
    reason = f"the mean shows what only {good} of {len(shown)} frames with content show"
    return [
        replace(one, verdict=Verdict.SUSPECT, reasons=(*one.reasons, reason))
        if one.verdict == Verdict.OK
        else one
        for one in found
    ]
