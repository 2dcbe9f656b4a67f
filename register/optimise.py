"""Minimise a loss: Adam, which needs slopes only, and Gauss-Newton, which needs curvature and few steps. Both know nothing of images."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from register.errors import AlignmentError

STEPS, TOLERANCE = 40, 0.02
"""Of conjugate gradients: how many at most, and the share that is left of the residual when it is small enough for a step that is damped anyway."""
Progress = Callable[[int, int, float], None]
"""Called with the step, the number of steps and the mean loss reached."""


@dataclass(frozen=True)
class Descent:
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


def _as_it_is(parameters: Tensor) -> Tensor:
    return parameters


def _silent(index: int, steps: int, loss: float) -> None:
    pass


def adam(
    evaluate: Evaluate,
    start: Tensor,
    *,
    step: float,
    steps: int,
    tolerance: float,
    project: Callable[[Tensor], Tensor] = _as_it_is,
    progress: Progress = _silent,
) -> Descent:
    """Minimise from ``start`` (b, ...), every batch item on its own; the best state is kept.

    ``step`` (in parameter units, pixels here) falls to a hundredth by a cosine. Stops early when no parameter has moved by more than
    ``tolerance`` over ten steps. ``project`` keeps parameters where they may be. Source: Kingma & Ba 2015, written out
    because importing ``torch.optim`` takes longer than a level. Raises ``AlignmentError`` when a number is no longer finite.
    """
    start = project(start)
    current, anchor, best = start, start, start
    first, second = torch.zeros_like(start), torch.zeros_like(start)
    best_loss = torch.full((len(start),), float("inf"), device=start.device)
    history: list[float] = []
    reason = f"all {steps} steps taken"
    for index in range(steps + 1):
        loss, slope = evaluate(current)
        _check(loss, current)
        better = loss < best_loss
        best_loss, best = torch.where(better, loss, best_loss), _where(better, current, best)
        history.append(float(loss.mean()))
        progress(index, steps, history[-1])
        if index % 10 == 9:
            if float((current - anchor).abs().max()) < tolerance:
                reason = f"no parameter moved by {tolerance:g} px in ten steps"
                break
            anchor = current
        first, second = 0.9 * first + 0.1 * slope, 0.95 * second + 0.05 * slope.square()
        mean, spread = first / (1 - 0.9 ** (index + 1)), second / (1 - 0.95 ** (index + 1))
        rate = step * (0.01 + 0.99 * (1 + math.cos(math.pi * index / max(steps, 1))) / 2)
        current = project(current - rate * mean / (spread.sqrt() + 1e-7))
    return Descent(best, best_loss, tuple(history), reason)


def gauss_newton(
    expand: Expand,
    solve: Solve,
    start: Tensor,
    *,
    steps: int,
    tolerance: float,
    gain: float = 1e-3,
    damping: float = 0.3,
    project: Callable[[Tensor], Tensor] = _as_it_is,
    progress: Progress = _silent,
) -> Descent:
    """Minimise from ``start`` (b, ...) by damped Gauss-Newton steps, every batch item on its own; no step that raises the loss is kept.

    A part's damping falls by 3 after a step that lowers its loss and grows by 6 after one that does not, so that one part's trouble
    does not slow the others. Stops when a step would be shorter than ``tolerance``, or the last two steps that lowered the mean loss did so
    by less than ``gain`` together. Source: Marquardt, "An algorithm for least-squares estimation of nonlinear parameters", SIAM J. 11 (1963).
    Raises ``AlignmentError`` when a number is no longer finite.
    """
    trial = project(start)
    held, best = expand(trial), trial
    _check(held.loss, trial)
    damp = torch.full_like(held.parts, damping)
    history = [float(held.loss.mean())]
    reason = f"all {steps} steps taken"
    for index in range(steps):
        progress(index, steps, history[-1])
        trial = project(best + solve(held, damp))
        moved = float((trial - best).abs().max())
        if moved < tolerance:
            reason = f"no parameter would move by {tolerance:g} px"
            break
        found = expand(trial)
        _check(found.loss, trial)
        better = found.loss < held.loss
        best = _where(better, trial, best)
        damp = torch.where(found.parts < held.parts, damp / 3, damp * 6).clamp(1e-4, 1e6)
        held = Expansion(*(_where(better, new, old) for new, old in zip(found, held, strict=True)))
        history.append(float(held.loss.mean()))
        falls = sorted(set(history))
        if len(falls) > 2 and falls[2] - falls[0] < gain:
            reason = f"two steps lowered the loss by less than {gain:g} together"
            break
    progress(steps, steps, history[-1])
    return Descent(best, held.loss, tuple(history), reason)


def conjugate_gradients(times: Linear, precondition: Linear, right: Tensor, *, steps: int = STEPS, tolerance: float = TOLERANCE) -> Tensor:
    """x with ``times(x)`` near ``right``, for a symmetric positive ``times``.

    Stops after ``steps``, or when the preconditioned residual has fallen to a share ``tolerance``. Source: Hestenes & Stiefel 1952.
    """
    x, r = torch.zeros_like(right), right
    z = precondition(r)
    p, rz = z, (r * z).sum()
    stop = tolerance**2 * rz
    for _ in range(steps):
        ap = times(p)
        alpha = rz / (p * ap).sum().clamp(min=1e-30)
        x, r = x + alpha * p, r - alpha * ap
        z = precondition(r)
        before, rz = rz, (r * z).sum()
        if float(rz) <= float(stop):
            break
        p = z + (rz / before) * p
    return x


def _where(choice: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Per batch item, one of two tensors (b, ...)."""
    return torch.where(choice.reshape(-1, *[1] * (yes.dim() - 1)), yes, no)


def _check(loss: Tensor, parameters: Tensor) -> None:
    if not bool(torch.isfinite(loss).all() & torch.isfinite(parameters).all()):
        raise AlignmentError("a parameter of the descent is no longer finite; try --init center or a smaller --max-shift")
