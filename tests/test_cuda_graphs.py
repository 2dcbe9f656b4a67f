"""CUDA graphs on machines without a GPU: steps run on tensors without values, and recordings are replayed."""

from functools import partial

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from register import registries
from register.compute import cuda_graphs, tensors
from register.compute.iteration import RUNNING, run_stepwise
from register.engine.fit import comparison
from register.engine.fit.comparison import Comparison
from register.engine.fit.objective import GlobalObjective, PatchObjective, limit_shift
from register.geometry import affine_tensors, models, patch_tensors
from register.geometry.patch_grid import PatchGrid
from register.images import pyramid
from register.optim import conjugate_gradients
from register.optim.adam import adam
from register.optim.gauss_newton import gauss_newton
from register.optim.result import NOT_FINITE, result_of
from register.similarity import registry

HEIGHT, WIDTH = 120, 150
GRID = PatchGrid.cover(HEIGHT, WIDTH, 40)
CHANNELS = {"ncc": 1, "structure": 2, "mind": 8, "mse": 1, "mi": 1}
FROM_THE_HOST = {"tensor", "new_tensor", "as_tensor", "asarray", "from_numpy"}


def tensors_in(tree):
    return [x for x in tree_leaves(tree) if isinstance(x, torch.Tensor)]


class NothingFromTheHost(TorchFunctionMode):
    """Refuses operations that copy numbers of the host into tensors, also as lists of indices.

    A recording would not repeat them.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        indices = args[1] if name in ("__getitem__", "__setitem__") else ()
        if name in FROM_THE_HOST or any(
            isinstance(index, list) for index in (indices if isinstance(indices, tuple) else (indices,))
        ):
            raise AssertionError(f"{name} brings numbers to the device")
        return func(*args, **(kwargs or {}))


class NothingElsewhere(TorchDispatchMode):
    """Refuses operations with tensors of the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        assert all(x.device.type == "meta" for x in tensors_in((args, kwargs, out))), func
        return out


def run(begin):
    """The start and one step."""
    begun = begin()
    state = begun.state
    for stage in begun.stages:
        state = stage(state)
    return begun.report(state)


def recorded(begin):
    """The same as a recording does it: once to set up, then without reading or copying any value."""
    run(begin)
    with NothingFromTheHost(), NothingElsewhere():
        run(begin)


def on_no_device(metric, batch=1):
    """A comparison of tensors that have no contents: reading a value raises an error."""
    new = partial(torch.empty, device="meta")
    channels, wide, high = CHANNELS[metric], WIDTH + 20, HEIGHT + 20
    return Comparison(
        *(
            new(1, channels, HEIGHT, WIDTH),
            new(1, 1, HEIGHT, WIDTH),
            new(batch, channels, high, wide),
            new(batch, 1, high, wide),
            new(batch, 2, 3),
        ),
        registry.get(metric),
        20,
    )


def patches(compare, optimizer, start, steps=10):
    objective, project = PatchObjective(compare, GRID, 5.0, 1), partial(limit_shift, max_shift=5.0)
    if optimizer == "adam":
        return adam(objective.evaluate, start, step=0.3, steps=steps, tolerance=1e-3, project=project)
    return gauss_newton(objective.expand, objective.solve, start, tolerance=1e-3, project=project)


@pytest.mark.parametrize(
    ("metric", "optimizer"),
    [(m, o) for m in CHANNELS for o in ("adam", "gauss-newton") if (m, o) != ("mi", "gauss-newton")],
)
def test_no_step_of_patches_waits_for_its_device(metric, optimizer):
    recorded(lambda: patches(on_no_device(metric), optimizer, patch_tensors.zeros(GRID, device="meta")[None]))


@pytest.mark.parametrize("metric", ["ncc", "mind", "mse"])
@pytest.mark.parametrize("model", registries.MODELS.names())
def test_no_step_of_a_global_map_waits_for_its_device(metric, model):
    compare, start = on_no_device(metric, 3), torch.zeros(3, models.get(model).parameters, device="meta")
    recorded(lambda: adam(GlobalObjective(compare, model).evaluate, start, step=0.3, steps=5, tolerance=1e-3))

    def newton():
        objective = GlobalObjective(compare, model)
        return gauss_newton(objective.expand, objective.solve, start, tolerance=1e-3)

    recorded(newton)


