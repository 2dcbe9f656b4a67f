"""Types that the optimisers share: the functions they call, the reasons why they end, and the result."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from register.compute.iteration import RUNNING, IterationResult
from register.errors import AlignmentError

ROUNDING = 1e-6
"""Largest decrease of a loss that may be a rounding error.

A step that lowers the loss by less is not taken, so that two equal images are aligned by exactly the
identity.
"""
CONVERGED, FLAT, NOT_FINITE = 1, 2, 3
REASONS = {
    RUNNING: "all steps taken",
    CONVERGED: "no parameter would move by more than the tolerance",
    FLAT: "two steps lowered the loss by too little",
}

Progress = Callable[[int, int, float], None]
"""Called with the index of the step, the number of steps and the mean loss."""
Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A function from parameters (b, ...) to the loss (b,) and its gradient (b, ...)."""
Project = Callable[[Tensor], Tensor]
"""A function from parameters (b, ...) to the nearest allowed ones."""


@dataclass(frozen=True)
class OptimisationResult:
    """The best parameters (b, ...), their loss (b,), the mean loss at each step and the reason why it
    ended."""

    parameters: Tensor
    loss: Tensor
    history: tuple[float, ...]
    reason: str


def result_of(ended: IterationResult[Any]) -> OptimisationResult:
    """The result of an iteration of Adam or Gauss-Newton.

    Raises ``AlignmentError`` when a number was no longer finite.
    """
    if ended.reason == NOT_FINITE:
        raise AlignmentError(
            "a parameter of the optimisation is no longer finite; try --init center or a smaller --max-shift"
        )
    losses = ended.losses[:-1] if ended.reason == CONVERGED else ended.losses  # that step was not taken
    return OptimisationResult(ended.state.best, ended.state.loss, tuple(losses), REASONS[ended.reason])


def not_finite(loss: Tensor, parameters: Tensor) -> Tensor:
    """``NOT_FINITE`` where a number is no longer finite, or else ``RUNNING``, as a scalar tensor."""
    total = loss.sum() + parameters.sum()  # one number that is not finite makes the sum so
    return (total - total != 0).to(loss) * NOT_FINITE


def unchanged(parameters: Tensor) -> Tensor:
    """The same parameters: the projection where all parameters are allowed."""
    return parameters
