"""``register view``: the report of a result in the browser, drawn if it is missing."""

import webbrowser
from pathlib import Path

from register.errors import FileError, RegisterError
from register.workflows import report


def is_pair(target: Path) -> bool:
    """Whether a folder, or a file, is the result of one alignment."""
    path = target / report.TRANSFORM if target.is_dir() else target
    return path.is_file() and path.name == report.TRANSFORM


def page_of(target: Path) -> Path:
    """The page that shows a result: the report of one alignment, or the index of many.

    ``target`` is a folder of results, or the ``transform.json`` in one. Pages that are missing are drawn.
    Raises ``FileError`` for anything else.
    """
    folder = target
    if target.is_file():
        if target.name != report.TRANSFORM:
            raise FileError(
                target, "is no result", f"name a folder of results, or the {report.TRANSFORM} in one"
            )
        folder = target.parent
    elif not target.is_dir():
        raise FileError(target, "does not exist", "name a folder that `register align` wrote")
    if (folder / report.TRANSFORM).exists():
        page = folder / report.REPORT
        return page if page.exists() else report.redraw(folder)
    index = folder / report.INDEX
    return index if index.exists() else report.draw_index(report.finished([folder]))


def show(target: Path) -> Path:
    """Open the page of a result in the browser and return its path.

    Raises ``FileError``, and ``RegisterError`` naming the page where no browser can be opened.
    """
    page = page_of(target)
    try:
        opened = webbrowser.open(page.resolve().as_uri())
    except webbrowser.Error:
        opened = False
    if not opened:
        raise RegisterError(f"no browser could be opened; open {page} yourself")
    return page
