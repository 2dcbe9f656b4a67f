"""The time that the stages of a computation take, and the date of its results."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from register.errors import RegisterError

EPOCH = "SOURCE_DATE_EPOCH"
"""The environment variable by which builds and workflows ask for the same bytes from run to run."""


def date_is_given() -> bool:
    """Whether ``SOURCE_DATE_EPOCH`` is set: results then have its date and no seconds."""
    return bool(os.environ.get(EPOCH))


def date() -> str:
    """The date of ``SOURCE_DATE_EPOCH`` (seconds since 1970) or of now, in ISO 8601 and UTC.

    Raises ``RegisterError`` if the variable is not a number of seconds.
    """
    given = os.environ.get(EPOCH)
    try:
        moment = datetime.fromtimestamp(int(given), UTC) if given else datetime.now(UTC)
    except (ValueError, OverflowError, OSError):
        raise RegisterError(f"{EPOCH} is {given!r}: it must be seconds since 1970, or unset") from None
    return moment.isoformat(timespec="seconds")


class Clock:
    """Seconds per stage, in the order they ran."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time the block under the name of its ``stage``."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 3)
