"""What is written for frames that failed: the motion between their neighbours, the frame as it is, or
nothing."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from register.engine import frame
from register.transforms.quality import Verdict
from register.transforms.transform import Transform
from register.workflows.movie.job import BadFrames


def is_bad(transform: Transform) -> bool:
    """Whether a frame failed."""
    return transform.quality.verdict == Verdict.FAILED


def filled(found: Sequence[Transform], how: BadFrames) -> list[Transform]:
    """The transforms, those of bad frames replaced by the motion between the nearest good ones, or, for
    ``keep`` and ``blank``, by the identity."""
    good = [index for index, transform in enumerate(found) if not is_bad(transform)]
    result = list(found)
    for index, transform in enumerate(found):
        if not is_bad(transform):
            continue
        if how != "interpolate" or not good:
            made, why = _unmoved(transform), "the frame is not moved"
        else:
            before = max((n for n in good if n < index), default=min(good))
            after = min((n for n in good if n > index), default=max(good))
            made, why = _between(found, index, before, after), _source(before, after)
        quality = replace(
            transform.quality, reasons=(*transform.quality.reasons, why), shift=frame.shift(made)
        )
        result[index] = replace(made, quality=quality, provenance=transform.provenance)
    return result


def _source(before: int, after: int) -> str:
    """The sentence on where the motion comes from."""
    if before == after:
        return f"the motion of frame {before} is used"
    return f"the motion between frames {before} and {after} is used"


def _unmoved(transform: Transform) -> Transform:
    """The identity."""
    return Transform("rigid", transform.fixed, transform.moving, np.eye(2, 3))


def _between(found: Sequence[Transform], index: int, before: int, after: int) -> Transform:
    """The motion of two frames, interpolated linearly in time."""
    one, other = found[before], found[after]
    share = 0.0 if before == after else (index - before) / (after - before)
    matrix = (1 - share) * one.matrix + share * other.matrix
    if one.matrices is None or other.matrices is None or one.grid != other.grid or one.chain or other.chain:
        return Transform("affine", one.fixed, one.moving, matrix)
    patches = (1 - share) * one.matrices + share * other.matrices
    return Transform("local", one.fixed, one.moving, matrix, one.grid, patches)
