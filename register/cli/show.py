"""What a person sees: progress while it works, a small table at the end."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:  # what a command does not use, it does not wait for
    from register.engine.pair import Event, Listener
    from register.workflows.align import Plan, Result
    from register.workflows.batch import PairOutcome
    from register.workflows.series import Row

STYLES = {"ok": "green", "suspect": "yellow", "failed": "red"}


@contextmanager
def progress(silent: bool) -> Iterator[Listener]:
    """A listener that draws stage, level, similarity and time left; silent when asked or when stdout is no terminal.

    Warnings become one line on stderr each.
    """
    console = Console(stderr=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        if silent or not Console().is_terminal:
            yield lambda event: None
        else:
            from register.cli import bars

            with bars.share() as fill:

                def listen(event: Event) -> None:
                    likeness = "" if event.similarity is None else f" · similarity {event.similarity:.3f}"
                    fill(event.done, f"{event.stage} {event.level}{likeness}")

                yield listen
    for warning in caught:
        if type(warning.message).__name__ == "RegisterWarning":
            console.print(f"warning: {warning.message}", style="yellow", highlight=False)


@contextmanager
def fraction(stage: str, silent: bool) -> Iterator[Callable[[float], None]]:
    """A callback that draws the fraction of one stage that is done; silent as ``progress`` is."""
    from register.engine.pair import Event

    with progress(silent) as listener:
        yield lambda done: listener(Event(stage, "", done, None))


def result(done: Result, verbose: bool) -> None:
    """The closing table: verdict, model, displacement, similarity, folds, seconds and the files."""
    quality, transform = done.alignment.quality, done.alignment.transform
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    style = STYLES[quality["verdict"]]
    table.add_row(
        "verdict",
        f"[{style}]{quality['verdict']}[/]" + "".join(f"\n{reason}" for reason in quality["reasons"]),
    )
    grid = "" if transform.grid is None else f", {transform.grid.columns} × {transform.grid.rows} patches"
    table.add_row("model", f"{transform.model}{grid}, compared by {quality['metric']}")
    table.add_row(
        "displacement",
        f"median {quality['displacement_median']:.2f} px, largest {quality['displacement_max']:.2f} px",
    )
    if transform.grid is not None:
        table.add_row(
            "  of it local",
            f"median {quality['local_displacement_median']:.2f} px, largest {quality['local_displacement_max']:.2f} px",
        )
    table.add_row(
        "similarity", f"{quality['similarity_before']:.3f} before, {quality['similarity_after']:.3f} after"
    )
    table.add_row("overlap", f"{quality['overlap']:.0%} of the fixed image")
    table.add_row("folds", f"{quality['folds']} (smallest det J {quality['det_min']:.2f})")
    table.add_row("seconds", f"{done.seconds:.1f}")
    for stage, seconds in transform.provenance["seconds"].items() if verbose else ():
        table.add_row(f"  {stage}", f"{seconds:.2f}")
    for note in [*done.notes, *quality["notes"]]:
        table.add_row("note", note)
    for role, path in done.files.items():
        table.add_row(role, str(path))
    Console(highlight=False, soft_wrap=True).print(table)


@contextmanager
def pairs(count: int, silent: bool) -> Iterator[Callable[[PairOutcome], None]]:
    """A callback per pair that ended: a line each, and on a terminal a bar with the time left."""
    console = Console(highlight=False, soft_wrap=True)

    def line(outcome: PairOutcome) -> None:
        word = outcome.verdict or "error"
        why = outcome.error or outcome.reasons
        seconds = (
            "" if outcome.seconds is None or outcome.note == "done before" else f", {outcome.seconds:.1f} s"
        )
        note = f", {outcome.note}" if outcome.note else ""
        console.print(
            f"{escape(outcome.id)}: [{STYLES.get(word, 'red')}]{word}[/]{seconds}{escape(note)}{escape(': ' + why if why else '')}"
        )

    if silent:
        yield lambda outcome: None
    elif not console.is_terminal:
        yield line
    else:
        from register.cli import bars

        with bars.counted("pairs", count, console) as one_more:

            def advance(outcome: PairOutcome) -> None:
                line(outcome)
                one_more()

            yield advance


def outcomes(done: list[PairOutcome], count: int, output: object, quiet: bool) -> None:
    """The closing table of a batch: how many ended how, those that failed, and where the results are; with ``quiet`` only errors, on stderr."""
    if quiet:
        for one in done:
            if one.error:
                Console(stderr=True, highlight=False, soft_wrap=True).print(
                    f"error: {escape(one.id)}: {escape(one.error)}"
                )
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    words = [one.verdict or "error" for one in done]
    table.add_row(
        "pairs",
        ", ".join(
            f"{words.count(word)} {word}" for word in ("ok", "suspect", "failed", "error") if word in words
        )
        or "none",
    )
    if len(done) < count:
        table.add_row("not done", f"{count - len(done)}: --max-failures was reached")
    for one in done:
        if one.failed:
            table.add_row(
                escape(one.id),
                f"[red]{'error' if one.error else 'failed'}[/] {escape(one.error or one.reasons)}",
            )
    table.add_row("table", f"{output}/summary.csv")
    table.add_row("pictures", f"{output}/index.html")
    Console(highlight=False, soft_wrap=True).print(table)


@contextmanager
def frames(count: int, silent: bool) -> Iterator[Callable[[Row], None]]:
    """A callback per frame: a bar with the time left, on a terminal."""
    console = Console()
    if silent or not console.is_terminal:
        yield lambda row: None
        return
    from register.cli import bars

    with bars.counted("frames", count, console) as one_more:
        yield lambda row: one_more()


def series(rows: list[Row], output: Path) -> None:
    """The closing table of a series: verdicts, the largest shift, and the frames that failed."""
    words = [row.verdict for row in rows]
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row(
        "frames",
        ", ".join(f"{words.count(word)} {word}" for word in ("ok", "suspect", "failed") if word in words),
    )
    table.add_row("largest shift", f"{max(math.hypot(row.shift_x, row.shift_y) for row in rows):.2f} px")
    for word in ("failed", "suspect"):
        named = [str(row.frame) for row in rows if row.verdict == word]
        if named:
            table.add_row(
                f"[{STYLES[word]}]{word}[/]",
                ", ".join(named[:20]) + (f" and {len(named) - 20} more" if len(named) > 20 else ""),
            )
    for name in ("aligned.tif", "series.csv", "index.html", "transforms/"):
        table.add_row("", f"{output}/{name}")
    Console(highlight=False, soft_wrap=True).print(table)


def facts(values: dict[str, Any]) -> None:
    """Names and values, a line each."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in values.items():
        table.add_row(name, str(value))
    Console(highlight=False, soft_wrap=True).print(table)


