"""The offset between odd and even lines of an image that a bidirectional scan recorded."""

from collections.abc import Iterable

import torch
from torch import Tensor

LARGEST = 16
"""Largest offset, in pixels, that is looked for."""
LEAST_SIGMA = 6.0
"""Standard deviations of the correlation at other offsets by which the peak exceeds that without offset."""


def line_offset(images: Iterable[Tensor]) -> int:
    """The number of pixels by which odd lines of images (h, w) lie too far right; 0 where none is certain.

    Odd lines are compared with the mean of their even neighbours by the phase of the cross-spectrum, summed
    over all lines and images. Noise, which differs between lines, gives no peak.

    Source: Kuglin & Hines, "The phase correlation image alignment method", Proc. Int. Conf. Cybernetics and
    Society (1975), applied to lines.
    """
    cross, width = None, 0
    for image in images:
        rows = image[: image.shape[0] - 1 + image.shape[0] % 2].float()
        if len(rows) < 3:
            return 0
        width = rows.shape[1]
        rows = rows - rows.mean(1, keepdim=True)
        odd, even = rows[1::2], (rows[0:-1:2] + rows[2::2]) / 2
        taper = torch.hann_window(width, periodic=False)
        product = (torch.fft.rfft(even * taper).conj() * torch.fft.rfft(odd * taper)).sum(0)
        cross = product if cross is None else cross + product
    if cross is None or not bool(torch.isfinite(cross.abs()).all()) or float(cross.abs().amax()) == 0:
        return 0
    correlation = torch.fft.irfft(cross / (cross.abs() + 1e-3 * cross.abs().mean()), n=width)
    limit = min(LARGEST, width // 8)
    lags = torch.arange(-limit, limit + 1)
    near = correlation[lags % width]
    best = int(lags[near.argmax()])
    others = near[(lags - best).abs() > 1]
    certain = float(near.amax() - near[limit]) > LEAST_SIGMA * float(others.std())
    return best if certain else 0
