"""Convert colour and multichannel images to the grey image that is aligned."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from register.compute import sums
from register.errors import RegisterError
from register.images import filters

LUMINANCE = (0.299, 0.587, 0.114)
BRIGHT, MOSTLY = 0.75, 0.2
"""Share of white from which a pixel is background of a brightfield image, and the share of such pixels from
which an image is a brightfield image."""
GLARE = 1 / 16
"""Stray light, in units of white, that reaches the sensor without passing through the stain."""
STAINED = 0.05
"""Mean difference between the colours of foreground pixels, in units of white, from which they are
stained."""
ENOUGH = 0.5
"""Texture that a channel must have, as a share of the largest one. The first such channel is used, because
it is often the one that was recorded for orientation."""
NEIGHBOURHOOD = 8
"""Standard deviation, in pixels, of the local mean that is subtracted before channels are compared."""


@dataclass(frozen=True)
class Grey:
    """A conversion of planes (c, h, w) to one grey plane (1, h, w), and its name."""

    name: str
    convert: Callable[[Tensor], Tensor]

    def __call__(self, planes: Tensor) -> Tensor:
        """The grey plane (1, h, w) of float planes (c, h, w)."""
        return self.convert(planes)


def luminance(planes: Tensor) -> Tensor:
    """The luminance (1, h, w) of red, green and blue (ITU-R BT.601)."""
    return (planes[:3] * planes.new_tensor(LUMINANCE)[:, None, None]).sum(0, keepdim=True)


def optical_density(planes: Tensor, white: float) -> Tensor:
    """The optical density (1, h, w) of transmitted light, in the colour that is absorbed most at each pixel.

    Density is linear in the amount of stain (Beer and Lambert; Ruifrok & Johnston 2001, eq. 2). ``GLARE``
    keeps it finite and limits the amplification of noise in dark pixels.
    """
    light = (planes[:3].clamp(min=0) + GLARE * white) / ((1 + GLARE) * white)
    return -torch.log10(light.amin(0, keepdim=True))


def channel(planes: Tensor, index: int) -> Tensor:
    """One channel (1, h, w), unchanged."""
    return planes[index : index + 1]


def choose(
    sample: Tensor,
    valid: Tensor,
    *,
    colour: str,
    white: float | None,
    wanted: str | None = None,
    names: Sequence[str] = (),
) -> Grey:
    """Choose the conversion to grey from a ``sample`` (c, h, w) of the image and its ``valid`` pixels (1, h,
    w).

    ``colour`` is the kind of the channels (``rgb``, ``cmyk``, ``lab``, ``grey``), ``white`` the value of
    white where the type of the pixels defines one. ``wanted`` is a channel's index or name, ``gray``,
    ``mean``, ``max`` or, of colours, ``density``. The default is the luminance of colours, or the first of
    other channels with at least a share ``ENOUGH`` of the largest texture. Raises ``RegisterError`` for a
    channel that does not exist.
    """
    count = len(sample)
    if wanted is not None:
        return _named(wanted, count, colour, white, names)
    if colour == "rgb":
        return Grey("luminance", luminance)
    if colour == "lab":
        return Grey("lightness", lambda planes: channel(planes, 0))
    if colour == "cmyk":
        return Grey("ink", lambda planes: planes[:4].mean(0, keepdim=True))
    if count == 1:
        return Grey("gray", lambda planes: planes)
    textures = [max(texture(channel(sample, index), valid), 0.0) for index in range(count)]
    best = next(index for index in range(count) if textures[index] >= ENOUGH * max(textures))
    return Grey(_label(best, names), lambda planes: channel(planes, best))


def brightfield(sample: Tensor, valid: Tensor, white: float) -> bool:
    """Whether a colour image is a brightfield image of stained tissue.

    Many of its pixels are nearly ``white`` in every channel, as empty glass is, and the others are coloured.
    """
    shown = sample[:3, valid[0] > 0.5]
    glass = shown.amin(0) > BRIGHT * white
    if shown.shape[1] == 0 or not MOSTLY < float(sums.mean(glass.float())) < 1:
        return False
    rest = shown[:, ~glass]
    return float(sums.mean(rest.amax(0) - rest.amin(0))) > STAINED * white


def texture(plane: Tensor, valid: Tensor) -> float:
    """The texture of a plane (1, h, w) relative to its range, without noise.

    It is the covariance of neighbouring pixels after the local mean is subtracted, divided by the squared
    range. Noise is independent from pixel to pixel and does not contribute.
    """
    plane = torch.where(valid > 0.5, plane, plane[valid > 0.5].median() if bool((valid > 0.5).any()) else 0.0)
    values = plane[valid > 0.5][:: max(plane.numel() // 100_000, 1)]
    if len(values) < 2 or min(plane.shape[-2:]) < 2 * NEIGHBOURHOOD:
        return 0.0
    low, high = torch.quantile(values, torch.tensor([0.001, 0.999])).tolist()
    if high <= low:
        return 0.0
    plane = ((plane - low) / (high - low)).clamp(0, 1)
    flat = (plane - filters.smooth_widely(plane[None], NEIGHBOURHOOD)[0]) * (valid > 0.5)
    return float(sums.mean(flat[..., 1:] * flat[..., :-1]))


def _named(wanted: str, count: int, colour: str, white: float | None, names: Sequence[str]) -> Grey:
    """The conversion to grey that the user chose."""
    if wanted == "gray":
        return (
            Grey("luminance", luminance)
            if colour == "rgb"
            else Grey("gray", lambda planes: planes.mean(0, keepdim=True))
        )
    if wanted == "density" and colour == "rgb":
        return Grey("optical density", lambda planes: optical_density(planes, white or 1.0))
    if wanted == "mean":
        return Grey("mean", lambda planes: planes.mean(0, keepdim=True))
    if wanted == "max":
        return Grey("max", lambda planes: planes.amax(0, keepdim=True))
    if wanted in names:
        index = list(names).index(wanted)
    elif wanted.isdigit() and int(wanted) < count:
        index = int(wanted)
    else:
        known = f", {', '.join(names)}" if names else ""
        raise RegisterError(
            f"has no channel {wanted!r}; it has {count} (0 to {count - 1}{known});"
            " gray, mean and max are allowed too, and density for colours"
        )
    return Grey(_label(index, names), lambda planes: channel(planes, index))


def _label(index: int, names: Sequence[str]) -> str:
    return f"channel {index} ({names[index]})" if index < len(names) and names[index] else f"channel {index}"