def pairing(rows: list[dict[str, str]], problems: tuple[str, ...]) -> None:
    """The pairs that would be aligned, and what was left without a partner."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("id", "fixed", "moving"):
        table.add_column(name)
    for row in rows:
        table.add_row(*map(escape, row.values()))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    for problem in problems:
        console.print(f"unpaired: {escape(problem)}")


def plan(planned: Plan) -> None:
    """What would be done, as a table."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in plan_values(planned).items():
        table.add_row(
            name,
            "\n".join(value)
            if isinstance(value, list) and value and isinstance(value[0], str)
            else str(value),
        )
    Console(highlight=False, soft_wrap=True).print(table)


def plan_values(planned: Plan) -> dict[str, Any]:
    """The plan as plain values for ``--json``."""
    return {
        "fixed_size": list(planned.fixed),
        "moving_size": list(planned.moving),
        "moving_dtype": planned.moving_dtype,
        "working_size": list(planned.working),
        "device": planned.device,
        "memory_megabytes": round(planned.memory / 1e6),
        "would_write": [str(path) for path in planned.files],
    }


def result_values(done: Result) -> dict[str, Any]:
    """The result as plain values for ``--json``: the verdict first, the transform file's content without its patches, the files."""
    content = done.alignment.transform.values()
    content.pop("patches")
    return {
        "verdict": done.alignment.quality["verdict"],
        "files": {role: str(path) for role, path in done.files.items()},
        "seconds": round(done.seconds, 3),
        "transform": content,
    }
