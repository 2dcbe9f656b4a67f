"""``register batch``: many pairs, or the frames of a series."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from register.cli.align import AsJson, Debug, Quiet
from register.cli.options import with_settings
from register.cli.output import print_json
from register.cli.series import Run, align_movie, model_is_given
from register.settings import Settings

if TYPE_CHECKING:
    from register.workflows.batch import PairOutcome, Runner
    from register.workflows.birl import Cover
    from register.workflows.pairs import Pair, Pairing, PairSource

ERRED, FAILED = 1, 3
PAIRS, RUNNING, FILES = "Pairs", "Running", "Files"


Fixed = Annotated[
    str | None, typer.Option(metavar="IMAGE", help="One fixed image for all pairs.", rich_help_panel=PAIRS)
]
Moving = Annotated[
    str | None,
    typer.Option(metavar="GLOB", help="The images aligned to it, as 'scans/*.tif'.", rich_help_panel=PAIRS),
]
FixedDir = Annotated[
    str | None, typer.Option(metavar="DIR", help="Folder of fixed images.", rich_help_panel=PAIRS)
]
MovingDir = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Folder of moving images with the same stems.", rich_help_panel=PAIRS),
]
Pattern = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help=r"Pair files by a named group instead of by stems, as '(?P<key>\d+)_HE'.",
        rich_help_panel=PAIRS,
    ),
]
Table = Annotated[
    str | None,
    typer.Option(
        metavar="CSV",
        help="Table with the columns fixed and moving, and id, landmarks, masks or any option; BIRL's too.",
        rich_help_panel=PAIRS,
    ),
]
Series = Annotated[
    str | None,
    typer.Option(
        metavar="FILE_OR_GLOB",
        help="Frames of a movie or a stack: one TIFF, a folder, or a pattern.",
        rich_help_panel=PAIRS,
    ),
]
To = Annotated[
    str,
    typer.Option(
        metavar="FRAME",
        help="Reference of a series: first, previous, mean, middle, or a frame number from 0.",
        rich_help_panel=PAIRS,
    ),
]
Also = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE_OR_GLOB",
        help="Frames of another channel, resampled by the same transforms; may be repeated.",
        rich_help_panel=PAIRS,
    ),
]
SkipUnpaired = Annotated[
    bool,
    typer.Option(
        "--skip-unpaired", help="Leave out images without exactly one partner.", rich_help_panel=PAIRS
    ),
]
Birl = Annotated[
    bool,
    typer.Option(
        "--birl",
        help="Write registration-results.csv, a submission to BIRL, whose cover table --pairs is.",
        rich_help_panel=FILES,
    ),
]
Output = Annotated[
    str, typer.Option("-o", "--output", help="Folder, or address, for the results.", rich_help_panel=FILES)
]
Redo = Annotated[bool, typer.Option("--redo", help="Align finished pairs again.", rich_help_panel=FILES)]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the pairs and write nothing.", rich_help_panel=FILES)
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes. [default: by cores and memory]", rich_help_panel=RUNNING),
]
MaxFailures = Annotated[
    int | None,
    typer.Option(min=1, help="Stop after this many errors and failed verdicts.", rich_help_panel=RUNNING),
]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Run on a Dask cluster, tcp://HOST:PORT.", rich_help_panel=RUNNING),
]


@with_settings(without=("series",))
def batch(
    settings: Settings,
    context: typer.Context,
    fixed: Fixed = None,
    moving: Moving = None,
    fixed_dir: FixedDir = None,
    moving_dir: MovingDir = None,
    pair: Pattern = None,
    pairs: Table = None,
    series: Series = None,
    to: To = "mean",
    also: Also = None,
    skip_unpaired: SkipUnpaired = False,
    output: Output = "aligned",
    birl: Birl = False,
    redo: Redo = False,
    dry_run: DryRun = False,
    workers: Workers = None,
    max_failures: MaxFailures = None,
    scheduler: Scheduler = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Align many pairs, each into a folder of its own, and write a table of all.

    Finished pairs are skipped. Exits with 0 when all are done, 1 when any pair had an error, 3 when none had
    an error and any verdict is `failed`.
    """
    from register.cli import progress, show
    from register.workflows import batch as workflow
    from register.workflows.birl import write_results
    from register.workflows.job import check_folder
    from register.workflows.movie.job import Movie
    from register.workflows.pairs import PairSource, find_pairs

    check_folder(output)
    source = PairSource(fixed, moving, fixed_dir, moving_dir, pair, pairs)
    if series is not None:
        refused: dict[str, object] = {"--pair": pair, "--skip-unpaired": skip_unpaired, "--birl": birl}
        refused |= {"--scheduler": scheduler, "--max-failures": max_failures}
        _check_series(source, refused)
        asked = Movie((series,), to, Path(output), settings, tuple(also or ()))
        align_movie(asked, Run(False, workers, redo, dry_run, as_json, quiet, model_is_given(context)))
        return
    _check_usage(source, birl)
    found = find_pairs(source, settings).checked(skip_unpaired or dry_run)
    cover, found = _cover(pairs, found) if birl and pairs else (None, found)
    if dry_run:
        print_json(show.pairing_values(found)) if as_json else show.pairing(found)
        return
    runner = _runner(found.pairs, output, scheduler, workers, redo=redo)
    with progress.of_pairs(len(found.pairs), quiet or as_json) as tick:
        outcomes = workflow.run(found.pairs, output, runner, pairs, max_failures=max_failures, tick=tick)
    submission = write_results(cover, found.pairs, outcomes, output) if cover else None
    if as_json:
        print_json(workflow.values(outcomes))
    else:
        show.outcomes(outcomes, len(found.pairs), output, quiet, submission)
    _exit(outcomes)


