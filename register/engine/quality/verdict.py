"""From evidence to a verdict: how probable it is that an alignment is wrong, and why, in words."""

import math
from typing import Any

WRONG = 0.02
"""Median error, as a share of the fixed image's diagonal, from which on an alignment is wrong."""
LOG_ODDS = {"one": 10.11, "recognised": -1.62, "sigma": -3.48}
"""The log-odds of a wrong alignment are this sum over what is known of it. Fitted and cross-validated by ``python -m benchmarks.verdicts``."""
UNTOLD, SURELY, PERHAPS, ENOUGH_MATCHES = (0.2, 0.5, 0.8), 9.0, 7.5, 30
"""Where windows cannot tell: probabilities, the standard deviations above chance that the first two ask for, and the matched features that are as good."""
SUSPECT_FROM, FAILED_FROM = 0.3, 0.75
"""Probability of being wrong from which on an alignment is suspect, or failed."""
LEAST_OVERLAP, MOST_WEAK, LARGEST_CHANGE = 0.1, 0.8, 10.0
"""Share of the fixed image, share of patches with too little to see, and change of area beyond which an alignment is suspect whatever else is known."""
FARTHEST_BACK = 0.01
"""Median distance after the way there and back, as a share of the diagonal, beyond which an alignment is suspect whatever else is known: right ones stay
below 0.006."""


def probability_wrong(found: tuple[float, float] | None, above_chance: float, agreeing: int) -> float:
    """The probability that the median error exceeds ``WRONG``; right and wrong alignments are taken to be as frequent.

    From the share of windows that are less like a window than its partner, and its standard deviations above chance. Where there are too few windows to
    tell, a guess from how many standard deviations the global map stands ``above_chance``, and from matched features that agree with it.
    """
    if found is None:
        return (
            UNTOLD[0]
            if agreeing >= ENOUGH_MATCHES or above_chance >= SURELY
            else UNTOLD[1]
            if above_chance >= PERHAPS
            else UNTOLD[2]
        )
    recognised, sigma = found
    values = {
        "one": 1.0,
        "recognised": math.log((recognised + 0.01) / (1.01 - recognised)),
        "sigma": math.log1p(max(sigma, 0.0)),
    }
    return 1 / (1 + math.exp(-sum(LOG_ODDS[name] * value for name, value in values.items())))


def called(wrong: float) -> str:
    """What a probability of being wrong is called, nothing else being known."""
    return "failed" if wrong >= FAILED_FROM else "suspect" if wrong >= SUSPECT_FROM else "ok"


def verdict(summary: dict[str, Any], status: list[str], diagonal: float) -> tuple[str, list[str]]:
    """``ok``, ``suspect`` or ``failed`` with reasons in words, from the figures of an alignment and the ``status`` of its patches."""
    wrong, suspect = summary["probability_wrong"], list[str]()
    if summary["overlap"] < LEAST_OVERLAP:
        suspect.append(f"the images share only {summary['overlap']:.0%} of the fixed image")
    if status and status.count("weak") > MOST_WEAK * len(status):
        suspect.append(f"{status.count('weak')} of {len(status)} patches have too little to see")
    if status.count("capped"):
        suspect.append(
            f"{status.count('capped')} patches reached --max-shift; raise it if the deformation is larger"
        )
    if not 1 / LARGEST_CHANGE <= abs(summary["det_global"]) <= LARGEST_CHANGE:
        suspect.append(f"the global map changes areas by a factor of {summary['det_global']:.3g}")
    back = summary["back_and_forth"]
    if back is None:
        suspect.append("what both images show does not overlap")
    elif back > FARTHEST_BACK * diagonal:
        suspect.append(f"aligned the other way round, points come back {back:.1f} px from where they were")
    if wrong < SUSPECT_FROM:
        return ("suspect" if suspect else "ok"), suspect
    told = f"too few windows have texture to tell, and the similarity is {summary['above_chance']:.1f} standard deviations above chance: probably wrong"
    if summary["recognised"] is not None:
        told = (
            f"only {summary['recognised']:.0%} of other windows are less like a window than its partner, {summary['recognised_sigma']:.1f} standard deviations "
            f"above the 50 % of chance: probably wrong ({wrong:.0%})"
        )
    return called(wrong), [told, *suspect]
