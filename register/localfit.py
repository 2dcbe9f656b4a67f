"""The local part of the method: patch affines blended into one field, from coarse to fine."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from register import affine, comparison, descent, field, patches, sampling
from register.patches import PatchGrid
from register.pyramid import Level
from register.settings import Effort

STIFFNESS = 5.0
MARGIN = 32
STEP = 0.5
TOLERANCE = 0.005
PROBE_SIDE, PROBE_STEPS = 260, 20

Report = Callable[[str, int, int, float], None]
"""Called with the level's name, the step, the steps and the similarity."""


@dataclass(frozen=True)
class Local:
    """Residual patch parameters (2, 3, rows, columns) on a grid in pixels of one fixed level, before the global map."""

    level: Level
    grid: PatchGrid
    parameters: Tensor
    folds: int
    history: dict[str, tuple[float, ...]]
    stopped: str


def fit(
    levels: list[Level],
    moving: Level,
    matrix: Tensor,
    metric: str,
    effort: Effort,
    *,
    max_shift: float,
    steps: int,
    last_steps: int,
    report: Report,
) -> Local:
    """Descend through the levels, coarse to fine; the patch size is the same number of pixels on each, so the grid doubles.

    ``max_shift`` is in original pixels. After every level the field is unfolded.
    """
    grid, parameters, width, folds = None, None, 0, 0
    history: dict[str, tuple[float, ...]] = {}
    for number, level in enumerate(levels):
        last = number == len(levels) - 1
        compare = compare_at(level, moving, matrix, metric, effort)
        new = PatchGrid.cover(*level.size, effort.patch_size)
        device = level.image.device
        start = new.zeros(device=device) if grid is None or parameters is None else patches.refine(grid, parameters, new, level.size[1] / width)
        name = f"{level.size[1]} × {level.size[0]}"
        outcome = descent.descend_patches(
            compare,
            new,
            start,
            stiffness=STIFFNESS,
            max_shift=max_shift / _pixel(level),
            step=STEP / 2 if last and grid is not None else STEP,
            steps=last_steps if last else steps,
            tolerance=TOLERANCE,
            progress=lambda i, n, loss, name=name: report(name, i, n, 1 - math.exp(loss)),  # type: ignore[misc]
        )
        parameters, found = field.unfold(new, outcome.parameters)
        grid, width, folds = new, level.size[1], folds + found
        history[name] = outcome.history
    assert grid is not None
    assert parameters is not None
    return Local(levels[-1], grid, parameters, folds, history, outcome.reason)


def compare_at(level: Level, moving: Level, matrix: Tensor, metric: str, effort: Effort) -> descent.Comparison:
    """The comparison of one fixed level with the moving image under one global map (2, 3)."""
    matched = comparison.matching_level(moving, level, matrix)
    return comparison.prepare(level, matched, matrix[None], metric, window=effort.window, margin=MARGIN)


def displacement(local: Local, level: Level) -> Tensor:
    """The residual displacement (h, w, 2) on the pixels of any fixed level, in its pixels."""
    ratio = _pixel(local.level) / _pixel(level)
    grid = scaled_grid(local.grid, ratio)
    bases = [grid.axis_basis(x, axis) for axis, x in enumerate(sampling.axes(*level.size, device=level.image.device))]
    return patches.displacement(local.parameters * ratio, *bases)


def typical_shift(local: Local) -> float:
    """The median displacement of the patch centres from the global fit, in pixels of the fit's finest level."""
    return float(local.parameters[:, 0].norm(dim=0).median())


def scaled_grid(grid: PatchGrid, ratio: float) -> PatchGrid:
    """The same grid in pixels that are ``ratio`` times smaller; its origin is a pixel's corner and stays where it is."""
    return PatchGrid(grid.columns, grid.rows, grid.origin, (grid.spacing[0] * ratio, grid.spacing[1] * ratio))


def choose_metric(levels: list[Level], moving: Level, matrix: Tensor, effort: Effort, *, max_shift: float) -> tuple[str, str]:
    """``structure`` or ``ncc``, and the measurement in words.

    Both are tried for a few steps on a middle level. Intensity is sharper within one modality, but across modalities its optimum is elsewhere: it is
    chosen only when the field it finds raises both similarities, the structure nearly as much as structure itself does.
    """
    few = [x for x in levels if max(x.size) <= PROBE_SIDE] or levels[:1]
    score = {}
    fields: dict[str, Tensor | None] = {"start": None}
    for metric in ("structure", "ncc"):
        local = fit(few, moving, matrix, metric, effort, max_shift=max_shift, steps=PROBE_STEPS, last_steps=PROBE_STEPS, report=lambda *_: None)
        fields[metric] = displacement(local, few[-1])
    for judge in ("structure", "ncc"):
        compare = compare_at(few[-1], moving, matrix, judge, effort)
        for name, shift in fields.items():
            score[judge, name] = float(comparison.similarity_of(compare, shift)[0])
    gain = score["structure", "structure"] - score["structure", "start"]
    kept = score["structure", "ncc"] - score["structure", "start"]
    agrees = kept >= 0.7 * gain - 0.01 and score["ncc", "ncc"] >= score["ncc", "structure"] - 0.01
    chosen = "ncc" if agrees else "structure"
    return chosen, f"refined by ncc, structure rose by {kept:+.3f} ({gain:+.3f} when refined by itself): {chosen}"


def _pixel(level: Level) -> float:
    """The size of a level's pixel in original pixels."""
    return math.sqrt(float(affine.determinant(level.original_from_level)))
