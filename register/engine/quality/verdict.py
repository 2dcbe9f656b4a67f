"""Decide the verdict on an alignment, from the probability that it is wrong, and state the reasons."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from register.transforms.quality import Quality, Verdict

WRONG = 0.02
"""Median error, as a share of the fixed image's diagonal, from which an alignment counts as wrong."""
LOG_ODDS = {"one": 10.11, "recognised": -1.62, "sigma": -3.48}
"""The log-odds of a wrong alignment are the sum of these factors times the figures of the same name (see
``probability_wrong``). Fitted and cross-validated by ``python -m benchmarks.verdicts``."""
FIXED_PROBABILITIES, HIGH_ABOVE_CHANCE, MEDIUM_ABOVE_CHANCE, ENOUGH_MATCHES = (0.2, 0.5, 0.8), 9.0, 7.5, 30
"""If regions cannot be recognised: the probabilities of being wrong, the standard deviations above
chance that the first and the second need, and the number of agreeing matched features that also gives the
first."""
MOST_CHOSEN = 0.5
"""Overlap, as a share of the smaller image, below which an alignment whose regions cannot be recognised is no
better than the second of these probabilities: of many small overlaps some are similar by chance."""
SUSPECT_FROM, FAILED_FROM = 0.3, 0.75
"""Probability of being wrong from which an alignment is suspect, or failed."""
LEAST_OVERLAP, MOST_WEAK, LARGEST_CHANGE = 0.1, 0.8, 18.0
"""Share of the smaller image that overlaps, share of weak patches, and change of area beyond which an
alignment is suspect in any case. The change is that of a scale of four, the largest that can be searched
without pixel sizes, and is measured against the one that pixel sizes demand."""
LEAST_UNRECOGNISED, MOST_UNRECOGNISED = 3, 0.1
"""Number and share of the patches with content that are not recognised from which an alignment is suspect in
any case: parts of the images do not show the same."""
STRONGEST, FEW_MATCHES = 0.4, 10
"""The smallest change of area by the patches, relative to that of the global map, and the number of matched
features that agree with the map: if both are less, an alignment is suspect in any case. Patches that are free
enough bring the ridges of one labyrinth onto those of any other. Correct alignments of real pairs without
matches have at least 0.74."""
LARGEST_ROUND_TRIP = 0.01
"""Median error of the round trip (aligned in both directions), as a share of the diagonal, beyond which an
alignment is suspect in any case. Correct alignments have less than 0.006."""


def probability_wrong(
    found: tuple[float, float] | None, above_chance: float, agreeing: int, overlap: float = 1.0
) -> float:
    """The probability that the median error exceeds ``WRONG``, if correct and wrong alignments are equally
    frequent.

    ``found`` is the mean percentile rank of matching regions and its standard deviations above chance, as
    ``recognition.recognised`` computes them; a logistic regression gives the probability. Where ``found``
    is None, it is a fixed guess from the standard deviations of the global similarity ``above_chance``, from
    the number of matched features ``agreeing`` with the map, and from the ``overlap`` as a share of the
    smaller image.
    """
    if found is None:
        if agreeing >= ENOUGH_MATCHES or (above_chance >= HIGH_ABOVE_CHANCE and overlap >= MOST_CHOSEN):
            return FIXED_PROBABILITIES[0]
        return FIXED_PROBABILITIES[1 if above_chance >= MEDIUM_ABOVE_CHANCE else 2]
    recognised, sigma = found
    values = {
        "one": 1.0,
        "recognised": math.log((recognised + 0.01) / (1.01 - recognised)),
        "sigma": math.log1p(max(sigma, 0.0)),
    }
    return 1 / (1 + math.exp(-sum(LOG_ODDS[name] * value for name, value in values.items())))


def called(wrong: float) -> Verdict:
    """The verdict that follows from the probability ``wrong`` alone."""
    if wrong >= FAILED_FROM:
        return Verdict.FAILED
    return Verdict.SUSPECT if wrong >= SUSPECT_FROM else Verdict.OK


class Expected(NamedTuple):
    """What is expected of any map between two images: the ``diagonal`` of the fixed image, or of the part
    that was aligned, in pixels; the largest ``overlap`` there can be, as a share of the fixed image; and the
    ``area`` of a fixed pixel in moving pixels that pixel sizes demand."""

    diagonal: float
    overlap: float = 1.0
    area: float = 1.0


