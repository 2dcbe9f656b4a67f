"""Limit the time in which work may begin."""

import math
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """The time until which work may begin, by ``time.monotonic``; infinite by default."""

    ends: float = math.inf

    @classmethod
    def of(cls, seconds: float | None) -> "Budget":
        """A budget of some seconds from now; without end for None."""
        return cls() if seconds is None else cls(time.monotonic() + seconds)

    @property
    def left(self) -> bool:
        """Whether any time is left."""
        return time.monotonic() < self.ends


FOREVER = Budget()
