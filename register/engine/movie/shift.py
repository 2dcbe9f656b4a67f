"""The shift between a frame and its reference by phase correlation, on a level of at most 256 pixels."""

from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST_SHIFT = 0.3
"""Largest shift that is searched, as a share of a side."""
SMOOTHING = 1.15
"""Standard deviation in pixels of the Gaussian that the whitened correlation is smoothed by."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The conjugate whitened spectrum of a reference, smoothed, and what a frame needs to be compared."""

    conjugate: Tensor
    taper: Tensor
    window: Tensor


def spectrum(image: Tensor, reach: float | None = None) -> Spectrum:
    """The spectrum of an image (h, w); with ``reach`` larger shifts than that, in pixels, are not found."""
    height, width = image.shape
    taper = (_hann(height)[:, None] * _hann(width)).sqrt()
    frequency = torch.fft.fftfreq(height)[:, None].square() + torch.fft.rfftfreq(width).square()
    gauss = torch.exp(-0.5 * frequency * (2 * torch.pi * SMOOTHING) ** 2)
    y, x = (torch.fft.fftfreq(n).abs() <= LARGEST_SHIFT for n in (height, width))
    window = y[:, None] & x
    if reach is not None:
        rows, columns = (torch.fft.fftfreq(n) * n for n in (height, width))
        window &= torch.hypot(rows[:, None], columns[None]) <= max(reach, 0.5)
    return Spectrum(_whitened(image, taper).conj() * gauss, taper, window)


def shift_of(of: Spectrum, frame: Tensor) -> tuple[float, float]:
    """The shift (x, y), in pixels of the level, of a frame (h, w) from the reference."""
    return shift_between(of, whitened(of, frame), (frame.shape[0], frame.shape[1]))


def whitened(of: Spectrum, frame: Tensor) -> Tensor:
    """The spectrum with equal amplitudes of a frame (h, w)."""
    return _whitened(frame, of.taper)


def shift_between(of: Spectrum, frame: Tensor, size: tuple[int, int]) -> tuple[float, float]:
    """The shift (x, y), in pixels of the level, of a frame with a whitened spectrum from the reference, both
    of a size (height, width).

    Source: Kuglin & Hines, "The phase correlation image alignment method", Proc. Int. Conf. Cybernetics and
    Society (1975); the peak is refined by parabolas.
    """
    height, width = size
    found = torch.fft.irfft2(of.conjugate * frame, s=(height, width))
    y, x = divmod(int(torch.where(of.window, found, -torch.inf).argmax()), width)
    column = [float(found[(y + k) % height, x]) for k in (-1, 0, 1)]
    row = [float(found[y, (x + k) % width]) for k in (-1, 0, 1)]
    return _signed(x, width) + _vertex(row), _signed(y, height) + _vertex(column)


def _hann(count: int) -> Tensor:
    return torch.hann_window(count + 2, periodic=False)[1:-1]


def _whitened(image: Tensor, taper: Tensor) -> Tensor:
    """The spectrum with equal amplitudes."""
    spectrum = torch.fft.rfft2((image - image.mean()) * taper)
    size = spectrum.abs()
    return spectrum / (size + 1e-6 * size.mean() + 1e-30)


def _signed(place: int, count: int) -> int:
    return place - count if place > count // 2 else place


def _vertex(values: list[float]) -> float:
    """The place of the largest value of the parabola through three values, relative to the middle one."""
    bend = values[0] - 2 * values[1] + values[2]
    return max(-0.5, min(0.5, 0.5 * (values[0] - values[2]) / bend)) if bend < 0 else 0.0
