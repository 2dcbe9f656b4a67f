"""The local part of the method: patch affines blended into one field, from coarse to fine."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from register.engine.fit import comparison, recover_patches
from register.engine.fit.level import ADAM, GAUSS_NEWTON, optimise_patches
from register.geometry import affine, models, patch_grid, patch_tensors
from register.geometry.patch_grid import PatchGrid
from register.geometry.patch_tensors import Patches
from register.images import interpolation, pyramid
from register.images.pyramid import Level
from register.optim.result import OptimisationResult
from register.settings import Effort
from register.similarity import registry
from register.transforms.frame import Frame
from register.transforms.quality import PatchFigures
from register.transforms.transform import Transform

STIFFNESS, LEAST_STIFFNESS, SOFTER = 40.0, 5.0, 0.5
"""Weight of the neighbours' disagreement on the finest level, its least, and its factor from a level to the next coarser one, whose displacements
are larger in units of its patches."""
MORE_STEPS = 1.5
"""Factor of the steps from a level to the next coarser one, which has further to go and costs less."""
ADAM_STEPS, ADAM_STEP = 4, 0.5
"""How many times the steps Adam gets, and its first step in pixels."""
MARGIN = 32
TOLERANCE, GAIN = 0.005, 0.001
"""A level ends when no parameter would move by so many pixels, or when two steps lower the loss by less, on the finest level; a coarse one has a finer one
to go on."""
REHEARSAL, LEAST_FALL = 2, 0.002
"""Steps on half of a level's windows, and the fall of the loss in the other half from which on the level is worth its patches."""
AGAIN = 4
"""Steps of patches that were lost and begin again from their neighbours."""
STIFFER = 8.0
"""Factor of the stiffness of a level whose patches would follow noise, before it is left out."""
PROBE_SIDE = 260
"""Longest side of the finest level on which the metrics are tried."""
KEPT, SLACK = 0.99, 0.002
"""Share of structure's own gain that a field of intensities must bring for them to be compared, and the similarity that counts for nothing."""
SAME = 0.9
"""Share of each other's variance that intensities explain in images of one kind: of the real pairs, those that chose structure for a better fit had less."""
UNCLEAR = 0.1
"""Relative difference of both gains below which the choice is ambiguous where the fields differ."""

Report = Callable[[str, float, float], None]
"""Called with the level's name, the share of all passes that is done, and the similarity."""


@dataclass(frozen=True)
class LocalFit:
    """Residual patch parameters (2, 3, rows, columns) on a grid in pixels of one fixed level, before the global map.

    ``dropped`` names the levels whose patches did not improve windows they had not seen.
    """

    level: Level
    grid: PatchGrid
    parameters: Tensor
    folds: int
    history: dict[str, tuple[float, ...]]
    dropped: tuple[str, ...]


