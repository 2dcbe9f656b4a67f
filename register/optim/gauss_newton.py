"""Damped Gauss-Newton (Levenberg-Marquardt) optimisation: minimise a loss by its gradient and Hessian.

Source: Marquardt, "An algorithm for least-squares estimation of nonlinear parameters", SIAM J. 11 (1963).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from register.compute import tensors
from register.compute.iteration import RUNNING, Iteration
from register.optim.result import CONVERGED, FLAT, ROUNDING, Project, not_finite, unchanged

LESS_DAMPING, MORE_DAMPING = 1 / 3, 6.0
"""Factors of the damping after a step that lowers the loss and after one that does not."""


class Expansion(NamedTuple):
    """A loss (b,) to second order about parameters (b, ...).

    ``local_losses`` (b, n) are the losses of n regions of the problem, each of which has its own damping;
    ``gradient`` is (b, ...), and ``hessian`` (b, ...) is in the form that the solver needs.
    """

    loss: Tensor
    local_losses: Tensor
    gradient: Tensor
    hessian: Tensor


Expand = Callable[[Tensor], Expansion]
Solve = Callable[[Expansion, Tensor], Tensor]
"""A function from an expansion and the damping (b, n) of its regions to a step (b, ...)."""


class GaussNewtonState(NamedTuple):
    """The best parameters, their ``Expansion``, the damping (b, n) of its regions, and the next trial
    parameters.

    ``lowest`` (3,) holds the three lowest mean losses, lowest first, and ``reason`` why the optimisation
    ended.
    """

    best: Tensor
    loss: Tensor
    local_losses: Tensor
    gradient: Tensor
    hessian: Tensor
    damping: Tensor
    trial: Tensor
    lowest: Tensor
    reason: Tensor


def gauss_newton(
    expand: Expand,
    solve: Solve,
    start: Tensor,
    *,
    tolerance: float,
    gain: float = 1e-3,
    damping: float = 0.3,
    project: Project = unchanged,
) -> Iteration[GaussNewtonState]:
    """Minimise from ``start`` (b, ...) by damped Gauss-Newton steps, every batch item separately.

    A step that raises the loss is not kept. The damping of a region falls by 3 after a step that lowers its
    loss and grows by 6 after one that does not, so that a difficult region does not slow the others. Ends
    when a step would be shorter than ``tolerance``, or when the last two steps that lowered the mean loss
    did so by less than ``gain`` together. ``project`` keeps parameters within their bounds.
    """

    def propose(at: GaussNewtonState) -> GaussNewtonState:
        expansion = Expansion(at.loss, at.local_losses, at.gradient, at.hessian)
        trial = project(at.best + solve(expansion, at.damping))
        settled = (trial - at.best).abs().max() < tolerance
        reason = torch.where(at.reason == RUNNING, settled.to(at.reason) * CONVERGED, at.reason)
        return at._replace(trial=trial, reason=reason)

    def evaluate(at: GaussNewtonState) -> GaussNewtonState:
        found, running = expand(at.trial), at.reason == RUNNING
        better = running & (found.loss < at.loss - ROUNDING)
        both = zip((at.trial, *found), at[:5], strict=True)
        best, loss, local_losses, gradient, hessian = (tensors.select(better, new, old) for new, old in both)
        mean = loss.mean()
        lowest = torch.where(mean < at.lowest[0], torch.cat([mean[None], at.lowest[:2]]), at.lowest)
        flat = lowest[2] - lowest[0] < gain  # false as long as there are fewer than three
        factor = torch.where(found.local_losses < at.local_losses, LESS_DAMPING, MORE_DAMPING)
        ended = torch.maximum(flat.to(at.reason) * FLAT, not_finite(found.loss, at.trial))
        return GaussNewtonState(
            best,
            loss,
            local_losses,
            gradient,
            hessian,
            (at.damping * factor).clamp(1e-4, 1e6),
            at.trial,
            lowest,
            torch.where(running, ended, at.reason),
        )

    trial = project(start)
    first = expand(trial)
    mean = first.loss.mean()
    lowest = torch.stack([mean, torch.full_like(mean, math.inf), torch.full_like(mean, math.inf)])
    dampings = torch.full_like(first.local_losses, damping)
    state = GaussNewtonState(trial, *first, dampings, trial, lowest, not_finite(first.loss, trial))
    return Iteration(state, (propose, evaluate), lambda at: torch.stack([at.reason, at.lowest[0]]))
