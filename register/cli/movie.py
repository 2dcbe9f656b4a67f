"""``register movie FILE…``: motion correction."""

from pathlib import Path
from typing import Annotated

import typer

from register.cli.align import AsJson, Debug, Quiet
from register.cli.arguments import one_of
from register.cli.options import with_settings
from register.cli.series import Run, align_movie, model_is_given
from register.engine.movie.options import WITHOUT_MEANING
from register.errors import RegisterError
from register.io.movies.layout import Layout, plane_number, sides
from register.settings import Settings
from register.workflows.movie.job import BAD_FRAMES, FORMATS, Movie

FRAMES, FILES, RUNNING = "Frames", "Files", "Running"

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE...", help="Files, folders or patterns; frames follow one another.", show_default=False
    ),
]
To = Annotated[
    str,
    typer.Option(
        metavar="FRAME",
        help="Reference: mean, first, previous, middle, a frame number from 0, or an image file.",
        rich_help_panel=FRAMES,
    ),
]
Also = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        help="Frames of another channel, resampled by the same transforms; may be repeated.",
        rich_help_panel=FRAMES,
    ),
]
AlsoLabels = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        help="Frames of labels, resampled without interpolation; may be repeated.",
        rich_help_panel=FRAMES,
    ),
]
Bad = Annotated[
    str,
    typer.Option(
        metavar=one_of(BAD_FRAMES),
        help="What is written for a frame that failed: moved as its neighbours are, as it is, or empty.",
        rich_help_panel=FRAMES,
    ),
]
KeepTrend = Annotated[
    bool,
    typer.Option("--keep-trend", help="Remove fast motion only, as in depth stacks.", rich_help_panel=FRAMES),
]
Bidirectional = Annotated[
    str,
    typer.Option(
        metavar="auto|N",
        help="Pixels by which odd lines lie too far right, which are moved back; auto measures it.",
        rich_help_panel=FRAMES,
    ),
]
Plane = Annotated[
    str | None,
    typer.Option(metavar="Z=N", help="Plane of a movie with several, counted from 0.", rich_help_panel=FILES),
]
Planes = Annotated[
    int, typer.Option(min=1, help="Planes that alternate along the pages.", rich_help_panel=FILES)
]
Channels = Annotated[
    int,
    typer.Option(min=1, help="Channels that alternate along the pages, fastest.", rich_help_panel=FILES),
]
Dataset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Path of the array in an HDF5, NWB or Zarr file.", rich_help_panel=FILES
    ),
]
FrameSize = Annotated[
    str | None,
    typer.Option(
        metavar="WxH", help="Size of the frames of a binary file without ops.npy.", rich_help_panel=FILES
    ),
]
Volume = Annotated[
    bool,
    typer.Option(
        "--volume",
        help="Volumes over time: a rigid 3D shift of each, then each plane.",
        rich_help_panel=FRAMES,
    ),
]
FileFormat = Annotated[
    str,
    typer.Option(
        "--format", metavar=one_of(FORMATS), help="Format of the aligned frames.", rich_help_panel=FILES
    ),
]
Interval = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="Time between frames, where the files do not state it.",
        rich_help_panel=FILES,
    ),
]
First = Annotated[
    int | None, typer.Option(min=1, help="Only the first frames, for a quick look.", rich_help_panel=FILES)
]
Output = Annotated[
    Path, typer.Option("-o", "--output", help="Folder for the results.", rich_help_panel=FILES)
]
Redo = Annotated[bool, typer.Option("--redo", help="Align known frames again.", rich_help_panel=FILES)]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the frames and write nothing.", rich_help_panel=FILES)
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes. [default: by cores]", rich_help_panel=RUNNING)
]


@with_settings(without=WITHOUT_MEANING)
def movie(
    sources: Sources,
    context: typer.Context,
    settings: Settings,
    to: To = "mean",
    also: Also = None,
    also_labels: AlsoLabels = None,
    bad_frames: Bad = "interpolate",
    keep_trend: KeepTrend = False,
    bidirectional: Bidirectional = "0",
    volume: Volume = False,
    plane: Plane = None,
    planes: Planes = 1,
    channels: Channels = 1,
    dataset: Dataset = None,
    frame_size: FrameSize = None,
    file_format: FileFormat = "tiff",
    frame_interval: Interval = None,
    first: First = None,
    output: Output = Path("aligned"),
    redo: Redo = False,
    dry_run: DryRun = False,
    workers: Workers = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Correct the motion of a movie: align its frames to one reference.

    Writes the aligned frames, their transforms, a table and a page. An interrupted run continues. Exits with
    3 when any frame failed.
    """
    how = next((name for name in BAD_FRAMES if name == bad_frames), None)
    if how is None:
        raise typer.BadParameter(
            f"{bad_frames!r} is not one of {', '.join(BAD_FRAMES)}", param_hint="--bad-frames"
        )
    if file_format not in FORMATS:
        raise typer.BadParameter(f"{file_format!r} is not one of {', '.join(FORMATS)}", param_hint="--format")
    if frame_interval is not None and not frame_interval > 0:
        raise typer.BadParameter("the seconds between frames are more than 0", param_hint="--frame-interval")
    try:
        layout = Layout(planes, channels, plane_number(plane), dataset, frame_size=sides(frame_size))
    except RegisterError as error:
        raise typer.BadParameter(str(error)) from None
    asked = Movie(
        tuple(sources), to, output, settings, tuple(also or ()), tuple(also_labels or ()), how,
        layout, bidirectional, keep_trend, first, file_format, frame_interval,
    )  # fmt: skip
    align_movie(asked, Run(volume, workers, redo, dry_run, as_json, quiet, model_is_given(context)))
