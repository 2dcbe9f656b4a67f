"""Similarities between two sets of points, proposed by triangles of the same shape.

A triangle of three points is described by where its third corner lies relative to its longest side, which no
rotation, scale or shift changes (Groth, "A pattern-matching algorithm for two-dimensional coordinate lists",
AJ 91, 1986; Lang et al., "Astrometry.net", AJ 139, 2010, for four points). Maps are written z -> a z + b with
complex numbers.
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

Complex = NDArray[np.complex128]
Indices = NDArray[np.int64]

ALL_OF = 24
"""Points of which all triangles are compared."""
TIERS = 60, 200, 700, 2400
"""Numbers of the brightest points whose triangles with neighbours are compared."""
NEIGHBOURS, FEWER = 8, 6
"""Nearest neighbours of a point with which it forms triangles, in tiers of up to 200 points, and in larger
ones."""
SAMPLES = 700
"""Triangles of the fixed image that are compared in a tier, at most."""
LEAST_SIDE, LEAST_HEIGHT = 6.0, 0.12
"""Longest side, in pixels, of a triangle at least, and least distance of the third corner from its ends, in
units of it."""
UNCERTAIN = 1.0
"""Error of a place, in pixels, that shapes of triangles are compared with: twice the typical one and more,
because maps are not quite similarities."""
MOST = 60_000
"""Proposals of a tier, at most."""


class Triangles(NamedTuple):
    """Corners (n, 3) as indices, the longest side first, and shapes (n,)."""

    corners: Indices
    shapes: Complex


class Proposals(NamedTuple):
    """Maps z -> a z + b (n,) and, for each, the fixed point (n,) at which it was found."""

    a: Complex
    b: Complex
    at: Indices


def proposals(fixed: Complex, moving: Complex, tier: int) -> Proposals:
    """The maps of triangles of the same shape of the brightest points of two sets; ``tier`` counts from 0.

    In tier 0 they are all triangles of the brightest ``ALL_OF`` points.
    """
    one, other = (_triangles(points, tier) for points in (fixed, moving))
    if len(one.shapes) > SAMPLES and tier:
        one = _some(one)
    return _proposed(one, other, fixed, moving)


def of_neighbours(fixed: Complex, moving: Complex) -> Proposals:
    """The maps of triangles of the same shape of points with their neighbours, in two sets of any sizes.

    Where one of them is a small part of the other, its points are neighbours there too.
    """
    one, other = (_shaped(points, _with_neighbours(points, NEIGHBOURS)) for points in (fixed, moving))
    if len(one.shapes) <= len(other.shapes):
        one = _some(one) if len(one.shapes) > SAMPLES else one
        return _proposed(one, other, fixed, moving)
    other = _some(other) if len(other.shapes) > SAMPLES else other
    return _proposed(one, other, fixed, moving, back=True)


def _some(found: Triangles) -> Triangles:
    """``SAMPLES`` of the triangles."""
    chosen = np.random.default_rng(0).choice(len(found.shapes), SAMPLES, replace=False)
    return Triangles(found.corners[chosen], found.shapes[chosen])


def _proposed(
    one: Triangles, other: Triangles, fixed: Complex, moving: Complex, *, back: bool = False
) -> Proposals:
    """The maps of triangles of the same shape, looked up for each of the moving ones if ``back``."""
    near = _same_shape(other, one, moving, fixed)[::-1] if back else _same_shape(one, other, fixed, moving)
    if len(near[0]) > MOST:
        chosen = np.random.default_rng(0).choice(len(near[0]), MOST, replace=False)
        near = near[0][chosen], near[1][chosen]
    p, q = fixed[one.corners[near[0]]], moving[other.corners[near[1]]]
    a = (q[:, 1] - q[:, 0]) / (p[:, 1] - p[:, 0])
    return Proposals(a, q.mean(1) - a * p.mean(1), one.corners[near[0], 0])


def tiers(count: int) -> int:
    """How many tiers there are for so many points of the smaller set."""
    return 1 + sum(tier == TIERS[0] or count > TIERS[i - 1] for i, tier in enumerate(TIERS))


def _triangles(points: Complex, tier: int) -> Triangles:
    """The triangles of a tier that have a shape."""
    if tier == 0:
        corners = np.array(list(combinations(range(min(len(points), ALL_OF)), 3)), np.int64).reshape(-1, 3)
    else:
        corners = _with_neighbours(points[: TIERS[tier - 1]], NEIGHBOURS if tier <= 2 else FEWER)
    return _shaped(points, corners)


def _shaped(points: Complex, corners: Indices) -> Triangles:
    """The triangles (n, 3) that have a shape."""
    z = points[corners]
    sides = np.abs(np.stack([z[:, 1] - z[:, 0], z[:, 2] - z[:, 1], z[:, 0] - z[:, 2]], 1))
    first = sides.argmax(1)
    turn = (first[:, None] + np.arange(3)) % 3
    corners = np.take_along_axis(corners, turn, 1)
    z = points[corners]
    shape = (z[:, 2] - z[:, 0]) / np.where(z[:, 1] == z[:, 0], 1, z[:, 1] - z[:, 0])
    swap = shape.real > 0.5
    corners[swap, :2] = corners[swap, 1::-1]
    shape = np.where(swap, 1 - shape, shape)
    good = (sides.max(1) >= LEAST_SIDE) & (np.abs(shape) > LEAST_HEIGHT)
    return Triangles(corners[good], shape[good])


def _with_neighbours(points: Complex, count: int) -> Indices:
    """The triangles (n, 3) of each point with two of its nearest neighbours, each once."""
    if len(points) < 3:
        return np.zeros((0, 3), np.int64)
    plane = torch.from_numpy(np.stack([points.real, points.imag], 1))
    near = torch.cdist(plane, plane).topk(min(count + 1, len(points)), largest=False).indices.numpy()
    pairs = np.array(list(combinations(range(1, near.shape[1]), 2)), np.int64)
    own = np.repeat(np.arange(len(points)), len(pairs))
    corners = np.sort(np.stack([own, near[:, pairs[:, 0]].ravel(), near[:, pairs[:, 1]].ravel()], 1), 1)
    return np.unique(corners, axis=0)


def _same_shape(one: Triangles, other: Triangles, fixed: Complex, moving: Complex) -> tuple[Indices, Indices]:
    """Pairs of triangles whose shapes differ no more than by the errors of their corners."""
    if not len(one.shapes) or not len(other.shapes):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    lengths = [np.abs(z[t.corners[:, 1]] - z[t.corners[:, 0]]) for t, z in ((one, fixed), (other, moving))]
    order = np.argsort(other.shapes.real)
    sorted_shapes, sorted_lengths = other.shapes[order], lengths[1][order]
    widest = UNCERTAIN * (1 / lengths[0] + 1 / float(np.quantile(sorted_lengths, 0.02)))
    low = np.searchsorted(sorted_shapes.real, one.shapes.real - widest)
    high = np.searchsorted(sorted_shapes.real, one.shapes.real + widest)
    first, second = [], []
    for i, (start, end) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        some = slice(start, end)
        limit = UNCERTAIN * (1 / lengths[0][i] + 1 / sorted_lengths[some])
        found = np.flatnonzero(np.abs(sorted_shapes[some] - one.shapes[i]) < limit) + start
        first.append(np.full(len(found), i))
        second.append(order[found])
    return np.concatenate(first), np.concatenate(second)
