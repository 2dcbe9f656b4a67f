"""One level: gradient descent on global or patch parameters, through one ``grid_sample`` per step."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from register import affine, memory, patches, sampling
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

    def __call__(self, points: Tensor) -> Windows:
        """Similarity per window when fixed pixel (row, column) is compared with ``moving`` at its points (b, h, w, 2)."""
        warped = sampling.sample(self.moving, points)
        seen = sampling.sample(self.moving_mask, points.detach(), padding="zeros")
        return SIMILARITIES[self.metric](self.fixed.expand_as(warped), warped, self.fixed_mask * seen, self.window)

    def under(self, residual: Tensor | None = None) -> Tensor:
        """Points (b, h, w, 2) of ``moving`` that the fixed pixels meet under residual matrices (b, 2, 3) of the fixed level."""
        matrices = self.moving_from_fixed if residual is None else affine.compose(self.moving_from_fixed, residual)
        return affine.apply_to_grid(matrices, *sampling.axes(*self.fixed.shape[-2:], device=self.fixed.device))

    def shifted(self, displacement: Tensor) -> Tensor:
        """Points (1, h, w, 2) of ``moving`` that the fixed pixels meet after a displacement (h, w, 2) of the fixed level."""
        return self.under()[:1] + displacement @ self.moving_from_fixed[0, :, :2].T

    def batches(self, parts: int) -> list["Comparison"]:
        """The same comparison with its batch items in up to ``parts`` groups."""
        groups = torch.arange(len(self.moving)).chunk(parts)
        return [replace(self, moving=self.moving[i], moving_mask=self.moving_mask[i], moving_from_fixed=self.moving_from_fixed[i]) for i in groups]

    def rows(self, rows: slice) -> "Comparison":
        """The comparison of some rows of the fixed level only."""
        return replace(self, fixed=self.fixed[:, :, rows], fixed_mask=self.fixed_mask[:, :, rows])

    def strips(self, parts: int) -> list[slice]:
        """Up to ``parts`` ranges of rows that hold whole windows; one for mutual information, which is of the whole image."""
        height = self.fixed.shape[-2]
        lines = -(-height // self.window)
        step = -(-lines // (1 if self.metric == "mi" else parts)) * self.window
        return [slice(begin, min(begin + step, height)) for begin in range(0, height, step)]


@dataclass(frozen=True)
class Descent:
    """Where a descent ended: parameters (b, ...), loss (b,), the mean loss at each step and why it stopped."""

    parameters: Tensor
    loss: Tensor
    history: tuple[float, ...]
    reason: str


Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Takes parameters (b, ...) to the loss (b,) and its gradient (b, ...)."""


def descend(
    evaluate: Evaluate,
    start: Tensor,
    *,
    step: float,
    steps: int,
    tolerance: float,
    project: Callable[[Tensor], Tensor] = lambda parameters: parameters,
    progress: Progress = lambda index, steps, loss: None,
) -> Descent:
    """Minimise by Adam from ``start`` (b, ...), every batch item on its own; the best state is kept.

    ``step`` (in parameter units, pixels here) falls to a hundredth by a cosine. Stops early when no parameter has moved by more than
    ``tolerance`` over ten steps. ``project`` keeps parameters where they may be. Source: Kingma & Ba 2015, written out
    because importing ``torch.optim`` takes longer than a level. Raises ``AlignmentError`` when a number is no longer finite.
    """
    start = project(start)
    current, anchor, best = start, start, start
    first, second = torch.zeros_like(start), torch.zeros_like(start)
    best_loss = torch.full((len(start),), float("inf"), device=start.device)
    history: list[float] = []
    reason = f"all {steps} steps taken"
    for index in range(steps + 1):
        loss, slope = evaluate(current)
        if not bool(torch.isfinite(loss).all() & torch.isfinite(current).all()):
            raise AlignmentError("a parameter of the descent is no longer finite; try --init center or a smaller --max-shift")
        better = loss < best_loss
        best_loss = torch.where(better, loss, best_loss)
        best = torch.where(better.reshape(-1, *[1] * (best.dim() - 1)), current, best)
        history.append(float(loss.mean()))
        progress(index, steps, history[-1])
        if index % 10 == 9:
            if float((current - anchor).abs().max()) < tolerance:
                reason = f"no parameter moved by {tolerance:g} px in ten steps"
                break
            anchor = current
        first, second = 0.9 * first + 0.1 * slope, 0.95 * second + 0.05 * slope.square()
        mean, spread = first / (1 - 0.9 ** (index + 1)), second / (1 - 0.95 ** (index + 1))
        rate = step * (0.01 + 0.99 * (1 + math.cos(math.pi * index / max(steps, 1))) / 2)
        current = project(current - rate * mean / (spread.sqrt() + 1e-7))
    return Descent(best, best_loss, tuple(history), reason)


