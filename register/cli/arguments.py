"""Arguments and options that several commands share."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

TransformPath = Annotated[
    Path, typer.Argument(metavar="TRANSFORM", help="A transform.json.", show_default=False)
]
Output = Annotated[Path, typer.Option("-o", "--output", help="File to write.", show_default=False)]
Inverse = Annotated[bool, typer.Option("--inverse", help="Map from the moving image to the fixed one.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing result.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Tolerance = Annotated[float, typer.Option(help="Largest round-trip error allowed, in pixels.", min=0)]


def one_of(names: Iterable[str]) -> str:
    """The names of a registry as the help shows the value of an option.

    They are only shown: a value is compared with the names that are known when the command runs, so that one
    which a program added after the command was imported is allowed.
    """
    return f"<{'|'.join(names)}>"
