"""A descent on the device of its tensors: step by step on a CPU, recorded once and replayed on a CUDA device.

A step is some hundred small operations. A GPU is done with each before the next has been asked for, so they are recorded as a CUDA graph, which is asked for as
a whole, and pairs of equal sizes share it. Nothing waits for the device inside a descent: it decides by itself whether to go on, steps asked for after its end
change nothing, and the host reads what it reported a few steps ago. Source: CUDA Programming Guide, "CUDA Graphs"; Paszke et al., "PyTorch", 2019, section 5.
"""

import math
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

KEPT = 16
"""Recordings that are kept; each holds the memory of a level."""
AHEAD = 4
"""Steps that are asked for before the host looks at what the first of them said."""
TRIED = 5
"""Steps that are timed to tell which of several recordings is the quickest."""
APART = 0.05
"""By how much the losses of two recordings of the same descent may differ after a few steps; what rounding does is a tenth of it."""
RUNNING = 0
"""What a descent reports while it goes on; any other number says why it ended."""

State = TypeVar("State", bound=tuple[Tensor, ...])
Stage = Callable[[State], State]


class Iteration(NamedTuple, Generic[State]):
    """Where a descent begins, what takes it a step on, one stage after the other, and what it reports: why it ended, and its loss.

    A stage passes on what it was given or makes new tensors; where a descent has led, and why it ended, no stage changes once it has ended.
    """

    state: State
    stages: tuple[Stage[State], ...]
    report: Callable[[State], Tensor]


Begin = Callable[..., Iteration[State]]
"""Takes its inputs, tensors, to where it begins."""
OnStep = Callable[[int, float], None]
"""Called with the number of a step and the loss before it."""
Record = Callable[[Callable[[], None]], Callable[[], None]]
"""Does some work and gives what does it again, with the same tensors."""


class IterationResult(NamedTuple, Generic[State]):
    """Where a descent ended, why, and its loss before every step and at the end."""

    state: State
    why: int
    losses: list[float]


@cache
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A few numbers as a tensor, always the same one: while steps are recorded, nothing can be brought to the device."""
    return torch.tensor(values, dtype=dtype, device=device)


def run_stepwise(begun: Iteration[State], steps: int, heard: OnStep) -> IterationResult[State]:
    """Up to ``steps`` steps; a descent that ended is left at once."""
    state = begun.state
    why, loss = begun.report(state).tolist()
    losses = [loss]
    while why == RUNNING and len(losses) <= steps:
        heard(len(losses) - 1, loss)
        for stage in begun.stages:
            state = stage(state)
            why, loss = begun.report(state).tolist()
            if why != RUNNING:
                break
        losses.append(loss)
    return IterationResult(state, int(why), losses)


class Recording(Generic[State]):
    """A descent's begin and one step of it, recorded with inputs of their own, which each call fills anew."""

    def __init__(self, begin: Begin[State], inputs: Sequence[Tensor], record: Record) -> None:
        self.begin, self.inputs = begin, tuple(x.clone() for x in inputs)
        self.first = record(self._first)
        self.first()
        self.next = record(self._next)

    def _first(self) -> None:
        begun = self.begin(*self.inputs)
        self.begun = begun._replace(state=type(begun.state)(*(x.clone() for x in begun.state)))

    def _next(self) -> None:
        state = self.begun.state
        for stage in self.begun.stages:
            state = stage(state)
        changed = [(own, new) for own, new in zip(self.begun.state, state, strict=True) if own is not new]
        torch._foreach_copy_([own for own, _ in changed], [new for _, new in changed])  # one kernel for all

    def __call__(self, inputs: Sequence[Tensor], steps: int, heard: OnStep) -> IterationResult[State]:
        """The descent for other inputs of the same sizes."""
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given, non_blocking=True)
        listener = Listener(self.inputs[0].device, steps)
        self.first()
        listener.note(self.begun.report(self.begun.state))
        for _ in range(steps):
            self.next()
            listener.note(self.begun.report(self.begun.state))
            if listener.ended(AHEAD):
                break
        why, losses = listener.said()
        for index, loss in enumerate(losses[:-1]):
            heard(index, loss)
        return IterationResult(type(self.begun.state)(*(x.clone() for x in self.begun.state)), why, losses)


