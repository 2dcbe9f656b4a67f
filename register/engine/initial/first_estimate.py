"""Make the first estimate of an alignment from its initial map, by a global fit or from matched points."""

from torch import Tensor

from register.engine.fit import global_fit, model_choice
from register.engine.fit.estimate import Estimate, LocalFit, patches_from_map
from register.engine.fit.problem import Problem
from register.engine.initial.start import Start, agrees
from register.geometry import affine
from register.images.pyramid import Level

CLOSE = 0.01
"""Median distance from matched features, as a share of the matched region, below which a map agrees with
them."""
DEFORMED, SAMPLES = 0.02, 500
"""Largest distance between the map of the matches and its affine map, as a share of the matched region, from
which the patches are initialised by the map, and the least number of matches at which it is measured."""
METRIC = "mind"


def fit(
    problem: Problem, start: Start, deformed: LocalFit | None, tick: global_fit.Tick
) -> tuple[Estimate, list[str]]:
    """The estimate from an initial map, with notes.

    It is the initial map with the ``deformed`` patches, if any, or else a global fit. If the global fit moves
    away from matched features that the initial map agrees with, it is the initial map.
    """
    if deformed:
        return Estimate(start.matrix, deformed), []
    levels = global_fit.coarse_levels(problem.levels)
    if start.is_certain:  # near the solution: the finest of the coarse levels suffices
        levels = levels[-1:]
    matrix, notes = model_choice.fit_global(
        problem, levels, start.matrix, METRIC, tick, exact=start.is_certain
    )
    if _left_matches(start, matrix):
        return Estimate(start.matrix), [
            "the global fit moved away from the matched features; the map of the features was kept"
        ]
    return Estimate(matrix), notes


def _left_matches(start: Start, matrix: Tensor) -> bool:
    """Whether a start agrees with its matched features closely and a map (2, 3) does not."""
    matches = start.matches
    if matches is None or not agrees(start.matrix, matches, CLOSE):
        return False
    return not agrees(matrix, matches, CLOSE)


def deformed_patches(start: Start, level: Level, patch_size: int) -> LocalFit | None:
    """The patches on a level for a start whose matches agree on a map that is far from affine.

    That map is a homography or a smooth map. None for other starts.
    """
    matches = start.matches
    if matches is None or not start.is_certain:
        return None
    some = matches.fixed[:: max(len(matches.fixed) // SAMPLES, 1)]
    distance = (matches.map(some) - affine.apply(matches.matrix, some)).norm(dim=1).max()
    if float(distance) < DEFORMED * matches.extent:
        return None
    box = matches.fixed.amin(0), matches.fixed.amax(0)
    return patches_from_map(matches.map, box, level, start.matrix, patch_size)
