"""``register export TRANSFORM --to FORMAT -o OUT``."""

from typing import Annotated

import typer

from register.cli.arguments import AsJson, Debug, Output, Overwrite, TransformPath, one_of
from register.cli.output import print_values
from register.registries import EXPORTS

Format = Annotated[
    str,
    typer.Option("--to", metavar=one_of(EXPORTS.names()), help="The format to write.", show_default=False),
]
Spacing = Annotated[
    float | None,
    typer.Option(
        help="Distance of field samples, control points or knots, in fixed pixels. [default: by format]"
    ),
]
Frame = Annotated[int | None, typer.Option(min=0, help="Frame of a movie's transforms.npz, counted from 0.")]
SplineError = Annotated[
    float,
    typer.Option(
        help="Largest error allowed to a fitted B-spline, or to SpatialData's grid, in pixels.", min=0
    ),
]
FixedElement = Annotated[
    str | None,
    typer.Option(help="SpatialData: the element of the fixed image, such as images/he.", metavar="NAME"),
]


def export(
    transform: TransformPath,
    form: Format,
    output: Output,
    frame: Frame = None,
    spacing: Spacing = None,
    tolerance: SplineError = 0.01,
    fixed_element: FixedElement = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write a transform in another program's format."""
    from register.workflows.export import export as workflow

    if form not in EXPORTS.names():
        raise typer.BadParameter(f"--to {form!r} is not allowed: choose one of {', '.join(EXPORTS.names())}")
    report = workflow(
        transform,
        form,
        output,
        frame=frame,
        spacing=spacing,
        tolerance=tolerance,
        fixed_element=fixed_element,
        overwrite=overwrite,
    )
    print_values(report, as_json)