def fit(
    levels: list[Level],
    finest: Level,
    moving: Level,
    matrix: Tensor,
    metric: str,
    effort: Effort,
    *,
    max_shift: float,
    begin: LocalFit | None = None,
    finer: int | None = None,
    report: Report = lambda *_: None,
) -> LocalFit:
    """Descend through some of the levels, coarse to fine, from zero or from where another fit ended.

    The patch size is the same number of pixels on each level, so the grid doubles. ``max_shift`` is in original pixels. ``finest`` is the
    level on which the whole fit will end, with another pass of patches ``finer`` pixels apart, if that is given and windows can tell what it brings. After
    every pass patches that were lost begin again and the field is unfolded. A finer one whose first steps on half of its windows do not improve the
    other half is stiffer, or left out: its patches would follow noise.
    """
    curved = registry.get(metric).curved
    local, passes = (
        begin,
        [(level, effort.patch_size) for level in levels] + ([(finest, finer)] if finer and curved else []),
    )
    for number, (level, spacing) in enumerate(passes):
        coarseness = math.log2(pyramid.pixel(level) / pyramid.pixel(finest))
        steps = max(round(effort.steps * MORE_STEPS**coarseness), 1)
        grid = PatchGrid.cover(*level.size, spacing)
        start = patch_tensors.zeros(grid, device=level.image.device)
        if local is not None:
            start = patch_tensors.refine(
                local.grid, local.parameters, grid, pyramid.pixel(local.level) / pyramid.pixel(level)
            )
        local = local or LocalFit(level, grid, start, 0, {}, ())
        again, size = spacing == finer, f"{level.size[1]} × {level.size[0]}"
        if again and local.level is not level:  # where patches follow noise, finer ones do
            break
        name = f"{size}, finer patches," if again else size
        compare = compare_at(level, moving, matrix, metric, effort)
        optimizer, times = (GAUSS_NEWTON, 1) if curved and effort.optimizer != ADAM else (ADAM, ADAM_STEPS)
        limits: dict[str, Any] = {
            "max_shift": max_shift / pyramid.pixel(level),
            "step": ADAM_STEP,
            "tolerance": TOLERANCE,
            "gain": GAIN * 2**coarseness,
        }
        descend = partial(optimise_patches, grid=grid, optimizer=optimizer, **limits)
        stiffness = max(STIFFNESS * SOFTER**coarseness, LEAST_STIFFNESS)
        if curved and (again or local.level is not level):
            found = _rehearsed(compare, grid, start, partial(descend, steps=REHEARSAL * times), stiffness)
            if found is None:
                local = replace(local, dropped=local.dropped if again else (*local.dropped, size))
                continue
            start, stiffness = found
        outcome = descend(
            compare,
            start=start,
            stiffness=stiffness,
            steps=steps * times,
            progress=lambda i, n, loss, name=name, number=number: report(
                name, _share(number + i / max(n, 1), len(passes)), 1 - math.exp(loss)
            ),  # type: ignore[misc]
        )
        parameters = outcome.parameters
        if curved:
            from_neighbours = partial(descend, compare, stiffness=stiffness, steps=AGAIN * times)
            parameters = recover_patches.recover(compare, Patches(grid, parameters), from_neighbours)
        parameters, folds = patch_tensors.unfold(grid, parameters)
        local = LocalFit(
            level,
            grid,
            parameters,
            local.folds + folds,
            local.history | {f"{name} {metric}": outcome.history},
            local.dropped,
        )
    assert local is not None
    return local


def _share(passed: float, count: int) -> float:
    """The share of the work that is done when so many of ``count`` passes are: each has twice that of the one before it, for four times the pixels."""
    whole = math.floor(passed)
    return (2**whole * (1 + passed - whole) - 1) / (2**count - 1)


def _rehearsed(
    compare: comparison.Comparison,
    grid: PatchGrid,
    start: Tensor,
    descend: Callable[..., OptimisationResult],
    stiffness: float,
) -> tuple[Tensor, float] | None:
    """Where a level's descent begins, and its stiffness, from its first steps on half of the windows: where these lead, if the other half is better for it; or
    else the start, much stiffer, if steps that are as stiff improve both halves together; or None.

    What patches gain by following noise in the windows they see, they lose in the others, so that the sum of both is what is no noise. The others alone ask
    for too much of fine patches: those in windows that are left out see next to nothing.
    """
    seen, unseen = compare.half(0), compare.half(1)

    def fall(half: comparison.Comparison, found: Tensor) -> float:
        return comparison.windows(half, Patches(grid, start)).loss_decrease(
            comparison.windows(half, Patches(grid, found))
        )

    found = descend(seen, start=start, stiffness=stiffness).parameters
    if fall(unseen, found) > LEAST_FALL:
        return found, stiffness
    found = descend(seen, start=start, stiffness=STIFFER * stiffness).parameters
    return (start, STIFFER * stiffness) if fall(seen, found) + fall(unseen, found) > 0 else None


