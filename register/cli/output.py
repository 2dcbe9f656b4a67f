"""Text and JSON on standard output: tables of plain text, colours on a terminal, one JSON object."""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from register.transforms.transform import Transform

ESCAPES = {"red": "31", "green": "32", "yellow": "33"}
"""ANSI codes of the foreground colours."""
GAP = "  "


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal; a closed one is None."""
    return stream is not None and stream.isatty()


def coloured(text: str, colour: str, stream: TextIO | None = None) -> str:
    """A text in a colour where the stream, by default stdout, is a terminal that shows colours."""
    stream = sys.stdout if stream is None else stream
    if not is_terminal(stream) or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{ESCAPES[colour]}m{text}\x1b[0m"


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values in two columns; a value may have several lines."""
    listed = list(rows)
    width = max((len(name) for name, _ in listed), default=0)
    for name, value in listed:
        first, *more = value.split("\n")
        print(f"{name:{width}s}{GAP}{first}".rstrip())
        for line in more:
            print(f"{'':{width}s}{GAP}{line}".rstrip())


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of cells in columns; the first row holds the headings."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(GAP.join(f"{cell:{width}s}" for cell, width in zip(row, widths, strict=True)).rstrip())


def print_values(values: Mapping[str, object], as_json: bool) -> None:
    """Print names and values, one per line, or as one JSON object."""
    if as_json:
        print_json(values)
        return
    for name, value in values.items():
        print(f"{name.replace('_', ' '):20s} {_plain(value)}")


def print_json(values: Mapping[str, object]) -> None:
    """Print one JSON object on one line."""
    print(json.dumps(values, ensure_ascii=False))


def print_made(made: "Transform", output: Path, as_json: bool) -> None:
    """Print what a written transform is, and its round-trip error in pixels."""
    values = {
        "file": str(output),
        "model": made.model,
        "verdict": made.quality.verdict,
        "round_trip_median": made.quality.round_trip_median,
        "round_trip_max": made.quality.round_trip_max,
    }
    print_values(values, as_json)


def _plain(value: object) -> str:
    """A value on one line."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_plain(v)}" for key, v in value.items() if _fits_a_line(key, v))
    return str(value)


def _fits_a_line(key: str, value: object) -> bool:
    return not isinstance(value, (Mapping, list, tuple)) or key == "reasons"