def verdict(figures: Quality, status: Sequence[str], expected: Expected) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict of an alignment with its reasons, from its figures and the ``status`` of its patches.

    ``figures`` hold all but the verdict; ``status`` is that of the patches with content, so that background
    does not count.
    """
    wrong, suspect = figures.probability_wrong, _doubts(figures, status, expected)
    if wrong is None:
        return Verdict.UNKNOWN, tuple(suspect)
    if wrong < SUSPECT_FROM:
        return (Verdict.SUSPECT if suspect else Verdict.OK), tuple(suspect)
    return called(wrong), (_why_wrong(figures, wrong), *suspect)


def _doubts(figures: Quality, status: Sequence[str], expected: Expected) -> list[str]:
    """The reasons that make an alignment suspect for any probability of being wrong."""
    found, overlap, area, back = [], figures.overlap, figures.det_global, figures.back_and_forth
    if overlap is not None and overlap < LEAST_OVERLAP * expected.overlap:
        found.append(_little(overlap, expected.overlap))
    weak, capped = status.count("weak"), status.count("capped")
    if status and weak > MOST_WEAK * len(status):
        found.append(f"{weak} of {len(status)} patches with content have too little texture or similarity")
    if agrees_in_part(status):
        found.append(_which_parts(status))
    if capped:
        found.append(f"{capped} patches reached --max-shift; raise it if the deformation is larger")
    if area is not None and not 1 / LARGEST_CHANGE <= abs(area) / expected.area <= LARGEST_CHANGE:
        found.append(f"the global map changes areas by a factor of {area:.3g}" + _demanded(expected.area))
    strongest = figures.det_min / area if area and figures.det_min is not None else 1.0
    if strongest < STRONGEST and (figures.matches_agreeing or 0) < FEW_MATCHES:
        found.append(
            f"the patches compress the content to {max(strongest, 0.0):.0%} of its area in places, and no "
            "matched features support that: patterns of one kind can be bent onto each other"
        )
    if back is None:
        found.append("the valid regions of the two images do not overlap")
    elif back > LARGEST_ROUND_TRIP * expected.diagonal:
        found.append(f"aligned in both directions, points return {back:.1f} px from where they started")
    return found


def _little(overlap: float, most: float) -> str:
    """The reason for a small overlap, as a share of the smaller image."""
    if most > 0.9:
        return f"only {overlap:.0%} of the fixed image overlaps the moving image"
    return f"only {overlap / most:.0%} of the moving image, the smaller one, overlaps the fixed image"


def _demanded(area: float) -> str:
    """The end of a reason: what pixel sizes demand instead, if they are known."""
    return "" if area == 1.0 else f"; the pixel sizes demand {area:.3g}"


def agrees_in_part(status: Sequence[str]) -> bool:
    """Whether so many of the patches with content, of some ``status``, are not recognised that they are parts
    which the images do not share."""
    foreign = status.count("unrecognised")
    return foreign >= max(LEAST_UNRECOGNISED, MOST_UNRECOGNISED * len(status))


def _which_parts(status: Sequence[str]) -> str:
    """The reason that counts the patches that are not recognised."""
    foreign = status.count("unrecognised")
    return (
        f"{foreign} of {len(status)} patches on tissue or other content are not recognised in the moving "
        "image: pieces are exchanged, missing, or moved too far; these patches have no expected error"
    )


def _why_wrong(figures: Quality, wrong: float) -> str:
    """The reason for a high probability of being wrong."""
    if figures.recognised is None or figures.recognised_sigma is None:
        if (figures.above_chance or 0.0) >= HIGH_ABOVE_CHANCE:
            return (
                "the images overlap so little that too few regions with texture are left to be recognised:"
                " another small overlap may be as similar by chance"
            )
        return (
            "too few regions have texture to be recognised, and the similarity is only "
            f"{figures.above_chance or 0.0:.1f} standard deviations above chance: probably wrong"
        )
    return (
        "matching regions are not recognised: they rank at the "
        f"{_ordinal(round(100 * figures.recognised))} percentile of similarity (chance: 50th), "
        f"{figures.recognised_sigma:.1f} standard deviations above chance: probably wrong ({wrong:.0%})"
    )


def _ordinal(n: int) -> str:
    """A number with its English ordinal suffix."""
    if n % 100 in (11, 12, 13):
        return f"{n}th"
    return f"{n}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th') }"
