"""One level: global or patch parameters that make two images alike, by Adam or Gauss-Newton, through one ``grid_sample`` per step."""

from functools import partial

import torch
from torch import Tensor

from register import affine, memory, optimise
from register.comparison import Comparison
from register.objective import GlobalObjective, PatchObjective, limit_shift
from register.optimise import Descent, Progress
from register.patches import PatchGrid

ADAM, GAUSS_NEWTON = "adam", "gauss-newton"


def descend_global(compare: Comparison, model: str, *, optimizer: str, step: float, steps: int, tolerance: float) -> tuple[Tensor, Descent]:
    """Residual matrices (b, 2, 3) of a global ``model`` in pixels of the fixed level, one per batch item of ``compare``."""
    solved = memory.in_parts(
        lambda parts: [_solve_global(part, model, optimizer=optimizer, step=step, steps=steps, tolerance=tolerance) for part in compare.batches(parts)]
    )
    outcomes = [outcome for _, outcome in solved]
    parameters, loss = torch.cat([x.parameters for x in outcomes]), torch.cat([x.loss for x in outcomes])
    return torch.cat([matrix for matrix, _ in solved]), Descent(parameters, loss, outcomes[0].history, outcomes[0].reason)


def descend_patches(
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
) -> Descent:
    """Patch parameters (2, 3, rows, columns) in pixels of the fixed level, blended into one field that is sampled once.

    ``optimizer`` is ``adam``, with a first ``step`` in pixels, or ``gauss-newton``, which stops when two steps bring less than
    ``gain``. ``stiffness`` weighs the neighbours' mean
    disagreement against the loss; no patch moves by more than ``max_shift`` pixels from the global fit.
    """

    def solve(parts: int) -> Descent:
        objective = PatchObjective(compare, grid, stiffness, parts)
        minimise = (
            partial(optimise.adam, objective.evaluate, step=step)
            if optimizer == ADAM
            else partial(optimise.gauss_newton, objective.expand, objective.solve, gain=gain)
        )
        return minimise(start[None], steps=steps, tolerance=tolerance, progress=progress, project=lambda parameters: limit_shift(parameters, max_shift))

    outcome = memory.in_parts(solve)
    return Descent(outcome.parameters[0], outcome.loss, outcome.history, outcome.reason)


def _solve_global(compare: Comparison, model: str, *, optimizer: str, step: float, steps: int, tolerance: float) -> tuple[Tensor, Descent]:
    objective = GlobalObjective(compare, model)
    start = torch.zeros(len(compare.moving), affine.GLOBAL_PARAMETERS[model], device=compare.fixed.device)
    if optimizer == ADAM:
        outcome = optimise.adam(objective.evaluate, start, step=step, steps=steps, tolerance=tolerance)
    else:
        outcome = optimise.gauss_newton(objective.expand, objective.solve, start, steps=steps, tolerance=tolerance)
    return objective.matrix(outcome.parameters), outcome
