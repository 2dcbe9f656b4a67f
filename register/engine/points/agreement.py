"""The map on which the most sources of two images agree, and how likely as many agree by chance.

Maps proposed by triangles are tried on the sources around them; the best are fitted to more and more matched
sources, by robust least squares. What counts is the number of false alarms: how many of all tried maps would
have as many sources matched as closely if sources lay anywhere (Moisan & Stival, IJCV 57, 2004).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from register.engine.initial.search_range import ANGLE_STEP, SCALE_STEP, SearchRange
from register.engine.points import places, triangles, weighted_fit
from register.engine.points.sources import Sources
from register.engine.points.triangles import Complex, Proposals
from register.geometry import affine, models
from register.geometry.arrays import Float64

RADIUS, SPACING = 3.0, 0.2
"""Distance up to which sources are matched: in pixels, and in units of the mean distance of sources."""
AROUND = 40
"""Sources around a triangle on which its map is tried."""
REFINED, FEW = 12, 2
"""Proposed maps that are fitted to all sources, of each tier; and at least, if one is beyond doubt."""
GROWTH, ROUNDS = 2.5, 12
"""Factor by which the region of matched sources grows in a round, and the most rounds."""
OVERWHELMING = -30.0
"""Logarithm (base 10) of the number of false alarms from which no more maps are tried."""
RADII = 5
"""Distances, each half the one before, at which matches are counted."""
LEAST = 4
"""Matched sources, at least."""
PROMISING = -2.5
"""Logarithm (base 10) of the probability that as many sources around a triangle match by chance, up to which
its map is fitted."""
UNEQUAL, LEAST_OF_SHARE = 2.0, 6
"""Ratio of the numbers of sources from which the same share of both sets is compared too, and the sources of
the smaller share, at least."""
FALSE = 1e-9
"""Share of a picture's area that is near a source, at least."""


Propose = Callable[[Complex, Complex], Proposals]
"""A function from the points of two sets to maps of triangles."""


@dataclass(frozen=True)
class Agreement:
    """A map ``matrix`` (2, 3), fixed to moving pixels of the originals, and the sources that agree on it.

    ``fixed`` and ``moving`` (n,) are indices of matched sources, ``possible`` how many could match: the
    sources of the image with fewer that lie in the overlap. ``residual`` is the standard deviation of the
    matched places per axis, ``errors`` (n,) that of each, in moving pixels; ``chance`` is the logarithm (base
    10) of the number of false alarms.
    """

    matrix: Float64
    model: str
    fixed: NDArray[np.int64]
    moving: NDArray[np.int64]
    possible: int
    residual: float
    errors: Float64
    chance: float

    def __len__(self) -> int:
        return len(self.fixed)


def find(one: Sources, other: Sources, within: SearchRange) -> list[Agreement]:
    """The maps within a range on which sources of two images agree, the least likely by chance first.

    They are different maps.
    """
    if min(len(one), len(other)) < LEAST:
        return []
    found = list[Agreement]()
    tested = 0
    for counts, propose in _steps(len(one), len(other)):
        points = [x.places[:count] for x, count in zip((one, other), counts, strict=True)]
        z = [x[:, 0] + 1j * x[:, 1] for x in points]
        proposed = _within(propose(z[0], z[1]), within)
        tested += len(proposed.a)
        for start, centre, reach in _best(proposed, z[0], points[1], other.size):
            refined = _refined(one, other, start, (centre, reach), within, max(tested, 1))
            if refined is not None:
                found.append(refined)
            if len(found) >= FEW and min(x.chance for x in found) < OVERWHELMING:
                break
        found = _different(found, one)
        if found and found[0].chance < OVERWHELMING:
            break
    return found


def _steps(one: int, other: int) -> Iterator[tuple[tuple[int, int], Propose]]:
    """How many of the brightest points of two sets are compared in each step, and what proposes maps of them.

    At first these are as many of both sets. Where one set is much larger, they are then the same share of
    both: one image may be a small view of the other.
    """
    for tier in range(triangles.tiers(min(one, other))):
        brightest = triangles.TIERS[max(tier - 1, 0)]
        yield (brightest, brightest), partial(triangles.proposals, tier=tier)
    larger = max(one, other)
    if larger < UNEQUAL * min(one, other):
        return
    for most in triangles.TIERS:
        share = min(most / larger, 1.0)
        counts = math.ceil(share * one), math.ceil(share * other)
        if min(counts) >= LEAST_OF_SHARE:
            yield counts, triangles.of_neighbours
        if share == 1.0:
            return


