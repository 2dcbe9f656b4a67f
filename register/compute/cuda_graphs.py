"""Record the steps of iterations as CUDA graphs and replay them.

A step of an optimiser is some hundred small operations, each of which takes less time on a GPU than the host
needs to queue it. A step is therefore recorded once as a CUDA graph and launched as one operation; image
pairs of equal sizes share it. The host does not wait for the device during an iteration: the test for the end
runs on the device, steps that are launched after the end do not change the state, and the host reads the
report of a few steps ago. Source: CUDA Programming Guide, "CUDA Graphs"; Paszke et al., "PyTorch", 2019,
section 5.
"""

import math
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic

import torch
from torch import Tensor

from register.compute.iteration import (
    IterationResult,
    MakeIteration,
    OnStep,
    ReportReader,
    State,
    run_stepwise,
)

MOST_RECORDINGS = 16
"""Largest number of recordings that are kept; each holds the memory of a pyramid level."""
STEPS_AHEAD = 4
"""Number of steps that are launched before the host reads the report of the first of them."""
TIMED_STEPS = 5
"""Steps that are timed to find the fastest of several recordings."""
LARGEST_DIFFERENCE = 0.05
"""Largest difference between the losses of two recordings of one problem after a few steps; rounding errors
are a tenth of it."""

Record = Callable[[Callable[[], None]], Callable[[], None]]
"""Runs some work and returns a function that repeats it with the same tensors."""


class Recording(Generic[State]):
    """The recorded start and step of an iteration; each call copies its inputs into the recorded tensors."""

    def __init__(self, make: MakeIteration[State], inputs: Sequence[Tensor], record: Record) -> None:
        self.make, self.inputs = make, tuple(x.clone() for x in inputs)
        self.replay_start = record(self._start)
        self.replay_start()
        self.replay_step = record(self._step)

    def _start(self) -> None:
        made = self.make(*self.inputs)
        self.iteration = made._replace(state=type(made.state)(*(x.clone() for x in made.state)))

    def _step(self) -> None:
        state = self.iteration.state
        for stage in self.iteration.stages:
            state = stage(state)
        both = zip(self.iteration.state, state, strict=True)
        changed = [(own, new) for own, new in both if own is not new]
        torch._foreach_copy_([own for own, _ in changed], [new for _, new in changed])  # one kernel for all

    def __call__(self, inputs: Sequence[Tensor], steps: int, on_step: OnStep) -> IterationResult[State]:
        """Run the iteration for other inputs of the same sizes."""
        for own, new in zip(self.inputs, inputs, strict=True):
            own.copy_(new, non_blocking=True)
        reports = ReportReader(self.inputs[0].device, steps)
        self.replay_start()
        reports.append(self.iteration.report(self.iteration.state))
        for _ in range(steps):
            self.replay_step()
            reports.append(self.iteration.report(self.iteration.state))
            if reports.has_ended(STEPS_AHEAD):
                break
        reason, losses = reports.result()
        for index, loss in enumerate(losses[:-1]):
            on_step(index, loss)
        state = self.iteration.state
        return IterationResult(type(state)(*(x.clone() for x in state)), reason, losses)


def graph_recorder() -> Record:
    """``Record`` by CUDA graphs on the current device.

    Graphs of one recorder are replayed in the order of recording and share the memory of their temporary
    tensors.
    """
    pool = torch.cuda.graph_pool_handle()

    def record(work: Callable[[], None]) -> Callable[[], None]:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # initialises libraries and compiles kernels, which cannot be recorded
            work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            work()
        return graph.replay

    return record


_RECORDINGS: OrderedDict[Hashable, Recording[Any]] = OrderedDict()
_FASTEST: dict[Hashable, int] = {}
_REFUSED: set[torch.device] = set()


def can_record(device: torch.device) -> bool:
    """Whether work on a device can be recorded: it is a CUDA device on which no recording has failed."""
    return device.type == "cuda" and device not in _REFUSED


def run_recorded(
    key: Hashable,
    kind: Hashable,
    methods: Sequence[MakeIteration[State]],
    inputs: Sequence[Tensor],
    steps: int,
    on_step: OnStep,
) -> IterationResult[State]:
    """Run an iteration on a CUDA device, by the fastest of several ``methods`` that compute the same.

    ``key`` holds everything that a recording depends on, except the shapes and types of the inputs. The
    fastest method is measured once for each ``kind`` of problem, unless it is the first.
    """
    device = inputs[0].device
    key = (key, device, *((x.shape, x.dtype) for x in inputs))
    with torch.cuda.device(device):
        if key not in _RECORDINGS:
            recording = fastest((kind, device), methods, inputs, graph_recorder, _seconds)
            if recording is None:
                _REFUSED.add(device)
                return run_stepwise(methods[0](*inputs), steps, on_step)
            _RECORDINGS[key] = recording
            while len(_RECORDINGS) > MOST_RECORDINGS:
                _RECORDINGS.popitem(last=False)
        _RECORDINGS.move_to_end(key)
        return _RECORDINGS[key](inputs, steps, on_step)


def free_recordings() -> bool:
    """Free the memory of all recordings and return whether there were any."""
    any_recorded = bool(_RECORDINGS)
    _RECORDINGS.clear()
    return any_recorded


def fastest(
    kind: Hashable,
    methods: Sequence[MakeIteration[State]],
    inputs: Sequence[Tensor],
    recorder: Callable[[], Record],
    seconds: Callable[[Callable[[], None]], float],
) -> Recording[State] | None:
    """The recording of the method whose step takes the fewest ``seconds``; None when no method can be
    recorded.

    Where another method than the first is fastest, it is used for all further problems of this ``kind``
    without measuring again: levels are processed from coarse to fine, and a method that is faster than tensor
    operations on a small image is also faster on a large one. A method whose loss differs from the first
    one's is not used, with a warning.
    """
    known = kind in _FASTEST
    tried = [methods[_FASTEST[kind]]] if known else methods
    recordings: list[Recording[State]] = []
    for make in tried:
        with warn_on_failure("recorded"):
            recordings.append(Recording(make, inputs, recorder()))
    if known or len(recordings) < 2:
        return recordings[0] if recordings else None
    times = [seconds(recording.replay_step) for recording in recordings]
    losses = [float(recording.iteration.report(recording.iteration.state)[1]) for recording in recordings]
    for number in range(1, len(recordings)):
        if not abs(losses[number] - losses[0]) <= LARGEST_DIFFERENCE:  # also true where a loss is NaN
            message = (
                f"compiled steps are not used on the GPU: they reach a loss of {losses[number]:.3g},"
                f" tensor operations {losses[0]:.3g}"
            )
            warnings.warn(message, RuntimeWarning, stacklevel=3)
            times[number] = math.inf
    best = recordings[times.index(min(times))]
    if best is not recordings[0]:
        _FASTEST[kind] = list(methods).index(best.make)
    return best


@contextmanager
def warn_on_failure(action: str) -> Iterator[None]:
    """Turn an error of the block into a warning that steps cannot be ``action`` on the GPU.

    Such errors come from a driver that is too old or a compiler that is missing. ``torch.OutOfMemoryError``
    is raised unchanged.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        warnings.warn(
            f"steps cannot be {action} on the GPU, and run more slowly: {type(error).__name__}: {error}",
            RuntimeWarning,
            stacklevel=4,
        )


def _seconds(work: Callable[[], None]) -> float:
    """The time that some repetitions of work take on the device, for comparison."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(TIMED_STEPS):
        work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))
