"""Transforms of frames that are each aligned to a frame before, composed to transforms from the reference."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace

import numpy as np

from register.transforms.movie import FrameTransform, without_folds
from register.transforms.quality import Verdict

ANCHOR = 10
"""Interval of frames at which ``previous`` aligns to the reference again, so that errors do not accumulate.
"""
TRIED = 3
"""Good frames to which a frame is aligned, one after the other, until a link is good."""
RANK = (Verdict.OK, Verdict.SUSPECT, Verdict.UNKNOWN, Verdict.FAILED)
"""Verdicts, best first."""

Submit = Callable[[int, int | None], "Future[FrameTransform]"]
"""Starts the alignment of a frame to another one, or to the reference."""


def chained(
    count: int, number: int, submit: Submit, ahead: int, known: Callable[[int], FrameTransform | None]
) -> Iterator[FrameTransform]:
    """The transforms of all frames from the reference, which is frame ``number``, in order.

    Transforms that are ``known`` are not computed again. Frame k is aligned to the last good frame, to those
    before it where that fails, and last to the reference; every tenth frame to the reference first. A
    transform has the worst verdict of its links. Links to the frame before are computed ``ahead``, in the
    hope that it is good.
    """
    done: dict[int, FrameTransform] = {}
    links = _Links(submit)
    for index in range(count):
        for later in range(index, min(index + ahead, count)):
            if known(later) is None:
                links.expect(later, None if later % ANCHOR == 0 or later == number else later - 1)
        done[index] = found = known(index) or _best(index, number, done, links.get)
        done = {n: done[n] for n in _good(done)}
        links.forget(index)
        yield found


class _Links:
    """Alignments of frames that were started, by the frame and the one that it is aligned to."""

    def __init__(self, submit: Submit) -> None:
        self.submit = submit
        self.started: dict[tuple[int, int | None], Future[FrameTransform]] = {}

    def expect(self, index: int, against: int | None) -> None:
        """Start the alignment of a frame, unless it was started."""
        if (index, against) not in self.started:
            self.started[index, against] = self.submit(index, against)

    def get(self, index: int, against: int | None) -> FrameTransform:
        """The transform of a frame."""
        self.expect(index, against)
        return self.started[index, against].result()

    def forget(self, last: int) -> None:
        """Forget the alignments of frames up to ``last``."""
        self.started = {key: future for key, future in self.started.items() if key[0] > last}


def _best(
    index: int,
    number: int,
    done: dict[int, FrameTransform],
    link: Callable[[int, int | None], FrameTransform],
) -> FrameTransform:
    """The first transform that is ``ok``, or the best of those that were tried."""
    tried = list[FrameTransform]()
    if index == number:
        return link(index, None)
    good = _good(done)
    first = [None, *good] if index % ANCHOR == 0 else [*good, None]
    for against in first:
        found = link(index, against)
        tried.append(found if against is None else composed(done[against], found))
        if tried[-1].verdict == Verdict.OK:
            break
    return min(tried, key=lambda one: RANK.index(one.verdict))


def _good(done: dict[int, FrameTransform]) -> list[int]:
    """The frames to which others may be aligned: the latest ``ok`` ones, then the latest suspect one."""
    latest = sorted(done, reverse=True)
    ok, suspect = (
        [n for n in latest if done[n].verdict == verdict] for verdict in (Verdict.OK, Verdict.SUSPECT)
    )
    return [*ok[: TRIED - 1], *suspect[:1]]


def composed(before: FrameTransform, link: FrameTransform) -> FrameTransform:
    """The transform of a frame from the reference, by that of the frame that it was aligned to."""
    verdict = Verdict.worst((before.verdict, link.verdict))
    reasons = link.reasons
    if verdict != link.verdict:
        reasons = (*reasons, f"frame {link.against}, to which it is aligned, is {verdict}")
    error = float(np.hypot(before.expected_error, link.expected_error))
    made = before.map.then(link.map)
    return without_folds(replace(link, map=made, verdict=verdict, reasons=reasons, expected_error=error))