def descend_global(compare: Comparison, model: str, *, step: float, steps: int, tolerance: float) -> tuple[Tensor, Descent]:
    """Residual matrices (b, 2, 3) of a global ``model`` in pixels of the fixed level, one per batch item of ``compare``."""
    height, width = compare.fixed.shape[-2:]
    device = compare.fixed.device
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=device)
    radius = max(math.hypot(height, width) / 4, 1.0)

    def solve(part: Comparison) -> tuple[Tensor, Descent]:
        def evaluate(parameters: Tensor) -> tuple[Tensor, Tensor]:
            parameters = parameters.detach().requires_grad_()
            loss = part(part.under(affine.global_matrix(parameters, model, centre, radius))).loss()
            return loss.detach(), torch.autograd.grad(loss.sum(), parameters)[0]

        start = torch.zeros(len(part.moving), affine.GLOBAL_PARAMETERS[model], device=device)
        outcome = descend(evaluate, start, step=step, steps=steps, tolerance=tolerance)
        return affine.global_matrix(outcome.parameters, model, centre, radius), outcome

    solved = memory.in_parts(lambda parts: [solve(part) for part in compare.batches(parts)])
    outcomes = [outcome for _, outcome in solved]
    parameters, loss = torch.cat([x.parameters for x in outcomes]), torch.cat([x.loss for x in outcomes])
    return torch.cat([matrix for matrix, _ in solved]), Descent(parameters, loss, outcomes[0].history, outcomes[0].reason)


def descend_patches(
    compare: Comparison,
    grid: PatchGrid,
    start: Tensor,
    *,
    stiffness: float,
    max_shift: float,
    step: float,
    steps: int,
    tolerance: float,
    progress: Progress = lambda index, steps, loss: None,
) -> Descent:
    """Patch parameters (2, 3, rows, columns) in pixels of the fixed level, blended into one field that is sampled once.

    ``stiffness`` weighs the neighbours' mean disagreement against the loss; no patch moves by more than ``max_shift``
    pixels from the global fit.
    """

    def solve(parts: int) -> Descent:
        return descend(
            _patch_objective(compare, grid, stiffness, parts),
            start[None],
            step=step,
            steps=steps,
            tolerance=tolerance,
            project=lambda parameters: limit_shift(parameters, max_shift),
            progress=progress,
        )

    outcome = memory.in_parts(solve)
    return Descent(outcome.parameters[0], outcome.loss, outcome.history, outcome.reason)


def _patch_objective(compare: Comparison, grid: PatchGrid, stiffness: float, parts: int) -> Evaluate:
    """Loss and gradient of patch parameters (1, 2, 3, rows, columns), the level taken in ``parts`` strips of whole windows."""
    x, y = sampling.axes(*compare.fixed.shape[-2:], device=compare.fixed.device)
    basis_x, basis_y = grid.axis_basis(x, 0), grid.axis_basis(y, 1)
    anchor, linear = compare.under(), compare.moving_from_fixed[0, :, :2]
    strips = [(compare.rows(rows), anchor[:, rows], basis_y[rows]) for rows in compare.strips(parts)]

    def evaluate(parameters: Tensor) -> tuple[Tensor, Tensor]:
        parameters = parameters.detach().requires_grad_()
        total, weight, slope = parameters.new_zeros(1), parameters.new_zeros(1), torch.zeros_like(parameters)
        for strip, at, basis in strips:
            in_moving = torch.einsum("ij,jkrc->ikrc", linear, parameters[0])  # the blend is linear: turn parameters, not pixels
            part, part_weight = strip(at + patches.displacement(in_moving, basis_x, basis)).summed_loss()
            slope += torch.autograd.grad(part.sum(), parameters)[0]
            total, weight = total + part.detach(), weight + part_weight
        bending = stiffness / (grid.columns * grid.rows) * patches.disagreement(grid, parameters[0])
        scale = 1 / weight.clamp(min=1e-6)
        return total * scale + bending.detach(), slope * scale + torch.autograd.grad(bending, parameters)[0]

    return evaluate


def limit_shift(parameters: Tensor, max_shift: float) -> Tensor:
    """Parameters (..., 2, 3, rows, columns) with no patch displaced by more than ``max_shift`` pixels, nor changing by more per spacing."""
    length = parameters.square().sum(-4, keepdim=True).sqrt()
    return parameters * (max_shift / length.clamp(min=1e-12)).clamp(max=1)
