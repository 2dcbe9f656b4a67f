"""Runs of known outcome that other benchmarks draw: repeats, text, misleading grey values, pieces, tears.

``benchmarks.verdicts --draws N`` adds N of each kind to the pairs with landmarks.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np

import register
from benchmarks import pieces, pinned, ranges, repeats, tears
from register.transforms.transform import Transform

WRONG = 3.0
"""Median error, in pixels, from which a drawn pair is wrong."""
MOST_WRONG = 0.1
"""Share of the tissue that is wrong from which a pair of pieces is."""
Measure = Callable[[int], float]
"""Aligns the draw with a seed and returns its median error in pixels."""


def kinds() -> dict[str, Measure]:
    """The kinds by their names."""
    found: dict[str, Measure] = {}
    for name in repeats.KINDS:
        for decided in (False, True):
            what = "content decides" if decided else "nothing decides"
            found[f"{name}, {what}"] = partial(_repeats, name, decided)
    for contrast in (0.7, 0.25, 0.1):
        found[f"text, contrast {contrast}"] = partial(_pinned, contrast)
    for name in ranges.KINDS:
        found[name] = partial(_ranges, name)
    for name in pieces.KINDS:
        found[f"pieces, {name}"] = partial(_pieces, name)
    for name in tears.torn.KINDS:
        found[f"{name}, side"] = partial(_torn, name)
    return found


def _repeats(name: str, decided: bool, seed: int) -> float:
    return repeats.run(name, decided, seed).error


def _pinned(contrast: float, seed: int) -> float:
    return pinned.measure(seed, contrast, 30.0).median


def _ranges(name: str, seed: int) -> float:
    return ranges.measure(name, seed).median


def _pieces(name: str, seed: int) -> float:
    """The median error of the tissue; infinite where a tenth of it is wrong."""
    drawn = pieces.scene(name, seed)
    transform = register.align(drawn.fixed, drawn.moving).transform
    errors = pieces.pixel_errors(transform, drawn.truth)
    errors = errors[~np.isnan(errors)]
    return math.inf if (errors > pieces.WRONG).mean() > MOST_WRONG else float(np.median(errors))


def _torn(name: str, seed: int) -> float:
    """The error of the worse side of a tear, crack, fold or shear band, beside the line."""
    row = tears.measure(name, seed, masked=False)
    return max(row.first, row.second)


@contextmanager
def recorded() -> Iterator[list[dict[str, Any]]]:
    """The quality of every alignment made inside, with the diagonal of its fixed image.

    An alignment that failed returns the map that was rejected, so that its error can be measured.
    """
    made, original = list[dict[str, Any]](), register.align

    def align(fixed: Any, moving: Any, **options: Any) -> register.Alignment:
        alignment = original(fixed, moving, **options)
        made.append({"quality": alignment.quality, "diagonal": math.hypot(*np.shape(fixed)[:2])})
        matrix = alignment.quality.rejected_matrix
        if matrix is None:
            return alignment
        of = alignment.transform
        rejected = Transform("affine", of.fixed, of.moving, np.array(matrix), quality=of.quality)
        return replace(alignment, transform=rejected)

    with patch.object(register, "align", align):
        yield made