def radius_of(other: Sources) -> float:
    """The distance, in moving pixels, up to which sources are matched at first."""
    spacing = math.sqrt(other.size[0] * other.size[1] / max(len(other), 1))
    return min(RADIUS * max(float(np.median(other.errors)) / 0.3, 1.0), SPACING * spacing)


def _within(proposed: Proposals, within: SearchRange) -> Proposals:
    """The proposals within a range of rotations and scales."""
    model = models.AFFINE if within.model == "local" else models.get(within.model)
    rotation = (within.rotation if model.rotates else 0.0) + ANGLE_STEP
    scale = math.log((within.scale if model.scales else 1.0) * SCALE_STEP)
    sizes = np.maximum(np.abs(proposed.a), 1e-9)
    kept = np.abs(np.log(sizes / within.middle)) <= scale
    kept &= np.abs(np.degrees(np.angle(proposed.a))) <= rotation
    return Proposals(proposed.a[kept], proposed.b[kept], proposed.at[kept])


def _best(
    proposed: Proposals, fixed: Complex, moving: Float64, size: tuple[float, float]
) -> list[tuple[Float64, Float64, float]]:
    """The maps (2, 3) that the most sources around their triangles agree with, with the middle (2,) and the
    radius of their region in the fixed image."""
    if not len(proposed.a):
        return []
    plane = torch.from_numpy(np.stack([fixed.real, fixed.imag], 1))
    far, near = torch.cdist(plane, plane).topk(min(AROUND, len(fixed)), largest=False)
    spacing = math.sqrt(size[0] * size[1] / len(moving))
    picture = places.Picture(moving, min(RADIUS, SPACING * spacing))
    by_chance = min(max(picture.area / (size[0] * size[1]), FALSE), 0.5)
    some = fixed[near.numpy()[proposed.at]]
    mapped = proposed.a[:, None] * some + proposed.b[:, None]
    x, y = mapped.real, mapped.imag
    inside = (x >= 0) & (y >= 0) & (x <= size[1]) & (y <= size[0])
    hits = (picture.has(x, y) & inside).sum(1)
    score = _tail(inside.sum(1) - 3, hits - 3, by_chance)
    order = np.argsort(score, kind="stable")
    chosen = list[int]()
    for i in order[: 40 * REFINED].tolist():
        if score[i] > PROMISING:
            break
        same = [abs(mapped[i, 0] - (proposed.a[j] * some[i, 0] + proposed.b[j])) < 2 * RADIUS for j in chosen]
        if not any(same):
            chosen.append(i)
        if len(chosen) == REFINED:
            break
    reach = far.numpy()[:, -1]
    return [
        (_matrix(proposed.a[i], proposed.b[i]), plane[proposed.at[i]].numpy(), float(reach[proposed.at[i]]))
        for i in chosen
    ]


def _matrix(a: complex, b: complex) -> Float64:
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def _refined(
    one: Sources,
    other: Sources,
    matrix: Float64,
    region: tuple[Float64, float],
    within: SearchRange,
    tested: int,
) -> Agreement | None:
    """The agreement that grows from a map and the region (middle and radius) where it holds, if any."""
    (centre, reach), radius = region, radius_of(other)
    distance = np.hypot(*(one.places - centre).T)
    complete = 0
    for _ in range(ROUNDS):
        inside = np.flatnonzero(distance <= reach)
        some, there, _ = places.mutual(affine.apply(matrix, one.places[inside]), other.places, radius)
        if len(some) < 3:
            return None
        fit = weighted_fit.fit(one, other, inside[some], there, matrix, within.model)
        matrix, covers = fit.matrix, len(inside) == len(one)
        reach *= GROWTH
        complete += covers
        if complete >= 2:
            break
    if not within.contains(torch.from_numpy(matrix)):
        return None
    return _closest(one, other, fit, within, tested)


