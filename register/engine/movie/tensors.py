"""The step of ``kernels.movie`` computed with tensors: the definition, and what runs without C code."""

import torch
from torch import Tensor

from register.images import interpolation
from register.kernels import movie
from register.kernels.movie import Displaced, Target


def resample(displaced: Displaced, fill: float) -> Tensor:
    """See ``kernels.movie.resample``."""
    if movie.is_available():
        return movie.resample(displaced, fill)
    values = _sampled(displaced)
    return torch.where(torch.isfinite(values), values, fill)


def step(displaced: Displaced, target: Target, grey: tuple[float, float, float]) -> tuple[Tensor, Tensor]:
    """See ``kernels.movie.step``."""
    if movie.is_available():
        return movie.step(displaced, target, grey)
    gain, level, limit = grey
    values, reference = _sampled(displaced), target.reference
    valid = torch.isfinite(values)
    v, w = torch.where(valid, values, 0.0), torch.where(valid, target.weight, 0.0)
    error = torch.where(valid, (reference - (v - level) / gain).clamp(-limit, limit), 0.0)
    down, across = displaced.y.dense(), displaced.x.dense()
    gradient = torch.stack([down.T @ (steer * error) @ across for steer in (target.steer_x, target.steer_y)])
    parts = (w, w * v, w * v * v, w * v * reference, w * reference, w * reference * reference)
    return gradient.double(), torch.stack([part.double().sum() for part in parts])


def _sampled(displaced: Displaced) -> Tensor:
    """The samples (h, w), NaN outside the frame."""
    frame = displaced.frame
    u = displaced.y.dense() @ displaced.coefficients @ displaced.x.dense().T
    x, y = interpolation.axes(len(displaced.y.first), len(displaced.x.first))
    across, down = x + u[0], y[:, None] + u[1]
    a, b, c, d, e, f = displaced.matrix
    points = torch.stack([a * across + b * down + c, d * across + e * down + f], -1)
    inside = interpolation.inside(points, *frame.shape)
    values = interpolation.sample(frame.nan_to_num()[None, None], points[None])[0, 0]
    broken = interpolation.sample(torch.isnan(frame).float()[None, None], points[None])[0, 0] > 0
    return torch.where(inside & ~broken, values, torch.nan)
