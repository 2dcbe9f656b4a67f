"""``register view DIR``."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from register.errors import FileError

Browser = Annotated[
    bool, typer.Option("--browser", help="Open the report in the browser, also where napari is installed.")
]


def view(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="Folder that align, batch or movie wrote, or its transform.json.",
            show_default=False,
        ),
    ],
    browser: Browser = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Open a result in napari where it is installed, else its report in the browser.

    The index of many results, and results whose images are not found, open in the browser. A page that is
    missing is drawn first.
    """
    open_result(target, browser=browser)


def open_result(target: Path, *, browser: bool = False) -> None:
    """Open one result in napari, or its page in the browser. Raises ``RegisterError``."""
    from register.workflows.view import is_pair, show

    if not browser and is_pair(target) and has_napari():
        from register.napari.view import run

        try:
            run(target)
            return
        except FileError as error:
            print(f"not opened in napari: {error}", file=sys.stderr)
    print(show(target))


def has_napari() -> bool:
    """Whether napari and Qt are installed, and there is a screen."""
    screen = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    return screen and all(find_spec(name) for name in ("napari", "qtpy"))