def _closest(
    one: Sources, other: Sources, fit: weighted_fit.Fit, within: SearchRange, tested: int
) -> Agreement | None:
    """The agreement at the distance at which as many matches are the least likely."""
    mapped, widest = affine.apply(fit.matrix, one.places), radius_of(other)
    there = np.flatnonzero(inside(mapped, other.size))
    back = affine.apply(affine.invert(fit.matrix), other.places)
    back = np.flatnonzero(inside(back, one.size))
    possible = min(len(there), len(back))
    if possible < LEAST:
        return None

    near = places.mutual(mapped[there], other.places[back], widest)
    free, tries = models.get(fit.model).parameters / 2, math.log10(tested * RADII * len(back))
    chances = {
        radius: tries
        + chance_of(one, other, fit.matrix, radius, len(near.within(radius).points) - free, free)
        for radius in (widest * 0.5 ** np.arange(RADII)).tolist()
    }
    best = min(chances, key=lambda radius: chances[radius])
    some, partners, _ = near.within(min(max(best, 4 * fit.residual), widest))
    if len(some) < LEAST:
        return None
    final = weighted_fit.fit(one, other, there[some], back[partners], fit.matrix, within.model)
    return Agreement(
        final.matrix,
        final.model,
        final.fixed,
        final.moving,
        possible,
        final.residual,
        final.errors,
        chances[best],
    )


def chance_of(
    one: Sources, other: Sources, matrix: Float64, radius: float, count: float, free: float = 0.0
) -> float:
    """The logarithm (base 10) of the probability that ``count`` sources, besides ``free`` ones that determine
    the map, match by chance within a radius under a map (2, 3)."""
    there = int(inside(affine.apply(matrix, one.places), other.size).sum())
    back = int(inside(affine.apply(affine.invert(matrix), other.places), one.size).sum())
    area = _overlap(matrix, one.size, other.size)
    if area <= 0:
        return 0.0
    share = min(max(back * math.pi * radius**2 / area, FALSE), 0.9)
    return float(_tail(np.array(there - free), np.array(count), share))


def _different(found: list[Agreement], one: Sources) -> list[Agreement]:
    """The least likely of the agreements on the same map, by increasing number of false alarms."""
    kept = list[Agreement]()
    for each in sorted(found, key=lambda x: x.chance):
        points = one.places[each.fixed]
        apart = [
            float(
                np.median(np.hypot(*(affine.apply(x.matrix, points) - affine.apply(each.matrix, points)).T))
            )
            for x in kept
        ]
        if all(far > RADIUS for far in apart):
            kept.append(each)
    return kept


def _tail(n: NDArray[np.float64], k: NDArray[np.float64], share: float) -> Float64:
    """The logarithm (base 10) of the probability that at least k of n match by chance, at most (Chernoff)."""
    n, k = np.maximum(np.asarray(n, float), 1e-9), np.asarray(k, float)
    part = np.clip(k / n, 1e-12, 1 - 1e-12)
    kl = part * np.log(part / share) + (1 - part) * np.log((1 - part) / (1 - share))
    return np.where((k > 0) & (part > share), -n * kl / math.log(10), 0.0)


def inside(points: Float64, size: tuple[float, float]) -> NDArray[np.bool_]:
    """Which points (n, 2) lie on an image of a size (height, width)."""
    return np.asarray(((points > -0.5) & (points < np.array(size[::-1]) - 0.5)).all(1))


def _overlap(matrix: Float64, one: tuple[float, float], other: tuple[float, float]) -> float:
    """The area of the moving image, in its pixels, that the fixed image covers."""
    x, y = np.meshgrid((np.arange(40) + 0.5) * one[1] / 40, (np.arange(40) + 0.5) * one[0] / 40)
    mapped = affine.apply(matrix, np.stack([x.ravel(), y.ravel()], 1))
    share = float(inside(mapped, other).mean())
    return share * one[0] * one[1] * abs(float(np.linalg.det(matrix[:, :2])))
