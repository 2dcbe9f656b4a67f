"""The displacements that a frame may have: a cubic B-spline field, or the few numbers of a global model."""

from dataclasses import dataclass

import torch
from torch import Tensor

from register.geometry import affine, models
from register.kernels.movie import TAPS, Axis

INTERVAL, MOST_INTERVALS, FEWEST_INTERVALS = 64.0, 16, 2
"""Default length of the spline's intervals in pixels, and their largest and smallest number per axis."""
CURVATURE = 1.0
"""Typical second difference, in pixels, of neighbouring spline coefficients: the strength of the prior."""
SLOPE = 0.02
"""Weight of first differences in the prior, relative to second ones."""
DERIVATIVE = 1e-6
"""Step of a parameter by which the derivative of a global model is taken."""


@dataclass(frozen=True, eq=False)
class Space:
    """A linear space of displacements of an image (h, w) on one level.

    ``directions`` (n, p) are the coefficients (2, rows, columns), flattened, of each of p parameters; None
    where the coefficients themselves are the parameters. ``prior`` (p, p) float64 is the inverse covariance
    of the parameters that is assumed, in full-resolution pixels.
    """

    model: str
    y: Axis
    x: Axis
    directions: Tensor | None
    prior: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of the coefficients: 2, rows, columns."""
        return 2, self.y.count, self.x.count

    def reduced(self, gradient: Tensor) -> Tensor:
        """The gradient (p,) by parameters, of one (2, rows, columns) by coefficients."""
        flat = gradient.reshape(-1)
        return flat if self.directions is None else self.directions.T @ flat

    def coefficients(self, parameters: Tensor) -> Tensor:
        """The coefficients (2, rows, columns) of parameters (p,)."""
        flat = parameters if self.directions is None else self.directions @ parameters
        return flat.reshape(self.shape)


def spline_axis(length: int, intervals: int, step: int = 1, full: int | None = None) -> Axis:
    """The cubic B-splines of an axis of ``full`` pixels divided into ``intervals``, at the ``length`` pixels
    of a level whose pixels are ``step`` times as large.

    Source: Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal Proc. Mag. 16 (1999).
    """
    place = (torch.arange(length, dtype=torch.float64) + 0.5) * step / (full or length) * intervals
    first = place.floor().clamp(0, intervals - 1)
    t = place - first
    values = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    return Axis(intervals + 3, (torch.stack(values) / 6).float().contiguous(), first.int().contiguous())


def linear_axis(length: int, step: int = 1, full: int | None = None) -> Axis:
    """The functions 1 and t of an axis, t from -1 to 1 between the edges of the image; two more are zero."""
    place = (torch.arange(length, dtype=torch.float64) + 0.5) * step / (full or length) * 2 - 1
    zero = torch.zeros_like(place)
    values = torch.stack([torch.ones_like(place), place, zero, zero]).float()
    return Axis(TAPS, values.contiguous(), torch.zeros(length, dtype=torch.int32))


def intervals_of(height: int, width: int, patch_size: int | None) -> tuple[int, int]:
    """The spline's intervals along y and x."""
    length = patch_size or INTERVAL
    rows, columns = (
        min(max(round(side / length), FEWEST_INTERVALS), MOST_INTERVALS) for side in (height, width)
    )
    return rows, columns


def space_of(
    model: str, size: tuple[int, int], patch_size: int | None, level: tuple[tuple[int, int], int]
) -> Space:
    """The space of a model for an image of a ``size`` (height, width), on a level of another size whose
    pixels are a number of times as large."""
    (height, width), step = level
    if model == "local":
        rows, columns = intervals_of(*size, patch_size)
        y, x = spline_axis(height, rows, step, size[0]), spline_axis(width, columns, step, size[1])
        return Space(model, y, x, None, _smoothness(y.count, x.count))
    y, x = linear_axis(height, step, size[0]), linear_axis(width, step, size[1])
    directions = _directions(model, size)
    return Space(model, y, x, directions, torch.zeros(directions.shape[1], directions.shape[1]).double())


def _directions(model: str, size: tuple[int, int]) -> Tensor:
    """Coefficients (2 * 16, p) of the parameters of a global model, near the identity."""
    count, radius = models.get(model).parameters, max(size) / 2
    steps = DERIVATIVE * torch.eye(count, dtype=torch.float64)
    maps = models.get(model).matrix(steps, torch.zeros(2, dtype=torch.float64), radius)
    identity = torch.eye(2, 3, dtype=torch.float64)
    change = (maps - identity) / DERIVATIVE  # (p, 2, 3): of the displacement about the centre
    found = torch.zeros(count, 2, TAPS, TAPS, dtype=torch.float64)
    found[:, :, 0, 0] = change[:, :, 2]
    found[:, :, 0, 1], found[:, :, 1, 0] = change[:, :, 0] * size[1] / 2, change[:, :, 1] * size[0] / 2
    return found.reshape(count, -1).T.contiguous()


def _smoothness(rows: int, columns: int) -> Tensor:
    """The prior of spline coefficients: their second differences are about ``CURVATURE`` pixels."""
    differences = [_second_differences(count) for count in (rows, columns)]
    bend = torch.kron(differences[0], torch.eye(columns).double())
    bend = bend + torch.kron(torch.eye(rows).double(), differences[1])
    one = (bend @ bend + SLOPE * bend) / CURVATURE**2
    return both(one)


def both(matrix: Tensor) -> Tensor:
    """The matrix (2 n, 2 n) with a matrix (n, n) for each component."""
    return torch.kron(torch.eye(2, dtype=matrix.dtype), matrix)


def _second_differences(count: int) -> Tensor:
    """The matrix (count, count) of squared first differences."""
    first = torch.diff(torch.eye(count, dtype=torch.float64), dim=0)
    return first.T @ first


def folded(model: str, size: tuple[int, int], matrix: Tensor, parameters: Tensor) -> Tensor:
    """The map (2, 3) float64 of a global model: ``matrix`` after the map with ``parameters`` (p,) of an image
    of a ``size`` (height, width)."""
    centre = torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2], dtype=torch.float64)
    own = models.get(model).matrix(parameters.double()[None], centre, max(size) / 2)[0]
    return affine.compose(matrix, own)
