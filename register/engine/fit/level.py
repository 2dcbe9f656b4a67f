"""One level: global or patch parameters that make two images alike, by Adam or Gauss-Newton, through one ``grid_sample`` per step."""

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from register.compute import cuda_graphs, memory
from register.compute.iteration import Iteration, run_stepwise
from register.engine.fit.comparison import Comparison
from register.engine.fit.objective import GlobalObjective, PatchObjective, limit_shift
from register.geometry import models
from register.geometry.patch_grid import PatchGrid
from register.optim.adam import adam
from register.optim.gauss_newton import gauss_newton
from register.optim.result import OptimisationResult, Progress, result_of

ADAM, GAUSS_NEWTON = "adam", "gauss-newton"


def optimise_global(
    compare: Comparison, model: str, *, optimizer: str, step: float, steps: int, tolerance: float
) -> tuple[Tensor, OptimisationResult]:
    """Residual matrices (b, 2, 3) of a global ``model`` in pixels of the fixed level, one per batch item of ``compare``."""
    solved = memory.in_batches(
        lambda parts: [
            _solve_global(part, model, optimizer=optimizer, step=step, steps=steps, tolerance=tolerance)
            for part in compare.batches(parts)
        ]
    )
    outcomes = [outcome for _, outcome in solved]
    parameters, loss = torch.cat([x.parameters for x in outcomes]), torch.cat([x.loss for x in outcomes])
    return torch.cat([matrix for matrix, _ in solved]), OptimisationResult(
        parameters, loss, outcomes[0].history, outcomes[0].reason
    )


def optimise_patches(
    compare: Comparison,
    grid: PatchGrid,
    start: Tensor,
    *,
    optimizer: str,
    stiffness: float,
    max_shift: float,
    step: float,
    steps: int,
    tolerance: float,
    gain: float = 1e-3,
    progress: Progress = lambda index, steps, loss: None,
) -> OptimisationResult:
    """Patch parameters (2, 3, rows, columns) in pixels of the fixed level, blended into one field that is sampled once.

    ``optimizer`` is ``adam``, with a first ``step`` in pixels, or ``gauss-newton``, which stops when two steps bring less than
    ``gain``. ``stiffness`` weighs the neighbours' mean
    disagreement against the loss; no patch moves by more than ``max_shift`` pixels from the global fit.
    """

    project = partial(limit_shift, max_shift=max_shift)

    def begin(parts: int, compare: Comparison, start: Tensor) -> Iteration[Any]:
        objective = PatchObjective(compare, grid, stiffness, parts)
        if optimizer == ADAM:
            return adam(
                objective.evaluate, start, step=step, steps=steps, tolerance=tolerance, project=project
            )
        return gauss_newton(
            objective.expand, objective.solve, start, gain=gain, tolerance=tolerance, project=project
        )

    def solve(parts: int) -> OptimisationResult:
        key = grid, stiffness, max_shift, optimizer, step, tolerance, gain, parts
        return _follow(partial(begin, parts), key, compare, start[None], optimizer, steps, progress)

    outcome = memory.in_batches(solve)
    return replace(outcome, parameters=outcome.parameters[0])


def _solve_global(
    compare: Comparison, model: str, *, optimizer: str, step: float, steps: int, tolerance: float
) -> tuple[Tensor, OptimisationResult]:
    def begin(compare: Comparison, start: Tensor) -> Iteration[Any]:
        objective = GlobalObjective(compare, model)
        if optimizer == ADAM:
            return adam(objective.evaluate, start, step=step, steps=steps, tolerance=tolerance)
        return gauss_newton(objective.expand, objective.solve, start, tolerance=tolerance)

    start = torch.zeros(len(compare.moving), models.get(model).parameters, device=compare.fixed.device)
    outcome = _follow(begin, (model, optimizer, step, tolerance), compare, start, optimizer, steps)
    return GlobalObjective(compare, model).matrix(outcome.parameters), outcome


def _follow(
    begin: Callable[[Comparison, Tensor], Iteration[Any]],
    key: Hashable,
    compare: Comparison,
    start: Tensor,
    optimizer: str,
    steps: int,
    progress: Progress = lambda index, steps, loss: None,
) -> OptimisationResult:
    """A descent: step by step, or recorded where that can be done, by tensor operations or a compiled pass, whichever is quicker.

    The ``key`` says what ``begin`` knows by itself, so that no other descent is taken for it.
    """

    def heard(index: int, loss: float) -> None:
        progress(index, steps, loss)

    def with_tensors(*tensors: Tensor, tensors_only: bool) -> Iteration[Any]:
        return begin(replace(compare.of(*tensors[:-1]), tensors_only=tensors_only), tensors[-1])

    if not cuda_graphs.can_record(start.device):
        followed = run_stepwise(begin(compare, start), steps, heard)
    else:
        kind = optimizer, compare.similarity
        ways = [
            partial(with_tensors, tensors_only=only)
            for only in ((True, False) if compare.compiled else (True,))
        ]
        said = (
            key,
            steps if optimizer == ADAM else None,
            compare.similarity,
            compare.window,
        )  # Adam's steps become shorter towards the last
        followed = cuda_graphs.run_recorded(said, kind, ways, (*compare.tensors, start), steps, heard)
    outcome = result_of(followed)
    progress(steps, steps, outcome.history[-1])
    return outcome
