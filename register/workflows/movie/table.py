"""The table of a movie, ``series.csv``: one row per frame."""

import csv
import io
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from register.transforms.quality import Verdict
from register.transforms.transform import Transform


@dataclass(frozen=True)
class Row:
    """The outcome of a frame: verdict, reasons, similarity, shift of the centre in pixels, reference, and
    whether the frame is bad: what was written for it does not follow from its own pixels."""

    frame: int
    verdict: str
    reasons: str
    similarity: float | None
    shift_x: float
    shift_y: float
    against: str
    bad: bool = False


def row_of(index: int, transform: Transform) -> Row:
    """The row of a frame."""
    quality, against = transform.quality, transform.provenance.against
    across, down = quality.shift or (0.0, 0.0)
    return Row(
        index,
        quality.verdict,
        "; ".join(quality.reasons),
        quality.similarity_after,
        across,
        down,
        "reference" if against == "reference" else f"frame {against}",
        quality.verdict == Verdict.FAILED,
    )


def text_of(rows: list[Row]) -> str:
    """The table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Row))
    writer.writerows((*astuple(row)[:-1], int(row.bad)) for row in rows)
    return text.getvalue()


def read_table(path: Path) -> list[Row]:
    """The rows of a ``series.csv``."""
    with open(path, newline="", encoding="utf-8") as file:
        return [
            Row(
                int(r["frame"]),
                r["verdict"],
                r["reasons"],
                float(r["similarity"]) if r["similarity"] else None,
                float(r["shift_x"]),
                float(r["shift_y"]),
                r["against"],
                r["bad"] == "1",
            )
            for r in csv.DictReader(file)
        ]
