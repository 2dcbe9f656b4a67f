"""Define start finders: methods that propose initial maps, and the records of the registry ``STARTS``."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from register.engine.initial.search_range import SearchRange
from register.geometry.matches import Matches
from register.images.pyramid import Level

CERTAIN = 30
"""Number of matched points that agree on a map from which it needs no further evidence."""


@dataclass(frozen=True)
class Proposal:
    """A proposed initial map: ``matrix`` (2, 3) float64, fixed to moving, in pixels of the originals.

    ``score`` ranks the proposals of one finder, higher is better. ``matches`` are the matched points that
    determine the map, if there are any.
    """

    matrix: Tensor
    score: float
    matches: Matches | None = None

    @property
    def is_certain(self) -> bool:
        """Whether so many matched points agree with the map that no other evidence is needed."""
        return self.score >= CERTAIN and self.matches is not None


Rounds = Callable[[Level, Level, SearchRange], Iterator[list[Proposal]]]
"""A function from the fixed and the moving level and the search range to rounds of proposals."""


@dataclass(frozen=True)
class StartFinder:
    """A method that proposes initial maps.

    ``rounds`` takes the finest working copies of the fixed and the moving image, grey in [0, 1] with masks,
    and the range of the search. It yields lists of proposals, which may be empty, each list by a slower
    method than the previous one. The next list is computed only if no start of the previous lists is
    significant.
    """

    name: str
    rounds: Rounds
