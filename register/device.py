"""Which device computes."""

import torch

from register.errors import DeviceError


def choose(name: str) -> torch.device:
    """The device of a ``--device`` value; ``auto`` takes CUDA, then MPS, then the CPU. Raises ``DeviceError`` when it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"--device {name}: this PyTorch ({torch.__version__}) sees no CUDA device; use --device cpu, or install a CUDA build of torch")
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise DeviceError(f"--device {name}: there are {torch.cuda.device_count()} CUDA devices, counted from 0")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("--device mps: this machine or this PyTorch has no Metal device; use --device cpu")
    return torch.device(name)