def of_map(
    mapped: Callable[[Tensor], Tensor],
    seen: tuple[Tensor, Tensor],
    level: Level,
    matrix: Tensor,
    effort: Effort,
) -> LocalFit:
    """The patches of one level that follow a map of points (n, 2) in original pixels, to first order about their centres.

    Only patches inside the box ``seen`` (two corners) ask the map; those outside go on as the nearest of these does, because a homography that fits
    its matches may have its horizon beyond them.
    """
    grid = PatchGrid.cover(*level.size, effort.patch_size)
    back, up = affine.invert(affine.compose(matrix, level.original_from_level)), level.original_from_level

    def residual(points: Tensor) -> Tensor:
        return affine.apply(back, mapped(affine.apply(up, points))) - points

    centres = patch_tensors.centres(grid)
    corners = affine.apply(affine.invert(up), torch.stack(seen))
    inside = torch.minimum(torch.maximum(centres, corners[0]), corners[1])
    move, along_x, along_y = patch_tensors.secants(residual, inside.reshape(-1, 2), 2.0, 2.0)
    slopes = [along_x / 2 * grid.spacing[0], along_y / 2 * grid.spacing[1]]
    away = ((centres - inside) / torch.tensor(grid.spacing, dtype=torch.float64)).reshape(-1, 2)
    move = move + slopes[0] * away[:, :1] + slopes[1] * away[:, 1:]
    parameters = (
        torch.stack([move, *slopes], dim=-1).reshape(grid.rows, grid.columns, 2, 3).permute(2, 3, 0, 1)
    )
    unfolded, folds = patch_tensors.unfold(grid, parameters.to(level.image))
    return LocalFit(level, grid, unfolded, folds, {}, ())


def compare_at(
    level: Level, moving: Level, matrix: Tensor, metric: str, effort: Effort
) -> comparison.Comparison:
    """The comparison of one fixed level with the moving image under one global map (2, 3)."""
    matched = comparison.match_pixel_size(moving, level, matrix)
    return comparison.prepare(level, matched, matrix[None], metric, window=effort.window, margin=MARGIN)


def displacement(local: LocalFit, level: Level) -> Tensor:
    """The residual displacement (h, w, 2) on the pixels of any fixed level, in its pixels."""
    return patches_at(local, level).displacement(*interpolation.axes(*level.size, device=level.image.device))


def patches_at(local: LocalFit, level: Level) -> Patches:
    """The patches in pixels of any fixed level."""
    ratio = pyramid.pixel(local.level) / pyramid.pixel(level)
    return Patches(scaled_grid(local.grid, ratio), local.parameters * ratio)


def nearest_affine(local: LocalFit, matrix: Tensor) -> Tensor:
    """The affine map (2, 3) of the originals nearest to the patches' centres over a global map: where they all agree, it is what they say."""
    centres = patch_tensors.centres(local.grid).reshape(-1, 2)
    moved = centres + local.parameters[:, 0].double().cpu().reshape(2, -1).T
    return affine.compose(
        matrix, comparison.residual_in_original_pixels(models.AFFINE.fit(centres, moved), local.level)
    )


def typical_shift(local: LocalFit) -> float:
    """The median displacement of the patch centres from the global fit, in pixels of the fit's finest level."""
    return float(local.parameters[:, 0].norm(dim=0).median())


def scaled_grid(grid: PatchGrid, ratio: float) -> PatchGrid:
    """The same grid in pixels that are ``ratio`` times smaller; its origin is a pixel's corner and stays where it is."""
    return PatchGrid(grid.columns, grid.rows, grid.origin, (grid.spacing[0] * ratio, grid.spacing[1] * ratio))


@dataclass(frozen=True)
class Choice:
    """The metric that was chosen, the measurement in words, and the fit of the coarse levels that it rests on."""

    metric: str
    why: str
    local: LocalFit


def probe_levels(levels: list[Level]) -> list[Level]:
    """The coarse levels on which the metrics are tried."""
    return [x for x in levels if max(x.size) <= PROBE_SIDE] or levels[:1]