def _check_series(source: "PairSource", refused: dict[str, object]) -> None:
    """Raise ``BadParameter`` for pairs beside a series, and for options that have no meaning for one."""
    from register.workflows.pairs import PairSource

    if source != PairSource():
        raise typer.BadParameter("--series cannot be combined with pairs")
    for name, value in refused.items():
        if value:
            raise typer.BadParameter(f"{name} has no meaning for a series; leave it out")


def _cover(table: str, found: "Pairing") -> "tuple[Cover, Pairing]":
    """The cover table of BIRL, and its pairs without landmarks that only one image has."""
    from register.workflows.birl import Cover, with_landmarks_of_both

    return Cover.read(table), replace(found, pairs=with_landmarks_of_both(found.pairs))


def _check_usage(source: "PairSource", birl: bool) -> None:
    """Raise ``BadParameter`` unless the pairs are given by one complete set of options, BIRL's by a table."""
    options = source.alternatives()
    chosen = [name for name, values in options.items() if any(values)]
    if len(chosen) != 1 or not all(options[chosen[0]]):
        given = f" (given: {' and '.join(chosen)})" if chosen else ""
        raise typer.BadParameter(f"give the pairs by exactly one of: {', '.join(options)}{given}")
    if source.pattern and not source.fixed_dir:
        raise typer.BadParameter("--pair needs --fixed-dir and --moving-dir")
    if birl and not source.table:
        raise typer.BadParameter("--birl needs --pairs with a cover table of BIRL")


def _runner(
    pairs: "tuple[Pair, ...]", output: str, scheduler: str | None, count: int | None, *, redo: bool
) -> "Runner":
    """The runner on a cluster, or in processes of this machine."""
    from register.workflows import cluster, workers

    if scheduler:
        return cluster.on_cluster(scheduler, output, redo)
    return workers.in_processes(output, workers.worker_count(list(pairs), count), redo)


def _exit(outcomes: "list[PairOutcome]") -> None:
    """Exit with 1 when any pair had an error, with 3 when any failed."""
    if any(one.error for one in outcomes):
        raise typer.Exit(ERRED)
    if any(one.failed for one in outcomes):
        raise typer.Exit(FAILED)
