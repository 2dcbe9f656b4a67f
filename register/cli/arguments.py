"""Arguments and options that several commands share."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from register.errors import RegisterError

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


def form_of(output: str) -> str:
    """The format, as ``--format`` names it, of options about the storage of a file; ``tiff`` for a folder."""
    endings = {".zarr": "ome-zarr", ".png": "png"}
    return next((form for ending, form in endings.items() if output.lower().endswith(ending)), "tiff")


@contextmanager
def wrong_usage() -> Iterator[None]:
    """Make a ``RegisterError`` whose message begins with the name of an option one of wrong usage."""
    try:
        yield
    except RegisterError as error:
        name, reason = str(error).split(" ", 1)
        option = "--pyramid pages" if name == "pyramid_pages" else f"--{name.replace('_', '-')}"
        raise typer.BadParameter(reason, param_hint=option) from None
