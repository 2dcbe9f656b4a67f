"""The index of many alignments: a sortable table with pictures, the worst alignment first."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from PIL import Image

from register.compute import device
from register.report.html import image_url, template, text
from register.report.overlay import after_panel
from register.transforms.transform import Transform

RANK = {"error": 0, "failed": 1, "suspect": 2, "unknown": 3, "ok": 4}
"""The order of the rows."""
ALWAYS = ("failed", "suspect", "ok")
"""Verdicts that are counted even where no row has them."""
COLUMNS = (
    "pair",
    "verdict",
    "reasons",
    "similarity",
    "expected error, px",
    "displacement, px",
    "seconds",
)
THUMBNAIL = 192
EMBEDDED = 200
"""Rows, from the worst, whose pictures are in the page; the browser loads the others from their files."""


class Number(NamedTuple):
    """A number of the table: the value it is sorted by, empty where unknown, and its text."""

    value: float | str = ""
    text: str = ""

    @classmethod
    def of(cls, value: float | None, form: str) -> "Number":
        """A number in a format, such as ``.2f``."""
        return cls() if value is None else cls(value, format(value, form))


@dataclass(frozen=True)
class Row:
    """A row of the table: the pair, its verdict or ``error``, and the paths of its overlay and its report."""

    id: str
    verdict: str
    reasons: str
    similarity: float = 0.0
    picture: Path | None = None
    link: str | None = None
    numbers: Sequence[Number] = field(default=(Number(),) * 4)

    @property
    def rank(self) -> int:
        """The place of the verdict in the order of the rows."""
        return RANK[self.verdict]


def index(
    folders: Sequence[tuple[Path, Transform]], beside: Path, errors: Mapping[str, str] | None = None
) -> str:
    """The page, as HTML, of finished alignments: a folder and its transform each.

    Links are relative to the folder ``beside``. ``errors`` are the pairs that were not aligned: id and
    message.
    """
    rows = [_row(folder, transform, beside) for folder, transform in folders]
    rows += [Row(name, "error", why) for name, why in (errors or {}).items()]
    rows.sort(key=lambda row: (row.rank, row.similarity))
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in RANK}
    return template("index.html").render(
        css=text("style.css"),
        js=text("table.js"),
        rows=list(zip(rows, _pictures(rows, beside), strict=True)),
        counts={verdict: count for verdict, count in counts.items() if count or verdict in ALWAYS},
        columns=COLUMNS,
    )


def _row(folder: Path, transform: Transform, beside: Path) -> Row:
    quality = transform.quality
    report = folder / "report.html"
    return Row(
        os.path.relpath(folder, beside) if folder != beside else folder.name,
        quality.verdict,
        "; ".join(quality.reasons),
        quality.similarity_after or 0.0,
        folder / "overlay.png",
        _link(report, beside) if report.exists() else None,
        (
            Number.of(quality.similarity_after, ".3f"),
            Number.of(quality.expected_error, ".2f"),
            Number.of(0.0 if quality.rejected_matrix else quality.displacement_median, ".1f"),
            Number.of(transform.provenance.seconds.get("total"), ".1f"),
        ),
    )


def _pictures(rows: Sequence[Row], beside: Path) -> list[str | None]:
    """The address of every row's picture: a data URL in the first rows, a link in the others."""
    with device.worker_threads() as pool:
        embedded = list(pool.map(_thumbnail, (row.picture for row in rows[:EMBEDDED])))
    return embedded + [_link(row.picture, beside) if row.picture else None for row in rows[EMBEDDED:]]


def _link(path: Path, beside: Path) -> str:
    return quote(os.fsencode(Path(os.path.relpath(path, beside)).as_posix()))


def _thumbnail(path: Path | None) -> str | None:
    """A small copy of an overlay as a data URL; None when it cannot be read."""
    if path is None:
        return None
    try:
        with Image.open(path) as picture:
            small = after_panel(picture).convert("RGB")
            small.thumbnail((THUMBNAIL, THUMBNAIL))
            return image_url(small, "jpeg", quality=75)
    except OSError:
        return None
