"""``register report DIR``."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR...",
            help="Folders that align wrote, or folders that contain such.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="File of the index. [default: index.html in the common parent folder]"
        ),
    ] = None,
    landmarks: Annotated[
        str | None,
        typer.Option(
            help="Landmarks `FIXED.csv,MOVING.csv` whose errors are added to the report of one alignment."
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Draw the report of a finished alignment again, or an index of many.

    The index is a table of the alignments, the worst first.
    """
    from register.workflows import report

    found = report.finished(folders)
    if len(folders) == 1 and found == folders:
        print(report.redraw(folders[0], landmarks))
    elif landmarks:
        raise typer.BadParameter("landmarks belong to one alignment; name one folder")
    else:
        print(report.draw_index(found, output))
