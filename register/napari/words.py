"""The verdict of a transform in words, as the rich text of a label."""

from html import escape

from register.report import advice
from register.report.summary import summary
from register.transforms.quality import Verdict
from register.transforms.transform import Transform

COLOURS = {Verdict.OK: "#2e9e5b", Verdict.SUSPECT: "#d98e04", Verdict.FAILED: "#d64545"}
"""Colours of the verdicts; others are grey."""


def verdict(transform: Transform) -> str:
    """The verdict, why it is so, the figures that a person needs first, and what to try next."""
    quality = transform.quality
    colour = COLOURS.get(quality.verdict, "#888888")
    parts = [
        f'<b style="color:{colour}">{quality.verdict}</b>: {escape(advice.plainly(quality))}',
        *(
            f"{escape(row.name)}: <b>{escape(row.value)}</b> {escape(row.meaning)}"
            for row in summary(transform)
        ),
        *(f"Note: {escape(note)}" for note in quality.notes),
    ]
    if quality.verdict in (Verdict.SUSPECT, Verdict.FAILED):
        parts += [escape(reason) for reason in quality.reasons]
        parts.append(f"<b>Try next:</b> {escape(next_step(transform))}")
    return "<br>".join(parts)


def next_step(transform: Transform) -> str:
    """What to try where an alignment is suspect or failed."""
    held = transform.quality.held
    if held and any(one.kept is False for one in held.points):
        return "correct the landmarks that are marked in the tab Landmarks, and align again with them."
    if held:
        return "compare both layers in the overlay; add landmarks where they differ, and align again."
    return "mark three or more places in both images in the tab Landmarks, and align again with them."
