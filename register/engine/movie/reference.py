"""The reference of a movie: an image and all that is computed from it once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from register.engine.initial.search_range import SearchRange
from register.engine.movie import bounds, target
from register.engine.movie.filtered import filtered, is_constant, least_energy, uncovered
from register.engine.movie.shift import Spectrum, spectrum
from register.engine.movie.target import LevelTarget
from register.errors import AlignmentError
from register.images import pyramid
from register.images.pyramid import Level
from register.settings import Settings

COARSE_SIDE = 256
"""Longest side, in pixels, of the level on which shifts are found."""
LOW, HIGH = 0.005, 0.998
"""Quantiles of the reference at which frames are cut, after the noise of a frame is added."""
RANDOM = 200000
"""Most pixels of which quantiles are taken."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A reference (h, w), grey and NaN where invalid, and what is computed from it once.

    ``variance`` (h, w) is that of filtered frames. ``levels`` are coarse to fine, the last one at full
    resolution. ``low`` and ``high`` are the values at which filtered frames are cut, ``least`` the energy
    below which a block is dark. ``grey`` is the level on which the search over rotations and scales works,
    ``within`` what it searches. ``share`` is that of each frame where it is a mean of frames, 0 for
    an image that was given.
    """

    image: Tensor
    variance: Tensor
    settings: Settings
    sigma: float
    low: float
    high: float
    levels: tuple[LevelTarget, ...]
    spectrum: Spectrum
    least: Tensor
    grey: Level
    within: SearchRange
    share: float

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.image.shape
        return height, width

    @property
    def error(self) -> float:
        """The error to expect, in pixels, of a frame with a misfit of 1: root mean square over the image."""
        return self.levels[-1].error

    @property
    def coarse(self) -> LevelTarget:
        """The level on which shifts are found and frames are recognised."""
        return self.levels[0]

    def prepared(self, frame: Tensor, mask: Tensor | None) -> "Prepared":
        """A grey frame (h, w) as it is compared: filtered, cut, NaN outside the mask and where it is dark."""
        image = uncovered(filtered(frame, mask, self.sigma).clamp(self.low, self.high), self.least)
        return Prepared({level.step: target.shrunk(image, level.step) for level in self.levels})


@dataclass(frozen=True, eq=False)
class Prepared:
    """A frame as it is compared, filtered, cut, and NaN where it is covered: ``images`` (h, w) by the step of
    a level."""

    images: dict[int, Tensor]

    @property
    def full(self) -> Tensor:
        """The image (h, w) at full resolution."""
        return self.images[1]

    def on(self, level: LevelTarget) -> Tensor:
        """The image (h, w) on a level."""
        return self.images[level.step]


def prepare(
    image: Tensor, settings: Settings, *, sigma: float, variance: Tensor | None = None, share: float = 0.0
) -> Reference:
    """The reference of a grey image (h, w) float32, NaN where invalid.

    ``variance`` (h, w) is that of filtered frames about it; without it, that of the image's own noise is
    taken everywhere. ``share`` is that of each frame where the image is their mean. Raises ``AlignmentError``
    for a constant image.
    """
    if is_constant(image):
        raise AlignmentError("is constant and cannot be aligned; check the file and its channel", "reference")
    mask = torch.isfinite(image).float()
    seen = filtered(image, None if bool(mask.all()) else mask, sigma)
    values = seen[torch.isfinite(seen)]
    values = values[:: max(len(values) // RANDOM, 1)]
    if variance is None:
        variance = torch.full_like(seen, 0.1 * float(values.var()) + 1e-12)
    noise = 2 * float(variance[torch.isfinite(seen)].median()) ** 0.5
    low, high = (float(v) for v in torch.quantile(values, torch.tensor([LOW, HIGH])))
    step = max(round(max(image.shape) / COARSE_SIDE), 1)
    steps = [step] if step == 1 else [step, *([2] if step > 3 else []), 1]
    levels = tuple(
        target.level_target(seen, variance, settings.model, settings.patch_size, step=one, sigma=sigma)
        for one in steps
    )
    within = bounds.within(settings, (image.shape[0], image.shape[1]))
    coarse = target.shrunk(seen.nan_to_num(), step)
    return Reference(
        image,
        variance,
        settings,
        sigma,
        low - noise,
        high + noise,
        levels,
        spectrum(coarse, None if within.shift is None else within.shift.radius / step),
        least_energy(seen.clamp(low, high)),
        pyramid.base(image.nan_to_num()[None], mask[None]),
        within,
        share,
    )
