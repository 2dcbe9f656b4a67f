"""Run the alignment of a movie and print the result: ``register movie`` and ``register batch --series``."""

import warnings
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import typer

from register.cli.output import print_json, print_rows
from register.errors import RegisterWarning

if TYPE_CHECKING:
    from register.io.movies.stack import Stack
    from register.workflows.movie.job import Movie

FAILED = 3
SECTIONS = (
    "the frames lie along depth: the model is rigid, so that the shape of the object is kept, but slow "
    "motion is removed too; use --keep-trend to keep it, or --model to choose"
)


@dataclass(frozen=True)
class Run:
    """How a movie is run and shown: as volumes, processes, whether to start again, and what is printed."""

    volume: bool
    workers: int | None
    redo: bool
    dry_run: bool
    as_json: bool
    quiet: bool
    model_given: bool


def align_movie(movie: "Movie", how: Run) -> None:
    """Align the frames of a movie and print the result. Exits with 3 when any frame failed."""
    from register.cli import progress, show
    from register.workflows.movie import run

    if how.volume:
        with progress.warnings_as_lines():
            _align_volumes(movie, how)
        return
    with progress.warnings_as_lines():
        movie, stack = _opened(movie, how)
    if how.dry_run:
        channels, height, width = stack.shape
        rows = {
            "frames": len(stack),
            "size": f"{width} × {height}",
            "channels": channels,
            "dtype": stack.dtype,
        }
        print_rows([(name, str(value)) for name, value in rows.items()])
        return
    count = min(len(stack), movie.first or len(stack))
    with progress.warnings_as_lines(), progress.of_frames(count, how.quiet or how.as_json) as tick:
        table = run.run(movie, count=how.workers, redo=how.redo, tick=tick)
    if how.as_json:
        print_json({"frames": [asdict(row) for row in table]})
    elif not how.quiet:
        show.series(table, run.target_of(movie), movie.output)
    if any(row.verdict == "failed" for row in table):
        raise typer.Exit(FAILED)


def _opened(movie: "Movie", how: Run) -> "tuple[Movie, Stack]":
    """The movie with the model that suits its axis, and its frames; remarks are warnings."""
    from register.io.movies.open import open_stack

    stack = open_stack(movie.sources, replace(movie.layout, allow_truncated=movie.settings.allow_truncated))
    for note in stack.notes:
        warnings.warn(note, RegisterWarning, stacklevel=2)
    if stack.axis == "Z" and not how.model_given:
        movie = replace(movie, settings=replace(movie.settings, model="rigid"))
        if not movie.keep_trend:
            warnings.warn(SECTIONS, RegisterWarning, stacklevel=2)
    return movie, stack


def _align_volumes(movie: "Movie", how: Run) -> None:
    """Align volumes plane by plane. Exits with 3 when any volume failed."""
    from register.cli import show
    from register.workflows.movie.volume import run_volume

    if how.dry_run:
        raise typer.BadParameter("--volume has no --dry-run", param_hint="--dry-run")
    rows = run_volume(movie, count=how.workers, redo=how.redo)
    if how.as_json:
        print_json({"volumes": [asdict(row) for row in rows]})
    elif not how.quiet:
        show.volumes(rows, movie.output)
    if any(row.verdict == "failed" for row in rows):
        raise typer.Exit(FAILED)


def model_is_given(context: typer.Context) -> bool:
    """Whether the command line names a model."""
    source = context.get_parameter_source("model")
    return source is not None and source.name != "DEFAULT"
