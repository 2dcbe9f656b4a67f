"""Fit patches from coarse to fine: affine maps that are blended into one displacement field."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from torch import Tensor

from register.engine.fit import comparison, held, recover_patches
from register.engine.fit.comparison import Comparison
from register.engine.fit.estimate import Estimate, LocalFit
from register.engine.fit.level import ADAM, GAUSS_NEWTON, optimise_patches
from register.engine.fit.problem import Problem
from register.geometry import patch_tensors
from register.geometry.patch_grid import PatchGrid
from register.geometry.patch_tensors import Patches
from register.images import pyramid
from register.images.pyramid import Level
from register.optim.result import OptimisationResult
from register.similarity import registry

STIFFNESS, LEAST_STIFFNESS, SOFTER = 40.0, 5.0, 0.5
"""Weight of the smoothness penalty on the finest level, its smallest value, and its factor from a level to
the next coarser one, where displacements are larger relative to the patches."""
MORE_STEPS = 1.5
"""Factor of the number of steps from a level to the next coarser one, which is further from the solution and
faster."""
ADAM_STEPS, ADAM_STEP = 4, 0.5
"""Factor of the number of steps for Adam, and its first step in pixels."""
TOLERANCE, GAIN = 0.005, 0.001
"""The finest level ends when no parameter would change by ``TOLERANCE`` pixels, or when two steps lower the
loss by less than ``GAIN``, which doubles from a level to the next coarser one."""
TRIAL_STEPS, LEAST_DECREASE = 2, 0.002
"""Steps on half of a level's windows, and the decrease of the loss in the held-out half from which the
level is fitted."""
SETTLED, SETTLING_STEPS = 0.0005, 10
"""The tolerance in pixels, and the largest number, of more steps for small deformations."""
RECOVERY_STEPS = 4
"""Steps of diverged patches that start again from their neighbours."""
STIFFER = 8.0
"""Factor of the stiffness for a level whose patches would fit noise, before the level is left out."""

Report = Callable[[str, float, float], None]
"""Called with the name of the level, the completed share of the work, and the similarity."""
Optimise = Callable[..., OptimisationResult]


class Pass(NamedTuple):
    """One fit of patches on a level, with ``spacing`` in pixels.

    ``refines`` is whether an earlier pass on the same level is refined.
    """

    level: Level
    spacing: int
    refines: bool = False

    @property
    def name(self) -> str:
        """The name of the pass in the history and in progress messages."""
        size = f"{self.level.size[1]} × {self.level.size[0]}"
        return f"{size}, finer patches," if self.refines else size


@dataclass(frozen=True)
class Schedule:
    """The options of the optimisation of one level; lengths are in pixels of the level."""

    optimizer: str
    steps: int
    steps_factor: int
    max_shift: float
    gain: float
    stiffness: float

    @classmethod
    def of(cls, problem: Problem, level: Level, *, curved: bool) -> "Schedule":
        """The schedule of a level, by the number of octaves between it and the finest one."""
        coarseness = math.log2(pyramid.pixel(level) / pyramid.pixel(problem.finest))
        newton = curved and problem.effort.optimizer != ADAM
        return cls(
            optimizer=GAUSS_NEWTON if newton else ADAM,
            steps=max(round(problem.effort.steps * MORE_STEPS**coarseness), 1),
            steps_factor=1 if newton else ADAM_STEPS,
            max_shift=problem.max_shift / pyramid.pixel(level),
            gain=GAIN * 2**coarseness,
            stiffness=max(STIFFNESS * SOFTER**coarseness, LEAST_STIFFNESS),
        )

    def optimiser(self, grid: PatchGrid) -> Optimise:
        """The function that optimises patches on a grid."""
        return partial(
            optimise_patches,
            grid=grid,
            optimizer=self.optimizer,
            max_shift=self.max_shift,
            step=ADAM_STEP,
            tolerance=TOLERANCE,
            gain=self.gain,
        )


def fit(
    problem: Problem,
    start: Estimate,
    metric: str,
    levels: Sequence[Level] | None = None,
    *,
    finer: int | None = None,
    report: Report = lambda *_: None,
) -> LocalFit:
    """Fit patches on some levels, coarse to fine, over the global map of ``start`` and from its patches, if
    any.

    The default is all levels of the problem. The patch size is the same number of pixels on each level, so
    the grid doubles from level to level. With ``finer``, and a similarity with a Hessian, another pass on the
    finest level has patches with that spacing in pixels. After every pass diverged patches are recovered and
    folds are removed. If the first steps of a finer level on half of its windows do not improve the other
    half, the level is made stiffer or left out, because its patches would fit noise.
    """
    curved = registry.get(metric).curved
    passes = [
        Pass(level, problem.effort.patch_size) for level in (problem.levels if levels is None else levels)
    ]
    if finer and curved:
        passes.append(Pass(problem.finest, finer, refines=True))
    local = start.patches
    for number, one in enumerate(passes):
        if one.refines and (local is None or local.level is not one.level):
            break  # the level was left out because of noise, so finer patches would be too

        def progress(step: int, steps: int, loss: float, one: Pass = one, number: int = number) -> None:
            report(one.name, _share(number + step / max(steps, 1), len(passes)), 1 - math.exp(loss))

        local = _fit_pass(problem, start.matrix, metric, one, local, progress, curved=curved)
    assert local is not None
    return local


def _fit_pass(
    problem: Problem,
    matrix: Tensor,
    metric: str,
    one: Pass,
    before: LocalFit | None,
    progress: Callable[[int, int, float], None],
    *,
    curved: bool,
) -> LocalFit:
    """The patches after one pass, or those ``before`` it where the pass would fit noise."""
    level, grid = one.level, PatchGrid.cover(*one.level.size, one.spacing)
    start = _on_grid(before, level, grid)
    local = before or LocalFit(level, grid, start)
    compare, schedule = problem.compare(level, matrix, metric), Schedule.of(problem, level, curved=curved)
    start = _held(problem, compare, matrix, replace(local, level=level, grid=grid, parameters=start))
    optimise, stiffness = schedule.optimiser(grid), schedule.stiffness
    if curved and (one.refines or local.level is not level):
        trial = partial(optimise, steps=TRIAL_STEPS * schedule.steps_factor)
        tried = _try_half(compare, grid, start, trial, stiffness)
        if tried is None:
            return local if one.refines else replace(local, left_out=(*local.left_out, one.name))
        start, stiffness = tried
    steps = schedule.steps * schedule.steps_factor
    outcome = optimise(compare, start=start, stiffness=stiffness, steps=steps, progress=progress)
    parameters = outcome.parameters
    if curved:
        again = partial(optimise, compare, stiffness=stiffness, steps=RECOVERY_STEPS * schedule.steps_factor)
        parameters = recover_patches.recover(compare, Patches(grid, parameters), again)
    parameters, folds = patch_tensors.unfold(grid, parameters)
    history = local.history | {f"{one.name} {metric}": outcome.history}
    return LocalFit(level, grid, parameters, local.folds + folds, history, local.left_out)


def _held(problem: Problem, compare: Comparison, matrix: Tensor, local: LocalFit) -> Tensor:
    """The parameters of patches of a level with the landmarks held, where there are any."""
    if problem.landmarks is None:
        return local.parameters
    found = held.hold(compare, local.level, Estimate(matrix, local), problem.landmarks).estimate.patches
    assert found is not None
    return found.parameters


def fit_half(
    problem: Problem,
    half: Comparison,
    grid: PatchGrid,
    steps: int,
    level: Level | None = None,
    start: Tensor | None = None,
) -> Tensor:
    """Parameters (2, 3, rows, columns) of patches after some steps on half of the windows of a level, by
    default the finest, from a ``start``, by default no displacement."""
    schedule = Schedule.of(problem, level or problem.finest, curved=True)
    optimise = schedule.optimiser(grid)
    start = patch_tensors.zeros(grid, device=half.fixed.device) if start is None else start
    return optimise(half, start=start, stiffness=schedule.stiffness, steps=steps).parameters


def settle(problem: Problem, estimate: Estimate, metric: str) -> Estimate:
    """The estimate after more steps of its patches on their level, which end only when nothing changes.

    For displacements of hundredths of a pixel, which gain so little that the usual end comes too early.
    """
    local = estimate.patches
    if local is None or not registry.get(metric).curved:
        return estimate
    compare = problem.compare(local.level, estimate.matrix, metric)
    schedule = Schedule.of(problem, local.level, curved=True)
    optimise = partial(schedule.optimiser(local.grid), tolerance=SETTLED, gain=0.0)
    found = optimise(
        compare, start=local.parameters, stiffness=schedule.stiffness, steps=SETTLING_STEPS
    ).parameters
    return replace(estimate, patches=replace(local, parameters=found))


def _on_grid(local: LocalFit | None, level: Level, grid: PatchGrid) -> Tensor:
    """The parameters (2, 3, rows, columns) on a grid of a level of the patches of another level; zero
    without any."""
    if local is None:
        return patch_tensors.zeros(grid, device=level.image.device)
    ratio = pyramid.pixel(local.level) / pyramid.pixel(level)
    return patch_tensors.refine(local.grid, local.parameters, grid, ratio)


def _share(passed: float, count: int) -> float:
    """The completed share of the work after ``passed`` of ``count`` passes.

    Each pass takes about twice as long as the previous one, for four times the pixels.
    """
    complete = math.floor(passed)
    return (2**complete * (1 + passed - complete) - 1) / (2**count - 1)


def _try_half(
    compare: Comparison, grid: PatchGrid, start: Tensor, optimise: Optimise, stiffness: float
) -> tuple[Tensor, float] | None:
    """The start and the stiffness of a level's optimisation, from its first steps on half of the windows.

    If these steps improve the held-out half, returns their result and the given ``stiffness``. Otherwise
    returns the start and a larger stiffness, if steps with that stiffness improve the sum of both halves, or
    else None.

    Patches that fit noise lower the loss of the windows they are fitted to and raise that of the others, so
    only an improvement of the sum is not noise. The held-out half alone would be too strict for fine patches
    that lie completely in held-out windows.
    """
    fitted, held_out = compare.half(0), compare.half(1)

    def decrease(half: Comparison, parameters: Tensor) -> float:
        before = comparison.windows(half, Patches(grid, start))
        return before.loss_decrease(comparison.windows(half, Patches(grid, parameters)))

    found = optimise(fitted, start=start, stiffness=stiffness).parameters
    if decrease(held_out, found) > LEAST_DECREASE:
        return found, stiffness
    found = optimise(fitted, start=start, stiffness=STIFFER * stiffness).parameters
    improved = decrease(fitted, found) + decrease(held_out, found) > 0
    return (start, STIFFER * stiffness) if improved else None
