"""Ambiguity: whether another map explains two images as well as the one that was found.

Where several do, the one that content decides for is taken, or else the smallest displacement.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from register.compute import sums
from register.engine.ambiguity import candidates, symmetry
from register.engine.ambiguity.candidate import Candidate
from register.engine.fit import comparison, global_fit
from register.engine.fit.problem import Problem
from register.engine.initial.search_range import SearchRange
from register.geometry import affine
from register.images import filters, interpolation, preprocess, pyramid
from register.images.pyramid import Level
from register.similarity.base import Windows

SIDE = 512
"""Longest side, in pixels, of the level on which rivals are refined and compared."""
DECISIVE = 4.0
"""Standard errors by which one map must be better, window by window, for it to be told from the other."""
DECISIVE_OUTLIERS, DECISIVE_CLEAN = 2.2, 1.6
"""The same for the number of windows that differ in brightness beyond the noise (a defect, a missing row),
and where one map, under which the content moves, leaves none of them (a single mark)."""
LEANING = 0.7
"""Share of the decisive evidence from which the better map is taken, although the other one is told; below it
the one with the smaller displacement is."""
OUTLYING = 6.0
"""Robust standard deviations from which on the difference of a window is no noise."""
MODELS = {"translation": "translation", "rigid": "rigid"}
"""The global models with which rivals are refined; a similarity with the others."""
AROUND, CLOSE, LEAST_LEFT = 32.0, 12.0, 0.25
"""Standard deviations, in pixels of the level, of a neighbourhood in which intensities are fitted to each
other and of a smaller one, and the share of a difference of residuals that the smaller one must leave. What
it takes away is smooth: illumination, which may stay where it is while content moves."""
LEAST_DETAIL = 0.01
"""Variation of a window, as a share of the mean one, below which its structure is that of illumination."""
LEAST_WINDOWS = 8
LEAST_SIMILARITY, LEAST_RESIDUAL, LEAST_OUTLIER = 0.015, 0.003, 0.05
"""Differences of the mean similarity of structure, of the mean residual (as a share of the variance),
and of the residual of one window, below which a difference may come from interpolation, however little
noise there is."""
LEAST_COVERED, LEAST_COMMON = 0.4, 0.5
"""Windows that a rival covers in all, and those of the best map that it covers, as shares of the windows of
the best map."""
COVERED, NEARLY = 0.75, 0.9
"""Share of the windows up to which a rival must be as similar, and the share of the similarity from which it
is; otherwise it must only not be decisively worse."""
SMALLER = 0.7
"""Ratio of the areas of both images below which one is a view of the other, in which it is looked for."""
SAME_PLACE = 0.05
"""Distance between two shifts, as a share of the fixed image's longer side, up to which they are one."""
SAME_SHIFT, SAME_ROTATION = 2.0, 3.0
"""Pixels of the level, and degrees, within which two refined maps are one."""


@dataclass(frozen=True)
class Rival:
    """A map that explains the images as well.

    ``shift`` is the further shift in fixed pixels, ``rotation`` the further rotation in degrees, ``distance``
    the root mean square displacement over the image, in moving pixels.
    ``slides`` says that all shifts in this direction explain them as well.
    """

    matrix: Tensor
    shift: tuple[float, float]
    rotation: float
    distance: float
    slides: bool = False

    def reason(self) -> str:
        """The rival in words."""
        if abs(self.rotation) > SAME_ROTATION:
            return f"a further rotation by {self.rotation:.0f}° explains the images as well"
        x, y = self.shift
        if self.slides:
            return f"the images do not determine the shift along ({round(x)}, {round(y)})"
        return f"a shift by a further ({round(x)}, {round(y)}) px explains the images as well"


@dataclass(frozen=True)
class Resolved:
    """The map (2, 3) that is taken, and the nearest of the others that explain the images as well."""

    matrix: Tensor
    rivals: tuple[Rival, ...] = ()
    replaced: bool = False
    beyond: bool = False  # the map lies outside of the range of shifts that was asked for


