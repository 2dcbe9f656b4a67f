"""Fit a global map from an initial map, from coarse to fine."""

from collections.abc import Callable

from torch import Tensor

from register.engine.fit import comparison
from register.engine.fit.comparison import Comparison
from register.engine.fit.level import ADAM, GAUSS_NEWTON, optimise_global
from register.geometry import affine
from register.images import pyramid
from register.images.pyramid import Level
from register.optim.result import OptimisationResult
from register.similarity import registry

FIT_SIDE = 256
"""Longest side, in pixels, of the levels on which the global map is fitted and initial maps are compared."""
WINDOW, MARGIN = 16, 16
FIT_STEPS, NEWTON_STEPS, TOLERANCE = 35, 12, 0.003
"""Steps per level of Adam, which has a larger capture range, and of Gauss-Newton, which is used near the
solution; both end when no parameter changes by more than the tolerance, in pixels."""
EXACT_SMOOTHING = 1.0
"""Standard deviation, in pixels, of the Gaussian by which intensities are smoothed for an exact fit. A
global map has enough data for more smoothing, which reduces the bias of linear interpolation towards half
pixels in noise."""
Tick = Callable[[str, OptimisationResult], None]
"""Called with the name of a level and the result of its optimisation."""


def global_model(model: str) -> str:
    """The model of the global map of an alignment with a ``model``."""
    return "affine" if model == "local" else model


def fit(
    levels: list[Level],
    moving: Level,
    matrix: Tensor,
    *,
    model: str,
    metric: str,
    exact: bool = False,
    optimizer: str = "auto",
    tick: Tick = lambda name, outcome: None,
) -> Tensor:
    """The global map (2, 3) of a ``model`` fitted from the initial map ``matrix``, coarse to fine.

    An ``exact`` fit uses all levels and starts near the solution: it takes Gauss-Newton steps where the
    similarity has a Hessian. Other fits use the levels up to ``FIT_SIDE`` and take steps of Adam, unless
    ``optimizer`` names one.
    """
    curved = registry.get(metric).curved
    newton = curved and (exact or optimizer == GAUSS_NEWTON) and optimizer != ADAM
    for level in levels if exact else coarse_levels(levels):
        compare = compare_at(
            level, moving, matrix[None], metric, smoothing=EXACT_SMOOTHING if exact else comparison.SMOOTHING
        )
        if newton:
            residual, outcome = optimise_global(
                compare,
                model,
                optimizer=GAUSS_NEWTON,
                step=0.0,
                steps=NEWTON_STEPS,
                tolerance=TOLERANCE,
            )
        else:
            residual, outcome = by_adam(compare, model, 0.12 if exact else 0.5, FIT_STEPS)
        matrix = affine.compose(matrix, comparison.residual_in_original_pixels(residual[0], level))
        tick(f"{level.size[1]} × {level.size[0]} {metric}, global", outcome)
    return matrix


def coarse_levels(levels: list[Level]) -> list[Level]:
    """The levels of at most ``FIT_SIDE`` pixels, or the coarsest where there is none."""
    return [x for x in levels if max(x.size) <= FIT_SIDE] or levels[:1]


def by_adam(compare: Comparison, model: str, step: float, steps: int) -> tuple[Tensor, OptimisationResult]:
    """Residual matrices (b, 2, 3) of a model fitted by Adam, with a first ``step`` in pixels."""
    return optimise_global(compare, model, optimizer=ADAM, step=step, steps=steps, tolerance=TOLERANCE)


def compare_at(
    level: Level,
    moving: Level,
    matrices: Tensor,
    metric: str,
    *,
    smoothing: float = comparison.SMOOTHING,
    margin: int = MARGIN,
) -> Comparison:
    """The comparison of one fixed level with the moving image under the global maps (b, 2, 3)."""
    each = [
        comparison.prepare(
            level,
            comparison.match_pixel_size(moving, level, one),
            one[None],
            metric,
            window=WINDOW,
            margin=margin,
            smoothing=smoothing,
        )
        for one in matrices
    ]
    return comparison.batch(each)


def at_side(level: Level, side: int) -> Level:
    """The level shrunk to ``side`` pixels along its longer side, or unchanged if it is smaller."""
    return pyramid.shrink(level, max(level.size) / side)
