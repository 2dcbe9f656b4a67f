"""Fixtures: images, devices and the program. Images are computed here or come from ``sample_images``."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from register.cli.startup import ENVIRONMENT

os.environ.update(ENVIRONMENT | os.environ)  # before PyTorch is loaded, as the program does
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):  # of ``pytest -n``: they share the cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

import hypothesis
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from register.cli.main import main
from register.kernels import cpu

hypothesis.settings.register_profile(
    "shared machine",
    hypothesis.settings(),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("shared machine")  # other programs may slow a test down without limit

SAMPLES = Path(__file__).parent.parent / "sample_images"
TISSUE = [str(SAMPLES / "tissue_fixed.png"), str(SAMPLES / "tissue_moving.png")]


def run(*args, **options):
    """The program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "register", *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def devices():
    """All devices; those that this machine does not have are skipped with the reason."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [
        pytest.param(name, marks=[] if ok else pytest.mark.skip(reason=f"this machine has no {name} device"))
        for name, ok in there.items()
    ]


@pytest.fixture(params=devices())
def device(request):
    return request.param


@pytest.fixture(scope="session")
def texture():
    """A picture (400, 460) in [0, 1] with detail at several scales."""
    rng = np.random.default_rng(7)
    layers = sum(s * gaussian_filter(rng.normal(size=(400, 460)), s) for s in (1.5, 3, 8))
    return (layers - layers.min()) / (layers.max() - layers.min())


@pytest.fixture(scope="session")
def through():
    """Read an image (h, w) at points (h', w', 2), by splines of order 5."""
    return lambda image, points: map_coordinates(
        image, [points[..., 1], points[..., 0]], order=5, mode="reflect"
    )


@pytest.fixture
def tensors_only(monkeypatch):
    """A context in which no compiled code is used."""

    @contextmanager
    def without():
        with monkeypatch.context() as patched:
            patched.setattr(cpu, "library", lambda: None)
            yield

    return without


@pytest.fixture
def program(capsys, monkeypatch):
    """The program called in this process, which saves loading torch.

    It returns an object with returncode, stdout and stderr.
    """

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["register", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        out = capsys.readouterr()
        return SimpleNamespace(returncode=ended.value.code, stdout=out.out, stderr=out.err)

    return call
