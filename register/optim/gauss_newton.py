"""Minimise a loss: Adam, which needs slopes only, and Gauss-Newton, which needs curvature and few steps. Both know nothing of images."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from register.compute import cuda_graphs
from register.compute.cuda_graphs import RUNNING, Iteration, IterationResult
from register.errors import AlignmentError

STEPS, TOLERANCE = 40, 0.02
"""Of conjugate gradients: how many at most, and the share that is left of the residual when it is small enough for a step that is damped anyway."""
UNSEEN = 16
"""The same on a GPU, which takes all of them: fine levels need 5 to 10, the coarsest up to 21."""
ROUNDING = 1e-6
"""A fall of a loss that may be rounding: what lowers it by less is not followed, so that images that agree stay where they are."""
CONVERGED, LEVEL, LOST = 1, 2, 3
REASONS = {
    RUNNING: "all steps taken",
    CONVERGED: "no parameter would move by more than the tolerance",
    LEVEL: "two steps lowered the loss by too little",
}
Progress = Callable[[int, int, float], None]
"""Called with the step, the number of steps and the mean loss reached."""


@dataclass(frozen=True)
class OptimisationResult:
    """Where a descent ended: parameters (b, ...), loss (b,), the mean loss at each step and why it stopped."""

    parameters: Tensor
    loss: Tensor
    history: tuple[float, ...]
    reason: str


class Expansion(NamedTuple):
    """A loss (b,) to second order about parameters (b, ...): its slope (b, ...) and whatever the solver takes as curvature (b, ...).

    ``parts`` (b, n) are losses of parts of the problem, each with a damping of its own.
    """

    loss: Tensor
    parts: Tensor
    slope: Tensor
    curvature: Tensor


Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Takes parameters (b, ...) to the loss (b,) and its slope (b, ...)."""
Expand = Callable[[Tensor], Expansion]
Solve = Callable[[Expansion, Tensor], Tensor]
"""Takes an expansion and the damping (b, n) of its parts to a step (b, ...) downhill."""

Linear = Callable[[Tensor], Tensor]
Standing = TypeVar("Standing", "Moved", "Held")


def _as_it_is(parameters: Tensor) -> Tensor:
    return parameters


class Moved(NamedTuple):
    """Where Adam stands: the best parameters yet and their loss (b,), the present ones with their mean loss and slope, those of some steps ago, both moments of
    the slope, the number of steps, and why it ended."""

    best: Tensor
    loss: Tensor
    current: Tensor
    mean: Tensor
    slope: Tensor
    anchor: Tensor
    first: Tensor
    second: Tensor
    taken: Tensor
    why: Tensor


def adam(
    evaluate: Evaluate,
    start: Tensor,
    *,
    step: float,
    steps: int,
    tolerance: float,
    project: Callable[[Tensor], Tensor] = _as_it_is,
) -> Iteration[Moved]:
    """Minimise from ``start`` (b, ...), every batch item on its own; the best state is kept.

    ``step`` (in parameter units, pixels here) falls to a hundredth by a cosine over ``steps``. Ends when no parameter has moved by more than
    ``tolerance`` over ten steps. ``project`` keeps parameters where they may be. Source: Kingma & Ba 2015, written out
    because importing ``torch.optim`` takes longer than a level.
    """

    def move(at: Moved) -> Moved:
        going, tenth = at.why == RUNNING, at.taken % 10 == 9
        settled = tenth & ((at.current - at.anchor).abs().max() < tolerance)
        first, second, count = (
            0.9 * at.first + 0.1 * at.slope,
            0.95 * at.second + 0.05 * at.slope.square(),
            at.taken + 1,
        )
        mean, spread = first / (1 - 0.9**count), second / (1 - 0.95**count)
        rate = step * (0.01 + 0.99 * (1 + torch.cos(math.pi / max(steps, 1) * at.taken)) / 2)
        moved = at._replace(
            current=project(at.current - rate * mean / (spread.sqrt() + 1e-7)),
            anchor=torch.where(tenth, at.current, at.anchor),
            first=first,
            second=second,
            taken=count,
            why=settled.to(at.why) * CONVERGED,
        )
        return _if(going, moved, at)

    def look(at: Moved) -> Moved:
        (loss, slope), going = evaluate(at.current), at.why == RUNNING
        better = loss < at.loss - ROUNDING
        best, least = _where(better, at.current, at.best), torch.where(better, loss, at.loss)
        return _if(
            going,
            at._replace(best=best, loss=least, mean=loss.mean(), slope=slope, why=_lost(loss, at.current)),
            at,
        )

    start = project(start)
    loss, slope = evaluate(start)
    zeros, none, why = torch.zeros_like(start), torch.zeros_like(loss[0]), _lost(loss, start)
    return Iteration(
        Moved(start, loss, start, loss.mean(), slope, start, zeros, zeros, none, why),
        (move, look),
        lambda at: torch.stack([at.why, at.mean]),
    )


class Held(NamedTuple):
    """Where Gauss-Newton stands: the best parameters, the loss about them to second order as in ``Expansion``, the damping of its parts, the parameters to be
    tried next, the three lowest mean losses, lowest first, and why it ended."""

    best: Tensor
    loss: Tensor
    parts: Tensor
    slope: Tensor
    curvature: Tensor
    damping: Tensor
    trial: Tensor
    lowest: Tensor
    why: Tensor


