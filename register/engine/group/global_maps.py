"""The global maps of all images of a set, by robust least squares over its links.

Each image i has a map F_i from its pixels to the common frame. A link says that point p of image a and point
q of image b are the same, so F_a(p) = F_b(q), which is linear in the parameters of translations, similarities
(mirrored or not) and affine maps. With one image held, all maps follow from one linear system. The weights of
links that disagree with the others are reduced step by step: Geman-McClure weights whose scale shrinks from
the largest residual (graduated non-convexity, Yang et al., "Graduated non-convexity for robust spatial
perception", IEEE RA-L 5, 2020). A link that no loop checks cannot disagree.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from register.engine.group.links import Matched
from register.geometry import affine
from register.geometry.arrays import Float64

SHRINK, FINAL = 1.5, 4.0
"""Factor by which the scale of the weights shrinks in a step, and its smallest value in units of the median
residual of all links."""
STEPS = 25
"""Most steps of the reweighting."""
PARAMETERS = {"translation": 2, "similarity": 4, "affine": 6}


@dataclass(frozen=True)
class GlobalMaps:
    """Maps (n, 2, 3) from each image to the common frame, and the shares (links,) of the links' weights."""

    common_from_image: Float64
    kept: Float64


def solve(
    count: int, links: Sequence[Matched], reference: int, mirrored: Sequence[bool], model: str = "affine"
) -> GlobalMaps:
    """The maps of ``count`` images to the frame of the ``reference`` image.

    All images must be connected with it by links. ``mirrored`` is whether an image has to be mirrored, which
    an affine map finds itself. ``model`` is ``translation``, ``similarity`` or ``affine``.
    """
    size = max(float(np.abs(x.points - x.points.mean(0)).max()) for x in links) or 1.0
    centres = _centres(count, links)
    kept, misfit, scale = np.ones(len(links)), 0.0, np.inf
    maps: Float64 = np.tile(affine.identity(), (count, 1, 1))
    for _ in range(STEPS):
        maps = _linear(links, kept, misfit, reference, mirrored, model, centres, size)
        residual = np.array([_residual(maps, link) for link in links])
        misfit = float(np.median(residual))
        scale = min(scale, max(float(residual.max()), 1e-9)) / SHRINK
        final = FINAL * max(misfit, float(np.median([np.median(x.sigma) for x in links])))
        scale = max(scale, final)
        weight = (scale**2 / (scale**2 + residual**2)) ** 2
        if scale == final and np.abs(weight - kept).max() < 1e-3:
            break
        kept = weight
    return GlobalMaps(maps, kept)


def _centres(count: int, links: Sequence[Matched]) -> Float64:
    """The mean (count, 2) of the points of each image, about which its parameters are taken."""
    total, number = np.zeros((count, 2)), np.zeros((count, 1))
    for link in links:
        for image, points in ((link.fixed, link.points), (link.moving, link.mapped)):
            total[image] += points.sum(0)
            number[image] += len(points)
    return total / number.clip(min=1)


def _basis(
    points: Float64, mirrored: bool, model: str, centre: Float64, size: float
) -> tuple[Float64, Float64]:
    """The matrices (n, 2, k) from parameters to mapped points, and the part (n, 2) that has no parameters."""
    x, y = ((points - centre) / size).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    if model == "translation":
        return np.stack([np.stack([one, zero], -1), np.stack([zero, one], -1)], 1) * size, points
    if model == "similarity":
        rows = (
            ([x, y, one, zero], [-y, x, zero, one]) if mirrored else ([x, -y, one, zero], [y, x, zero, one])
        )
    else:
        rows = [x, y, one, zero, zero, zero], [zero, zero, zero, x, y, one]
    return np.stack([np.stack(row, -1) for row in rows], 1) * size, np.zeros_like(points)


