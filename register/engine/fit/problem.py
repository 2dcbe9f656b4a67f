"""The alignment problem: the levels of two images, a model, the effort and the largest displacement."""

from dataclasses import dataclass, replace

from torch import Tensor

from register.engine.fit import comparison, global_fit
from register.engine.fit.comparison import Comparison
from register.engine.fit.estimate import Estimate
from register.engine.fit.held import Landmarks
from register.engine.fit.working_copy import levels_of
from register.images.pyramid import Level
from register.settings import Effort
from register.similarity.base import Windows

MARGIN = 32
"""Pixels of the fixed level by which moving descriptors are computed beyond its border."""
JUDGING_SIDE = 1024
"""Longest side, in pixels, of the level on which similarity and expected errors are measured."""


@dataclass(frozen=True)
class Problem:
    """Two images to be aligned, with the model and the limits of the alignment.

    ``levels`` are those of the fixed image, coarse to fine; ``moving`` is the working copy of the moving
    image, both grey in [0, 1] with masks. ``max_shift`` is the largest displacement of a patch from the
    global map, in pixels of the fixed original.
    """

    levels: list[Level]
    moving: Level
    model: str
    effort: Effort
    max_shift: float
    landmarks: Landmarks | None = None
    """Landmarks that hold."""
    entire: tuple[Level, Level] | None = None
    """The working copies of the entire images, where ``levels`` and ``moving`` are parts of them."""
    valid: tuple[Tensor, Tensor] | None = None
    """The pixels (1, h, w) of the entire working copies that are not masked; those of constant borders, which
    have no weight, are among them."""

    @property
    def images(self) -> tuple[Level, Level]:
        """The working copies of the entire images."""
        return self.entire or (self.finest, self.moving)

    @property
    def whole(self) -> "Problem":
        """The problem of the entire images."""
        if self.entire is None:
            return self
        fixed, moving = self.entire
        return replace(self, levels=levels_of(fixed), moving=moving, entire=None)

    @property
    def finest(self) -> Level:
        """The finest level of the fixed image."""
        return self.levels[-1]

    @property
    def judging_level(self) -> Level:
        """The finest level of at most ``JUDGING_SIDE`` pixels."""
        return judging_level(self.levels)

    def compare(self, level: Level, matrix: Tensor, metric: str) -> Comparison:
        """The comparison of one fixed level with the moving image under a global map (2, 3)."""
        matched = comparison.match_pixel_size(self.moving, level, matrix)
        return comparison.prepare(
            level, matched, matrix[None], metric, window=self.effort.window, margin=MARGIN
        )

    def windows(self, estimate: Estimate, metric: str, level: Level | None = None) -> Windows:
        """The similarity of the windows of a level under an estimate; by default of the judging level."""
        level = level or self.judging_level
        compare = self.compare(level, estimate.matrix, metric)
        return comparison.windows(compare, estimate.patches_on(level))


def judging_level(levels: list[Level]) -> Level:
    """The finest level of at most ``JUDGING_SIDE`` pixels, or the coarsest where there is none."""
    return ([x for x in levels if max(x.size) <= JUDGING_SIDE] or levels[:1])[-1]


def at_least_as_similar(level: Level, moving: Level, matrix: Tensor, before: Tensor, metric: str) -> bool:
    """Whether the loss under one global map is no higher than under another one, over the windows valid
    under both."""
    after, start = (
        comparison.windows(
            global_fit.compare_at(level, moving, x[None], metric, smoothing=global_fit.EXACT_SMOOTHING)
        )
        for x in (matrix, before)
    )
    return bool(start.loss_decrease(after) >= 0)
