"""``register align FIXED MOVING``."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from register.cli.options import with_settings
from register.cli.output import print_json
from register.settings import Settings

VERDICT_FAILED = 3
FILES, OUTPUT = "Files", "Output"

Fixed = Annotated[
    str,
    typer.Argument(
        metavar="FIXED", help="The fixed (reference) image: a path or an address.", show_default=False
    ),
]
Moving = Annotated[
    str, typer.Argument(metavar="MOVING", help="The image that is aligned to it.", show_default=False)
]
Folder = Annotated[str, typer.Option("-o", "--output", help="Folder for the results.", rich_help_panel=FILES)]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace existing results.", rich_help_panel=FILES)
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Show what would be done and write nothing.", rich_help_panel=FILES),
]
View = Annotated[
    bool,
    typer.Option(
        "--view", help="Open the result when done, as `register view` does.", rich_help_panel=OUTPUT
    ),
]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Exit with 3 when the verdict is anything but ok.", rich_help_panel=OUTPUT),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object on stdout and nothing else.", rich_help_panel=OUTPUT),
]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", help="Show the seconds of every stage.", rich_help_panel=OUTPUT)
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Show errors only.", rich_help_panel=OUTPUT)]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=OUTPUT)
]


@with_settings()
def align(
    fixed: Fixed,
    moving: Moving,
    settings: Settings,
    output: Folder = "aligned",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    view: View = False,
    strict: Strict = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Align MOVING to FIXED.

    Writes the aligned image, the transform (JSON), a before/after picture and a report (HTML). Exits with 0
    when done, 1 on an error, 2 on wrong usage, 3 when the results are written but the verdict is `failed`
    (with --strict: not `ok`).
    """
    from register.cli import progress, show
    from register.workflows.job import check_folder
    from register.workflows.local_files import job_at, stored

    if view and (as_json or dry_run or not settings.report or "://" in output):
        raise typer.BadParameter(
            "needs a report on this machine, and no --json or --dry-run", param_hint="--view"
        )
    check_folder(output)
    with job_at(fixed, moving, output, settings, overwrite=overwrite) as job:
        if dry_run:
            from register.workflows.plan import plan

            planned = plan(job)
            print_json(show.plan_values(planned)) if as_json else show.plan(planned)
            return
        from register.workflows import align as workflow

        with progress.of_alignment(quiet or as_json) as listener:
            result = workflow.run(job, listener)
        result = replace(result, files=stored(result.files, job, output))
    if as_json:
        print_json(show.result_values(result))
    elif not quiet:
        show.result(result, verbose)
    if view:
        from register.cli.view import open_result

        open_result(Path(output))
    verdict = result.alignment.quality.verdict
    if verdict == "failed" or (strict and verdict != "ok"):
        raise typer.Exit(VERDICT_FAILED)
