"""Minimise a loss by its gradient, with the Adam method.

Source: Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015; written out because importing
``torch.optim`` takes longer than a pyramid level.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from register.compute import tensors
from register.compute.iteration import RUNNING, Iteration
from register.optim.result import CONVERGED, ROUNDING, Evaluate, Project, not_finite, unchanged

FIRST_DECAY, SECOND_DECAY = 0.9, 0.95
"""Decay of the running means of the gradient and of its square."""


class AdamState(NamedTuple):
    """The best parameters (b, ...) and their loss (b,), the current ones, and both moments of the gradient.

    ``mean`` is the mean loss of the current parameters, ``anchor`` the parameters of up to ten steps ago,
    ``taken`` the number of steps, and ``reason`` the reason why the optimisation ended.
    """

    best: Tensor
    loss: Tensor
    current: Tensor
    mean: Tensor
    gradient: Tensor
    anchor: Tensor
    first: Tensor
    second: Tensor
    taken: Tensor
    reason: Tensor


def adam(
    evaluate: Evaluate,
    start: Tensor,
    *,
    step: float,
    steps: int,
    tolerance: float,
    project: Project = unchanged,
) -> Iteration[AdamState]:
    """Minimise from ``start`` (b, ...), every batch item separately; the result is the best state.

    ``step`` (in units of the parameters, here pixels) falls to a hundredth by a cosine over ``steps``. Ends
    when no parameter has moved by more than ``tolerance`` over ten steps. ``project`` keeps parameters
    within their bounds.
    """

    def move(at: AdamState) -> AdamState:
        running, tenth = at.reason == RUNNING, at.taken % 10 == 9
        settled = tenth & ((at.current - at.anchor).abs().max() < tolerance)
        count = at.taken + 1
        first = FIRST_DECAY * at.first + 0.1 * at.gradient
        second = SECOND_DECAY * at.second + 0.05 * at.gradient.square()
        mean, square = first / (1 - FIRST_DECAY**count), second / (1 - SECOND_DECAY**count)
        rate = step * (0.01 + 0.99 * (1 + torch.cos(math.pi / max(steps, 1) * at.taken)) / 2)
        moved = at._replace(
            current=project(at.current - rate * mean / (square.sqrt() + 1e-7)),
            anchor=torch.where(tenth, at.current, at.anchor),
            first=first,
            second=second,
            taken=count,
            reason=settled.to(at.reason) * CONVERGED,
        )
        return _select_state(running, moved, at)

    def evaluate_state(at: AdamState) -> AdamState:
        (loss, gradient), running = evaluate(at.current), at.reason == RUNNING
        better = loss < at.loss - ROUNDING
        evaluated = at._replace(
            best=tensors.select(better, at.current, at.best),
            loss=torch.where(better, loss, at.loss),
            mean=loss.mean(),
            gradient=gradient,
            reason=not_finite(loss, at.current),
        )
        return _select_state(running, evaluated, at)

    start = project(start)
    loss, gradient = evaluate(start)
    zeros, none, reason = torch.zeros_like(start), torch.zeros_like(loss[0]), not_finite(loss, start)
    state = AdamState(start, loss, start, loss.mean(), gradient, start, zeros, zeros, none, reason)
    return Iteration(state, (move, evaluate_state), lambda at: torch.stack([at.reason, at.mean]))


def _select_state(choice: Tensor, yes: AdamState, no: AdamState) -> AdamState:
    """The state ``yes`` where a scalar tensor is true, or else ``no``; the host does not wait for a GPU."""
    if tensors.is_on_cpu(choice):
        return yes if bool(choice) else no
    each = zip(yes, no, strict=True)
    return AdamState(*(new if new is old else torch.where(choice, new, old) for new, old in each))
