"""The page of a set of images: the graph and residuals of its links, its images, cross-sections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from register.report.html import Figure, figure, jpeg_url, template, text
from register.report.panels import Grey, as_bytes

WIDTH, STEP, ARC, MARGIN = 900, 26, 0.42, 24
"""Layout of the graph in pixels: its width, the smallest distance of images, the height of an arc in units of
its width, and the space around."""
HEIGHT = 260
"""Largest height of an arc of the graph."""
SECTION = 240
"""Height, in pixels, to which the planes of a cross-section are enlarged."""


@dataclass(frozen=True)
class SetRow:
    """An image of the set: its id, verdict, reasons, group, expected error, and its pictures."""

    id: str
    verdict: str
    reasons: str
    group: int
    expected_error: float | None
    before: Grey | None
    after: Grey | None


@dataclass(frozen=True)
class LinkRow:
    """A link: the places of its images, its verdict and weight, expected error and residual in pixels."""

    fixed: int
    moving: int
    verdict: str
    weight: float
    expected_error: float | None
    residual: float | None
    reasons: str
    report: str | None = None


def page(
    name: str,
    facts: Sequence[tuple[str, str]],
    rows: Sequence[SetRow],
    links: Sequence[LinkRow],
    notes: Sequence[str],
) -> str:
    """The page, as HTML, of a set in its order."""
    placed = [row for row in rows if row.after is not None]
    return template("group.html").render(
        css=text("style.css"),
        js=text("scroll.js"),
        name=name,
        counts={word: sum(row.verdict == word for row in rows) for word in ("ok", "suspect", "failed")},
        facts=facts,
        notes=notes,
        rows=rows,
        frames=[
            {
                "id": row.id,
                "before": jpeg_url(as_bytes(row.before)) if row.before is not None else "",
                "after": jpeg_url(as_bytes(row.after)),  # type: ignore[arg-type]
            }
            for row in placed
        ],
        aspect=placed[0].after.shape if placed and placed[0].after is not None else (1, 1),
        links=sorted(links, key=lambda link: (link.weight > 0, -(link.residual or 0.0))),
        graph=graph(len(rows), links),
        sections=sections(placed),
    )


def graph(count: int, links: Sequence[LinkRow]) -> Mapping[str, object]:
    """The places of images on a line and the arcs of links above it, in pixels of a picture."""
    step = max((WIDTH - 2 * MARGIN) / max(count - 1, 1), STEP)
    x = [MARGIN + step * place for place in range(count)]
    tallest = max((ARC * step * abs(link.moving - link.fixed) for link in links), default=0.0)
    shrink = min(1.0, HEIGHT / max(tallest, 1e-9))
    base = MARGIN + tallest * shrink
    arcs = []
    for link in links:
        low, high = sorted((x[link.fixed], x[link.moving]))
        top = base - 2 * ARC * (high - low) * shrink
        arcs.append({
            "path": f"M {low:.1f} {base:.1f} Q {(low + high) / 2:.1f} {top:.1f} {high:.1f} {base:.1f}",
            "verdict": link.verdict,
            "left_out": link.weight == 0,
            "width": round(0.8 + 2.2 * link.weight, 2),
        })  # fmt: skip
    return {"width": x[-1] + MARGIN, "height": base + 2 * MARGIN, "base": base, "x": x, "arcs": arcs}


def sections(rows: Sequence[SetRow]) -> list[Figure]:
    """Cross-sections xz and yz through the middle of the stack of images, before and after."""
    if len(rows) < 2:
        return []
    found = []
    for words, kind in (("before", "before"), ("after", "after")):
        pictures = [getattr(row, kind) for row in rows]
        size = np.array([picture.shape for picture in pictures if picture is not None])
        if len(size) < len(pictures) or (size != size[0]).any():
            continue
        stack = np.stack(pictures)
        across, down = stack[:, stack.shape[1] // 2], stack[:, :, stack.shape[2] // 2]
        for axes, section in (("xz", across), ("yz", down)):
            caption = f"Section {axes} through the middle, {words} alignment; the first image is at the top."
            found.append(figure(jpeg_url(as_bytes(_enlarged(section))), caption))
    return found


def _enlarged(section: Grey) -> NDArray[np.float32]:
    """A section with every plane repeated, so that it can be seen."""
    return np.repeat(section, max(SECTION // len(section), 1), axis=0)
