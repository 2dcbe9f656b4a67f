"""Compute the figures of every patch: similarity, confidence, status and expected error."""

import math

from torch import Tensor

from register.compute import sums
from register.engine.fit import comparison, recover_patches
from register.engine.fit.comparison import Comparison, windows
from register.engine.fit.estimate import LocalFit, coarse_grid
from register.engine.quality import expected_error
from register.engine.quality.round_trip import RoundTrip
from register.geometry import affine, patch_tensors
from register.geometry.patch_grid import PatchGrid
from register.images import pyramid
from register.images.pyramid import Level
from register.transforms.frame import Frame
from register.transforms.quality import PatchFigures

WEAK_TEXTURE, WEAK_CONFIDENCE, TYPICAL = 0.02, 0.05, 0.5
"""Texture and confidence below which a patch is weak, and the quantile of the similarities that a patch is
compared with to find out whether it diverged."""
CAPPED = 0.99
"""Share of the largest shift from which a patch counts as capped."""


def patch_figures(
    compare: Comparison, local: LocalFit, level: Level, back: RoundTrip, *, max_shift: float, scale: float
) -> PatchFigures:
    """The figures of the patches, row by row, measured on a level.

    ``compare`` compares the images under the global map. ``max_shift`` is the largest shift of a patch in
    fixed pixels, and ``scale`` the length of a fixed pixel in moving pixels.
    """
    patches, pixel = local.on(level), pyramid.pixel(level)
    before, after = windows(compare), windows(compare, patches)
    grid, parameters = patches
    at_start = comparison.per_patch(compare, grid, before)[0].flatten()
    similarity, texture = (x.flatten() for x in comparison.per_patch(compare, grid, after))
    confidence = (similarity.clamp(0, 1) * texture / (texture + 0.1)).clamp(0, 1)
    weak = (
        (texture < WEAK_TEXTURE)
        | (confidence < WEAK_CONFIDENCE)
        | recover_patches.diverged(similarity, texture, quantile=TYPICAL)
    )
    status = _status(weak, parameters[:, 0].norm(dim=0).flatten() * pixel >= CAPPED * max_shift)
    bound = expected_error.bounds(compare, grid, parameters, max(float(sums.total(after.weight)), 1e-6))
    centres = affine.apply(level.original_from_level, patch_tensors.centres(grid).reshape(-1, 2))
    error = expected_error.errors(bound, parameters, back.errors(centres) / pixel, similarity) * pixel * scale
    known = zip(_rounded(error), status, strict=True)
    return PatchFigures(
        confidence=_rounded(confidence),
        status=status,
        similarity_before=_rounded(at_start),
        similarity_after=_rounded(similarity),
        expected_error=tuple(v if math.isfinite(v) and s != "weak" else None for v, s in known),
    )


def unknown(count: int) -> PatchFigures:
    """The figures of ``count`` patches of a failed alignment: no confidence, no expected error."""
    return PatchFigures(confidence=(0.0,) * count, status=("weak",) * count, expected_error=(None,) * count)


def without_displacement(level: Level, frame: Frame) -> LocalFit:
    """Patches without displacement, on the coarse grid of an image that is aligned by a global map."""
    coarse, (height, width) = coarse_grid(frame.height, frame.width), level.size
    spacing = width / (coarse.columns - 1), height / (coarse.rows - 1)
    grid = PatchGrid(coarse.columns, coarse.rows, coarse.origin, spacing)
    return LocalFit(level, grid, patch_tensors.zeros(grid, device=level.image.device))


def _status(weak: Tensor, capped: Tensor) -> tuple[str, ...]:
    """``weak``, ``capped`` or ``ok`` for every patch."""
    found = []
    for is_weak, is_capped in zip(weak.tolist(), capped.tolist(), strict=True):
        strong = "capped" if is_capped else "ok"
        found.append("weak" if is_weak else strong)
    return tuple(found)


def _rounded(values: Tensor) -> tuple[float, ...]:
    """Values (n,) to four decimals."""
    return tuple(values.cpu().double().round(decimals=4).tolist())
