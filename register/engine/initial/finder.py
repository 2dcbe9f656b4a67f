"""Start finders: methods that propose initial maps between two images, as records of the registry
``STARTS``."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from register.engine.initial.search_range import SearchRange
from register.geometry.matches import Matches
from register.images.pyramid import Level

CERTAIN = 30
"""Matched points that agree on one map from which the map is taken without further evidence."""


@dataclass(frozen=True)
class Proposal:
    """A proposed initial map: ``matrix`` (2, 3) float64, fixed to moving, in pixels of the originals.

    ``score`` ranks the proposals of one finder, higher is better. ``matches`` are the matched points that
    the map rests on, if there are any.
    """

    matrix: Tensor
    score: float
    matches: Matches | None = None

    @property
    def is_certain(self) -> bool:
        """Whether it rests on so many matched points that no other evidence is needed."""
        return self.score >= CERTAIN and self.matches is not None


Rounds = Callable[[Level, Level, SearchRange], Iterator[list[Proposal]]]
"""Takes the fixed and the moving level and the range of the search to rounds of proposals."""


@dataclass(frozen=True)
class StartFinder:
    """A method that proposes initial maps.

    ``rounds`` takes the finest working copies of the fixed and the moving image, grey in [0, 1] with masks,
    and the range of the search. It yields lists of proposals, which may be empty, each list by a slower
    method than the one before. The next list is asked for only where no start of the lists before is
    significant.
    """

    name: str
    rounds: Rounds
