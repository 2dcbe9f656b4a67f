"""The rigid 3D shift between two volumes, by masked normalised correlation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from register.engine.movie.filtered import FINE, filtered, is_constant
from register.errors import AlignmentError

SIDE, LEAST_OVERLAP, NEAR, CERTAIN = 128, 0.3, 2, 6.0
"""Longest side of a plane in pixels where volumes are compared, the least overlap as a share of the largest,
the distance from a peak, in pixels and planes, within which no other is looked for, and the standard
deviations of the correlation elsewhere by which it exceeds the next peak's mean."""
STARTS, PASSES = 3, 2
"""Volumes about the middle from which a reference is started, and how often its volumes are averaged."""


@dataclass(frozen=True)
class Shift3D:
    """The shift of a volume: what is at a point of the reference lies at the point plus the shift in it, in
    pixels and planes. ``correlation`` is that of both volumes there; ``certain`` whether it stands out."""

    x: float
    y: float
    z: float
    correlation: float
    certain: bool


def prepared(volume: Tensor) -> Tensor:
    """A volume (z, h, w) float32, NaN where invalid, as it is compared: smaller, without its background."""
    step = max(round(max(volume.shape[1:]) / SIDE), 1)
    planes = []
    for plane in volume:
        mask = torch.isfinite(plane).float()
        seen = filtered(plane.nan_to_num(), None if bool(mask.all()) else mask, FINE)
        planes.append(torch.full_like(seen, torch.nan) if is_constant(seen) else seen)
    return avg_pool2d(torch.stack(planes)[:, None], step)[:, 0]


def shift_between(fixed: Tensor, moving: Tensor, step: int) -> Shift3D:
    """The shift of a prepared volume from another one (z, h, w), whose pixels are ``step`` pixels wide.

    Source: Padfield, "Masked object registration in the Fourier domain", IEEE Trans. Image Processing 21
    (2012).
    """
    correlation = _correlation(fixed, moving)
    finite = torch.isfinite(correlation)
    if not bool(finite.any()):
        return Shift3D(0.0, 0.0, 0.0, 0.0, False)
    flat = torch.where(finite, correlation, -torch.inf)
    best = np.unravel_index(int(flat.argmax()), correlation.shape)
    at = [int(place) for place in best]
    peak = float(flat[tuple(at)])
    away = finite.clone()
    away[tuple(slice(max(place - NEAR, 0), place + NEAR + 1) for place in at)] = False
    others = correlation[away]
    certain = len(others) > 1 and peak > float(others.mean()) + CERTAIN * float(others.std())
    certain = certain and peak > float(others.max()) + float(others.std())
    places = [place + _vertex(flat, at, axis) for axis, place in enumerate(at)]
    middle = [side // 2 for side in correlation.shape]
    z, y, x = (place - half for place, half in zip(places, middle, strict=True))
    return Shift3D(step * x, step * y, z, peak, bool(certain))


def step_of(volume: Tensor) -> int:
    """Pixels of a volume (z, h, w) per pixel of what is compared."""
    return max(round(max(volume.shape[1:]) / SIDE), 1)


def _correlation(fixed: Tensor, moving: Tensor) -> Tensor:
    """The normalised correlation of volumes (z, h, w) at every shift, no shift in the middle; NaN where they
    overlap too little or have no variance."""
    sides = [2 * n for n in fixed.shape]
    masks = [torch.isfinite(x).double() for x in (fixed, moving)]
    values = [x.nan_to_num().double() for x in (fixed, moving)]
    one = [_transformed(x, sides) for x in (masks[0], values[0], values[0].square())]
    other = [_transformed(x, sides) for x in (masks[1], values[1], values[1].square())]

    def over(a: Tensor, b: Tensor) -> Tensor:
        """The sums of products of ``a`` at a point and ``b`` at the point plus a shift."""
        return torch.fft.fftshift(_back(a.conj() * b, sides))

    count = over(one[0], other[0])
    number = count.clamp(min=1)
    first, second = over(one[1], other[0]), over(one[0], other[1])
    product = over(one[1], other[1]) - first * second / number
    spread = [over(one[2], other[0]) - first**2 / number, over(one[0], other[2]) - second**2 / number]
    size = (spread[0].clamp(min=0) * spread[1].clamp(min=0)).sqrt()
    usable = (count > LEAST_OVERLAP * count.max()) & (size > 1e-9 * size.max())
    return torch.where(usable, product / size.clamp(min=1e-30), torch.nan)


def _transformed(volume: Tensor, sides: Sequence[int]) -> Tensor:
    """The Fourier transform of a real volume, with zeros up to the given sides, one axis after the other."""
    found = torch.fft.rfft(volume, n=sides[2], dim=2)
    return torch.fft.fft(torch.fft.fft(found, n=sides[1], dim=1), n=sides[0], dim=0)


def _back(spectrum: Tensor, sides: Sequence[int]) -> Tensor:
    """The real volume of a Fourier transform, one axis after the other.

    ``torch.fft.irfftn`` of three axes writes beyond its memory on a processor (PyTorch 2.13 with MKL).
    """
    found = torch.fft.ifft(torch.fft.ifft(spectrum, dim=0), dim=1)
    return torch.fft.irfft(found, n=sides[2], dim=2)


def _vertex(values: Tensor, at: list[int], axis: int) -> float:
    """The offset of the peak along an axis from the parabola through three values."""
    around = []
    for offset in (-1, 0, 1):
        place = list(at)
        place[axis] += offset
        if not 0 <= place[axis] < values.shape[axis]:
            return 0.0
        around.append(float(values[tuple(place)]))
    bend = around[0] - 2 * around[1] + around[2]
    if not math.isfinite(bend) or bend >= 0:
        return 0.0
    return max(-0.5, min(0.5, 0.5 * (around[0] - around[2]) / bend))


def reference_of(volumes: Sequence[Tensor]) -> Tensor:
    """The mean (z, h, w) of prepared volumes after whole shifts.

    It starts from the volume, of a few about the middle, in which most others are recognised. Volumes
    without any variance are left out. Raises ``AlignmentError`` where all are.
    """
    used = [volume for volume in volumes if bool(torch.isfinite(volume).any())]
    if not used:
        raise AlignmentError("has no volume that is not constant", "reference")
    middle = len(used) // 2
    starts = sorted(range(len(used)), key=lambda n: abs(n - middle))[:STARTS]
    several = [_aligned(used[start], used) for start in starts]
    moved = max(several, key=len)
    for _ in range(PASSES - 1):
        moved = _aligned(torch.stack(moved).nanmean(0), used) or moved
    return torch.stack(moved).nanmean(0)


def _aligned(mean: Tensor, volumes: Sequence[Tensor]) -> list[Tensor]:
    """The volumes that are recognised in another one, after whole shifts onto it."""
    each = ((volume, shift_between(mean, volume, 1)) for volume in volumes)
    return [_moved(one, (round(s.z), round(s.y), round(s.x))) for one, s in each if s.certain]


def _moved(volume: Tensor, shift: tuple[int, int, int]) -> Tensor:
    """A volume (z, h, w) whose value at a point was at the point plus the shift; NaN where there was none."""
    found = torch.full_like(volume, torch.nan)
    to = tuple(slice(max(-s, 0), n - max(s, 0)) for s, n in zip(shift, volume.shape, strict=True))
    source = tuple(slice(max(s, 0), n - max(-s, 0)) for s, n in zip(shift, volume.shape, strict=True))
    found[to] = volume[source]
    return found
