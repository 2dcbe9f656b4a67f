"""Tables as CSV, in which no cell is a formula to a spreadsheet."""

import csv
import io
from collections.abc import Iterable, Sequence

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of a cell that spreadsheets compute (OWASP, CSV injection)."""
Cell = str | int | float | None


def table_text(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A table as CSV. A text that begins like a formula gets an apostrophe before it; None is empty."""
    return "".join(_line(row) for row in (header, *rows))


def plain(cell: str) -> str:
    """A cell without the apostrophe that ``table_text`` adds."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in FORMULA else cell


def _line(row: Sequence[Cell]) -> str:
    """A row and a line feed; cells with either kind of line end are quoted."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow([_neutral(cell) for cell in row])
    return text.getvalue().removesuffix("\r\n") + "\n"


def _neutral(cell: Cell) -> Cell:
    if isinstance(cell, str) and cell.startswith(FORMULA):
        return "'" + cell
    return "" if cell is None else cell
