"""Algebra of affine maps.

Conventions, said once for the whole package. Points are ``(x, y)`` in pixels, x right, y down, 0-based;
an integer is a pixel's centre, so pixel (0, 0) covers [-0.5, 0.5). Only array indexing is ``[row, column]``.
A matrix ``[[a, b, tx], [c, d, ty]]`` of shape (..., 2, 3) maps ``(x, y)`` to ``(a x + b y + tx, c x + d y + ty)``
and is named by its direction: ``moving_from_fixed`` maps fixed points to moving points (the pull-back that
resampling needs). Images are ``(c, h, w)`` inside the package.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


def identity(*, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Tensor:
    """The (2, 3) matrix that moves nothing."""
    return torch.eye(2, 3, dtype=dtype, device=device)


def translation(x: float, y: float) -> Tensor:
    """The (2, 3) float64 matrix that adds ``(x, y)``."""
    return torch.tensor([[1.0, 0.0, x], [0.0, 1.0, y]], dtype=torch.float64)


def translations(shifts: Tensor) -> Tensor:
    """The (..., 2, 3) float64 matrices that add shifts (..., 2)."""
    return torch.cat(
        [torch.eye(2, dtype=torch.float64).expand(*shifts.shape[:-1], 2, 2), shifts.double()[..., None]],
        dim=-1,
    )


def scaling(x: float, y: float) -> Tensor:
    """The (2, 3) float64 matrix that maps one pixel grid to a grid of another step, pixel edges on pixel edges.

    A pixel of the coarse grid covers ``x`` by ``y`` pixels of the fine one, so fine = s * coarse + (s - 1) / 2.
    """
    return torch.tensor([[x, 0.0, (x - 1) / 2], [0.0, y, (y - 1) / 2]], dtype=torch.float64)


def similarity(angle: float, scale: float, centre_from: Tensor, centre_to: Tensor) -> Tensor:
    """The (2, 3) matrix that turns by ``angle`` radians (x towards y), scales, and takes one centre (2,) to the other."""
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    linear = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
    offset = centre_to.double() - linear @ centre_from.double()
    return torch.cat([linear, offset[:, None]], dim=1)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The matrices (..., 2, 3) that apply ``inner`` first, then ``outer``; leading dimensions broadcast."""
    linear = outer[..., :2] @ inner[..., :2]
    offset = outer[..., :2] @ inner[..., 2:] + outer[..., 2:]
    return torch.cat([linear, offset.expand(*linear.shape[:-1], 1)], dim=-1)


def invert(matrix: Tensor) -> Tensor:
    """The inverses (..., 2, 3); raises ``torch.linalg.LinAlgError`` for a singular matrix."""
    linear = torch.linalg.inv(matrix[..., :2])
    return torch.cat([linear, -linear @ matrix[..., 2:]], dim=-1)


def points_at(x: Tensor, y: Tensor) -> Tensor:
    """The points (h, w, 2) of the grid of positions x (w,) and y (h,)."""
    return torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1)


def apply(matrix: Tensor, points: Tensor) -> Tensor:
    """Map points (..., n, 2) by matrices (..., 2, 3); leading dimensions broadcast."""
    return points @ matrix[..., :2].mT + matrix[..., None, :, 2]


