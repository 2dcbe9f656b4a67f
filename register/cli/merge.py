"""``register merge TRANSFORM... -o FILE``."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from register.cli.apply import Chunks, Fill, Method, Packing, Quality, Scheduler
from register.cli.arguments import AsJson, Debug, Overwrite, form_of, wrong_usage
from register.cli.output import print_json
from register.settings import check_storage

Transforms = Annotated[
    list[Path],
    typer.Argument(metavar="TRANSFORM...", help="Transforms to one fixed image.", show_default=False),
]
Output = Annotated[
    str, typer.Option("-o", "--output", help="The .ome.tif or .ome.zarr to write.", show_default=False)
]
Prefix = Annotated[
    bool, typer.Option("--prefix/--no-prefix", help="Write the id of its image before a channel's name.")
]
DropRepeated = Annotated[
    bool, typer.Option("--drop-repeated", help="Keep only the first of channels with equal names.")
]
Channels = Annotated[
    str | None,
    typer.Option(metavar="NAME,...", help="Names of the channels to keep. [default: all]"),
]
Type = Annotated[
    str | None, typer.Option("--dtype", help="Type of the values, needed where the images' types differ.")
]
Pyramid = Annotated[bool, typer.Option("--pyramid/--no-pyramid", help="Write coarser pyramid levels.")]


def merge(
    transforms: Transforms,
    output: Output,
    prefix: Prefix = True,
    drop_repeated: DropRepeated = False,
    channels: Channels = None,
    dtype: Type = None,
    interpolation: Method = "bilinear",
    fill: Fill = "auto",
    compression: Packing = "auto",
    jpeg_quality: Quality = None,
    chunks: Chunks = None,
    pyramid: Pyramid = True,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write the channels of aligned images into one file, on the grid of their fixed image.

    Each image is resampled once, from its original.
    """
    from register.cli import progress, show
    from register.workflows import merge as workflow
    from register.workflows import on_cluster
    from register.workflows.aligned_image import OutputStyle

    with wrong_usage():
        check_storage(compression, jpeg_quality, chunks, None, form_of(output))  # the default has levels
    chosen = tuple(name.strip() for name in channels.split(",")) if channels else ()
    merged = workflow.merge if scheduler is None else partial(on_cluster.merge_on_cluster, scheduler)
    with progress.of_writing(as_json) as tick:
        done = merged(
            transforms,
            output,
            workflow.MergeOptions(prefix, drop_repeated, chosen, dtype),
            style=OutputStyle(interpolation, fill, compression, pyramid, jpeg_quality, chunks),
            overwrite=overwrite,
            tick=tick,
        )
    print_json(asdict(done)) if as_json else show.merged(done)