@dataclass(frozen=True)
class _Explained:
    """A refined map and how it explains the images: similarity by window, and residual brightness by
    window."""

    matrix: Tensor
    structure: Windows
    residual: Tensor  # (n,) mean squared residual of the window after linear fits of intensities ``AROUND``
    close: Tensor  # (n,) the same after fits that are ``CLOSE``
    detail: Tensor  # (n,) how much either image varies in the window, without what is smooth
    valid: Tensor  # (n,) share of the window that both images cover
    stays: bool  # whether it leaves everything where it is: marks on the camera would agree with it too
    slides: bool = False


def resolve(problem: Problem, matrix: Tensor, within: SearchRange, *, decided: bool = False) -> Resolved:
    """The map (2, 3) that explains the images best, or with the smallest displacement among equals.

    Maps outside of the range that was searched are not considered. Maps are compared on the windows that
    both cover, by the similarity of structure and by the residual of linear fits of the intensities around
    each pixel, so that a few defects in a lattice, or its border, decide, and illumination does not. They
    are looked for in the entire images, also where only parts were aligned: under another map the images may
    share more. Where the correlation ``decided`` among all shifts, other maps are considered only at the same
    place.
    """
    fixed, moving = problem.images
    if within.share(fixed, moving) >= SMALLER:
        return _resolve(fixed, moving, problem.model, matrix, within, decided)
    inverse = affine.invert(matrix.double())
    found = _resolve(moving, fixed, problem.model, inverse, within.inverted(), decided)
    taken = affine.invert(found.matrix) if found.replaced else matrix
    rivals = [_rival(taken, affine.invert(one.matrix), fixed, one.slides) for one in found.rivals]
    return replace(found, matrix=taken, rivals=tuple(sorted(rivals, key=_order)))


def _resolve(
    fixed: Level, moving: Level, model: str, matrix: Tensor, within: SearchRange, decided: bool
) -> Resolved:
    """``resolve`` for two images in this order."""
    model = MODELS.get(model, "similarity")
    rotations = [0.0]
    if model != "translation":
        own = affine.decompose(matrix).rotation
        rotations += [a for a in (90.0, 180.0, 270.0) if abs((own + a + 180) % 360 - 180) <= within.rotation]
    if not within.is_near(matrix):
        return Resolved(matrix, beyond=True)
    around = candidates.around(fixed, moving, matrix, rotations)
    if model != "translation":
        around += symmetry.rotations(fixed, moving, matrix, within.rotation)
    found = [each for each in around if within.is_near(each.matrix)]
    if decided:
        found = [each for each in found if _at_one_place(each.matrix, matrix, fixed)]
    if not found:
        return Resolved(matrix)
    level = global_fit.at_side(fixed, SIDE)
    refined = _distinct(level, moving, [Candidate(matrix, 1.0), *found], model, within)
    best = 0
    for number in range(1, len(refined)):
        if _better(refined[number], refined[best]):
            best = number
    equal = [each for each in refined if each is refined[best] or _as_good(each, refined[best], level)]
    centre = candidates.centre_of(fixed)
    alike = [x for x in equal if x is refined[best] or _evidence(refined[best], x) < LEANING]
    nearest = min(alike, key=lambda each: candidates.displacement(each.matrix, centre))
    others = (x for x in equal if x is not nearest)
    rivals = sorted((_rival(nearest.matrix, x.matrix, fixed, x.slides) for x in others), key=_order)
    kept = nearest is refined[0]
    return Resolved(matrix if kept else nearest.matrix, tuple(rivals), not kept)


def _at_one_place(one: Tensor, other: Tensor, fixed: Level) -> bool:
    """Whether two maps (2, 3) take the centre of the fixed image to about the same place."""
    centre = candidates.centre_of(fixed)
    side = SAME_PLACE * max(fixed.size) * pyramid.pixel(fixed) * affine.scale(other)
    return float((affine.apply(one, centre) - affine.apply(other, centre)).norm()) < side


