"""Iterative methods as values: the initial state, the functions that make one step, and a report.

The optimisers in ``register.optim`` return an ``Iteration``; ``run_stepwise`` runs it on a CPU and
``register.compute.cuda_graphs`` records and replays it on a GPU.
"""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

RUNNING = 0
"""The code that an iteration reports while it runs; any other number is the reason why it ended."""

State = TypeVar("State", bound=tuple[Tensor, ...])
Stage = Callable[[State], State]
OnStep = Callable[[int, float], None]
"""Called with the number of a step and the loss before it."""


class Iteration(NamedTuple, Generic[State]):
    """An iterative method: its initial state, the stages of one step, in order, and the report of a state.

    A report (2,) holds the reason why the iteration ended, or ``RUNNING``, and the loss. A stage returns
    its input tensors or new ones, never changes one in place, and returns a state that has ended unchanged.
    """

    state: State
    stages: tuple[Stage[State], ...]
    report: Callable[[State], Tensor]


MakeIteration = Callable[..., Iteration[State]]
"""A function from the input tensors of a problem to the iteration that solves it."""


class IterationResult(NamedTuple, Generic[State]):
    """The last state of an iteration, the reason why it ended, and the loss before each step and at the
    end."""

    state: State
    reason: int
    losses: list[float]


def run_stepwise(iteration: Iteration[State], steps: int, on_step: OnStep) -> IterationResult[State]:
    """Run at most ``steps`` steps and stop as soon as the iteration reports a reason to end."""
    state = iteration.state
    reason, loss = iteration.report(state).tolist()
    losses = [loss]
    while reason == RUNNING and len(losses) <= steps:
        on_step(len(losses) - 1, loss)
        for stage in iteration.stages:
            state = stage(state)
            reason, loss = iteration.report(state).tolist()
            if reason != RUNNING:
                break
        losses.append(loss)
    return IterationResult(state, int(reason), losses)


class ReportReader:
    """Copies the reports of a running iteration to the host without stopping the device."""

    def __init__(self, device: torch.device, steps: int) -> None:
        self.on_gpu = device.type == "cuda"
        self.reports = torch.empty(steps + 1, 2, pin_memory=self.on_gpu)
        self.events: list[torch.cuda.Event] = []
        self.count = 0

    def append(self, report: Tensor) -> None:
        """Queue the copy of a report (2,) behind the work that was queued before."""
        self.reports[self.count].copy_(report, non_blocking=True)
        self.count += 1
        if self.on_gpu:
            self.events.append(torch.cuda.Event())  # type: ignore[no-untyped-call]
            self.events[-1].record()

    def has_ended(self, ahead: int) -> bool:
        """Whether the iteration had ended ``ahead`` reports ago.

        The steps that were queued since then keep the device busy while the host waits for the report.
        """
        if self.count <= ahead:
            return False
        if self.on_gpu:
            self.events[self.count - 1 - ahead].synchronize()
        return int(self.reports[self.count - 1 - ahead, 0]) != RUNNING

    def result(self) -> tuple[int, list[float]]:
        """The reason why the iteration ended, and its losses up to that step."""
        if self.on_gpu:
            self.events[-1].synchronize()
        reports = self.reports[: self.count].tolist()
        end = next((k for k, (reason, _) in enumerate(reports) if reason != RUNNING), self.count - 1)
        return int(reports[end][0]), [loss for _, loss in reports[: end + 1]]
