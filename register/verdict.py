"""From evidence to a verdict: how probable it is that an alignment is wrong, and why, in words."""

import math
from typing import Any

WRONG = 0.02
"""Median error, as a share of the fixed image's diagonal, from which on an alignment is wrong."""
LOG_ODDS = {"one": 8.45, "recognised": -2.12, "sigma": -2.24, "back": 0.10}
"""The log-odds of a wrong alignment are this sum over what is known of it. Fitted and cross-validated by ``python -m benchmarks.verdicts``."""
SUSPECT_FROM, FAILED_FROM = 0.3, 0.7
"""Probability of being wrong from which on an alignment is suspect, or failed."""
LEAST_OVERLAP, MOST_WEAK, LARGEST_CHANGE = 0.1, 0.8, 10.0
"""Share of the fixed image, share of patches with too little to see, and change of area beyond which an alignment is suspect whatever else is known."""
CLEARLY, NEARLY = 0.75, 0.01
"""A share of windows below which, and a share of the diagonal above which, these are named as reasons."""


def probability_wrong(recognised: float, sigma: float, back: float) -> float:
    """The probability that the median error exceeds ``WRONG``: from the share of windows that are less like a window than its partner, its standard deviations
    above chance, and the median distance after the way there and back as a share of the fixed image's diagonal."""
    values = {
        "one": 1.0,
        "recognised": math.log((recognised + 0.01) / (1.01 - recognised)),
        "sigma": math.log1p(max(sigma, 0.0)),
        "back": math.log(min(back, 1.0) + 1e-4),
    }
    return 1 / (1 + math.exp(-sum(LOG_ODDS[name] * value for name, value in values.items())))


def verdict(summary: dict[str, Any], status: list[str], diagonal: float) -> tuple[str, list[str]]:
    """``ok``, ``suspect`` or ``failed`` with reasons in words, from the figures of an alignment and the ``status`` of its patches."""
    wrong, suspect = summary["probability_wrong"], list[str]()
    if summary["overlap"] < LEAST_OVERLAP:
        suspect.append(f"the images share only {summary['overlap']:.0%} of the fixed image")
    if status and status.count("weak") > MOST_WEAK * len(status):
        suspect.append(f"{status.count('weak')} of {len(status)} patches have too little to see")
    if status.count("capped"):
        suspect.append(f"{status.count('capped')} patches reached --max-shift; raise it if the deformation is larger")
    if not 1 / LARGEST_CHANGE <= abs(summary["det_global"]) <= LARGEST_CHANGE:
        suspect.append(f"the global map changes areas by a factor of {summary['det_global']:.3g}")
    if wrong < SUSPECT_FROM:
        return ("suspect" if suspect else "ok"), suspect
    return ("failed" if wrong >= FAILED_FROM else "suspect"), [*_why(summary, diagonal), *suspect]


def _why(summary: dict[str, Any], diagonal: float) -> list[str]:
    """What speaks against an alignment, the probability first."""
    reasons = [f"probably wrong: {summary['probability_wrong']:.0%} of alignments with such evidence are"]
    recognised, sigma, back = summary["recognised"], summary["recognised_sigma"], summary["back_and_forth"]
    if recognised < CLEARLY or sigma < 10:
        reasons.append(f"only {recognised:.0%} of other windows are less like a window than its partner, {sigma:.1f} standard deviations above chance (50 %)")
    if back is None:
        reasons.append("what both images show does not overlap")
    elif back > NEARLY * diagonal:
        reasons.append(f"aligned the other way round, points come back {back:.1f} px from where they were")
    return reasons
