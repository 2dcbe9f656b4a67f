"""The page of an aligned series: its drift, the frames that failed, and its mean before and after."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from register.engine.movie.session import Session
from register.report import maps
from register.report.clip import Small, clip_url, side_by_side
from register.report.html import Figure, figure, image_url, jpeg_url, template, text

LISTED = 200
"""How many suspect and failed frames the page lists; the table holds all."""
LOW, HIGH = 1, 99.5
"""Percentiles of the mean after alignment that are black and white in both pictures."""
CLIP = "Frames before (left) and after alignment, spread over the movie."
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
    @property
    def rotation(self) -> float: ...  # noqa: D102
    @property
    def deformation(self) -> float: ...  # noqa: D102
    @property
    def expected_error(self) -> float | None: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class Pictures:
    """The means (h, w) of good frames before and after alignment, the ``worst`` frames by number and small
    copies before and after, and such copies of good frames in order."""

    before: Mean
    after: Mean
    worst: Sequence[tuple[int, Small, Small]]
    good: Sequence[tuple[Small, Small]]


def movie(name: str, to: str, rows: Sequence[FrameRow], pictures: Pictures, session: Session) -> str:
    """The page, as HTML, of a series aligned to the reference ``to``, with the ``rows`` of its table."""
    counts = Counter(row.verdict for row in rows)
    across, down = np.array([row.shift_x for row in rows]), np.array([row.shift_y for row in rows])
    facts = [
        ("frames", str(len(rows))),
        ("aligned to", to),
        ("largest shift", f"{np.hypot(across, down).max():.2f} px"),
        *_figures(session),
    ]
    listed = [row for verdict in ("failed", "suspect") for row in rows if row.verdict == verdict]
    return template("movie.html").render(
        css=text("style.css"),
        name=name,
        counts={verdict: counts[verdict] for verdict in ("ok", "suspect", "failed")},
        facts=facts,
        pictures=_means(pictures.before, pictures.after),
        clip=figure(clip_url(pictures.good), CLIP) if pictures.good else None,
        worst=[_worst(one, pictures.after) for one in pictures.worst],
        residual=session.residual,
        charts=_charts(rows, across, down),
        rows=listed[:LISTED],
        more=len(listed) - LISTED,
    )


def _figures(session: Session) -> list[tuple[str, str]]:
    """The figures of a session in words."""
    before, after = session.crispness
    found = [("crispness of the mean", f"{after / max(before, 1e-9):.2f} times that before")]
    if session.correlation:
        one, other = session.correlation
        found.append(("correlation of frames with their mean", f"{one:.3f} before, {other:.3f} after"))
    if session.residual:
        left = max(session.residual, key=lambda one: one.rms)
        found.append(("motion that is left", f"at most {left.rms:.2f} px in a principal component"))
    if session.slow_change is not None:
        found.append(
            (
                "slow change",
                f"the similarity to the reference changes by {session.slow_change:.0%} over time: the plane"
                " may have moved along z, or the light changed",
            )
        )
    return found


def _worst(one: tuple[int, Small, Small], mean: Mean) -> Figure:
    """A frame before and after alignment, with the grey values of the mean."""
    number, *pair = one
    low, high = (float(x) for x in np.percentile(mean, (LOW, HIGH)))
    picture = side_by_side((pair[0], pair[1]), low, high)
    return figure(image_url(picture, "png"), f"Frame {number}, before and after alignment.")


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
    extent = {
        "rotation, degrees": np.array([row.rotation for row in rows]),
        "deformation, px": np.array([row.deformation for row in rows]),
        "expected error, px": np.array([row.expected_error or np.nan for row in rows]),
    }
    drawn.append(
        figure(
            maps.over_frames(extent, "degrees, px"),
            "Rotation, root mean square of the deformation, and expected error of every frame.",
        )
    )
    similarity = np.array([row.similarity for row in rows])
    if np.isfinite(similarity).any():
        chart = maps.over_frames({"similarity": similarity}, "similarity")
        drawn.append(figure(chart, "Similarity of every frame to its reference, after alignment."))
    return drawn
