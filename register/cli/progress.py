"""Progress of a command: a bar on a terminal, otherwise a line per pair, and warnings as lines on stderr."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from register.cli.output import coloured, is_terminal
from register.cli.show import verdict_colour

if TYPE_CHECKING:
    from register.engine.pair import Event, Listener
    from register.workflows.batch import PairOutcome
    from register.workflows.movie.table import Row


@contextmanager
def of_alignment(silent: bool) -> Iterator[Listener]:
    """A listener that draws a bar with the stage, level and similarity.

    It draws nothing when ``silent`` or when stdout is no terminal.
    """
    with warnings_as_lines():
        if silent or not is_terminal(sys.stdout):
            yield lambda event: None
            return
        from register.cli import bars

        with bars.fraction() as fill:
            yield lambda event: fill(event.done, _description(event))


def _description(event: Event) -> str:
    similarity = "" if event.similarity is None else f" · similarity {event.similarity:.3f}"
    return f"{event.stage} {event.level}{similarity}"


@contextmanager
def of_writing(silent: bool) -> Iterator[Callable[[float], None]]:
    """A callback that draws the fraction of an image that is written; silent as ``of_alignment`` is."""
    with warnings_as_lines():
        if silent or not is_terminal(sys.stdout):
            yield lambda done: None
            return
        from register.cli import bars

        with bars.fraction() as fill:
            yield lambda done: fill(done, "write")


@contextmanager
def of_pairs(count: int, silent: bool) -> Iterator[Callable[[PairOutcome], None]]:
    """A callback that prints a line per finished pair, and on a terminal a bar with the time left."""
    with warnings_as_lines():
        if silent:
            yield lambda outcome: None
        elif not is_terminal(sys.stdout):
            yield _print_pair
        else:
            from register.cli import bars

            with bars.counted("pairs", count) as one_more:

                def advance(outcome: PairOutcome) -> None:
                    _print_pair(outcome)
                    one_more()

                yield advance


@contextmanager
def of_links(silent: bool) -> Iterator[Callable[[PairOutcome], None]]:
    """A callback that prints a line per finished link of a set; their number is not known before."""
    with warnings_as_lines():
        yield (lambda outcome: None) if silent else _print_pair


@contextmanager
def of_frames(count: int, silent: bool) -> Iterator[Callable[[Row], None]]:
    """A callback that advances a bar per frame, on a terminal."""
    if silent or not is_terminal(sys.stdout):
        yield lambda row: None
        return
    from register.cli import bars

    with bars.counted("frames", count) as one_more:
        yield lambda row: one_more()


def _print_pair(outcome: PairOutcome) -> None:
    """Print id, verdict, seconds and what is wrong, on one line."""
    word = outcome.verdict or "error"
    known = outcome.seconds is not None and outcome.note != "done before"
    seconds = f", {outcome.seconds:.1f} s" if known else ""
    note = f", {outcome.note}" if outcome.note else ""
    why = outcome.error or outcome.reasons
    reason = f": {why}" if why else ""
    print(f"{outcome.id}: {coloured(word, verdict_colour(word))}{seconds}{note}{reason}", flush=True)


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print each ``RegisterWarning`` of the block once, as one line on stderr, at its end."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        finally:
            ours = [x.message for x in caught if type(x.message).__name__ == "RegisterWarning"]
            for text in dict.fromkeys(map(str, ours)):
                print(coloured(f"warning: {text}", "yellow", sys.stderr), file=sys.stderr)