def _distinct(
    level: Level, moving: Level, starts: list[Candidate], model: str, within: SearchRange
) -> list[_Explained]:
    """The refined maps that are not one and the same, in the order of their starts.

    The first one, of the map that was found, is always among them; the others lie within the range.
    """
    made, places, centre = list[_Explained](), list[tuple[Tensor, float]](), candidates.centre_of(level)
    for start in starts:
        refined = global_fit.fit([level], moving, start.matrix, model=model, metric="ncc", exact=True)
        place, rotation = affine.apply(refined, centre), affine.decompose(refined).rotation
        near = SAME_SHIFT * affine.scale(level.original_from_level)
        known = (bool(made) and not within.is_near(refined)) or any(
            float((place - other).norm()) < near and abs((rotation - angle + 180) % 360 - 180) < SAME_ROTATION
            for other, angle in places
        )
        if not known:
            places.append((place, rotation))
            made.append(_explain(level, moving, refined, slides=start.slides))
    return made


def _explain(level: Level, moving: Level, matrix: Tensor, *, slides: bool) -> _Explained:
    compare = global_fit.compare_at(level, moving, matrix[None], "ncc", smoothing=global_fit.EXACT_SMOOTHING)
    points = compare.points_under()
    warped = interpolation.sample(compare.moving, points)
    inside = interpolation.inside(points, *compare.moving.shape[-2:])[:, None]
    seen = interpolation.sample(compare.moving_mask, points, padding="zeros") * inside * level.mask[None]
    valid = preprocess.erode((seen > 0.99).to(warped), 8)
    count = sums.total(valid).clamp(min=1)
    f, w = (x - sums.total(x * valid) / count for x in (compare.fixed, warped))
    variance = (sums.total(f.square() * valid) / count).clamp(min=1e-9)
    counts = filters.window_sums(valid, compare.window).flatten()
    structure = comparison.windows(global_fit.compare_at(level, moving, matrix[None], "structure"))
    residuals = (
        filters.window_sums(left.square() / variance, compare.window)
        for left in _unexplained(f, w, valid, variance)
    )
    around, close = (each.flatten() / counts.clamp(min=1e-3) for each in residuals)
    detail = filters.window_sums(torch.maximum(*(_detail(x, valid) for x in (f, w))), compare.window)
    corners = candidates.corners_of(level)
    near = SAME_SHIFT * affine.scale(level.original_from_level)
    stays = float((affine.apply(matrix, corners) - corners).norm(dim=-1).max()) < 2 * near
    share = counts / compare.window**2
    return _Explained(matrix, structure, around, close, detail.flatten(), share, stays, slides)


def _unexplained(fixed: Tensor, warped: Tensor, valid: Tensor, variance: Tensor) -> Iterator[Tensor]:
    """What is left of a fixed plane (1, 1, h, w) after linear fits of another one ``AROUND`` each pixel, and
    after ``CLOSE`` ones; 0 where ``valid`` is 0. ``variance`` is that of the fixed plane.

    Source: the coefficients are those of He, Sun & Tang, "Guided image filtering", IEEE TPAMI 35 (2013).
    """
    planes = torch.cat([valid, fixed, warped, fixed * warped, warped * warped], 1) * valid
    for sigma in (AROUND, CLOSE):
        count, f, w, fw, ww = torch.split(filters.smooth_widely(planes, sigma), 1, 1)
        count = count.clamp(min=1e-3)
        f, w = f / count, w / count
        slope = (fw / count - f * w) / (ww / count - w * w).clamp(min=1e-4 * float(variance))
        yield (fixed - f - slope * (warped - w)) * valid


def _detail(plane: Tensor, valid: Tensor) -> Tensor:
    """The squared deviations of a plane (1, 1, h, w) from what is smooth, where it is valid."""
    weight = filters.smooth_widely(valid, CLOSE).clamp(min=1e-3)
    return (plane - filters.smooth_widely(plane * valid, CLOSE) / weight).square() * valid


