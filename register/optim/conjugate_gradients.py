"""Solve symmetric positive definite linear systems, by conjugate gradients or by inverse matrices.

Sources: Hestenes & Stiefel, "Methods of conjugate gradients for solving linear systems", J. Res. NBS 49
(1952); Golub & Van Loan, "Matrix computations", 4th ed., section 4.2.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from register.compute import sums, tensors

STEPS, TOLERANCE = 40, 0.02
"""Largest number of steps, and the relative residual at which they end; a low accuracy suffices because
Gauss-Newton steps are damped."""
STEPS_ON_GPU = 16
"""Number of steps on a GPU, where all are computed: fine levels need 5 to 10, the coarsest up to 21."""

Linear = Callable[[Tensor], Tensor]


def conjugate_gradients(
    times: Linear, precondition: Linear, right: Tensor, *, steps: int = STEPS, tolerance: float = TOLERANCE
) -> Tensor:
    """Solve ``times(x) = right`` approximately, for a symmetric positive definite linear map ``times``.

    Ends after ``steps``, or when the preconditioned residual is less than ``tolerance`` times the first. On a
    GPU, whose residual the host does not read, there are at most ``STEPS_ON_GPU`` steps, and those after the
    end do not change the result.
    """
    x, r = torch.zeros_like(right), right
    z = precondition(r)
    p, rz = z, sums.total(r * z)
    stop, running = tolerance**2 * rz, rz > 0
    for _ in range(steps if tensors.is_on_cpu(right) else min(steps, STEPS_ON_GPU)):
        ap = times(p)
        alpha = torch.where(running, rz / sums.total(p * ap).clamp(min=1e-30), 0.0)
        x, r = x + alpha * p, r - alpha * ap
        z = precondition(r)
        before, rz = rz, sums.total(r * z)
        running = running & (rz > stop)
        if tensors.is_on_cpu(rz) and not bool(running):
            break
        p = z + (rz / before.clamp(min=1e-30)) * p
    return x


def inverse(matrix: Tensor) -> Tensor:
    """The inverses (..., n, n) of symmetric positive matrices.

    On a GPU by elimination without pivots, which such matrices do not need: PyTorch's inverse waits for the
    device to report whether the matrix is singular.
    """
    if tensors.is_on_cpu(matrix):
        return torch.linalg.inv(matrix)
    n = matrix.shape[-1]
    for k in range(n):
        row, column = matrix[..., k, :] / matrix[..., k, k, None], matrix[..., :, k]
        matrix = matrix - column[..., :, None] * row[..., None, :]
        matrix[..., k, :], matrix[..., :, k] = row, -column / column[..., k, None]
        matrix[..., k, k] = 1 / column[..., k]
    return matrix
