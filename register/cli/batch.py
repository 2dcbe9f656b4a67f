"""``register batch``: many pairs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from register.cli.options import with_settings
from register.settings import Settings

if TYPE_CHECKING:
    from register.workflows.pairs import Pairing

ERRED, FAILED = 1, 3
FROM, RUN, OUTPUT = "Pairs", "Running", "Output"


@with_settings(without=("series",))
def batch(
    settings: Settings,
    fixed: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="One fixed image for all.", rich_help_panel=FROM)
    ] = None,
    moving: Annotated[
        str | None,
        typer.Option(
            metavar="GLOB", help="The images that are aligned to it, as 'scans/*.tif'.", rich_help_panel=FROM
        ),
    ] = None,
    fixed_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder of fixed images.", rich_help_panel=FROM)
    ] = None,
    moving_dir: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder of moving images, of the same stems.", rich_help_panel=FROM),
    ] = None,
    pair: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help=r"What pairs names instead of stems: a named group, as '(?P<key>\d+)_HE'.",
            rich_help_panel=FROM,
        ),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            metavar="CSV",
            help="Columns fixed, moving, and id, landmarks, masks or any option; BIRL's too.",
            rich_help_panel=FROM,
        ),
    ] = None,
    series: Annotated[
        str | None,
        typer.Option(
            metavar="FILE_OR_GLOB",
            help="Frames of a movie or a stack: one TIFF, a folder, or a pattern.",
            rich_help_panel=FROM,
        ),
    ] = None,
    to: Annotated[
        str,
        typer.Option(
            metavar="FRAME",
            help="What frames are aligned to: first, previous, mean, middle, or a number from 0.",
            rich_help_panel=FROM,
        ),
    ] = "mean",
    also: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE_OR_GLOB",
            help="Another channel's frames that move along; may be repeated.",
            rich_help_panel=FROM,
        ),
    ] = None,
    skip_unpaired: Annotated[
        bool,
        typer.Option(
            "--skip-unpaired", help="Go on without images that have no single partner.", rich_help_panel=FROM
        ),
    ] = False,
    output: Annotated[
        str,
        typer.Option("-o", "--output", help="Folder, or address, for the results.", rich_help_panel="Files"),
    ] = "aligned",
    redo: Annotated[
        bool, typer.Option("--redo", help="Do again what is done already.", rich_help_panel="Files")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the pairs and write nothing.", rich_help_panel="Files")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes. [default: by cores and memory]", rich_help_panel=RUN)
    ] = None,
    max_failures: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after so many errors and failed verdicts.", rich_help_panel=RUN),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Run on a Dask cluster, tcp://HOST:PORT.", rich_help_panel=RUN),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="One JSON object on stdout and nothing else there.", rich_help_panel=OUTPUT
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Show errors only.", rich_help_panel=OUTPUT)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Align many pairs, each into a folder of its own, with a table of all.

    What is done already is left alone. Ends with 0 when all are done, 1 when any pair erred, 3 when none erred and any
    verdict is `failed`.
    """
    if series is not None:
        if any((fixed, moving, fixed_dir, moving_dir, pair, pairs)):
            raise typer.BadParameter("--series goes without pairs")
        _series(
            settings,
            series,
            to,
            tuple(also or ()),
            Path(output),
            workers,
            redo=redo,
            dry_run=dry_run,
            as_json=as_json,
            quiet=quiet,
        )
        return
    from register.cli import show
    from register.workflows import batch as many
    from register.workflows import cluster
    from register.workflows import workers as processes

    pairing = _pairing(settings, fixed, moving, fixed_dir, moving_dir, pair, pairs).checked(
        skip_unpaired or dry_run
    )
    if dry_run:
        _planned(pairing, as_json)
        return
    runner = (
        cluster.on_cluster(scheduler, output, redo)
        if scheduler
        else processes.in_processes(output, processes.fitting(list(pairing.pairs), workers), redo)
    )
    with show.pairs(len(pairing.pairs), quiet or as_json) as tick:
        outcomes = many.run(pairing.pairs, output, runner, max_failures=max_failures, tick=tick)
    if as_json:
        print(many.as_json(outcomes))
    else:
        show.outcomes(outcomes, len(pairing.pairs), Path(output) if "://" not in output else output, quiet)
    if any(one.error or one.failed for one in outcomes):
        raise typer.Exit(ERRED if any(one.error for one in outcomes) else FAILED)


def _planned(pairing: "Pairing", as_json: bool) -> None:
    """Show the pairs and what is wrong with them."""
    import json

    from register.cli import show

    rows = [{"id": one.id, "fixed": one.fixed, "moving": one.moving} for one in pairing.pairs]
    if as_json:
        print(json.dumps({"pairs": rows, "problems": list(pairing.problems)}, ensure_ascii=False))
    else:
        show.pairing(rows, pairing.problems)


def _series(
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
    """Align the frames of a series."""
    import json
    from dataclasses import asdict

    from register.cli import show
    from register.io.images.stacks import open_stack
    from register.workflows import series

    stack = open_stack(source)
    if dry_run:
        show.facts(
            {
                "frames": len(stack),
                "size": f"{stack.shape[2]} × {stack.shape[1]}",
                "channels": stack.shape[0],
                "dtype": str(stack.dtype),
            }
        )
        return
    with show.frames(len(stack), quiet or as_json) as tick:
        rows = series.run(
            series.Series(source, to, also, output, settings), count=count, redo=redo, tick=tick
        )
    if as_json:
        print(json.dumps({"frames": [asdict(row) for row in rows]}))
    elif not quiet:
        show.series(rows, output)
    if any(row.verdict == "failed" for row in rows):
        raise typer.Exit(FAILED)


def _pairing(
    settings: Settings,
    fixed: str | None,
    moving: str | None,
    fixed_dir: str | None,
    moving_dir: str | None,
    pattern: str | None,
    table: str | None,
) -> "Pairing":
    """The pairs of the one way of naming them that was chosen."""
    from register.workflows import pairs

    ways = {
        "--fixed and --moving": (fixed, moving),
        "--fixed-dir and --moving-dir": (fixed_dir, moving_dir),
        "--pairs": (table,),
    }
    chosen = [name for name, values in ways.items() if any(values)]
    if len(chosen) != 1 or not all(ways[chosen[0]]):
        raise typer.BadParameter(
            f"name the pairs in one way: {', '.join(ways)}"
            + (f" (given: {' and '.join(chosen)})" if chosen else "")
        )
    if pattern and not fixed_dir:
        raise typer.BadParameter("--pair goes with --fixed-dir and --moving-dir")
    if table:
        return pairs.table(table, settings)
    if fixed_dir and moving_dir:
        return pairs.two_folders(fixed_dir, moving_dir, pattern, settings)
    return pairs.one_reference(str(fixed), str(moving), settings)