def _as_good(other: _Explained, best: _Explained, level: Level) -> bool:
    """Whether a map explains about as much of the images as the best one, on mostly the same windows, and no
    worse.

    One that covers much less, or few of its windows, must be as similar, and the fixed ``level`` must repeat
    itself where it does not cover: what differs from the repeats, and matches, decides for the best map.
    """
    own = float(best.valid.sum())
    both = float(torch.minimum(best.valid, other.valid).sum())
    covered = float(other.valid.sum()) / max(own, 1e-9)
    if covered < LEAST_COVERED or both < LEAST_COMMON * own or _better(best, other):
        return False
    windows, varied = _common(other, best)
    if covered > COVERED and int(windows.count_nonzero()) >= LEAST_WINDOWS:
        return True
    theirs, ours = (float(sums.mean(x.structure.value[0][varied])) for x in (other, best))
    return theirs > NEARLY * ours > 0 and _repeats(other, best, level)


def _repeats(other: _Explained, best: _Explained, level: Level) -> bool:
    """Whether the fixed level shows the same again under what one map does further than the best one."""
    further = affine.compose(affine.invert(best.matrix), other.matrix)
    both_ways = (_explain(level, level, x, slides=False) for x in (further, affine.invert(further)))
    return not any(_better(best, again) for again in both_ways)


def _better(one: _Explained, other: _Explained) -> bool:
    """Whether one map explains the images decisively better than another, on the windows that both cover."""
    return _evidence(one, other) > 1


def _common(one: _Explained, other: _Explained) -> tuple[Tensor, Tensor]:
    """The windows (n,) that both maps cover, and those of them in which there is more than illumination."""
    both = torch.minimum(one.valid, other.valid) > 0.99
    detail = torch.maximum(one.detail, other.detail)
    return both, both & (detail > LEAST_DETAIL * detail.mean())


def _evidence(one: _Explained, other: _Explained) -> float:
    """The evidence that one map explains the images better than another, on the windows that both cover, in
    shares of what is decisive."""
    both, varied = _common(one, other)
    values = [each.structure.value[0][varied] for each in (one, other)]
    similar = _standard_errors(values[0] - values[1], LEAST_SIMILARITY)
    ours, theirs = one.residual[both], other.residual[both]
    if len(ours) < LEAST_WINDOWS:
        return 0.0
    if float((other.close - one.close)[both].mean() / (theirs - ours).mean()) < LEAST_LEFT:
        return similar / math.sqrt(2) / DECISIVE
    bright = _standard_errors(theirs - ours, LEAST_RESIDUAL)
    residuals = torch.cat([ours, theirs])
    noise = OUTLYING * float((residuals - residuals.median()).abs().median()) / 0.6745
    limit = float(residuals.median()) + max(noise, LEAST_OUTLIER)
    fewer, more = int((ours > limit).sum()), int((theirs > limit).sum())
    outliers = (more - fewer) / math.sqrt(more + fewer + 4)
    clean = (more == 0 and not other.stays) or (fewer == 0 and not one.stays)
    decisive = DECISIVE_CLEAN if clean else DECISIVE_OUTLIERS
    evidence = (similar + bright) / math.sqrt(2) / DECISIVE, outliers / decisive
    return max(evidence, key=abs)


def _standard_errors(difference: Tensor, least: float) -> float:
    """The mean of differences (n,) in units of its standard error; 0 for few, and for a mean below
    ``least``."""
    mean = float(difference.mean()) if len(difference) else 0.0
    if len(difference) < LEAST_WINDOWS or abs(mean) < least:
        return 0.0
    return mean / max(float(difference.std()) / math.sqrt(len(difference)), 1e-9)


def _rival(taken: Tensor, other: Tensor, fixed: Level, slides: bool) -> Rival:
    """What another map does further than the one that is taken."""
    centre, corners = candidates.centre_of(fixed), candidates.corners_of(fixed)
    apart = affine.apply(other, corners) - affine.apply(taken, corners)
    further = affine.compose(affine.invert(taken), other)
    x, y = (affine.apply(further, centre) - centre)[0].tolist()
    rotation, distance = affine.decompose(further).rotation, float(apart.square().sum(-1).mean().sqrt())
    return Rival(other, (x, y), rotation, distance, slides)


def _order(rival: Rival) -> tuple[bool, bool, float]:
    """Slides first, then shifts, then rotations, the smaller first."""
    return not rival.slides, abs(rival.rotation) > SAME_ROTATION, math.hypot(*rival.shift)
