"""A quicker start and end: what of PyTorch nothing here uses is not loaded, garbage is searched for rarely, threads wait
for each other no longer than it pays, memory is used again, and the end is no slower than it must be."""

import atexit
import ctypes
import gc
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

LAYERS = (
    *(
        "activation",
        "adaptive",
        "batchnorm",
        "channelshuffle",
        "conv",
        "distance",
        "dropout",
        "flatten",
        "fold",
        "instancenorm",
        "linear",
    ),
    *(
        "loss",
        "normalization",
        "padding",
        "pixelshuffle",
        "pooling",
        "rnn",
        "sparse",
        "transformer",
        "upsampling",
    ),
)
"""Kinds of layers of networks, each a module of PyTorch."""
UNUSED = (
    *("torch._meta_registrations", "torch._subclasses"),  # shapes of results without values, for the compiler
    *("torch.export", "torch._export", "torch._higher_order_ops", "torch.fx"),  # programs made of models
    *(
        "torch.ao",
        "torch.quantization",
        "torch.nn.intrinsic",
        "torch.nn.qat",
        "torch.nn.quantizable",
        "torch.nn.quantized",
    ),  # numbers of eight bits
    *(
        "torch.distributions",
        "torch.masked",
        "torch.nested",
        "torch.utils.data",
        "torch.hub",
        "torch.package",
        "torchgen",
        "torch._native",
    ),
    *("torch.onnx", "torch.nn.attention", "torch.nn.parallel", "torch.optim", "torch.distributed"),
    *("torch._guards", "torch._logging", "torch.profiler", "torch.compiler", "torch.nn.utils"),
    *(f"torch.nn.modules.{kind}" for kind in LAYERS),
)
"""More than half of the time that ``import torch`` takes, and of no use to a program that samples images."""
KNOWN = (2, 6), (2, 14)
"""The first and the last version of PyTorch that was seen to load without them."""
KEPT = {"MALLOC_MMAP_THRESHOLD_": (-3, 32 * 2**20), "MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1)}
"""What tells GNU's C library from how many bytes on a free piece of memory, and the heap's free end, are given back to the system: ``mallopt``'s number, and
the bytes. What is given back is asked for again at once, and filled with zeros, page by page, for as long as it takes to compute what is put there."""
ENVIRONMENT = {
    **{
        name: str(least) for name, (_, least) in KEPT.items()
    },  # for processes that this one starts; itself is told by ``mallopt``
    "OPENBLAS_NUM_THREADS": "1",  # NumPy's own threads have next to nothing to do here, and wait for it busily
    "GOMP_SPINCOUNT": "10000",  # PyTorch's wait busily for each other, by default for so long that beside other programs they mostly wait
    "PYDANTIC_DISABLE_PLUGINS": "__all__",  # it looks for them among all that is installed
}
"""What libraries are told before they are loaded, unless the user tells them something else."""
OBJECTS = 200_000
"""New objects after which garbage is searched for; a program's start makes more than half as many that stay."""


class End:
    """The last thing that the process does at its end, if it is told the ``code`` to end with: PyTorch's libraries are not taken down one by one, which takes
    an eighth of a second."""

    code: int | None = None

    def __call__(self) -> None:
        """End now; without a code, or where what was printed finds no reader, the interpreter ends as it does."""
        if self.code is None:
            return
        with suppress(OSError):
            for stream in filter(
                None, (sys.stdout, sys.stderr)
            ):  # one that was closed before the start is None
                stream.flush()
            os._exit(self.code)


@contextmanager
def quickly() -> Iterator[End]:
    """Run the program. For the program, not for the library: what is not loaded would be missing there, and others may have more to do at the end."""
    gc.set_threshold(OBJECTS)
    end = End()
    if "torch" not in sys.modules:
        if not os.environ.keys() & KEPT.keys():  # unless the user, or the program that started this one, has
            keep_memory()
        os.environ.update(ENVIRONMENT | os.environ)
        atexit.register(end)  # the first one is called last
        if KNOWN[0] <= _version() <= KNOWN[1]:
            sys.meta_path.insert(0, Empty())
    try:
        yield end
    finally:
        gc.freeze()  # the interpreter looks through every object once more before it ends, for nearly half a second


def keep_memory() -> None:
    """Have the C library use again what is given back to it, where it is GNU's."""
    with suppress(OSError, AttributeError, TypeError):
        for number, least in KEPT.values():
            ctypes.CDLL(None).mallopt(number, least)


class Empty(MetaPathFinder, Loader):
    """Finds modules without contents in the place of those that are not used."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where an unused module, or one below it, comes from."""
        return (
            ModuleSpec(name, self, is_package=True)
            if f"{name}.".startswith(tuple(f"{x}." for x in UNUSED))
            else None
        )

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module in which there is nothing under every name."""
        return _Hollow(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is done to fill it."""


class _Anything(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

    def __bool__(cls) -> bool:
        """False, for whoever asks whether something is of a kind that is not there."""
        return False

    def __iter__(cls) -> Iterator[Any]:
        """There is nothing in it, for whoever looks for something."""
        return iter(())


class _Nothing(metaclass=_Anything):
    """Stands for a class, a function or a decorator that is named while PyTorch is loaded, and never used."""

    def __new__(cls, *arguments: Any, **options: Any) -> Any:
        """What was decorated, as it is, or again nothing."""
        return arguments[0] if len(arguments) == 1 and callable(arguments[0]) else cls


class _Hollow(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing


def _version() -> tuple[int, int]:
    """The version of PyTorch, which is not loaded for it; (0, 0) where it cannot be told."""
    found = find_spec("torch")
    file = Path(found.origin).with_name("version.py") if found and found.origin else None
    text = re.search(r"__version__ = '(\d+)\.(\d+)", file.read_text()) if file and file.is_file() else None
    return (int(text[1]), int(text[2])) if text else (0, 0)
