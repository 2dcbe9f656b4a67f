"""Compute the figures of every patch: similarity, confidence, status and expected error."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

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
CONTENT, RICH = 0.5, 0.9
"""Share of the texture of rich patches from which a patch has content and is not background, and the
quantile of the textures that is rich."""
UNRECOGNISED = "unrecognised"
"""The status of a patch whose match is not recognised."""
CAPPED = 0.99
"""Share of the largest shift from which a patch counts as capped."""


@dataclass(frozen=True)
class Patchwise:
    """The figures of the patches (n,), and which of them have content: bool (n,)."""

    figures: PatchFigures
    content: tuple[bool, ...]

    def without(self, unrecognised: Tensor) -> "Patchwise":
        """The figures in which ``unrecognised`` patches, bool (n,), have no expected error, and that status
        if they have content."""
        known, lost = self.figures, unrecognised.tolist()
        named = zip(known.status, lost, self.content, strict=True)
        status = tuple(UNRECOGNISED if bad and content else own for own, bad, content in named)
        each = zip(known.expected_error, lost, strict=True)
        errors = tuple(None if bad else error for error, bad in each)
        return replace(self, figures=replace(known, status=status, expected_error=errors))

    def with_errors(self, errors: Sequence[float]) -> "Patchwise":
        """The figures with other expected ``errors`` (n,); infinite ones are unknown."""
        known = tuple(round(error, 4) if math.isfinite(error) else None for error in errors)
        return replace(self, figures=replace(self.figures, expected_error=known))

    def with_content(self, more: Tensor) -> "Patchwise":
        """The figures with ``more`` patches, bool (n,), that have content."""
        both = zip(self.content, more.tolist(), strict=True)
        return replace(self, content=tuple(own or other for own, other in both))

    @property
    def on_content(self) -> tuple[str, ...]:
        """The status of the patches that have content, or of all where none has."""
        each = zip(self.figures.status, self.content, strict=True)
        return tuple(status for status, content in each if content) or self.figures.status


def patch_figures(
    compare: Comparison, local: LocalFit, level: Level, back: RoundTrip, *, max_shift: float, scale: float
) -> Patchwise:
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
    rich = float(texture.quantile(RICH))
    figures = PatchFigures(
        confidence=_rounded(confidence),
        status=status,
        similarity_before=_rounded(at_start),
        similarity_after=_rounded(similarity),
        expected_error=tuple(v if math.isfinite(v) and s != "weak" else None for v, s in known),
    )
    return Patchwise(figures, tuple((texture > max(CONTENT * rich, WEAK_TEXTURE)).tolist()))


def unknown(count: int) -> PatchFigures:
    """The figures of ``count`` patches of a failed alignment: no confidence, no expected error."""
    return PatchFigures(confidence=(0.0,) * count, status=("weak",) * count, expected_error=(None,) * count)


def without_displacement(level: Level, frame: Frame, spacing: float | None = None) -> LocalFit:
    """Patches without displacement, with a ``spacing`` in pixels of the level, or on the coarse grid of an
    image that is aligned by a global map."""
    height, width = level.size
    if spacing:
        grid = PatchGrid.cover(height, width, spacing)
    else:
        coarse = coarse_grid(frame.height, frame.width)
        steps = width / (coarse.columns - 1), height / (coarse.rows - 1)
        grid = PatchGrid(coarse.columns, coarse.rows, coarse.origin, steps)
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
