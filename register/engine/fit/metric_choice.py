"""Which similarity suits a pair of images: measured by fitting both on the coarse levels."""

from dataclasses import dataclass

from register.engine.fit import comparison, local_fit
from register.engine.fit.estimate import Estimate, LocalFit
from register.engine.fit.problem import Problem
from register.images import pyramid
from register.images.pyramid import Level

TRIAL_SIDE = 260
"""Longest side, in pixels, of the finest level on which the similarities are tried."""
KEPT, TOLERANCE = 0.99, 0.002
"""Share of the gain of structure that a field fitted by intensities must reach for intensities to be used,
and the difference of similarities that does not count."""
SAME_MODALITY = 0.9
"""Share of each other's variance that intensities explain in images of one modality; of the real pairs for
which structure was chosen, all had less."""
UNCLEAR = 0.1
"""Relative difference of both gains below which the choice is ambiguous where the fields differ."""
LEAST_DISTANCE = 0.5
"""Median distance of both fields, in pixels of the level, from which they differ."""


@dataclass(frozen=True)
class MetricChoice:
    """The similarity that is used, the reason, the patches that were fitted on coarse levels, if any, and
    the levels that are left to be fitted."""

    metric: str
    reason: str
    patches: LocalFit | None
    levels_left: list[Level]


def choose(problem: Problem, start: Estimate) -> MetricChoice:
    """``structure`` or ``ncc``, by fitting patches with both on the coarse levels.

    Intensities are more precise within one modality, but between modalities their optimum is elsewhere.
    ``ncc`` is chosen only where the field that it finds, on its own or from the field found by
    self-similarity (``mind``), raises both similarities, structure nearly as much as fitting structure
    does; and at once where intensities explain nearly all of each other. Self-similarity starts from no
    patches and from those of ``start``, if any.
    """
    trial = _Trial(problem, start)
    left = problem.levels[len(trial.levels) :]
    own = trial.fit(trial.levels, "ncc")
    if (explained := trial.similarity("ncc", own)) >= SAME_MODALITY:
        reason = f"fitted by ncc, intensities explain {explained:.0%} of each other: ncc"
        return MetricChoice("ncc", reason, own, left)
    starts = [None, start.patches] if start.patches else [None]
    coarse = max(
        (trial.fit(trial.levels, "mind", patches) for patches in starts),
        key=lambda local: trial.similarity("structure", local),
    )
    by_structure = trial.fit(trial.levels[-1:], "structure", coarse)
    by_ncc = max(
        (own, trial.fit(trial.levels[-1:], "ncc", coarse)),
        key=lambda local: trial.similarity("structure", local),
    )
    metric, reason = _compare(trial, by_structure, by_ncc)
    return MetricChoice(metric, reason, by_ncc if metric == "ncc" else by_structure, left)


class _Trial:
    """Fits on the coarse levels and their similarities on the finest of them."""

    def __init__(self, problem: Problem, start: Estimate) -> None:
        self.problem, self.matrix = problem, start.matrix
        self.levels = trial_levels(problem.levels)
        self.judges = {
            metric: problem.compare(self.levels[-1], start.matrix, metric) for metric in ("structure", "ncc")
        }

    def fit(self, levels: list[Level], metric: str, patches: LocalFit | None = None) -> LocalFit:
        """The patches that a metric finds on some levels."""
        return local_fit.fit(self.problem, Estimate(self.matrix, patches), metric, levels)

    def similarity(self, metric: str, local: LocalFit | None) -> float:
        """The mean similarity with patches or without."""
        patches = local.on(self.levels[-1]) if local else None
        return float(comparison.windows(self.judges[metric], patches).mean())

    def distance(self, one: LocalFit, other: LocalFit) -> float:
        """The median distance of two fields, in pixels of the level."""
        level = self.levels[-1]
        return float((one.displacement(level) - other.displacement(level)).norm(dim=-1).median())


def _compare(trial: _Trial, by_structure: LocalFit, by_ncc: LocalFit) -> tuple[str, str]:
    """The metric and the reason, from the patches that both metrics found."""
    before = trial.similarity("structure", None)
    gain = trial.similarity("structure", by_structure) - before
    kept = trial.similarity("structure", by_ncc) - before
    raises_ncc = trial.similarity("ncc", by_ncc) >= trial.similarity("ncc", by_structure) - TOLERANCE
    metric = "ncc" if kept >= KEPT * gain - TOLERANCE and raises_ncc else "structure"
    reason = f"fitted by ncc, structure rose by {kept:+.3f} ({gain:+.3f} when fitted by structure): {metric}"
    distance = trial.distance(by_ncc, by_structure)
    if abs(kept - gain) < UNCLEAR * abs(gain) and distance > LEAST_DISTANCE:
        pixels = distance * pyramid.pixel(trial.levels[-1])
        reason += (
            f"; ambiguous: both explain the images equally well, and their fields differ by {pixels:.1f} px"
        )
    return metric, reason


def trial_levels(levels: list[Level]) -> list[Level]:
    """The coarse levels on which the similarities are tried."""
    return [x for x in levels if max(x.size) <= TRIAL_SIDE] or levels[:1]
