"""How good an alignment is: similarity before and after, overlap, Jacobian, chance, per-patch figures, a verdict."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from register import affine, field, globalfit, localfit, patches, pyramid, sampling, structure
from register.comparison import Comparison, windows
from register.features import SURE, Matched
from register.localfit import Local
from register.pyramid import Level
from register.settings import Effort
from register.similarity import Windows, window_sums

JUDGING_SIDE = 1024
FAILED_BELOW, SUSPECT_BELOW = 7.5, 9.0
"""Standard deviations above chance below which an alignment is called failed, or suspect."""


@dataclass(frozen=True)
class Figures:
    """The summary that goes into ``quality`` and the lists, one value per patch, that go into ``patches``."""

    summary: dict[str, Any]
    patches: dict[str, list[Any]]


def judging_level(levels: list[Level]) -> Level:
    """The finest level of at most ``JUDGING_SIDE`` pixels."""
    return ([x for x in levels if max(x.size) <= JUDGING_SIDE] or levels[:1])[-1]


def at_least_as_good(level: Level, moving: Level, matrix: Tensor, before: Tensor, metric: str) -> bool:
    """Whether one global map leaves no more unexplained than another one before it, over the windows that both see."""
    after, start = (windows(globalfit.compare_at(level, moving, x[None], metric, smoothing=globalfit.EXACT_SMOOTHING)) for x in (matrix, before))
    return start.fall(after) >= 0


def gain(level: Level, moving: Level, matrix: Tensor, local: Local, instead: Tensor, metric: str, effort: Effort) -> float:
    """By how much patches over ``matrix`` lower the mean log of what is left unexplained, against the global map ``instead``."""
    alone = windows(localfit.compare_at(level, moving, instead, metric, effort))
    with_patches = windows(localfit.compare_at(level, moving, matrix, metric, effort), localfit.displacement(local, level))
    return alone.fall(with_patches)


def judge(
    levels: list[Level], moving: Level, matrix: Tensor, local: Local | None, metric: str, effort: Effort, *, max_shift: float, matched: Matched | None
) -> Figures:
    """All figures of a finished alignment. Displacements are in fixed pixels, ``overlap`` is a share of the fixed image."""
    level = judging_level(levels)
    compare = localfit.compare_at(level, moving, matrix, metric, effort)
    shift = localfit.displacement(local, level) if local else None
    after = windows(compare, shift)
    before = windows(localfit.compare_at(level, moving, affine.identity(), metric, effort))
    chance = above_chance(levels[-1], moving, matrix)
    summary = {
        "similarity_before": _round(before.mean()),
        "similarity_after": _round(after.mean()),
        "similarity_global": _round(windows(compare).mean()),
        "above_chance": round(chance, 2),
        "matches_agreeing": _agreeing(levels[-1], matrix, local, matched),
        "overlap": _round(_overlap(level, moving, matrix)),
        **_displacement(levels[-1], matrix, local),
        **_jacobian(matrix, local),
    }
    figures = _patch_figures(compare, windows(compare), after, local, level, max_shift) if local else {}
    verdict, reasons = _verdict(summary, figures)
    return Figures({"verdict": verdict, "reasons": reasons} | summary, figures)


def above_chance(fixed: Level, moving: Level, matrix: Tensor) -> float:
    """How many standard deviations the structure similarity of the global fit stands above that of the same images shifted apart.

    Cyclic shifts of the warped structure by at least a sixteenth of the level are what chance gives: a permutation test.
    """
    level = globalfit.at_side(fixed, globalfit.FIT_SIDE)
    compare = globalfit.compare_at(level, moving, matrix[None], "structure")
    height, width = level.size
    points = compare.under()
    warped = sampling.sample(compare.moving, points)
    seen = structure.erode(sampling.sample(compare.moving_mask, points), 3)
    solid = structure.erode(level.mask[None], 3)

    def spectra(image: Tensor, mask: Tensor) -> Tensor:
        return torch.fft.rfft2(torch.cat([image * mask, image.square().sum(1, True) * mask, mask], dim=1)[0])

    f, w = spectra(compare.fixed, solid).conj(), spectra(warped, seen)
    inner = torch.fft.irfft2(f[0] * w[0] + f[1] * w[1], s=(height, width))
    energy = torch.fft.irfft2(f[2] * w[3], s=(height, width)).clamp(min=1) * torch.fft.irfft2(f[3] * w[2], s=(height, width)).clamp(min=1)
    overlap = torch.fft.irfft2(f[3] * w[3], s=(height, width)).clamp(min=0)
    score = inner / energy.sqrt() * overlap.sqrt()
    y, x = (torch.minimum(torch.arange(n), n - torch.arange(n)) for n in (height, width))
    far = (torch.hypot(y[:, None].float(), x[None].float()) > max(height, width) / 16).to(score.device)
    others = score[far & (overlap > 0.1 * overlap[0, 0])]
    if len(others) < 100 or float(overlap[0, 0]) < 64:
        return 0.0
    return float((score[0, 0] - others.mean()) / others.std().clamp(min=1e-6))


def _agreeing(level: Level, matrix: Tensor, local: Local | None, matched: Matched | None) -> int:
    """How many matched features, which the descent never saw, the answer takes to within 1 % of the image's diagonal of their partners."""
    if matched is None:
        return 0
    points = affine.apply(affine.invert(level.original_from_level), matched.fixed)
    if local is not None:
        grid = localfit.scaled_grid(local.grid, pyramid.pixel(local.level) / pyramid.pixel(level))
        parameters = local.parameters.double().cpu() * (pyramid.pixel(local.level) / pyramid.pixel(level))
        points = points + patches.displacement_at(grid, parameters, points)
    error = (affine.apply(affine.compose(matrix.double().cpu(), level.original_from_level), points) - matched.moving).norm(dim=1)
    scale = float(affine.determinant(matrix).abs().sqrt())
    return int((error < 0.01 * scale * math.hypot(*level.size) * pyramid.pixel(level)).sum())


