"""Small operations on tensors that do not make the host wait for a GPU."""

from functools import cache

import torch
from torch import Tensor


@cache
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor (n,) of a few numbers, the same object for the same arguments.

    Nothing can be copied to a device while a CUDA graph is recorded; a cached tensor is on the device
    already.
    """
    return torch.tensor(values, dtype=dtype, device=device)


def is_on_cpu(tensor: Tensor) -> bool:
    """Whether the host can read the values of a tensor without waiting for a device."""
    return tensor.device.type == "cpu"


def select(choice: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Each batch item from ``yes`` (b, ...) where ``choice`` (b,) is true, or else from ``no``."""
    if len(choice) == 1 and is_on_cpu(choice):
        return yes if bool(choice) else no
    return torch.where(choice.reshape(-1, *[1] * (yes.dim() - 1)), yes, no)
