"""One level: gradient descent on global or patch parameters, through one ``grid_sample`` per step."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from register import affine, patches, sampling
from register.errors import AlignmentError
from register.patches import PatchGrid
from register.similarity import SIMILARITIES, Windows

Progress = Callable[[int, int, float], None]
"""Called with the step, the number of steps and the similarity reached."""


@dataclass(frozen=True)
class Comparison:
    """What one level compares; ``moving_from_fixed`` takes pixels of the fixed level to pixels of ``moving``."""

    fixed: Tensor  # (1, c, h, w)
    fixed_mask: Tensor  # (1, 1, h, w)
    moving: Tensor  # (b, c, h', w')
    moving_mask: Tensor  # (b, 1, h', w')
    moving_from_fixed: Tensor  # (b, 2, 3) float32
    metric: str
    window: int
    interpolation: str = "bilinear"

    def __call__(self, points: Tensor) -> Windows:
        """Similarity per window when fixed pixel (row, column) is compared with ``moving`` at its points (b, h, w, 2)."""
        warped = sampling.sample(self.moving, points, interpolation=self.interpolation)
        seen = sampling.sample(self.moving_mask, points.detach(), padding="zeros")
        return SIMILARITIES[self.metric](self.fixed.expand_as(warped), warped, self.fixed_mask * seen, self.window)

    def under(self, residual: Tensor | None = None) -> Tensor:
        """Points (b, h, w, 2) of ``moving`` that the fixed pixels meet under residual matrices (b, 2, 3) of the fixed level."""
        matrices = self.moving_from_fixed if residual is None else affine.compose(self.moving_from_fixed, residual)
        return affine.apply_to_grid(matrices, *sampling.axes(*self.fixed.shape[-2:], device=self.fixed.device))

    def shifted(self, displacement: Tensor) -> Tensor:
        """Points (1, h, w, 2) of ``moving`` that the fixed pixels meet after a displacement (h, w, 2) of the fixed level."""
        return self.under()[:1] + displacement @ self.moving_from_fixed[0, :, :2].T


@dataclass(frozen=True)
class Descent:
    """Where a descent ended: parameters (b, ...), loss (b,), the mean loss at each step and why it stopped."""

    parameters: Tensor
    loss: Tensor
    history: tuple[float, ...]
    reason: str


def descend(
    objective: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    step: float,
    steps: int,
    tolerance: float,
    project: Callable[[Tensor], Tensor] | None = None,
    progress: Progress | None = None,
) -> Descent:
    """Minimise ``objective(parameters (b, ...)) -> loss (b,)`` by Adam, every batch item on its own; the best state is kept.

    ``step`` (in parameter units, pixels here) falls to a twentieth by a cosine. Stops early when no parameter has moved by more than
    ``tolerance`` over ten steps. ``project`` keeps parameters where they may be. Source: Kingma & Ba 2015, written out
    because importing ``torch.optim`` takes longer than a level.
    Raises ``AlignmentError`` when a parameter or the loss is no longer finite.
    """
    current = start.clone().requires_grad_()
    first, second = torch.zeros_like(start), torch.zeros_like(start)
    best, best_loss = start.clone(), torch.full((len(start),), float("inf"), device=start.device)
    history: list[float] = []
    anchor, reason = start, f"all {steps} steps taken"
    for index in range(steps + 1):
        loss = objective(current)
        value = loss.detach()
        if not bool(torch.isfinite(value).all() & torch.isfinite(current).all()):
            raise AlignmentError("a parameter of the descent is no longer finite; try --init center or a smaller --max-shift")
        better = value < best_loss
        best_loss = torch.where(better, value, best_loss)
        best = torch.where(better.reshape(-1, *[1] * (best.dim() - 1)), current.detach(), best)
        history.append(float(value.mean()))
        if progress is not None:
            progress(index, steps, history[-1])
        if index % 10 == 9:
            if float((current.detach() - anchor).abs().max()) < tolerance:
                reason = f"no parameter moved by {tolerance:g} px in ten steps"
                break
            anchor = current.detach().clone()
        if index < steps:
            (slope,) = torch.autograd.grad(loss.sum(), current)
            first, second = 0.9 * first + 0.1 * slope, 0.95 * second + 0.05 * slope.square()
            mean, spread = first / (1 - 0.9 ** (index + 1)), second / (1 - 0.95 ** (index + 1))
            rate = step * (0.05 + 0.95 * (1 + math.cos(math.pi * index / steps)) / 2)
            moved = current.detach() - rate * mean / (spread.sqrt() + 1e-7)
            current = (moved if project is None else project(moved)).requires_grad_()
    return Descent(best, best_loss, tuple(history), reason)


def descend_global(compare: Comparison, model: str, *, step: float, steps: int, tolerance: float, progress: Progress | None = None) -> tuple[Tensor, Descent]:
    """Residual matrices (b, 2, 3) of a global ``model`` in pixels of the fixed level, one per batch item of ``compare``."""
    height, width = compare.fixed.shape[-2:]
    device = compare.fixed.device
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=device)
    radius = max((height * height + width * width) ** 0.5 / 4, 1.0)

    def matrices(parameters: Tensor) -> Tensor:
        return affine.global_matrix(parameters, model, centre, radius)

    def objective(parameters: Tensor) -> Tensor:
        return compare(compare.under(matrices(parameters))).loss()

    start = torch.zeros(len(compare.moving), affine.GLOBAL_PARAMETERS[model], device=device)
    outcome = descend(objective, start, step=step, steps=steps, tolerance=tolerance, progress=progress)
    return matrices(outcome.parameters), outcome


def descend_patches(
    compare: Comparison, grid: PatchGrid, start: Tensor, *, stiffness: float, max_shift: float, step: float, steps: int, tolerance: float, progress: Progress | None = None
) -> Descent:
    """Patch parameters (2, 3, rows, columns) in pixels of the fixed level, blended into one field that is sampled once.

    ``stiffness`` weighs the neighbours' disagreement against the similarity summed over patches; no patch moves by more than
    ``max_shift`` pixels from the global fit.
    """
    height, width = compare.fixed.shape[-2:]
    device = compare.fixed.device
    basis_x, basis_y = (grid.axis_basis(x, axis) for axis, x in enumerate(sampling.axes(height, width, device=device)))
    anchor, linear = compare.under(), compare.moving_from_fixed[0, :, :2]

    def objective(parameters: Tensor) -> Tensor:
        in_moving = torch.einsum("ij,jkrc->ikrc", linear, parameters[0])  # the blend is linear: turn parameters, not pixels
        points = anchor + patches.displacement(in_moving, basis_x, basis_y)
        return compare(points).loss() + stiffness / (grid.columns * grid.rows) * patches.disagreement(grid, parameters[0])

    def project(parameters: Tensor) -> Tensor:
        return limit_shift(parameters, max_shift)

    outcome = descend(objective, start[None], step=step, steps=steps, tolerance=tolerance, project=project, progress=progress)
    return Descent(outcome.parameters[0], outcome.loss, outcome.history, outcome.reason)


def limit_shift(parameters: Tensor, max_shift: float) -> Tensor:
    """Parameters (..., 2, 3, rows, columns) with no patch centre displaced by more than ``max_shift`` pixels."""
    length = parameters[..., :1, :, :].square().sum(-4, keepdim=True).sqrt()
    shrink = (max_shift / length.clamp(min=1e-12)).clamp(max=1)
    return torch.cat([parameters[..., :1, :, :] * shrink, parameters[..., 1:, :, :]], dim=-3)