def _overlap(level: Level, moving: Level, matrix: Tensor) -> Tensor:
    """The share of the fixed image whose pixels land on the moving one."""
    step = affine.compose(affine.compose(affine.invert(moving.original_from_level), matrix.double().cpu()), level.original_from_level)
    points = affine.apply_to_grid(step[None], *sampling.axes(*level.size, dtype=torch.float64))
    return sampling.inside(points, *moving.size).double().mean()


def _displacement(level: Level, matrix: Tensor, local: Local | None) -> dict[str, float]:
    """Median and largest displacement of the whole map, and the largest of its local part, in fixed pixels."""
    grid = sampling.pixel_grid(*level.size, dtype=torch.float64).flatten(0, 1)
    up = level.original_from_level
    shift = localfit.displacement(local, level).double().cpu().reshape(-1, 2) if local else torch.zeros(1, 2, dtype=torch.float64)
    fixed = affine.apply(up, grid)
    length = (affine.apply(matrix.double().cpu(), affine.apply(up, grid + shift)) - fixed).norm(dim=1)
    local_length = (shift * up.diagonal()[:2]).norm(dim=1)
    return {
        "displacement_median": _round(length.median()),
        "displacement_max": _round(length.max()),
        "local_displacement_median": _round(local_length.median()),
        "local_displacement_max": _round(local_length.max()),
    }


def _jacobian(matrix: Tensor, local: Local | None) -> dict[str, Any]:
    """Range of det J relative to the global map, from bounds over every cell, and how many cells fold."""
    if local is None:
        return {"det_global": _round(affine.determinant(matrix)), "det_min": 1.0, "folds": 0}
    bounds = field.smallest_determinants(local.grid, local.parameters)
    return {"det_global": _round(affine.determinant(matrix)), "det_min": _round(bounds.min()), "folds": int((bounds <= 0).sum())}


