"""``register group IMAGE... -o OUT``."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from register.cli.align import AsJson, Debug, Quiet
from register.cli.batch import ERRED, FAILED, Redo, Scheduler, Workers
from register.cli.options import with_settings
from register.cli.output import print_json
from register.errors import RegisterError
from register.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from register.workflows.batch import Runner
    from register.workflows.pairs import Pair
    from register.workflows.sets.files import Extras
    from register.workflows.sets.images import SetImage
    from register.workflows.sets.solve import Group, GroupOptions, Plan

SET, RESULTS, RUNNING = "Set", "Results", "Running"
BY_IMAGE = (
    "fixed_mask", "moving_mask", "split_mask", "fixed_channel", "moving_channel", "fixed_level",
    "moving_level", "fixed_plane", "moving_plane", "series", "landmarks", "landmarks_hold", "valid_mask",
    "occlusion_mask", "residual_map",
)  # fmt: skip
"""Settings that a set has per image, or not at all."""

Images = Annotated[
    list[str] | None,
    typer.Argument(metavar="IMAGE...", help="Images, folders or patterns.", show_default=False),
]
Table = Annotated[
    str | None,
    typer.Option(
        metavar="CSV",
        help="Table with the column image, and id, mask, channel, position.",
        rich_help_panel=SET,
    ),
]
Order = Annotated[
    Literal["given", "auto"],
    typer.Option(
        help="Order of the images: given (of the table, or of names), or auto: by similarity.",
        rich_help_panel=SET,
    ),
]
Neighbours = Annotated[
    int,
    typer.Option(
        min=1, help="Following images that each is aligned with; all of six or fewer.", rich_help_panel=SET
    ),
]
Reference = Annotated[
    str,
    typer.Option(
        metavar="auto|mean|ID",
        help="The common frame: the best connected image's, one that belongs to none, or an image's.",
        rich_help_panel=SET,
    ),
]
LinkStart = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ID,ID,CSV,CSV",
        help="Start one link from landmarks: both ids, and a table of points for each. May be repeated.",
        rich_help_panel=SET,
    ),
]
LinkHold = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ID,ID,CSV,CSV",
        help="Landmarks that one link holds: both ids, and a table of points for each. May be repeated.",
        rich_help_panel=SET,
    ),
]
Channel = Annotated[
    str | None,
    typer.Option(help="Channel that is compared, of every image. [default: chosen]", rich_help_panel=SET),
]
Series = Annotated[
    int | None,
    typer.Option(help="Series to read from every file. [default: the largest]", min=0, rich_help_panel=SET),
]
Level = Annotated[int, typer.Option(help="Pyramid level used of every image.", min=0, rich_help_panel=SET)]
Plane = Annotated[str | None, typer.Option(help="Plane of every stack, as Z=3.", rich_help_panel=SET)]
Output = Annotated[
    Path, typer.Option("-o", "--output", help="Folder for the results.", rich_help_panel=RESULTS)
]
WithImages = Annotated[
    bool, typer.Option("--images/--no-images", help="Write the aligned images.", rich_help_panel=RESULTS)
]
Merge = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write all channels of all images into one .ome.tif or .ome.zarr.",
        rich_help_panel=RESULTS,
    ),
]
DropRepeated = Annotated[
    bool,
    typer.Option(
        "--drop-repeated", help="Merge only the first of channels with equal names.", rich_help_panel=RESULTS
    ),
]
Type = Annotated[
    str | None,
    typer.Option(
        metavar="TYPE",
        help="Type of the values of --merge, needed where the images' types differ.",
        rich_help_panel=RESULTS,
    ),
]
Volume = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write the aligned images as z planes of one .ome.tif or .ome.zarr.",
        rich_help_panel=RESULTS,
    ),
]
Thickness = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Distance of the planes of the volume, in the unit of the pixel size.",
        rich_help_panel=RESULTS,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace existing merged files and volumes.", rich_help_panel=RESULTS),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Show the links and their cost, and write nothing.", rich_help_panel=RESULTS
    ),
]


@with_settings(without=BY_IMAGE)
def group(
    settings: Settings,
    images: Images = None,
    table: Table = None,
    order: Order = "given",
    neighbours: Neighbours = 2,
    reference: Reference = "auto",
    link: LinkStart = None,
    link_hold: LinkHold = None,
    channel: Channel = None,
    series: Series = None,
    level: Level = 0,
    plane: Plane = None,
    output: Output = Path("aligned"),
    images_written: WithImages = True,
    merge: Merge = None,
    drop_repeated: DropRepeated = False,
    dtype: Type = None,
    volume: Volume = None,
    thickness: Thickness = None,
    overwrite: Overwrite = False,
    redo: Redo = False,
    dry_run: DryRun = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Bring a set of images into one common frame: slides, rounds, serial sections.

    Neighbours are aligned in pairs, and the maps of all images are computed together. Finished links are
    skipped. Exits with 0 when done, 1 when an image could not be read, 3 when an image failed.
    """
    from register.cli import progress
    from register.workflows.sets import files
    from register.workflows.sets import images as inputs
    from register.workflows.sets import solve as workflow

    _check_usage(images, table, settings, held=bool(link_hold))
    found = inputs.from_table(table) if table else inputs.listed(images or [])
    settings = _of_every_image(settings, channel, series, level, plane)
    options = workflow.GroupOptions(order, neighbours, reference, tuple(link or ()), tuple(link_hold or ()))
    _check_landmarks(options, found)
    wanted = images_written, merge, drop_repeated, volume, thickness
    extras = files.extras(*wanted, compression=settings.compression, overwrite=overwrite, dtype=dtype)
    files.check_outputs(found, table, output, extras)
    files.check_images(found, settings, extras)
    if dry_run:
        _show_plan(workflow.plan(found, settings, options, workers), as_json)
        return
    runner_for = _runner(str(output / "links"), scheduler, workers, redo)
    with progress.of_links(quiet or as_json) as tick:
        made = workflow.solve(found, output, settings, options, runner_for, tick=tick)
    _write(made, output, settings, extras, as_json=as_json, quiet=quiet)
    _exit(made)


