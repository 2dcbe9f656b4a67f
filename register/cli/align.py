"""``register align FIXED MOVING``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from register.cli.options import with_settings
from register.settings import Settings

VERDICT_FAILED = 3


@with_settings()
def align(
    fixed: Annotated[Path, typer.Argument(metavar="FIXED", help="The image that stays.", show_default=False)],
    moving: Annotated[
        Path, typer.Argument(metavar="MOVING", help="The image that is aligned to it.", show_default=False)
    ],
    settings: Settings,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for the results.", rich_help_panel="Files")
    ] = Path("aligned"),
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace results that are already there.", rich_help_panel="Files"),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would be done and write nothing.", rich_help_panel="Files"),
    ] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="End with 3 when the verdict is anything but ok.", rich_help_panel="Output"
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="One JSON object on stdout and nothing else there.", rich_help_panel="Output"
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("-v", "--verbose", help="Show the seconds of every stage.", rich_help_panel="Output"),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Show errors only.", rich_help_panel="Output")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel="Output")
    ] = False,
) -> None:
    """Align MOVING to FIXED.

    Writes the aligned image, the transform (JSON), a before/after picture and a report (HTML). Ends with 0 when done,
    1 on an error, 2 on wrong usage, 3 when the results are written but the verdict is `failed` (with --strict: not `ok`).
    """
    from register.cli import show
    from register.workflows import align

    job = align.Job(fixed, moving, output, settings, overwrite)
    if dry_run:
        plan = align.plan(job)
        print(json.dumps(show.plan_values(plan), ensure_ascii=False)) if as_json else show.plan(plan)
        return
    with show.progress(quiet or as_json) as listener:
        result = align.run(job, listener)
    if as_json:
        print(json.dumps(show.result_values(result), ensure_ascii=False))
    elif not quiet:
        show.result(result, verbose)
    verdict = result.alignment.quality["verdict"]
    if verdict == "failed" or (strict and verdict != "ok"):
        raise typer.Exit(VERDICT_FAILED)
