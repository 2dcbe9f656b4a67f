"""``register export TRANSFORM --to FORMAT -o OUT``."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from register.cli.arguments import AsJson, Debug, Output, Overwrite, TransformPath
from register.cli.output import print_values
from register.registries import EXPORTS

if TYPE_CHECKING:
    Format = str
else:
    Format = Literal.__getitem__(EXPORTS.names())
Spacing = Annotated[
    float | None,
    typer.Option(
        help="Distance of field samples, control points or knots, in fixed pixels. [default: by format]"
    ),
]
SplineError = Annotated[
    float, typer.Option(help="Largest error allowed to a fitted B-spline, in pixels.", min=0)
]


def export(
    transform: TransformPath,
    form: Annotated[Format, typer.Option("--to", help="The format to write.", show_default=False)],
    output: Output,
    spacing: Spacing = None,
    tolerance: SplineError = 0.01,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write a transform in another program's format."""
    from register.workflows.export import export as workflow

    report = workflow(transform, form, output, spacing=spacing, tolerance=tolerance, overwrite=overwrite)
    print_values(report, as_json)
