"""``register batch --series``: the frames of a series."""

from dataclasses import asdict
from pathlib import Path

import typer

from register.cli.output import print_json, print_rows
from register.settings import Settings

FAILED = 3


def align_series(
    settings: Settings,
    source: str,
    to: str,
    also: tuple[str, ...],
    output: Path,
    count: int | None,
    *,
    redo: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Align the frames of a series to the frame ``to`` in ``count`` processes, and print the result."""
    from register.cli import progress, show
    from register.io.images.stacks import open_stack
    from register.workflows import series as workflow

    stack = open_stack(source, allow_truncated=settings.allow_truncated)
    if dry_run:
        channels, height, width = stack.shape
        size = f"{width} × {height}"
        print_rows(
            [
                ("frames", str(len(stack))),
                ("size", size),
                ("channels", str(channels)),
                ("dtype", str(stack.dtype)),
            ]
        )
        return
    series = workflow.Series(source, to, also, output, settings)
    with progress.of_frames(len(stack), quiet or as_json) as tick:
        rows = workflow.run(series, count=count, redo=redo, tick=tick)
    if as_json:
        print_json({"frames": [asdict(row) for row in rows]})
    elif not quiet:
        show.series(rows, output)
    if any(row.verdict == "failed" for row in rows):
        raise typer.Exit(FAILED)
