"""``register compose FIRST SECOND -o OUT``."""

from pathlib import Path
from typing import Annotated

import typer

from register.cli.arguments import AsJson, Debug, Output, Overwrite, Tolerance
from register.cli.output import print_made

First = Annotated[
    Path, typer.Argument(metavar="FIRST", help="The transform from A to B.", show_default=False)
]
Second = Annotated[
    Path, typer.Argument(metavar="SECOND", help="The transform from B to C.", show_default=False)
]


def compose(
    first: First,
    second: Second,
    output: Output,
    tolerance: Tolerance = 0.05,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write the composition of two transforms, A to B and B to C."""
    from register.workflows import combine

    made = combine.compose(first, second, output, tolerance=tolerance, overwrite=overwrite)
    print_made(made, output, as_json)
