"""What an ambiguous alignment's verdict and expected error become."""

import math
from dataclasses import replace

from register.engine.ambiguity.rivals import Resolved
from register.transforms.quality import PatchFigures, Quality, Verdict

NAMED = 3
"""Rivals that are named in the reasons."""
BEYOND = "the only alignment that was found shifts the image by more than --shift-range"


def applied(quality: Quality, patches: PatchFigures, resolved: Resolved) -> tuple[Quality, PatchFigures]:
    """The quality and the patches' figures of an alignment that some rivals explain as well.

    The verdict is suspect; every expected error covers the nearest rival, and is unknown where the
    images do not determine a shift.
    """
    rivals = resolved.rivals
    if resolved.beyond and quality.verdict != Verdict.FAILED:
        return replace(quality, verdict=Verdict.SUSPECT, reasons=(BEYOND, *quality.reasons)), patches
    if not rivals or quality.verdict == Verdict.FAILED:
        return quality, patches
    reasons = tuple(rival.reason() for rival in rivals[:NAMED])
    quality = replace(quality, verdict=Verdict.SUSPECT, reasons=(*reasons, *quality.reasons))
    if any(rival.slides for rival in rivals):
        unknown = tuple(None for _ in patches.expected_error)
        return replace(quality, expected_error=None), replace(patches, expected_error=unknown)
    apart = min(rival.distance for rival in rivals)
    errors = tuple(None if e is None else round(math.hypot(e, apart), 4) for e in patches.expected_error)
    own = quality.expected_error
    covered = None if own is None else round(math.hypot(own, apart), 4)
    return replace(quality, expected_error=covered), replace(patches, expected_error=errors)
