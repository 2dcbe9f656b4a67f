"""Align one frame of a movie to the reference: fast where it is recognised, by a full search elsewhere."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from register.compute import sums
from register.compute.budget import Budget
from register.engine.fit.working_copy import levels_of, working_copy
from register.engine.initial import registry, search
from register.engine.movie import bounds, tensors
from register.engine.movie.evidence import Evidence, evidence
from register.engine.movie.filtered import is_constant, structure_of
from register.engine.movie.fit import Fit, displaced, fit
from register.engine.movie.motion import Motion
from register.engine.movie.reference import Prepared, Reference
from register.engine.movie.shift import shift_of
from register.engine.quality import verdict
from register.errors import AlignmentError
from register.geometry import affine, affine_tensors
from register.images import pyramid
from register.images.line_offset import line_offset
from register.transforms.quality import Verdict

SEARCHED = 320
"""Longest side, in pixels, of the images in which rotations and scales are searched."""
LEAST_STRUCTURE = 0.4
"""Standard deviation of what a frame shows, relative to its noise, from which it is searched."""
LARGEST_STEP = 1.0
"""Root mean square of the last step, in pixels, beyond which a fit has not converged."""
LEAST_OVERLAP, FULL_OVERLAP = 0.1, 0.6
"""Shares of the reference's weight that a frame must cover to be recognised, and to be ``ok``."""


class Tried(NamedTuple):
    """A fit from one start, its evidence, and why its map lies beyond the ranges that were asked for, if it
    does."""

    fit: Fit
    evidence: Evidence
    beyond: str | None

    @property
    def good(self) -> bool:
        """Whether the frame is recognised, the fit has converged, and its map is one that was asked for."""
        converged = self.fit.moving < LARGEST_STEP and self.fit.overlap > LEAST_OVERLAP
        return verdict.called(self.evidence.wrong) == Verdict.OK and converged and self.beyond is None


def follow(
    reference: Reference, frame: Tensor, mask: Tensor | None = None, near: Tensor | None = None
) -> Motion:
    """The motion of a grey frame (h, w) float32, valid where ``mask`` (h, w) is not 0.

    The start is the shift by phase correlation; where the frame is not recognised after the fit, ``near``
    (2, 3), the map of another frame, with a shift; and last the search over rotations and scales. A map
    beyond the ranges of the settings is ``failed``. Raises ``AlignmentError`` for a constant or dark frame.
    """
    known = frame if mask is None else torch.where(mask > 0, frame, torch.nan)
    if is_constant(known):
        raise AlignmentError("is constant and cannot be aligned", "frame")
    prepared = reference.prepared(frame, mask)
    seen = prepared.full
    if not sums.all_finite(seen) and float(torch.isfinite(seen).float().mean()) < LEAST_OVERLAP:
        raise AlignmentError("is dark", "frame")
    tried = [_tried(reference, prepared, affine_tensors.identity())]
    if not tried[-1].good and near is not None:
        tried.append(_tried(reference, prepared, near))
    if not tried[-1].good and structure_of(known) > LEAST_STRUCTURE:
        matrix = _searched(reference, frame, mask)
        if matrix is not None:
            tried += [_tried(reference, prepared, matrix)]
    best = min(tried, key=lambda one: (one.beyond is not None, one.evidence.wrong, -one.evidence.correlation))
    return _judged(reference, frame, best)


def _tried(reference: Reference, frame: Prepared, matrix: Tensor) -> Tried:
    """The fit of a prepared frame from a map (2, 3) after a shift by phase correlation, and its evidence."""
    level = reference.coarse
    small = frame.on(level)
    if bool((matrix != affine_tensors.identity()).any()):
        small = tensors.resample(displaced(level, small, matrix, torch.zeros(level.space.shape)), 0.0)
    x, y = shift_of(reference.spectrum, small.nan_to_num())
    moved = affine.compose(matrix, affine_tensors.translation(x * level.step, y * level.step))
    found = fit(reference, frame, moved)
    beyond = bounds.beyond(reference.within, found.matrix)
    return Tried(found, evidence(reference, frame, found), beyond)


def _searched(reference: Reference, frame: Tensor, mask: Tensor | None) -> Tensor | None:
    """The map (2, 3) that the search over rotations and scales finds; None where an image is constant."""
    settings = reference.settings
    level = pyramid.base(frame.nan_to_num()[None], None if mask is None else mask[None].float())
    try:
        fixed = levels_of(working_copy(reference.grey, SEARCHED, "reference"))[-1]
        moving = working_copy(level, SEARCHED, "frame")
    except AlignmentError:
        return None
    always, fallback = registry.chosen(settings.matcher)
    budget = Budget.of(settings.search_budget)
    ranges = [reference.within]
    return search.find(fixed, moving, ranges, always=always, fallback=fallback, budget=budget).matrix


def _judged(reference: Reference, frame: Tensor, best: Tried) -> Motion:
    """The motion with its verdict and reasons."""
    found, seen, beyond = best
    called, reasons = verdict.called(seen.wrong), list[str]()
    if called != Verdict.OK:
        reasons.append(f"the frame is not recognised in its reference: probably wrong ({seen.wrong:.0%})")
    doubts = []
    if found.overlap <= FULL_OVERLAP:
        doubts.append(f"the frame covers only {found.overlap:.0%} of the reference")
    if found.moving >= LARGEST_STEP:
        doubts.append(f"the fit has not converged: its last step was {found.moving:.1f} px")
    lines = line_offset([frame])
    if lines:
        doubts.append(f"odd lines lie {lines} px beside even lines; --bidirectional auto corrects it")
    if doubts:
        called = Verdict.worst((called, Verdict.SUSPECT))
    if beyond:
        called, doubts = Verdict.FAILED, [beyond, *doubts]
    error = reference.error * math.sqrt(max(found.misfit, 0.0)) if math.isfinite(found.misfit) else math.inf
    return Motion(
        found.matrix, found.coefficients, called, (*reasons, *doubts), seen.wrong, seen.correlation, error
    )
