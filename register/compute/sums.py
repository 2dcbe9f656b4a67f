"""Sums over all pixels whose rounding does not depend on the number of threads.

PyTorch splits a sum of many values into as many blocks as there are threads, so its rounding error depends
on that number. A sum per row is computed by one thread; the functions below sum rows first, then the sums
of rows. An alignment has the same bits for any number of threads only with a PyTorch that uses MKL; this is
not promised elsewhere (see ``blas``).
"""

from torch import Tensor
from torch.nn.functional import pad

ROW = 4096
"""Number of values that are summed at a time."""


def plane(values: Tensor) -> Tensor:
    """The sum (..., 1, 1) over the last two axes of (..., h, w)."""
    if values.device.type != "cpu":
        return values.sum((-2, -1), keepdim=True)
    return last(values.sum(-1))[..., None, None]


def last(values: Tensor) -> Tensor:
    """The sum (...) over the last axis of (..., n)."""
    while values.device.type == "cpu" and values.shape[-1] > ROW:
        values = pad(values, (0, -values.shape[-1] % ROW))
        values = values.reshape(*values.shape[:-1], -1, ROW).sum(-1)
    return values.sum(-1)


def total(values: Tensor) -> Tensor:
    """The sum () of all values (...)."""
    return last(values.flatten())


def all_finite(values: Tensor) -> bool:
    """Whether no value (...) is NaN or infinite; their sum, if finite, shows it in a tenth of the time."""
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


def mean(values: Tensor) -> Tensor:
    """The mean () of all values (...)."""
    return total(values) / values.numel()


def deviation(values: Tensor) -> Tensor:
    """The standard deviation () of all values (...), with n - 1 degrees of freedom."""
    return (total((values - mean(values)).square()) / (values.numel() - 1)).sqrt()
