"""The page of an aligned series: its drift, the frames that failed, and its mean before and after."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from register.report import maps
from register.report.html import Figure, figure, jpeg_url, template, text

LISTED = 200
"""How many suspect and failed frames the page lists; the table holds all."""
LOW, HIGH = 1, 99.5
"""Percentiles of the mean after alignment that are black and white in both pictures."""
Mean = NDArray[np.float64]


class FrameRow(Protocol):
    """A frame of the table: number, verdict and reasons, similarity, shift in pixels and reference."""

    @property
    def frame(self) -> int: ...  # noqa: D102
    @property
    def verdict(self) -> str: ...  # noqa: D102
    @property
    def reasons(self) -> str: ...  # noqa: D102
    @property
    def similarity(self) -> float: ...  # noqa: D102
    @property
    def shift_x(self) -> float: ...  # noqa: D102
    @property
    def shift_y(self) -> float: ...  # noqa: D102
    @property
    def against(self) -> str: ...  # noqa: D102


def movie(name: str, to: str, rows: Sequence[FrameRow], before: Mean, after: Mean) -> str:
    """The page, as HTML, of a series aligned to the reference ``to``.

    ``rows`` are the rows of its table, ``before`` and ``after`` (h, w) the mean of its frames.
    """
    counts = Counter(row.verdict for row in rows)
    across, down = np.array([row.shift_x for row in rows]), np.array([row.shift_y for row in rows])
    sharpness = [float(np.hypot(*np.gradient(mean)).mean()) for mean in (before, after)]
    facts = [
        ("frames", str(len(rows))),
        ("aligned to", to),
        ("largest shift", f"{np.hypot(across, down).max():.2f} px"),
        (
            "mean gradient of the mean picture",
            f"{sharpness[1] / max(sharpness[0], 1e-9):.2f} times that before",
        ),
    ]
    listed = [row for verdict in ("failed", "suspect") for row in rows if row.verdict == verdict]
    return template("movie.html").render(
        css=text("style.css"),
        name=name,
        counts={verdict: counts[verdict] for verdict in ("ok", "suspect", "failed")},
        facts=facts,
        pictures=_means(before, after),
        charts=_charts(rows, across, down),
        rows=listed[:LISTED],
        more=len(listed) - LISTED,
    )


def _means(before: Mean, after: Mean) -> list[Figure]:
    """The means before and after, with the same black and white."""
    low, high = np.percentile(after, (LOW, HIGH))
    captions = (
        "Mean of all frames before alignment.",
        "Mean of all frames after alignment: sharper where motion was removed.",
    )
    greys = [np.clip((mean - low) / max(high - low, 1e-9), 0, 1) for mean in (before, after)]
    return [
        figure(jpeg_url(g.astype(np.float32)), caption) for g, caption in zip(greys, captions, strict=True)
    ]


def _charts(rows: Sequence[FrameRow], across: Mean, down: Mean) -> list[Figure]:
    """The shift and, where known, the similarity of every frame."""
    shifts = maps.over_frames({"x": across, "y": down}, "shift, px")
    drawn = [figure(shifts, "Shift of the centre of every frame.")]
    similarity = np.array([row.similarity for row in rows])
    if np.isfinite(similarity).any():
        chart = maps.over_frames({"similarity": similarity}, "similarity")
        drawn.append(figure(chart, "Similarity of every frame to its reference, after alignment."))
    return drawn
