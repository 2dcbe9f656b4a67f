"""The page of a series: how it drifted, which frames failed, and its mean before and after."""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.report import maps
from register.report.html import address, template, text

NAMED = 200
"""Rows of frames that are not ``ok``; the table has them all."""
LOW, HIGH = 1, 99.5
"""Percentiles of the mean after that are black and white in both pictures."""


def movie(
    name: str, to: str, rows: list[dict[str, Any]], before: NDArray[np.float64], after: NDArray[np.float64]
) -> str:
    """The page, as HTML, of a series aligned to ``to``: the rows of its table, and the means (h, w) of its frames before and after."""
    counts = Counter(row["verdict"] for row in rows)
    across, down = (np.array([row[key] for row in rows], dtype=float) for key in ("shift_x", "shift_y"))
    alike = np.array(
        [np.nan if row["similarity"] is None else row["similarity"] for row in rows], dtype=float
    )
    low, high = np.percentile(after, (LOW, HIGH))
    sharpness = [float(np.hypot(*np.gradient(mean)).mean()) for mean in (before, after)]
    pictures = [
        {
            "data": address(np.clip((mean - low) / max(high - low, 1e-9), 0, 1).astype(np.float32)),
            "caption": f"Mean of all frames {when}.",
        }
        for mean, when in (
            (before, "as they were"),
            (after, "aligned: what was blurred is sharp where motion was removed"),
        )
    ]
    charts = [
        {
            "data": maps.over_frames({"x": across, "y": down}, "shift, px"),
            "caption": "Shift of the middle of every frame.",
        }
    ]
    if np.isfinite(alike).any():
        charts.append(
            {
                "data": maps.over_frames({"similarity": alike}, "similarity"),
                "caption": "Similarity of every frame to what it was aligned to, after.",
            }
        )
    facts = [
        ("frames", str(len(rows))),
        ("aligned to", to),
        ("largest shift", f"{np.hypot(across, down).max():.2f} px"),
        ("mean slope of the mean picture", f"{sharpness[1] / max(sharpness[0], 1e-9):.2f} times that before"),
    ]
    shown = [row for verdict in ("failed", "suspect") for row in rows if row["verdict"] == verdict]
    return str(
        template("movie.html").render(
            css=text("style.css"), name=name, counts={key: counts[key] for key in ("ok", "suspect", "failed")}, facts=facts, pictures=pictures,
            charts=charts, rows=shown[:NAMED], more=len(shown) - NAMED,
        )
    )  # fmt: skip
