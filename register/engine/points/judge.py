"""The verdict on a map on which sources agree, its expected error, and evidence against other maps."""

import math
from dataclasses import replace

import numpy as np
import torch

from register.engine.points import agreement, places, weighted_fit
from register.engine.points.agreement import Agreement
from register.engine.points.look import Seen
from register.engine.points.sources import Sources
from register.geometry import affine, models
from register.geometry.arrays import Float64
from register.transforms.quality import PatchFigures, PointFigures, Quality, Verdict
from register.transforms.transform import Transform

LEAST_SHARE = 0.3
"""Matched sources, as a share of those that could match, below which an agreement is suspect."""
APART = 0.25
"""Sources that agree on another map, in units of the matched ones, from which an agreement is suspect."""
DEFORMED, BENT = 0.5, 0.5
"""Matched sources, as a share of those that could match, below which sources may lie on a map that is not
global; and the standard deviation, in moving pixels, that the residuals of neighbours share, from which they
do."""
UNCERTAIN = 0.01
"""Median expected error, as a share of the diagonal, from which an agreement is suspect."""
FEW = 20
"""Sources up to which the error to expect is also that of the maps from all of them but one."""
NEIGHBOURS, LEAST_COMPARED = 3, 12
"""Neighbours whose residuals are compared, and the fewest sources for that."""
LEAST_TOLD, BY_CHANCE, FREE = 12, -2.0, 3
"""Sources that could match, at least, for it to count against an ok verdict that they do not, and the
logarithm (base 10) of the number of false alarms from which they do not; and the sources that determine a
map."""


MOST = 0.5
"""Sources that match with the patches of a map, as a share of those that could, for it not to be doubted."""


def judged(
    quality: Quality, patches: PatchFigures, seen: Seen, centres: Float64
) -> tuple[Quality, PatchFigures]:
    """The quality of the map on which sources agree, and the figures of patches with ``centres`` (n, 2) in
    fixed pixels, from those that the images give."""
    agreed = seen.agreed
    assert agreed is not None
    errors = expected(agreed, seen.fixed, seen.moving, centres)
    there = agreement.inside(affine.apply(agreed.matrix, centres), seen.moving.size)
    known = tuple(round(float(e), 4) if ok else None for e, ok in zip(errors, there, strict=True))
    typical = float(np.median(errors[there])) if there.any() else math.inf
    diagonal = math.hypot(*seen.moving.size)
    reasons = tuple(doubts(len(agreed), agreed.possible, seen.apart, typical, diagonal))
    wrong = min(10**agreed.chance, 0.5) if not reasons else 0.5
    figures = replace(
        patches,
        confidence=tuple(round(1 / (1 + e), 4) if e is not None else 0.0 for e in known),
        status=tuple("ok" if e is not None else "weak" for e in known),
        expected_error=known,
    )
    quality = replace(
        quality,
        verdict=Verdict.SUSPECT if reasons else Verdict.OK,
        reasons=reasons,
        probability_wrong=round(wrong, 4),
        expected_error=round(typical, 4) if math.isfinite(typical) else None,
        points=told(seen),
    )
    return quality, figures


def is_deformed(seen: Seen) -> bool:
    """Whether sources may lie on a map that is not global: most have no partner, or the residuals of
    neighbours have much in common."""
    agreed = seen.agreed
    if agreed is None:
        return False
    own, partners = seen.fixed.places[agreed.fixed], seen.moving.places[agreed.moving]
    residual = affine.apply(agreed.matrix, own) - partners
    common = _common(torch.from_numpy(own), torch.from_numpy(residual))
    return len(agreed) < DEFORMED * agreed.possible or math.sqrt(common) > BENT


def told(seen: Seen) -> PointFigures:
    """The figures of the sources for the record."""
    agreed = seen.agreed
    if agreed is None:
        return PointFigures(fixed=len(seen.fixed), moving=len(seen.moving), matched=0)
    return PointFigures(
        fixed=len(seen.fixed),
        moving=len(seen.moving),
        matched=len(agreed),
        possible=agreed.possible,
        residual=round(agreed.residual, 4),
        chance=round(agreed.chance, 1),
    )


def doubts(matched: int, possible: int, apart: int, typical: float, diagonal: float) -> list[str]:
    """The reasons for which an agreement is suspect, from the sources that match, those that could, and those
    that agree on another map; the ``typical`` expected error and the ``diagonal`` are in pixels."""
    found = []
    if apart >= APART * matched:
        found.append(f"{matched} sources agree on the map, and {apart} others on another one")
    if matched < LEAST_SHARE * possible:
        found.append(f"only {matched} of {possible} sources have a partner")
    if typical > UNCERTAIN * diagonal:
        found.append(f"the sources that agree determine the map only to {typical:.0f} px")
    return found


def by_chance(found: int, possible: int) -> str:
    """The reason for which a map failed that does not bring sources onto sources."""
    return f"{found} of {possible} sources have a partner, no more than by chance: probably wrong"


