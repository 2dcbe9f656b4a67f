"""The table of a movie, ``series.csv``: one row per frame."""

import csv
import math
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from register.files.tables import table_text
from register.transforms.movie import REFERENCE, FrameTransform


@dataclass(frozen=True)
class Row:
    """The outcome of a frame: verdict, reasons, correlation of blocks, shift of the centre in pixels, and the
    frame it was aligned to; whether it is bad; rotation in degrees, root mean square of the deformation and
    expected error in pixels.

    What is written for a bad frame does not follow from its own pixels.
    """

    frame: int
    verdict: str
    reasons: str
    similarity: float
    shift_x: float
    shift_y: float
    against: str
    bad: bool
    rotation: float
    deformation: float
    expected_error: float | None


def row_of(index: int, of: FrameTransform) -> Row:
    """The row of a frame."""
    across, down = of.map.shift
    return Row(
        index,
        str(of.verdict),
        "; ".join(of.reasons),
        round(of.similarity, 5),
        round(across, 4),
        round(down, 4),
        "reference" if of.against == REFERENCE else f"frame {of.against}",
        of.bad,
        round(of.map.rotation, 4),
        round(of.map.extent, 4),
        round(of.expected_error, 4) if math.isfinite(of.expected_error) else None,
    )


def text_of(rows: list[Row]) -> str:
    """The table as CSV."""
    plain = ([int(x) if isinstance(x, bool) else x for x in astuple(row)] for row in rows)
    return table_text([field.name for field in fields(Row)], plain)


def read_table(path: Path) -> list[Row]:
    """The rows of a ``series.csv``."""
    with open(path, newline="", encoding="utf-8") as file:
        return [
            Row(
                int(r["frame"]),
                r["verdict"],
                r["reasons"],
                float(r["similarity"]),
                float(r["shift_x"]),
                float(r["shift_y"]),
                r["against"],
                r["bad"] == "1",
                float(r["rotation"]),
                float(r["deformation"]),
                float(r["expected_error"]) if r["expected_error"] else None,
            )
            for r in csv.DictReader(file)
        ]