def apply_to_grid(matrix: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Map the grid of positions x (w,) and y (h,) by matrices (b, 2, 3): points (b, h, w, 2).

    The same as ``apply`` on all ``(x, y)``, with one addition per point: an affine map of a grid is a row plus a column.
    """
    rows = (matrix[:, :, 1, None] * y + matrix[:, :, 2, None])[..., None]
    columns = (matrix[:, :, 0, None] * x)[:, :, None]
    return (rows + columns).movedim(1, -1)


def determinant(matrix: Tensor) -> Tensor:
    """Area factor (...) of the linear parts of (..., 2, 3)."""
    return matrix[..., 0, 0] * matrix[..., 1, 1] - matrix[..., 0, 1] * matrix[..., 1, 0]


def scale(matrix: Tensor) -> float:
    """The factor by which a map (2, 3) changes lengths, in the geometric mean over directions."""
    (a, b, _), (c, d, _) = matrix.tolist()
    return math.sqrt(abs(a * d - b * c))


class Parts(NamedTuple):
    """What a linear part does, in the order rotation · shear-free stretch (polar decomposition)."""

    rotation: float  # degrees, x towards y
    scale: float  # geometric mean of the two stretches
    anisotropy: float  # larger stretch over the smaller one, >= 1


def decompose(matrix: Tensor) -> Parts:
    """Rotation, scale and anisotropy of one (2, 3) matrix, from its singular values (reflections keep the sign of det)."""
    u, stretch, vh = torch.linalg.svd(matrix[:, :2].double())
    turn = u @ vh
    angle = math.degrees(math.atan2(float(turn[1, 0]), float(turn[0, 0])))
    smallest = max(float(stretch[1]), 1e-300)
    return Parts(angle, math.sqrt(float(stretch[0]) * smallest), float(stretch[0]) / smallest)


def fit(fixed: Tensor, moving: Tensor, model: str = "affine") -> Tensor:
    """Least-squares (2, 3) matrix of a global ``model`` that takes fixed points (n, 2) to moving points (n, 2).

    Source: Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    PAMI 13 (1991), for ``rigid`` and ``similarity``. Raises ``ValueError`` for too few points.
    """
    least = {"translation": 1, "rigid": 2, "similarity": 2, "affine": 3}[model]
    if len(fixed) != len(moving) or len(fixed) < least:
        raise ValueError(f"{model} needs at least {least} point pairs, got {len(fixed)} and {len(moving)}")
    fixed, moving = fixed.double(), moving.double()
    centre_fixed, centre_moving = fixed.mean(0), moving.mean(0)
    a, b = fixed - centre_fixed, moving - centre_moving
    if model == "translation":
        linear = torch.eye(2, dtype=torch.float64)
    elif model == "affine":
        linear = (_inverse(_products(a, a)) @ _products(a, b)).T
    else:
        u, stretch, vh = torch.linalg.svd(_products(b, a))
        sign = torch.tensor([1.0, float(torch.sign(torch.linalg.det(u @ vh)))], dtype=torch.float64)
        linear = u @ torch.diag(sign) @ vh
        if model == "similarity":
            linear = linear * (stretch * sign).sum() / a.square().sum()
    return torch.cat([linear, (centre_moving - linear @ centre_fixed)[:, None]], dim=1)


def _inverse(matrix: Tensor) -> Tensor:
    """The inverse of a symmetric matrix (2, 2), that of its range where it has no other; unlike the library's, the same in every run."""
    (p, q), (_, r) = matrix.tolist()
    determinant = p * r - q * q
    if determinant <= 1e-14 * (p + r) ** 2:  # all points on a line
        return torch.linalg.pinv(matrix, hermitian=True)
    return torch.tensor([[r, -q], [-q, p]], dtype=torch.float64) / determinant


def _products(one: Tensor, other: Tensor) -> Tensor:
    """The sums (2, 2) of products of coordinates (n, 2); unlike the library's products of long matrices, the same ones in every run."""
    return (one[:, :, None] * other[:, None]).sum(0)


def global_matrix(parameters: Tensor, model: str, centre: Tensor, radius: float) -> Tensor:
    """Matrices (b, 2, 3) near the identity from parameters (b, n), n = 2, 3, 4, 6 by ``model``.

    The first two move, the others turn, scale and shear about ``centre`` (2,); one unit of any of them moves a
    point at ``radius`` pixels from the centre by about one pixel, so one step size serves them all.
    Rigid stays rigid: its angle enters through sine and cosine.
    """
    move, rest = parameters[:, :2], parameters[:, 2:] / radius
    one, zero = torch.ones_like(move[:, 0]), torch.zeros_like(move[:, 0])
    if model == "translation":
        a, b, c, d = one, zero, zero, one
    elif model in ("rigid", "similarity"):
        size = torch.exp(rest[:, 1]) if model == "similarity" else one
        cos, sin = size * torch.cos(rest[:, 0]), size * torch.sin(rest[:, 0])
        a, b, c, d = cos, -sin, sin, cos
    else:
        a, b, c, d = 1 + rest[:, 0], rest[:, 1], rest[:, 2], 1 + rest[:, 3]
    linear = torch.stack([torch.stack([a, b], -1), torch.stack([c, d], -1)], -2)
    offset = move[..., None] + centre[:, None] - linear @ centre[:, None]
    return torch.cat([linear, offset], dim=-1)


GLOBAL_PARAMETERS = {"translation": 2, "rigid": 3, "similarity": 4, "affine": 6}
"""How many numbers each global model has."""
