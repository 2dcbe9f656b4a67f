"""The initial map of an alignment and the evidence for it."""

from dataclasses import dataclass, replace

from torch import Tensor

from register.engine.fit import comparison, global_fit
from register.engine.fit.comparison import Comparison
from register.engine.initial import consensus
from register.engine.initial.finder import CERTAIN
from register.errors import AlignmentError
from register.geometry import affine
from register.geometry.matches import Matches
from register.images.pyramid import Level

LEAST_ABOVE_CHANCE, LEAST_SIGNIFICANCE = 9.0, 0.5
"""Standard deviations above chance, and significance, from which a start is accepted without further
search."""
AGREEMENT = 0.05
"""Largest median distance from matched points, as a share of the matched region, of a map that agrees with
them."""

CUT_SHORT = "the search ended when its time was over, before all that could be tried was tried"
"""Note on a search that its budget ended."""


@dataclass(frozen=True)
class Start:
    """An initial map ``matrix`` (2, 3), fixed to moving, in pixels of the originals, and the evidence for it.

    ``similarity`` is the mean over all windows, ``significance`` that times the square root of the windows'
    summed weight, ``matches`` the matched points that the map agrees with, if any, and ``above_chance`` the
    standard deviations of the similarity above that of shifted images, if it was measured. ``finder`` names
    the start finder of another package that proposed the map.
    """

    matrix: Tensor
    similarity: float
    significance: float
    matches: Matches | None = None
    above_chance: float = 0.0
    finder: str | None = None
    landmarks: int = 0
    """The number of held landmarks that gave the map instead of a finder."""
    decided: bool = False
    """Whether the correlation at its shift is so far above that at all others that no other evidence is
    needed."""
    on_parts: bool = False
    """Whether the evidence is that of parts of the images."""
    cut_short: bool = False
    """Whether the search ended because its time was over."""

    def inverted(self) -> "Start":
        """The start from the moving to the fixed image."""
        matches = self.matches and self.matches.inverted()
        return replace(self, matrix=affine.invert(self.matrix.double()), matches=matches)

    @property
    def notes(self) -> list[str]:
        """Notes on how the map was found, for the record."""
        if self.cut_short:
            return [CUT_SHORT]
        if self.landmarks:
            return [f"the alignment started from {self.landmarks} landmarks, because the images disagree"]
        return [f"the start finder {self.finder} found the initial map"] if self.finder else []

    @property
    def decided_at(self) -> Tensor | None:
        """The map, if the correlation decided for it."""
        return self.matrix if self.decided else None

    @property
    def is_significant(self) -> bool:
        """Whether the map is certain or decided, or the similarity is high and far above chance.

        A high similarity is needed too, because the borders of the images alone may be above chance.
        """
        similar = self.significance >= LEAST_SIGNIFICANCE
        return self.is_certain or self.decided or (similar and self.above_chance >= LEAST_ABOVE_CHANCE)

    @property
    def is_certain(self) -> bool:
        """Whether so many matched points agree with the map that no other evidence is needed."""
        return consensus.count(self.matches) >= CERTAIN


def at(fixed: Level, moving: Level, matrix: Tensor, matches: Matches | None = None) -> Start:
    """The start at a known map (2, 3), without a measurement of chance."""
    level = global_fit.at_side(fixed, global_fit.FIT_SIDE)
    mean, significance = significances(global_fit.compare_at(level, moving, matrix[None], "structure"))
    return Start(matrix, float(mean), float(significance), matches)


def at_given_map(fixed: Level, moving: Level, matrix: Tensor) -> Start:
    """The start at a map (2, 3) given by the user.

    Raises ``AlignmentError`` when the images do not overlap under it.
    """
    start = at(fixed, moving, matrix)
    if start.significance == 0:
        raise AlignmentError(
            "the images do not overlap under the given initial map;"
            " check its direction (fixed to moving, in pixels), or use --init auto"
        )
    return start


def significances(compare: Comparison) -> tuple[Tensor, Tensor]:
    """The mean similarity (b,) under each global map, and its significance (b,).

    The significance is the similarity times the square root of the summed weight of the windows.
    """
    found = comparison.windows(compare)
    mean = found.mean().cpu()
    return mean, mean * found.weight.sum(1).cpu().sqrt()


def agrees(matrix: Tensor, matches: Matches, share: float = AGREEMENT) -> bool:
    """Whether a map (2, 3) maps the matched points close to their partners.

    The median distance must be less than a ``share`` of the matched region of the moving image.
    """
    error = (affine.apply(matrix.double(), matches.fixed) - matches.moving).norm(dim=1)
    return float(error.median()) < share * matches.extent
