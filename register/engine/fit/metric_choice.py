"""Choose the similarity metric of a pair of images, by fitting with two metrics on the coarse levels."""

from dataclasses import dataclass

from register.engine.fit import comparison, local_fit
from register.engine.fit.estimate import Estimate, LocalFit
from register.engine.fit.problem import Problem
from register.geometry.patch_tensors import Patches
from register.images import pyramid
from register.images.pyramid import Level

TRIAL_SIDE = 260
"""Longest side, in pixels, of the finest level on which the similarities are tried."""
KEPT, TOLERANCE = 0.99, 0.002
"""Share of the gain of structure that a field fitted by intensities must reach for intensities to be used,
and the difference of similarities that is ignored."""
SAME_MODALITY = 0.9
"""Share of each other's variance that intensities explain in images of one modality. All real pairs for
which structure was chosen had less."""
UNCLEAR = 0.1
"""Relative difference of the two gains below which the choice is ambiguous if the fields differ."""
HELD_OUT, HELD_OUT_STEPS = 0.85, 6
"""Share of the gain of structure in windows that were held out from which intensities are used, and the steps
of these fits. Where noise covers much of the image, what structure gains where it is fitted is noise too."""
LEAST_KEPT, SMALL_GAIN = 0.4, 0.1
"""Share of the gain of structure, as in ``KEPT``, below which that is not tried, and the gain from which it
is more than noise."""
LEAST_DISTANCE = 0.5
"""Median distance of the two fields, in pixels of the level, from which they differ."""


@dataclass(frozen=True)
class MetricChoice:
    """The chosen metric, the reason, the patches fitted on the coarse levels, if any, and the remaining
    levels."""

    metric: str
    reason: str
    patches: LocalFit | None
    levels_left: list[Level]


def choose(problem: Problem, start: Estimate) -> MetricChoice:
    """Choose ``structure`` or ``ncc``, by fitting patches with both on the coarse levels.

    Intensities are more precise within one modality, but between modalities their optimum is wrong. ``ncc``
    is chosen immediately if intensities explain nearly all of each other's variance. Otherwise it is chosen
    only if its field, fitted directly or from the field of ``mind``, increases both similarities, and
    ``structure`` nearly as much as a fit of ``structure`` does, or nearly as much in held-out windows. The
    fit of ``mind`` is started without patches and, if ``start`` has patches, from these.
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
    """Trial fits on the coarse levels, and their similarities on the finest of these."""

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

    def held_out_gain(self, metric: str, start: LocalFit) -> float:
        """The decrease of the loss of structure in each half of the windows, from no patches to those that a
        metric finds on the other half from a ``start``."""
        level, gain = self.levels[-1], 0.0
        grid, parameters = start.on(level)
        for parity in (0, 1):
            half, rest = self.judges[metric].half(parity), self.judges["structure"].half(1 - parity)
            found = local_fit.fit_half(self.problem, half, grid, HELD_OUT_STEPS, level, parameters)
            after = comparison.windows(rest, Patches(grid, found))
            gain += comparison.windows(rest).loss_decrease(after) / 2
        return gain

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
    as_good = kept >= KEPT * gain - TOLERANCE
    if raises_ncc and not as_good and LEAST_KEPT * gain < kept and gain < SMALL_GAIN:
        held_out = {metric: trial.held_out_gain(metric, by_ncc) for metric in ("ncc", "structure")}
        as_good = held_out["ncc"] > max(HELD_OUT * held_out["structure"], 0.0)
    metric = "ncc" if as_good and raises_ncc else "structure"
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