def choose_metric(
    levels: list[Level],
    moving: Level,
    matrix: Tensor,
    effort: Effort,
    *,
    max_shift: float,
    bent: LocalFit | None = None,
) -> Choice:
    """``structure`` or ``ncc``, by trying both on the coarse levels, from the field that self-similarity finds there, from zero or from ``bent`` patches.

    Intensity is sharper within one modality, but across modalities its optimum is elsewhere: it is chosen only when the field it finds, by itself or
    from that of self-similarity, raises both similarities, the structure nearly as much as structure itself does. Where it explains nearly everything,
    nothing else is tried.
    """
    few = probe_levels(levels)
    judges = {metric: compare_at(few[-1], moving, matrix, metric, effort) for metric in ("structure", "ncc")}

    def tried(on: list[Level], metric: str, begin: LocalFit | None = None) -> LocalFit:
        return fit(on, levels[-1], moving, matrix, metric, effort, max_shift=max_shift, begin=begin)

    def score(metric: str, local: LocalFit | None) -> float:
        return float(comparison.windows(judges[metric], patches_at(local, few[-1]) if local else None).mean())

    own = tried(few, "ncc")
    if (explained := score("ncc", own)) >= SAME:
        return Choice("ncc", f"refined by ncc, intensities explain {explained:.0%} of each other: ncc", own)
    coarse = max(
        (tried(few, "mind", begin) for begin in ([None, bent] if bent else [None])),
        key=lambda local: score("structure", local),
    )
    fits = {
        "structure": tried(few[-1:], "structure", coarse),
        "ncc": own,
        "both": tried(few[-1:], "ncc", coarse),
    }
    scores = {(metric, name): score(metric, local) for metric in judges for name, local in fits.items()}
    best = max(("ncc", "both"), key=lambda name: scores["structure", name])
    start = score("structure", None)
    gain, kept = scores["structure", "structure"] - start, scores["structure", best] - start
    chosen = (
        "ncc"
        if kept >= KEPT * gain - SLACK and scores["ncc", best] >= scores["ncc", "structure"] - SLACK
        else "structure"
    )
    why = f"refined by ncc, structure rose by {kept:+.3f} ({gain:+.3f} when refined by itself): {chosen}"
    apart = float(
        (displacement(fits[best], few[-1]) - displacement(fits["structure"], few[-1])).norm(dim=-1).median()
    )
    if abs(kept - gain) < UNCLEAR * abs(gain) and apart > 0.5:
        why += f"; ambiguous: both explain the images alike, and their fields lie {apart * pyramid.pixel(few[-1]):.1f} px apart"
    return Choice(chosen, why, fits[best if chosen == "ncc" else "structure"])


def few(height: int, width: int) -> PatchGrid:
    """The grid of an image that needs no patches."""
    return PatchGrid.cover(height, width, max(height, width) / 4)


def as_transform(
    model: str,
    frames: tuple[Frame, Frame],
    matrix: Tensor,
    local: LocalFit | None,
    figures: PatchFigures | None = None,
) -> Transform:
    """A fit in original pixels, with figures per patch. A local model keeps a grid even where there are no patches."""
    matrix = matrix.double().cpu()
    if model != "local":
        return Transform(model, *frames, matrix.numpy())
    if local is None:
        grid = few(frames[0].height, frames[0].width)
        return Transform(
            model,
            *frames,
            matrix.numpy(),
            grid,
            matrix.expand(grid.rows, grid.columns, 2, 3).clone().numpy(),
            patch_figures=figures or PatchFigures(),
        )
    up = local.level.original_from_level
    spacing = (float(up[0, 0]) * local.grid.spacing[0], float(up[1, 1]) * local.grid.spacing[1])
    grid = PatchGrid(local.grid.columns, local.grid.rows, local.grid.origin, spacing)
    residual = patch_grid.to_matrices(local.grid, local.parameters.double().cpu())
    absolute = affine.compose(matrix, comparison.residual_in_original_pixels(residual, local.level))
    figures = figures or PatchFigures()
    return Transform(model, *frames, matrix.numpy(), grid, absolute.numpy(), patch_figures=figures)