def _linear(
    links: Sequence[Matched], kept: Float64, misfit: float, reference: int, mirrored: Sequence[bool],
    model: str, centres: Float64, size: float,
) -> Float64:  # fmt: skip
    """The maps (n, 2, 3) that fit the links best with the given weights; the reference is held."""
    k, count = PARAMETERS[model], len(centres)
    normal, right = np.zeros((count * k, count * k)), np.zeros(count * k)
    for link, share in zip(links, kept, strict=True):
        weight = share * link.trust / (link.sigma**2 + misfit**2)
        sides = [
            (link.fixed, 1.0, *_basis(link.points, mirrored[link.fixed], model, centres[link.fixed], size)),
            (
                link.moving,
                -1.0,
                *_basis(link.mapped, mirrored[link.moving], model, centres[link.moving], size),
            ),
        ]
        offset = sides[1][3] - sides[0][3]
        for one, sign, matrix, _ in sides:
            weighted = sign * matrix * weight[:, None, None]
            rows = slice(one * k, one * k + k)
            right[rows] += np.einsum("nck,nc->k", weighted, offset)
            for other, other_sign, other_matrix, _ in sides:
                product = np.einsum("nck,ncl->kl", weighted, other_sign * other_matrix)
                normal[rows, other * k : other * k + k] += product
    held: Float64 = _parameters_of_identity(model, mirrored[reference], centres[reference], size)
    fixed = np.arange(reference * k, reference * k + k)
    free = np.setdiff1d(np.arange(count * k), fixed)
    right = right[free] - normal[np.ix_(free, fixed)] @ held
    system = normal[np.ix_(free, free)]
    system += 1e-12 * np.trace(system) / max(len(free), 1) * np.eye(len(free))
    found = np.empty(count * k)
    found[fixed], found[free] = held, np.linalg.solve(system, right)
    return np.stack(
        [_matrix(found[i * k : i * k + k], mirrored[i], model, centres[i], size) for i in range(count)]
    )


def _parameters_of_identity(model: str, mirrored: bool, centre: Float64, size: float) -> Float64:
    """The parameters of the identity, or of a mirrored map's nearest one."""
    points = centre + size * np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    matrix, offset = _basis(points, mirrored, model, centre, size)
    found = np.linalg.lstsq(matrix.reshape(6, -1), (points - offset).ravel(), rcond=None)[0]
    return np.asarray(found, np.float64)


def _matrix(parameters: Float64, mirrored: bool, model: str, centre: Float64, size: float) -> Float64:
    """The matrix (2, 3) of parameters."""
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    matrix, offset = _basis(points, mirrored, model, centre, size)
    origin, across, down = matrix @ parameters + offset
    return np.stack([across - origin, down - origin, origin], -1)


def _residual(maps: Float64, link: Matched) -> float:
    """The median distance of the points of a link in the common frame."""
    one, other = affine.apply(maps[link.fixed], link.points), affine.apply(maps[link.moving], link.mapped)
    return float(np.median(np.linalg.norm(one - other, axis=1)))


def without_net_shape(maps: Float64, *, rotate: bool = True) -> Float64:
    """The maps (n, 2, 3) in a frame in which the set as a whole is not stretched, sheared or rotated.

    The frame is changed by the linear map with which the logarithms of the images' stretches are zero in the
    mean (the log-Euclidean mean: Arsigny et al., MRM 56, 2006), and the mean rotation is zero, unless the
    rotations have no direction in common.
    """
    for _ in range(20):
        linear = maps[:, :, :2]
        values, vectors = np.linalg.eigh(linear @ linear.swapaxes(1, 2))
        mean = (vectors * (np.log(values) / 2)[:, None]) @ vectors.swapaxes(1, 2)
        values, vectors = np.linalg.eigh(mean.mean(0))
        change = (vectors * np.exp(-values)) @ vectors.T
        maps = np.concatenate([change @ linear, (change @ maps[:, :, 2:])], 2)
        if np.abs(values).max() < 1e-12:
            break
    direction = np.mean([_direction(matrix) for matrix in maps])
    if rotate and abs(direction) > 0.1:
        turn = affine.similarity(-float(np.angle(direction)), 1.0, (0, 0), (0, 0))
        maps = affine.compose(turn, maps)
    return maps


def _direction(matrix: Float64) -> complex:
    """The rotation of a map as a complex number of length 1; that of a mirrored map without its mirror."""
    (a, b, _), (c, d, _) = matrix
    turned = complex(a + d, c - b) if a * d - b * c > 0 else complex(a - d, c + b)
    return turned / max(abs(turned), 1e-12)
