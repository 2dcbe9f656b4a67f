"""The patch fields of all images of a set together: what the links say beyond the global maps.

The map of image i is T_i(x) = G_i(x + v_i(x)) with the global map G_i from the common frame and a field v_i
given at the centres of one patch grid of the frame. A link from a to b says where T_b should take a centre x:
to q = T_ab(T_a(x)). With the Jacobian of T_b that is a wish for the change of v_b - v_a at x, whose error is
that of the link there. All changes together are the least-squares solution of the wishes and of a small
bending penalty, which only matters where nothing is known; it is found by conjugate gradients, and the wishes
are taken anew a few times. Wishes that disagree with the solution lose weight (Cauchy weights), and so do
entire links.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from register.engine.group.links import LEAST_SIGMA, Link
from register.geometry import affine, patch_grid
from register.geometry.arrays import Float64
from register.geometry.patch_grid import PatchGrid

ROUNDS = 4
"""Times that the wishes are taken."""
STIFFNESS = 1e-3
"""The weight of the bending penalty, in units of the typical weight of a centre with links."""
STEPS, TOLERANCE = 400, 1e-5
"""Most steps of conjugate gradients, and the reduction of the residual at which they end."""
OUTLIER, OUTLIER_LINK = 3.0, 6.0
"""Residuals of a centre and of an entire link, in units of expected errors, at which weights are halved."""
BLOCK = 512
"""Centres whose variance is computed at a time."""
KNOWN = 1e4
"""Largest variance, in square pixels, of a centre whose position is known."""


@dataclass(frozen=True)
class Fields:
    """Fields (n, rows, columns, 2) of the images on a grid of the common frame.

    ``variance`` (n, rows, columns) is that of the fields in square pixels of the frame, infinite where no
    link says anything; ``kept`` (links,) the share of each link's weight; ``residual`` (links,) the
    median distance between a link and the solution, in pixels of its moving image, NaN where unknown.
    """

    grid: PatchGrid
    values: Float64
    variance: Float64
    kept: Float64
    residual: Float64


@dataclass(frozen=True)
class _Wishes:
    """Wished changes (links, nodes, 2) of v_b - v_a, their weights (links, nodes), and distances in the
    moving image (links, nodes)."""

    change: Float64
    weight: Float64
    distance: Float64


def solve(
    grid: PatchGrid, image_from_common: Float64, links: Sequence[Link], kept: Float64, held: int | None
) -> Fields:
    """The fields of all images, and what is known about them.

    ``image_from_common`` (n, 2, 3) are the global maps, ``kept`` (links,) the shares of the links' weights so
    far, ``held`` the image whose field is zero; None: the mean of all fields is zero.
    """
    count = len(image_from_common)
    values = np.zeros((count, grid.rows, grid.columns, 2))
    wishes = _take(grid, image_from_common, values, links)
    for _ in range(ROUNDS):
        trusted = wishes.weight * kept[:, None]
        for _ in range(2):  # weights of centres that disagree with the solution
            change = _least_squares(grid, wishes.change, trusted, links, count, held)
            left = _left(wishes.change, change.reshape(count, -1, 2), links) ** 2 * wishes.weight
            trusted = wishes.weight * kept[:, None] / (1 + left / OUTLIER**2)
        values = values + change
        wishes = _take(grid, image_from_common, values, links)
        kept = kept * _agreement(wishes)
    variance = _variance(wishes.weight * kept[:, None], links, count, held)
    known = np.where(wishes.weight > 0, wishes.distance, np.nan)
    residual = np.array([np.nanmedian(x) if np.isfinite(x).any() else np.nan for x in known])
    return Fields(grid, values, variance.reshape(values.shape[:3]), kept, residual)


def maps_of(grid: PatchGrid, image_from_common: Float64, values: Float64) -> Float64:
    """The absolute maps (rows, columns, 2, 3) of the patches of one image, from its field (rows, columns, 2).

    The field is the value at each centre. Half its gradient there, by differences, is the linear part of a
    patch: then the blend of patches equals every quadratic field exactly, which neither values alone nor
    values with whole gradients do.
    """
    across, down = (
        np.gradient(values, axis=axis, edge_order=min(2, values.shape[axis] - 1)) / 2 for axis in (1, 0)
    )
    parameters = np.stack([np.moveaxis(part, -1, 0) for part in (values, across, down)], 1)
    return affine.compose(image_from_common, patch_grid.to_matrices(grid, parameters))


def _take(grid: PatchGrid, maps: Float64, values: Float64, links: Sequence[Link]) -> _Wishes:
    """What the links wish, given the fields so far."""
    points = grid.centres().reshape(-1, 2)
    expanded = []
    for image, field in zip(maps, values, strict=True):
        expanded.append(patch_grid.blend_at(grid, maps_of(grid, image, field), points))
    found = [_wish(link, expanded[link.fixed][0], *expanded[link.moving]) for link in links]
    change, weight, distance = (np.array([x[k] for x in found]) for k in range(3))
    return _Wishes(change, weight, distance)


def _wish(link: Link, fixed: Float64, moving: Float64, jacobian: Float64) -> tuple[Float64, Float64, Float64]:
    """The wished change (nodes, 2) of a link, its weight and its distance (nodes,)."""
    mapped = link.transform.map(fixed)
    sigma = link.transform.expected_error(fixed)
    inside = link.transform.fixed.contains(fixed) & link.transform.moving.contains(mapped)
    apart = mapped - moving
    change = np.linalg.solve(jacobian, apart[..., None])[..., 0]
    scale = np.abs(np.linalg.det(jacobian))
    variance = (np.maximum(sigma, LEAST_SIGMA) ** 2 + link.unseen**2) / scale.clip(min=1e-6)
    weight = np.where(inside & np.isfinite(sigma), link.trust / variance, 0.0)
    return np.where(weight[:, None] > 0, change, 0.0), weight, np.linalg.norm(apart, axis=1)


def _left(wished: Float64, change: Float64, links: Sequence[Link]) -> Float64:
    """The distance (links, nodes) between wishes and a change (n, nodes, 2) of the fields."""
    one, other = ([getattr(link, side) for link in links] for side in ("fixed", "moving"))
    return np.asarray(np.linalg.norm(wished - (change[other] - change[one]), axis=-1))


def _agreement(wishes: _Wishes) -> Float64:
    """The share (links,) of the weight that links keep, from the median of what they still wish."""
    left = np.linalg.norm(wishes.change, axis=-1) * np.sqrt(wishes.weight)
    typical = np.array(
        [
            np.median(row[some]) if some.any() else 0.0
            for row, some in zip(left, wishes.weight > 0, strict=True)
        ]
    )
    return 1 / (1 + (typical / OUTLIER_LINK) ** 4)


def _least_squares(
    grid: PatchGrid, wished: Float64, weight: Float64, links: Sequence[Link], count: int, held: int | None
) -> Float64:
    """The change (n, rows, columns, 2) that fits the wishes best, with little bending."""
    shape = count, grid.rows, grid.columns, 2
    stiffness = STIFFNESS * float(np.median(weight[weight > 0])) if (weight > 0).any() else STIFFNESS

    def normal(change: Float64) -> Float64:
        flat = change.reshape(count, -1, 2)
        out = np.zeros_like(flat)
        for link, w in zip(links, weight, strict=True):
            pull = (flat[link.moving] - flat[link.fixed]) * w[:, None]
            out[link.moving] += pull
            out[link.fixed] -= pull
        return _held(out.reshape(shape) + stiffness * _bending(change), held)

    right = np.zeros((count, grid.count, 2))
    diagonal = np.zeros((count, grid.count, 1))
    for link, wish, w in zip(links, wished, weight, strict=True):
        right[link.moving] += wish * w[:, None]
        right[link.fixed] -= wish * w[:, None]
        for image in (link.fixed, link.moving):
            diagonal[image] += w[:, None]
    scale = (diagonal + 20 * stiffness).reshape(*shape[:3], 1)
    return _conjugate_gradients(
        normal, _held(right.reshape(shape), held), lambda residual: _held(residual / scale, held)
    )


def _held(values: Float64, held: int | None) -> Float64:
    """Fields of which one is zero, or whose mean is."""
    if held is None:
        return values - values.mean(0)
    values = values.copy()
    values[held] = 0.0
    return values


def _bending(values: Float64) -> Float64:
    """The gradient of half the sum of squared second differences of fields (n, rows, columns, 2)."""
    out = np.zeros_like(values)
    if values.shape[1] > 2:
        second = values[:, :-2] - 2 * values[:, 1:-1] + values[:, 2:]
        for start, factor in ((0, 1.0), (1, -2.0), (2, 1.0)):
            out[:, start : start + second.shape[1]] += factor * second
    if values.shape[2] > 2:
        second = values[:, :, :-2] - 2 * values[:, :, 1:-1] + values[:, :, 2:]
        for start, factor in ((0, 1.0), (1, -2.0), (2, 1.0)):
            out[:, :, start : start + second.shape[2]] += factor * second
    mixed = values[:, 1:, 1:] - values[:, 1:, :-1] - values[:, :-1, 1:] + values[:, :-1, :-1]
    for row, column, sign in ((1, 1, 1.0), (1, 0, -1.0), (0, 1, -1.0), (0, 0, 1.0)):
        rows, columns = slice(row, row + mixed.shape[1]), slice(column, column + mixed.shape[2])
        out[:, rows, columns] += 2 * sign * mixed
    return out


def _conjugate_gradients(
    times: Callable[[Float64], Float64], right: Float64, precondition: Callable[[Float64], Float64]
) -> Float64:
    """The solution of a symmetric system (Hestenes & Stiefel 1952), preconditioned."""
    x, r = np.zeros_like(right), right
    z = precondition(r)
    p, rz = z, float((r * z).sum())
    stop = TOLERANCE**2 * rz
    for _ in range(STEPS):
        if rz <= stop or rz <= 0:
            break
        ap = times(p)
        alpha = rz / max(float((p * ap).sum()), 1e-300)
        x, r = x + alpha * p, r - alpha * ap
        z = precondition(r)
        before, rz = rz, float((r * z).sum())
        p = z + (rz / before) * p
    return x


def _variance(weight: Float64, links: Sequence[Link], count: int, held: int | None) -> Float64:
    """The variance (n, nodes) of the fields by the links alone: the inverse of their weighted Laplacian.

    Each centre has its own graph of links. It is infinite where an image is not connected there.
    """
    return np.concatenate(
        [
            _variance_of(weight[:, low : low + BLOCK], links, count, held)
            for low in range(0, weight.shape[1], BLOCK)
        ],
        1,
    )


def _variance_of(weight: Float64, links: Sequence[Link], count: int, held: int | None) -> Float64:
    """``_variance`` of some centres."""
    laplacian = np.zeros((weight.shape[1], count, count))
    for link, w in zip(links, weight, strict=True):
        a, b = link.fixed, link.moving
        laplacian[:, a, a] += w
        laplacian[:, b, b] += w
        laplacian[:, a, b] -= w
        laplacian[:, b, a] -= w
    laplacian += np.eye(count) / (100 * KNOWN)
    if held is None:
        laplacian += 1 / count
    else:
        laplacian[:, held, held] += 1e9
    found = np.diagonal(np.linalg.inv(laplacian), axis1=1, axis2=2).T
    return np.where(found < KNOWN, found.clip(min=0), np.inf)