def _of_every_image(
    settings: Settings, channel: str | None, series: int | None, level: int, plane: str | None
) -> Settings:
    """The settings with the part that is read of every image."""
    return replace(
        settings, fixed_channel=channel, moving_channel=channel, series=series, fixed_level=level,
        moving_level=level, fixed_plane=plane, moving_plane=plane,
    )  # fmt: skip


def _check_usage(images: list[str] | None, table: str | None, settings: Settings, *, held: bool) -> None:
    """Raise ``BadParameter`` unless images or a table are given, for an initial map from a file, and for the
    error of landmarks that are not ``held``."""
    if bool(images) == bool(table):
        raise typer.BadParameter("give images, folders or patterns, or one --table")
    if settings.landmark_sigma and not held:
        raise typer.BadParameter("--landmark-sigma is the error of the landmarks of --link-hold; give them")
    if settings.init not in ("auto", "identity", "center"):
        raise typer.BadParameter("--init of a set is auto, identity or center; start one link by --link")


def _check_landmarks(options: "GroupOptions", images: "list[SetImage]") -> None:
    """Raise ``BadParameter`` for wrong values of ``--link`` and ``--link-hold``."""
    from register.workflows.sets.solve import landmarks_of

    try:
        landmarks_of(options, images)
    except RegisterError as error:
        raise typer.BadParameter(str(error)) from None


def _show_plan(planned: "Plan", as_json: bool) -> None:
    """Print what a set would cost."""
    from register.cli import show_group

    print_json(show_group.plan_values(planned)) if as_json else show_group.plan(planned)


def _runner(
    output: str, scheduler: str | None, count: int | None, redo: bool
) -> "Callable[[tuple[Pair, ...]], Runner]":
    """The function that makes the runner for some links: on a cluster, or in processes of this machine."""
    from register.workflows import cluster
    from register.workflows import workers as processes

    def made(pairs: "tuple[Pair, ...]") -> "Runner":
        if scheduler:
            return cluster.on_cluster(scheduler, output, redo)
        return processes.in_processes(output, processes.worker_count(list(pairs), count), redo)

    return made


def _write(
    made: "Group", output: Path, settings: Settings, extras: "Extras", *, as_json: bool, quiet: bool
) -> None:
    """Write the files and the page of a solved set, also where an image cannot be written; print it."""
    from register.cli import progress, show_group
    from register.workflows.sets import files, page

    with progress.of_writing(quiet or as_json) as advance:
        try:
            files.write(made, output, settings, extras, advance)
        finally:
            page.draw(made, output, settings)
    if as_json:
        print_json(files.group_values(made))
    elif not quiet:
        show_group.result(made, output, extras)


def _exit(made: "Group") -> None:
    """Exit with 1 when an image could not be read, with 3 when one failed."""
    if any(member.error for member in made.members):
        raise typer.Exit(ERRED)
    if any(member.verdict == "failed" for member in made.members):
        raise typer.Exit(FAILED)
