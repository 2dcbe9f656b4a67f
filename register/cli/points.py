"""``register points TRANSFORM POINTS -o OUT``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from register.cli.arguments import AsJson, Debug, Inverse, Output, Overwrite, TransformPath
from register.cli.output import print_json

Points = Annotated[
    Path,
    typer.Argument(
        metavar="POINTS",
        help="A table, GeoJSON, Parquet, ImageJ's regions, AnnData, SpatialData or pairs of BigWarp.",
        show_default=False,
    ),
]
Origin = Annotated[
    Literal["corner", "center"] | None,
    typer.Option(help="Position of (0, 0) in pixel (0, 0). [default: by the kind of file]"),
]

Columns = Annotated[
    str | None,
    typer.Option(metavar="X,Y", help="Columns of a table with x and y. [default: by their names]"),
]
Unit = Annotated[
    Literal["px", "µm", "mm", "map"] | None,
    typer.Option(
        help="Unit of the coordinates; `map`: those of the GeoTIFFs. [default: by the columns' names, or px]"
    ),
]


Densify = Annotated[
    float | None,
    typer.Option(metavar="PX", help="Divide edges of lines and polygons that are longer.", min=0.01),
]


def points(
    transform: TransformPath,
    source: Points,
    output: Output,
    inverse: Inverse = False,
    origin: Origin = None,
    columns: Columns = None,
    unit: Unit = None,
    densify: Densify = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Map points from the fixed image to the moving one, into a file of the same kind."""
    from register.files.atomic import refuse_inputs
    from register.report.summary import MEANING_OF_ERROR
    from register.transforms.transform import Transform
    from register.workflows.points import COLUMNS, map_points

    refuse_inputs(output, transform)
    done = map_points(
        Transform.load(transform), source, output, inverse=inverse, origin=origin, columns=columns,
        unit=unit, densify=densify, overwrite=overwrite,
    )  # fmt: skip
    if as_json:
        print_json(asdict(done) | {"file": str(output)})
        return
    error = "" if done.round_trip is None else f"; largest round-trip error {done.round_trip:.2g} px"
    print(f"{done.count} points, {done.inside} of them on the image{error} -> {output}")
    print(f"expected error {MEANING_OF_ERROR}")
    renamed = [name for name in done.columns if name not in COLUMNS]
    if renamed:
        print(f"the file has columns of these names already; the new ones are {' and '.join(renamed)}")
