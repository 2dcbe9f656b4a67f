"""``register view DIR``."""

from pathlib import Path
from typing import Annotated

import typer


def view(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="Folder that align, batch or movie wrote, or its transform.json.",
            show_default=False,
        ),
    ],
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Open a result in the browser: the report of one alignment, or the index of many.

    A page that is missing is drawn first.
    """
    from register.workflows.view import show

    print(show(target))