def gauss_newton(
    expand: Expand,
    solve: Solve,
    start: Tensor,
    *,
    tolerance: float,
    gain: float = 1e-3,
    damping: float = 0.3,
    project: Callable[[Tensor], Tensor] = _as_it_is,
) -> Iteration[Held]:
    """Minimise from ``start`` (b, ...) by damped Gauss-Newton steps, every batch item on its own; no step that raises the loss is kept.

    A part's damping falls by 3 after a step that lowers its loss and grows by 6 after one that does not, so that one part's trouble
    does not slow the others. Ends when a step would be shorter than ``tolerance``, or the last two steps that lowered the mean loss did so
    by less than ``gain`` together. Source: Marquardt, "An algorithm for least-squares estimation of nonlinear parameters", SIAM J. 11 (1963).
    """

    def propose(at: Held) -> Held:
        trial = project(at.best + solve(Expansion(at.loss, at.parts, at.slope, at.curvature), at.damping))
        settled = (trial - at.best).abs().max() < tolerance
        return at._replace(
            trial=trial, why=torch.where(at.why == RUNNING, settled.to(at.why) * CONVERGED, at.why)
        )

    def judge(at: Held) -> Held:
        found, going = expand(at.trial), at.why == RUNNING
        better = going & (found.loss < at.loss - ROUNDING)
        best, loss, parts, slope, curvature = (
            _where(better, new, old) for new, old in zip((at.trial, *found), at[:5], strict=True)
        )
        mean = loss.mean()
        lowest = torch.where(mean < at.lowest[0], torch.cat([mean[None], at.lowest[:2]]), at.lowest)
        level = lowest[2] - lowest[0] < gain  # not as long as there are fewer than three
        damping = (at.damping * torch.where(found.parts < at.parts, 1 / 3, 6.0)).clamp(1e-4, 1e6)
        why = torch.where(going, torch.maximum(level.to(at.why) * LEVEL, _lost(found.loss, at.trial)), at.why)
        return Held(best, loss, parts, slope, curvature, damping, at.trial, lowest, why)

    trial = project(start)
    held = expand(trial)
    mean = held.loss.mean()
    lowest = torch.stack([mean, torch.full_like(mean, math.inf), torch.full_like(mean, math.inf)])
    begin = Held(trial, *held, torch.full_like(held.parts, damping), trial, lowest, _lost(held.loss, trial))
    return Iteration(begin, (propose, judge), lambda at: torch.stack([at.why, at.lowest[0]]))


def ended(followed: IterationResult[Moved] | IterationResult[Held]) -> OptimisationResult:
    """Where a descent led. Raises ``AlignmentError`` when a number was no longer finite."""
    if followed.why == LOST:
        raise AlignmentError(
            "a parameter of the descent is no longer finite; try --init center or a smaller --max-shift"
        )
    losses = followed.losses[:-1] if followed.why == CONVERGED else followed.losses  # that step was not taken
    return OptimisationResult(followed.state.best, followed.state.loss, tuple(losses), REASONS[followed.why])


def conjugate_gradients(
    times: Linear, precondition: Linear, right: Tensor, *, steps: int = STEPS, tolerance: float = TOLERANCE
) -> Tensor:
    """x with ``times(x)`` near ``right``, for a symmetric positive ``times``.

    Ends after ``steps``, or when the preconditioned residual has fallen to a share ``tolerance``; on a GPU, which would have to be waited for, there are at
    most ``UNSEEN`` steps, and those after that change nothing. Source: Hestenes & Stiefel 1952.
    """
    x, r = torch.zeros_like(right), right
    z = precondition(r)
    p, rz = z, (r * z).sum()
    stop, going = tolerance**2 * rz, rz > 0
    for _ in range(steps if cuda_graphs.is_on_cpu(right) else min(steps, UNSEEN)):
        ap = times(p)
        alpha = torch.where(going, rz / (p * ap).sum().clamp(min=1e-30), 0.0)
        x, r = x + alpha * p, r - alpha * ap
        z = precondition(r)
        before, rz = rz, (r * z).sum()
        going = going & (rz > stop)
        if cuda_graphs.is_on_cpu(rz) and not bool(going):
            break
        p = z + (rz / before.clamp(min=1e-30)) * p
    return x


def inverse(matrix: Tensor) -> Tensor:
    """The inverses (..., n, n) of symmetric positive matrices.

    On a GPU by elimination without pivots, which such matrices do not need: the library's waits for the device to tell whether there is an inverse.
    Source: Golub & Van Loan, "Matrix computations", 4th ed., section 4.2.
    """
    if cuda_graphs.is_on_cpu(matrix):
        return torch.linalg.inv(matrix)
    n = matrix.shape[-1]
    for k in range(n):
        row, column = matrix[..., k, :] / matrix[..., k, k, None], matrix[..., :, k]
        matrix = matrix - column[..., :, None] * row[..., None, :]
        matrix[..., k, :], matrix[..., :, k] = row, -column / column[..., k, None]
        matrix[..., k, k] = 1 / column[..., k]
    return matrix


def _where(choice: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Per batch item, one of two tensors (b, ...)."""
    if len(choice) == 1 and cuda_graphs.is_on_cpu(choice):
        return yes if bool(choice) else no
    return torch.where(choice.reshape(-1, *[1] * (yes.dim() - 1)), yes, no)


def _if(choice: Tensor, yes: Standing, no: Standing) -> Standing:
    """One of two, without asking which; on a CPU, where asking costs nothing, nothing is copied."""
    if cuda_graphs.is_on_cpu(choice):
        return yes if bool(choice) else no
    return type(no)(
        *(new if new is old else torch.where(choice, new, old) for new, old in zip(yes, no, strict=True))
    )


def _lost(loss: Tensor, parameters: Tensor) -> Tensor:
    """``LOST`` where a number is no longer finite, or else ``RUNNING``, as a number of the loss's type."""
    total = loss.sum() + parameters.sum()  # one that is not finite makes the sum so
    return (total - total != 0).to(loss) * LOST