def _patch_figures(compare: Comparison, before: Windows, after: Windows, local: Local, level: Level, max_shift: float) -> dict[str, list[Any]]:
    """Per patch, row by row: similarity before and after the local fit, confidence, status and expected error."""
    height, width = level.size
    side = compare.window
    rows, columns = math.ceil(height / side), math.ceil(width / side)
    ratio = float(local.level.original_from_level[0, 0] / level.original_from_level[0, 0])
    scaled = localfit.scaled_grid(local.grid, ratio)

    def gather(values: Tensor) -> Tensor:
        x = (torch.arange(columns, device=values.device) + 0.5) * side - 0.5
        y = (torch.arange(rows, device=values.device) + 0.5) * side - 0.5
        wx, wy = scaled.axis_basis(x, 0)[:, : scaled.columns], scaled.axis_basis(y, 1)[:, : scaled.rows]
        return (wy.T @ values.reshape(rows, columns) @ wx).flatten()

    if after.value.shape[1] == 1:  # one value for the whole image (mi): every patch has it
        full = torch.ones(1, rows * columns, device=after.value.device)
        before, after = Windows(before.value * full, before.weight * full), Windows(after.value * full, after.weight * full)
    weight, whole = gather(after.weight[0]), gather(torch.ones_like(after.weight[0]))
    texture = weight / whole.clamp(min=1e-6)
    similarity = gather((after.value * after.weight)[0]) / weight.clamp(min=1e-6)
    at_start = gather((before.value * before.weight)[0]) / gather(before.weight[0]).clamp(min=1e-6)
    confidence = (similarity.clamp(0, 1) * texture / (texture + 0.1)).clamp(0, 1)
    pixel = float(local.level.original_from_level[0, 0])
    capped = local.parameters[:, 0].norm(dim=0).flatten() * pixel >= 0.99 * max_shift
    error = _expected_error(compare, similarity, weight, gather) * float(level.original_from_level[0, 0])
    status = [
        "weak" if t < 0.02 or c < 0.05 else "capped" if cap else "ok" for t, c, cap in zip(texture.tolist(), confidence.tolist(), capped.tolist(), strict=True)
    ]
    return {
        "confidence": [round(v, 4) for v in confidence.tolist()],
        "status": status,
        "similarity_before": [round(v, 4) for v in at_start.tolist()],
        "similarity_after": [round(v, 4) for v in similarity.tolist()],
        "expected_error": [round(v, 4) if math.isfinite(v) and s != "weak" else None for v, s in zip(error.tolist(), status, strict=True)],
    }


def _expected_error(compare: Comparison, similarity: Tensor, weight: Tensor, gather: Any) -> Tensor:
    """A lower bound (n) of each patch's error in pixels of the level, from similarity and gradient energy; not calibrated.

    Cramér-Rao for a shift: variance = (1 - r) / r / (N g), with g the gradient energy over the variance and N = area * g independent
    samples. Source: Robinson & Milanfar, "Fundamental performance limits in image registration", IEEE TIP 13 (2004).
    """
    gx, gy = structure.gradient(compare.fixed, 0.7)
    energy = (gx.square() + gy.square()).sum(1, True) / 2
    mean = window_sums(compare.fixed * compare.fixed_mask, compare.window) / window_sums(compare.fixed_mask, compare.window).clamp(min=1e-3)
    power = window_sums(compare.fixed.square().sum(1, True) * compare.fixed_mask, compare.window)
    spread = power - window_sums(compare.fixed_mask, compare.window) * mean.square().sum(1, True)
    sharp = gather(window_sums(energy * compare.fixed_mask, compare.window).flatten()) / gather(spread.clamp(min=1e-6).flatten())
    samples = weight * compare.window**2 * sharp
    r = similarity.clamp(1e-3, 0.9999)
    return ((1 - r) / r / (samples * sharp).clamp(min=1e-9)).sqrt()


def _verdict(summary: dict[str, Any], figures: dict[str, list[Any]]) -> tuple[str, list[str]]:
    """``ok``, ``suspect`` or ``failed`` with reasons in words, from evidence of the global fit that was not optimised locally."""
    failed, suspect = [], []
    chance = summary["above_chance"]
    if summary["matches_agreeing"] >= SURE:
        pass  # evidence of its own
    elif chance < FAILED_BELOW:
        failed.append(f"the similarity is not above what chance gives ({chance:.1f} standard deviations; {FAILED_BELOW:g} are needed)")
    elif chance < SUSPECT_BELOW:
        suspect.append(f"the similarity is barely above chance ({chance:.1f} standard deviations)")
    if summary["overlap"] < 0.1:
        suspect.append(f"the images share only {summary['overlap']:.0%} of the fixed image")
    status = figures.get("status", [])
    if status and status.count("weak") > 0.8 * len(status):
        suspect.append(f"{status.count('weak')} of {len(status)} patches have too little to see")
    if status.count("capped"):
        suspect.append(f"{status.count('capped')} patches reached --max-shift; raise it if the deformation is larger")
    if not 0.1 <= abs(summary["det_global"]) <= 10:
        suspect.append(f"the global map changes areas by a factor of {summary['det_global']:.3g}")
    return ("failed" if failed else "suspect" if suspect else "ok"), failed + suspect


def _round(value: Tensor | float) -> float:
    return round(float(value), 5)