def expected(agreed: Agreement, one: Sources, other: Sources, points: Float64) -> Float64:
    """The error (n,) to expect at fixed points (n, 2), in moving pixels; two of three are smaller.

    It is that of the least-squares map, and of what the residuals of neighbours have in common, which the
    map does not follow. Of few sources one may be matched wrongly or have a worse place than its signal
    tells: their map varies at least as much as when each of them is left out.
    """
    own = one.places[agreed.fixed]
    centre, radius = own.mean(0), max(float(own.std()), 1.0)
    weight = np.repeat(1 / agreed.errors**2, 2)
    design = _design(agreed.model, (own - centre) / radius)
    covariance = np.linalg.pinv(design.T @ (design * weight[:, None]), hermitian=True)
    there = _design(agreed.model, (points - centre) / radius)
    variance = (there @ covariance * there).sum(1).reshape(-1, 2).mean(1)
    if len(own) <= FEW:
        variance = np.maximum(variance, _without_each(agreed, own, other.places[agreed.moving], points))
    residual = affine.apply(agreed.matrix, own) - other.places[agreed.moving]
    common = _common(torch.from_numpy(own), torch.from_numpy(residual))
    return np.asarray(_two_of_three(2 * len(own) - design.shape[1]) * np.sqrt(variance + common))


def _two_of_three(free: int) -> float:
    """The length below which two of three vectors are, in standard deviations of each coordinate.

    These are estimated from ``free`` residuals more than needed: it is a quantile of the F distribution.
    """
    free = max(free, 1)
    return math.sqrt(free * (3 ** (2 / free) - 1))


def _without_each(agreed: Agreement, own: Float64, there: Float64, points: Float64) -> Float64:
    """The variance (n,) per axis of the map at points (n, 2), from the maps of all matched sources but one.

    Source: the jackknife (Efron & Stein, "The jackknife estimate of variance", Ann. Statist. 9, 1981).
    """
    model, count = models.get(agreed.model), len(own)
    if count <= model.least_points:
        return np.full(len(points), np.inf)
    weight = 1 / agreed.errors**2
    mapped = []
    for left in range(count):
        some = np.arange(count) != left
        matrix = weighted_fit.weighted(own[some], there[some], weight[some], model)
        mapped.append(affine.apply(matrix, points))
    spread = np.square(mapped - np.mean(mapped, 0)).sum((0, 2)) / 2
    return np.asarray(spread * (count - 1) / count)


def _design(model: str, points: Float64) -> Float64:
    """The derivatives (2 n, p) of the coordinates of points (n, 2) with respect to a model's parameters."""
    x, y = points.T
    one, zero = np.ones_like(x), np.zeros_like(x)
    columns = [(one, zero), (zero, one)]
    if model == "affine":
        columns += [(x, zero), (y, zero), (zero, x), (zero, y)]
    elif models.get(model).linear_parameters:
        columns += [(-y, x)] + [(x, y)] * models.get(model).scales
    return np.stack([np.stack(one, 1).ravel() for one in columns], 1)


def _common(points: torch.Tensor, residual: torch.Tensor) -> float:
    """The variance per axis that the residuals (n, 2) of neighbouring points (n, 2) share."""
    if len(points) < LEAST_COMPARED:
        return 0.0
    points, residual = points[:2000], residual[:2000]
    near = torch.cdist(points, points).topk(NEIGHBOURS + 1, largest=False).indices[:, 1:]
    products = (residual[near] * residual[:, None]).sum(-1) / 2
    return max(float(products.mean()), 0.0)


def against(quality: Quality, seen: Seen, transform: Transform) -> Quality:
    """The quality of another map, which failed where sources that could match do not.

    They match by the global map, or most of them with its patches: few do so by chance within the reach of
    patches.
    """
    if seen.agreed is not None:
        return quality
    quality, matrix = replace(quality, points=told(seen)), transform.matrix
    there = affine.apply(matrix, seen.fixed.places)
    back = affine.apply(affine.invert(matrix), seen.moving.places)
    inside = agreement.inside(there, seen.moving.size), agreement.inside(back, seen.fixed.size)
    possible = min(int(x.sum()) for x in inside)
    if quality.verdict == Verdict.FAILED or (quality.verdict == Verdict.OK and possible < LEAST_TOLD):
        return quality
    radius = agreement.radius_of(seen.moving) * 1.5

    def matched(there: Float64) -> int:
        return len(places.mutual(there[inside[0]], seen.moving.places[inside[1]], radius)[0])

    def beyond_chance(count: int) -> bool:
        more = max(count - FREE, 0)  # an affine map fits three sources anyway
        return agreement.chance_of(seen.fixed, seen.moving, matrix, radius, more, FREE) < BY_CHANCE

    found, local = matched(there), matched(transform.map(seen.fixed.places))
    if beyond_chance(found) or (local >= MOST * possible and beyond_chance(local)):
        return quality
    reason = by_chance(max(found, local), possible)
    return replace(
        quality,
        verdict=Verdict.FAILED,
        reasons=(reason, *quality.reasons),
        probability_wrong=max(quality.probability_wrong or 0.0, 0.9),
        expected_error=None,
    )
