"""The index of many alignments: a sortable table with pictures, the worst first."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from register.compute import device
from register.report.html import address, template, text
from register.transforms.transform import Transform

RANK = {"error": 0, "failed": 1, "suspect": 2, "ok": 3}
COLUMNS = ("pair", "verdict", "why", "similarity", "expected error, px", "displacement, px", "seconds")
THUMBNAIL = 192
EMBEDDED = 200
"""Rows, the worst ones, whose picture is in the page; those of the others are read from their files when they are scrolled to."""


def index(folders: list[tuple[Path, Transform]], beside: Path, errors: dict[str, str] | None = None) -> str:
    """The page, as HTML, of finished alignments, each a folder with its transform; links are relative to the folder ``beside``.

    ``errors`` are pairs that ended in one: id and what it says.
    """
    rows = [_row(folder, transform, beside) for folder, transform in folders]
    rows += [
        {
            "id": name,
            "verdict": "error",
            "rank": 0,
            "reasons": why,
            "picture": None,
            "link": None,
            "numbers": [("", "")] * 4,
        }
        for name, why in (errors or {}).items()
    ]
    rows.sort(key=lambda row: (row["rank"], row.get("worth", 0.0)))
    with device.worker_threads() as pool:
        thumbnails = list(
            pool.map(lambda row: row["picture"] and _thumbnail(row["picture"]), rows[:EMBEDDED])
        )
    thumbnails += [row["picture"] and _link(row["picture"], beside) for row in rows[EMBEDDED:]]
    for row, picture in zip(rows, thumbnails, strict=True):
        row["thumbnail"] = picture
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in RANK}
    if not errors:
        counts.pop("error")
    return str(
        template("index.html").render(
            css=text("style.css"), js=text("table.js"), rows=rows, counts=counts, columns=COLUMNS
        )
    )


def _row(folder: Path, transform: Transform, beside: Path) -> dict[str, Any]:
    quality, seconds = transform.quality, transform.provenance.get("seconds", {}).get("total")
    error = quality.get("expected_error")
    numbers = [
        _number(quality.get("similarity_after"), "{:.3f}"),
        _number(error, "{:.2f}"),
        _number(quality.get("displacement_median"), "{:.1f}"),
        _number(seconds, "{:.1f}"),
    ]
    report, verdict = folder / "report.html", quality.get("verdict", "failed")
    return {
        "id": os.path.relpath(folder, beside) if folder != beside else folder.name,
        "verdict": verdict,
        "rank": RANK[verdict],
        "worth": quality.get("similarity_after") or 0.0,
        "reasons": "; ".join(quality.get("reasons", [])),
        "picture": folder / "overlay.png",
        "link": _link(report, beside) if report.exists() else None,
        "numbers": numbers,
    }


def _link(path: Path, beside: Path) -> str:
    return quote(os.fsencode(Path(os.path.relpath(path, beside)).as_posix()))


def _number(value: float | None, form: str) -> tuple[Any, str]:
    return ("", "") if value is None else (value, form.format(value))


def _thumbnail(path: Path) -> str | None:
    """A small copy of an overlay; None when there is none."""
    try:
        with Image.open(path) as picture:
            small = picture.convert("RGB")
            small.thumbnail((THUMBNAIL, THUMBNAIL))
            return address(small, 75)
    except OSError:
        return None
