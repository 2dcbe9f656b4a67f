"""Choose the simplest model that explains the images: a global map alone, or patches in addition."""

from torch import Tensor

from register.engine.fit import global_fit, local_fit, repeatability
from register.engine.fit.estimate import Estimate
from register.engine.fit.problem import Problem, at_least_as_similar, judging_level
from register.images import pyramid
from register.images.pyramid import Level
from register.similarity import registry

SMALL_SHIFT = 3.0
"""Median displacement of the patches, in working pixels, below which one exact global map may be as good."""
CLEAR_GAIN = 0.5
"""Decrease of the loss by patches from which no global map is fitted for comparison.

The decrease is measured from the affine map nearest to the patches.
"""

Result = tuple[Estimate, list[str]]
"""An estimate and notes on how it was found, for the record."""


def fit_global(
    problem: Problem,
    levels: list[Level],
    start: Tensor,
    metric: str,
    tick: global_fit.Tick,
    *,
    exact: bool = False,
) -> tuple[Tensor, list[str]]:
    """Fit the global map (2, 3) from a ``start`` on some levels, coarse to fine; returns it with notes.

    It is the start itself if the fit lowered the similarity of the windows that are valid under both.
    """
    matrix = global_fit.fit(
        levels,
        problem.moving,
        start,
        model=global_fit.global_model(problem.model),
        metric=metric,
        exact=exact,
        optimizer=problem.effort.optimizer,
        tick=tick,
    )
    if at_least_as_similar(judging_level(levels), problem.moving, matrix, start, metric):
        return matrix, []
    return start, ["the global fit lowered the similarity of the initial map, which was kept"]


def simplest(problem: Problem, estimate: Estimate, metric: str, tick: global_fit.Tick) -> Result:
    """The estimate, or a global map alone where the patches fit noise or lower the similarity.

    Small patches are kept where both halves of the image show them: by ``metric`` where they gain more than
    they would from noise, by correlation where they gain less. Where that cannot be measured, the gain
    decides. If it decides against patches that gain something, the estimate tells what was not kept.
    """
    if estimate.patches is None:
        matrix, notes = _exact(problem, estimate.matrix, metric, tick)
        return Estimate(matrix), notes
    with_patches = problem.windows(estimate, metric)

    def gain(instead: Tensor) -> float:
        return float(problem.windows(Estimate(instead), metric).loss_decrease(with_patches))

    over_matrix = least = gain(estimate.matrix)
    start, small = estimate.matrix, estimate.patches.typical_shift < SMALL_SHIFT
    if small:
        nearest = estimate.nearest_affine()
        if (over_nearest := gain(nearest)) < over_matrix:
            start, least = nearest, over_nearest
    if small and least < CLEAR_GAIN:
        exact, notes = _exact(problem, start, metric, tick)
        over_exact = gain(exact)
        gained = over_exact >= registry.get(metric).least_gain
        known = over_exact <= 0 or (gained and not registry.get(metric).curved)
        by = metric if gained else repeatability.METRIC
        repeats = None if known else repeatability.of_patches(problem, exact, by)
        if not (repeats.is_real if repeats else gained):
            uncertain = over_exact > 0 and metric != repeatability.METRIC
            return Estimate(exact, not_kept=estimate if uncertain else None), [
                *notes,
                "the patches gain no more than they would from noise: only the global fit was kept",
            ]
        if repeats and not gained:
            common = repeats.common * pyramid.pixel(problem.finest)
            return local_fit.settle(problem, estimate, metric), [
                *_notes(estimate),
                f"a small deformation of {common:.2g} px was kept: both halves of the image show it",
            ]
    if over_matrix < 0:
        return Estimate(estimate.matrix), [
            "the patches lowered the similarity of the global fit, which was kept"
        ]
    return estimate, _notes(estimate)


def _exact(problem: Problem, start: Tensor, metric: str, tick: global_fit.Tick) -> tuple[Tensor, list[str]]:
    """An exact global map on the two finest levels."""
    return fit_global(problem, problem.levels[-2:], start, metric, tick, exact=True)


def _notes(estimate: Estimate) -> list[str]:
    """Notes on folds that were smoothed and on levels whose patches were left out."""
    assert estimate.patches is not None
    folds, left_out = estimate.patches.folds, estimate.patches.left_out
    notes = [f"{folds} folded cells were smoothed"] if folds else []
    if left_out:
        where = ", ".join(left_out)
        notes.append(f"patches at {where} pixels were left out: they did not improve held-out windows")
    return notes