@pytest.mark.parametrize(
    "waits",
    [
        lambda x: float(x.sum()),
        lambda x: bool((x > 0).all()),
        lambda x: x.new_tensor([1.0, 2.0]),
        lambda x: torch.tensor([1.0], device="meta"),
        lambda x: torch.eye(3).to("meta"),
        lambda x: x[[0, 1]],
        lambda x: x.nonzero(),
    ],
)
def test_an_operation_that_waits_for_the_device_is_detected(waits):
    with (
        pytest.raises((RuntimeError, AssertionError, NotImplementedError)),
        NothingFromTheHost(),
        NothingElsewhere(),
    ):
        waits(torch.empty(3, device="meta"))


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """No value is read, because reading one would wait for the device."""
    monkeypatch.setattr(tensors, "is_on_cpu", lambda tensor: False)


class Tape(TorchDispatchMode):
    """Records operations as a CUDA graph does.

    A replay reads and writes the same tensors and runs no other Python code.
    """

    def __init__(self):
        super().__init__()
        self.done = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        before = {x.untyped_storage().data_ptr() for x in tensors_in((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        if func._schema.is_mutable or not all(
            x.untyped_storage().data_ptr() in before for x in tensors_in(out)
        ):  # a view is new if its base is
            self.done.append(
                (partial(func, *args, **(kwargs or {})), () if func._schema.is_mutable else tensors_in(out))
            )
        return out

    @torch.no_grad()
    def replay(self):
        for work, outs in self.done:
            found = work()
            for own, new in zip(outs, tensors_in(found) if outs else (), strict=True):
                own.copy_(new)


def again(work):
    """Replaces a CUDA graph."""
    work()
    with Tape() as tape:
        work()
    return tape.replay


def compared(texture, shift, through, metric="ncc"):
    still = (
        torch.stack(
            torch.meshgrid(torch.arange(WIDTH).double(), torch.arange(HEIGHT).double(), indexing="xy"), -1
        )
        + 40
    )
    fixed, moving = (
        torch.from_numpy(through(texture, still.numpy() + move)).float()[None] for move in (0.0, shift)
    )
    levels = (pyramid.base(image) for image in (fixed, moving))
    made = comparison.prepare(
        *levels, affine_tensors.translation(0.0, 0.0)[None], metric, window=20, margin=8
    )
    return Comparison(
        *(x.double().contiguous() for x in made.tensors), registry.get(metric), 20, tensors_only=True
    )


@pytest.mark.parametrize("optimizer", ["adam", "gauss-newton"])
def test_one_recording_is_reused_for_pairs_of_equal_size_and_equals_single_steps(
    texture, through, tensors_only, optimizer, monkeypatch
):
    pairs = [compared(texture, shift, through) for shift in (0.4, -0.7, 0.0)]
    start, heard = patch_tensors.zeros(GRID, dtype=torch.float64)[None], []
    with tensors_only():
        expected = [
            result_of(run_stepwise(patches(pair, optimizer, start), 12, lambda *_: None)) for pair in pairs
        ]
        monkeypatch.setattr(tensors, "is_on_cpu", lambda tensor: False)
        monkeypatch.setattr(
            conjugate_gradients, "STEPS_ON_GPU", conjugate_gradients.STEPS
        )  # the same solutions, to compare
        recording = cuda_graphs.Recording(
            lambda *tensors: patches(pairs[0].with_tensors(*tensors[:-1]), optimizer, tensors[-1]),
            (*pairs[2].tensors, start),
            again,
        )
        for pair, known in zip(pairs, expected, strict=True):
            found = result_of(recording((*pair.tensors, start), 12, lambda *said: heard.append(said)))
            assert found.reason == known.reason
            assert found.history == pytest.approx(known.history, abs=1e-5)
            assert torch.allclose(found.parameters, known.parameters, atol=1e-4)
    assert len(heard) >= len(expected[0].history) - 1
    assert optimizer == "adam" or any(len(known.history) < 12 for known in expected)


def test_steps_after_convergence_change_nothing(as_on_a_gpu):
    def begin(start):
        return adam(lambda p: (p.square().sum(1), 2 * p), start, step=0.5, steps=60, tolerance=0.3)

    recording, states = cuda_graphs.Recording(begin, [torch.ones(1, 2)], again), []
    recording.replay_start()
    for _ in range(60):
        recording.replay_step()
        states.append([x.clone() for x in recording.iteration.state])
    ends = [k for k, state in enumerate(states) if float(state[-1]) != RUNNING]
    assert ends
    assert all(
        torch.equal(one, other) for k in ends for one, other in zip(states[ends[0]], states[k], strict=True)
    )


def test_a_number_that_is_not_finite_ends_a_recording_too(as_on_a_gpu):
    def begin(start):
        return adam(lambda p: (p.sum(1) / (p.sum(1) > 0), p), start, step=0.5, steps=9, tolerance=0.0)

    followed = cuda_graphs.Recording(begin, [torch.ones(1, 2)], again)([torch.ones(1, 2)], 9, lambda *_: None)
    assert followed.reason == NOT_FINITE
    assert len(followed.losses) < 9


def test_the_fastest_method_is_measured_once_for_each_kind(monkeypatch):
    monkeypatch.setattr(cuda_graphs, "_FASTEST", {})
    tried = []

    def way(number, more=0.0):
        def begin(start):
            tried.append(number)
            return adam(lambda p: (p.square().sum(1) + more, p), start, step=0.5, steps=5, tolerance=0.0)

        return begin

    ways = [way(1), way(2), way(3)]
    times = iter([3.0, 2.0, 4.0])
    one = cuda_graphs.fastest("kind", ways, [torch.ones(1, 2)], lambda: again, lambda work: next(times))
    assert one.make is ways[1]
    tried.clear()
    assert (
        cuda_graphs.fastest(
            "kind", ways, [torch.ones(1, 3)], lambda: again, lambda work: pytest.fail("not again")
        ).make
        is ways[1]
    )
    assert set(tried) == {2}

    times = iter([3.0, 1.0])  # the faster method gives another result
    with pytest.warns(RuntimeWarning, match="not used"):
        one = cuda_graphs.fastest(
            "another", [ways[0], way(2, -0.1)], [torch.ones(1, 2)], lambda: again, lambda work: next(times)
        )
    assert one.make is ways[0]


def test_a_step_that_cannot_be_recorded_is_reported_and_run_without_a_recording(monkeypatch):
    monkeypatch.setattr(cuda_graphs, "_FASTEST", {})

    def fails(start):
        raise RuntimeError("no compiler")

    def works(start):
        return adam(lambda p: (p.square().sum(1), p), start, step=0.5, steps=5, tolerance=0.0)

    with pytest.warns(RuntimeWarning, match="no compiler"):
        assert (
            cuda_graphs.fastest(
                "kind", [works, fails], [torch.ones(1, 2)], lambda: again, lambda work: 1.0
            ).make
            is works
        )
    with pytest.warns(RuntimeWarning, match="no compiler"):
        assert (
            cuda_graphs.fastest("kind", [fails], [torch.ones(1, 2)], lambda: again, lambda work: 1.0) is None
        )

    def too_large(start):
        raise torch.OutOfMemoryError("too large")

    with pytest.raises(torch.OutOfMemoryError):
        cuda_graphs.fastest("kind", [too_large], [torch.ones(1, 2)], lambda: again, lambda work: 1.0)


def test_elimination_inverts_positive_matrices(as_on_a_gpu):
    torch.manual_seed(4)
    root = torch.randn(50, 6, 6, dtype=torch.float64)
    matrix = root @ root.mT + 0.1 * torch.eye(6)
    kept = matrix.clone()
    assert torch.allclose(
        conjugate_gradients.inverse(matrix) @ matrix,
        torch.eye(6, dtype=torch.float64).expand(50, 6, 6),
        atol=1e-8,
    )
    assert torch.equal(matrix, kept)


def test_conjugate_gradients_do_not_change_after_convergence(monkeypatch):
    torch.manual_seed(5)
    root = torch.randn(12, 12, dtype=torch.float64)
    matrix, right = root @ root.T + torch.eye(12), torch.randn(12, dtype=torch.float64)
    expected = conjugate_gradients.conjugate_gradients(
        lambda v: matrix @ v, lambda r: r / matrix.diagonal(), right
    )
    monkeypatch.setattr(tensors, "is_on_cpu", lambda tensor: False)
    found = conjugate_gradients.conjugate_gradients(
        lambda v: matrix @ v, lambda r: r / matrix.diagonal(), right
    )
    assert torch.equal(found, expected)
    assert not bool(
        conjugate_gradients.conjugate_gradients(lambda v: matrix @ v, lambda r: r, 0 * right).any()
    )