class Listener:
    """What a descent reports, brought to the host while it goes on."""

    def __init__(self, device: torch.device, steps: int) -> None:
        self.on_gpu = device.type == "cuda"
        self.reports = torch.empty(steps + 1, 2, pin_memory=self.on_gpu)
        self.events: list[torch.cuda.Event] = []
        self.count = 0

    def note(self, report: Tensor) -> None:
        """Have a report brought, behind all that was asked for before."""
        self.reports[self.count].copy_(report, non_blocking=True)
        self.count += 1
        if self.on_gpu:
            self.events.append(torch.cuda.Event())  # type: ignore[no-untyped-call]
            self.events[-1].record()

    def ended(self, ahead: int) -> bool:
        """Whether the descent said, ``ahead`` reports ago, that it had ended; what was asked for since then keeps the device busy while this waits."""
        if self.count <= ahead:
            return False
        if self.on_gpu:
            self.events[self.count - 1 - ahead].synchronize()
        return int(self.reports[self.count - 1 - ahead, 0]) != RUNNING

    def said(self) -> tuple[int, list[float]]:
        """Why the descent ended, and its losses up to then."""
        if self.on_gpu:
            self.events[-1].synchronize()
        reports = self.reports[: self.count].tolist()
        end = next((k for k, (why, _) in enumerate(reports) if why != RUNNING), self.count - 1)
        return int(reports[end][0]), [loss for _, loss in reports[: end + 1]]


def cuda_graphs() -> Record:
    """``Record`` on the current CUDA device; what is recorded with it is replayed in the order of recording and shares the memory of what comes and goes."""
    pool = torch.cuda.graph_pool_handle()

    def record(work: Callable[[], None]) -> Callable[[], None]:
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # libraries set themselves up, kernels are compiled
            work()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            work()
        return graph.replay

    return record


_KNOWN: OrderedDict[Hashable, Recording[Any]] = OrderedDict()
_QUICKEST: dict[Hashable, int] = {}
_REFUSED: set[torch.device] = set()


def can_record(device: torch.device) -> bool:
    """Whether work on a device can be recorded, as far as is known."""
    return device.type == "cuda" and device not in _REFUSED


def is_on_cpu(tensor: Tensor) -> bool:
    """Whether the host can look at a tensor without waiting for a device."""
    return tensor.device.type == "cpu"


def run_recorded(
    key: Hashable,
    kind: Hashable,
    begins: Sequence[Begin[State]],
    inputs: Sequence[Tensor],
    steps: int,
    heard: OnStep,
) -> IterationResult[State]:
    """A descent from ``inputs`` on a device that records, by the quickest of several ways to do the same.

    What the inputs do not tell, sizes apart, must be in the ``key``. Which way is the quickest is found out for each ``kind``, as long as it is the first.
    """
    device = inputs[0].device
    key = (key, device, *((x.shape, x.dtype) for x in inputs))
    with torch.cuda.device(device):
        if key not in _KNOWN:
            recording = quickest((kind, device), begins, inputs, cuda_graphs, _seconds)
            if recording is None:
                _REFUSED.add(device)
                return run_stepwise(begins[0](*inputs), steps, heard)
            _KNOWN[key] = recording
            while len(_KNOWN) > KEPT:
                _KNOWN.popitem(last=False)
        _KNOWN.move_to_end(key)
        return _KNOWN[key](inputs, steps, heard)


def forget() -> bool:
    """Give back the memory of all recordings; whether there were any."""
    some = bool(_KNOWN)
    _KNOWN.clear()
    return some


def quickest(
    kind: Hashable,
    begins: Sequence[Begin[State]],
    inputs: Sequence[Tensor],
    recorder: Callable[[], Record],
    seconds: Callable[[Callable[[], None]], float],
) -> Recording[State] | None:
    """A recording of the way whose steps take the fewest ``seconds``. Where it is not the first one, ways of this ``kind`` are compared no more: recordings are
    asked for from small images to large ones, and what is quicker than tensors on a small one is so on a large one. A way that does not lead where the first
    one does is left out, with a warning. None where no way can be recorded."""
    ways, recordings = (
        begins if kind not in _QUICKEST else [begins[_QUICKEST[kind]]],
        list[Recording[State]](),
    )
    for begin in ways:
        with told("recorded"):
            recordings.append(Recording(begin, inputs, recorder()))
    if kind in _QUICKEST or len(recordings) < 2:
        return recordings[0] if recordings else None
    times = [seconds(recording.next) for recording in recordings]
    losses = [float(recording.begun.report(recording.begun.state)[1]) for recording in recordings]
    for number in range(1, len(recordings)):
        if not abs(losses[number] - losses[0]) <= APART:  # nor where one is no number
            said = f"compiled steps are left out on the GPU: they lead to a loss of {losses[number]:.3g}, others to {losses[0]:.3g}"
            warnings.warn(said, RuntimeWarning, stacklevel=3)
            times[number] = math.inf
    best = recordings[times.index(min(times))]
    if best is not recordings[0]:
        _QUICKEST[kind] = list(begins).index(best.begin)
    return best


@contextmanager
def told(what: str) -> Iterator[None]:
    """Goes on, with a warning, where steps cannot be recorded or compiled, as ``what`` says: a driver that is too old, a compiler that a kernel needs and is
    not there. Where memory does not suffice the error stands."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        warnings.warn(
            f"steps cannot be {what} on the GPU, and run more slowly: {type(error).__name__}: {error}",
            RuntimeWarning,
            stacklevel=4,
        )


def _seconds(work: Callable[[], None]) -> float:
    """The time of some work on the device, the mean of a few."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    for _ in range(TRIED):
        work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))
