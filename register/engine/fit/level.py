"""Optimise the global or patch parameters of one level, by Adam or Gauss-Newton steps."""

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
    """Optimise a global ``model``: residual matrices (b, 2, 3) in pixels of the fixed level, and the result.

    ``optimizer`` is ``adam``, with a first ``step`` in pixels, or ``gauss-newton``. The batch is divided
    where the memory of the device does not suffice; the history is then that of the first group.
    """

    optimise = partial(
        _optimise_batch, model=model, optimizer=optimizer, step=step, steps=steps, tolerance=tolerance
    )

    def solve(batches: int) -> list[tuple[Tensor, OptimisationResult]]:
        return [optimise(each) for each in compare.batches(batches)]

    solved = memory.in_batches(solve)
    results = [result for _, result in solved]
    together = OptimisationResult(
        torch.cat([x.parameters for x in results]),
        torch.cat([x.loss for x in results]),
        results[0].history,
        results[0].reason,
    )
    return torch.cat([matrix for matrix, _ in solved]), together


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
    """Optimise patch parameters (2, 3, rows, columns), in pixels of the fixed level, from a ``start``.

    ``optimizer`` is ``adam``, with a first ``step`` in pixels, or ``gauss-newton``, which ends when two
    steps lower the loss by less than ``gain``. ``stiffness`` is the weight of the smoothness penalty; no
    patch is displaced by more than ``max_shift`` pixels from the global map. The level is divided into
    strips where the memory of the device does not suffice.
    """

    project = partial(limit_shift, max_shift=max_shift)

    def make(parts: int, compare: Comparison, start: Tensor) -> Iteration[Any]:
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
        return _run(partial(make, parts), key, compare, start[None], optimizer, steps, progress)

    result = memory.in_batches(solve)
    return replace(result, parameters=result.parameters[0])


def _optimise_batch(
    compare: Comparison, model: str, *, optimizer: str, step: float, steps: int, tolerance: float
) -> tuple[Tensor, OptimisationResult]:
    """Residual matrices (b, 2, 3) of one group of the batch items, and the result in parameters (b, n)."""

    def make(compare: Comparison, start: Tensor) -> Iteration[Any]:
        objective = GlobalObjective(compare, model)
        if optimizer == ADAM:
            return adam(objective.evaluate, start, step=step, steps=steps, tolerance=tolerance)
        return gauss_newton(objective.expand, objective.solve, start, tolerance=tolerance)

    start = torch.zeros(len(compare.moving), models.get(model).parameters, device=compare.fixed.device)
    result = _run(make, (model, optimizer, step, tolerance), compare, start, optimizer, steps)
    return GlobalObjective(compare, model).matrix(result.parameters), result


def _run(
    make: Callable[[Comparison, Tensor], Iteration[Any]],
    key: Hashable,
    compare: Comparison,
    start: Tensor,
    optimizer: str,
    steps: int,
    progress: Progress = lambda index, steps, loss: None,
) -> OptimisationResult:
    """Run an optimisation step by step on a CPU, or by a recording on a GPU.

    A recording is made of tensor operations or of kernels, whichever is faster. ``key`` holds everything
    but the images that ``make`` depends on, so that a recording is used again for the same problem only.
    """

    def on_step(index: int, loss: float) -> None:
        progress(index, steps, loss)

    def with_tensors(*inputs: Tensor, tensors_only: bool) -> Iteration[Any]:
        return make(replace(compare.with_tensors(*inputs[:-1]), tensors_only=tensors_only), inputs[-1])

    if not cuda_graphs.can_record(start.device):
        ended = run_stepwise(make(compare, start), steps, on_step)
    else:
        options = (True, False) if compare.compiled else (True,)
        methods = [partial(with_tensors, tensors_only=only) for only in options]
        length = steps if optimizer == ADAM else None  # the step of Adam depends on their number
        full_key = key, length, compare.similarity, compare.window
        kind = optimizer, compare.similarity
        inputs = *compare.tensors, start
        ended = cuda_graphs.run_recorded(full_key, kind, methods, inputs, steps, on_step)
    result = result_of(ended)
    progress(steps, steps, result.history[-1])
    return result
