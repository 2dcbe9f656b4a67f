"""``register apply TRANSFORM IMAGE... -o OUT``."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from register.cli.arguments import AsJson, Debug, Overwrite, form_of, wrong_usage
from register.cli.output import print_json
from register.settings import Compression, Interpolation, check_pages, check_storage

NOT_PLAIN = (".ome.tif", ".ome.tiff", ".png", ".zarr")
"""Endings of formats that have no levels as pages."""
Transform = Annotated[str, typer.Argument(metavar="TRANSFORM", help="A transform.json.", show_default=False)]
Images = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGE...",
        help="Images like the moving one: other channels, labels, other resolutions.",
        show_default=False,
    ),
]
Destination = Annotated[
    str,
    typer.Option(
        "-o",
        "--output",
        help="A file for one image (.tif, .ome.tif, .ome.zarr, .png), else a folder.",
        show_default=False,
    ),
]
Inverse = Annotated[
    bool, typer.Option("--inverse", help="Resample images like the fixed one onto the moving grid.")
]
Labels = Annotated[
    bool, typer.Option("--labels", help="The images are labels: nearest neighbour, 0 outside.")
]
Scale = Annotated[
    float | None,
    typer.Option(help="Resolution relative to the registered images. [default: from sizes]", min=1e-3),
]
Method = Annotated[Interpolation, typer.Option(help="Interpolation of the pixels.")]
Fill = Annotated[str, typer.Option(help="Value of pixels outside the image: a number, or `auto`.")]
Packing = Annotated[
    Compression,
    typer.Option(
        help="Compression; all but jpeg are lossless. `auto` is deflate for TIFF and zstd for OME-Zarr."
    ),
]
Quality = Annotated[
    int | None, typer.Option(help="Quality of --compression jpeg. [default: 90]", min=1, max=100)
]
Chunks = Annotated[
    int | None,
    typer.Option(help="Side of a chunk of OME-Zarr in pixels. [default: 512]", min=16, max=8192),
]
Pyramid = Annotated[
    bool | None,
    typer.Option(help="Write coarser pyramid levels. [default: above 4096 pixels; OME-Zarr always]"),
]
Pages = Annotated[
    bool,
    typer.Option(
        "--pyramid-pages",
        help="Write the coarser levels of a TIFF as pages, which OpenSlide reads; also `--pyramid pages`.",
    ),
]
Series = Annotated[
    int | None, typer.Option(help="Series to read from files with several. [default: the largest]", min=0)
]
Level = Annotated[int, typer.Option(help="Pyramid level to read; 0 is full resolution.", min=0)]
Truncated = Annotated[
    bool, typer.Option("--allow-truncated", help="Use what is left of an image file that is cut off.")
]
Plane = Annotated[str | None, typer.Option(help="Plane of a stack, as Z=3 or Z=3,T=0, counted from 0.")]

Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Write the OME-Zarr on the workers of a Dask scheduler (`tcp://HOST:PORT`).",
        show_default=False,
    ),
]


def apply(
    transform: Transform,
    images: Images,
    output: Destination,
    inverse: Inverse = False,
    labels: Labels = False,
    scale: Scale = None,
    interpolation: Method = "bilinear",
    fill: Fill = "auto",
    compression: Packing = "auto",
    jpeg_quality: Quality = None,
    chunks: Chunks = None,
    pyramid: Pyramid = None,
    pyramid_pages: Pages = False,
    series: Series = None,
    level: Level = 0,
    plane: Plane = None,
    allow_truncated: Truncated = False,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Resample other images by a saved transform."""
    from register.cli import progress
    from register.files.atomic import refuse_inputs
    from register.io.images.model import Selection
    from register.workflows import apply as workflow
    from register.workflows import on_cluster
    from register.workflows.aligned_image import OutputStyle

    refuse_inputs(Path(output), Path(transform))
    with wrong_usage():
        check_storage(compression, jpeg_quality, chunks, pyramid, form_of(output))
        check_pages(pages=pyramid_pages, pyramid=pyramid, plain=not output.lower().endswith(NOT_PLAIN))
    style = OutputStyle(interpolation, fill, compression, pyramid, jpeg_quality, chunks, pyramid_pages)
    part = Selection(series, level, plane, allow_truncated)
    with progress.of_writing(as_json) as tick:
        write = workflow.apply_at if scheduler is None else partial(on_cluster.apply_on_cluster, scheduler)
        done = write(
            transform, images, output, inverse=inverse, labels=labels, scale=scale,
            style=style, part=part, overwrite=overwrite, tick=tick,
        )  # fmt: skip
    if as_json:
        print_json({"images": [asdict(one) for one in done]})
        return
    for one in done:
        at = "" if one.scale == 1 else f", {one.scale:g} times the registered resolution"
        print(f"{one.source} -> {one.file} ({one.width} × {one.height}{at})")
        for note in one.notes:
            print(f"note: {note}")
