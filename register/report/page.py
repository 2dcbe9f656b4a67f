"""The quality report: one HTML file that needs no other file and no network."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import NamedTuple

from register.report.charts import charts
from register.report.figures import figures, origin
from register.report.html import Figure, jpeg_url, template, text
from register.report.panels import Grey, Picture, Scene, View, difference, false_colour
from register.report.zooms import Zoom, ranked_by, zooms
from register.transforms.quality import Quality, Verdict
from register.transforms.transform import Transform

MEANING = {
    Verdict.OK: "The images agree wherever they have texture.",
    Verdict.SUSPECT: "The alignment may be wrong: check it before you use it.",
    Verdict.FAILED: "The alignment is not better than chance. Do not use the aligned image.",
    Verdict.UNKNOWN: "The alignment was not assessed.",
}
"""The explanation of each verdict."""


class Mode(NamedTuple):
    """A choice of the viewer: its name, the pictures left and right of the line, and its explanation."""

    name: str
    left: str
    right: str
    words: str


MODES = (
    Mode(
        "fixed and aligned", "fixed", "after", "left of the line: the fixed image; right: the aligned image"
    ),
    Mode(
        "fixed and moving before",
        "fixed",
        "before",
        "left of the line: the fixed image; right: the moving image before alignment",
    ),
    Mode(
        "overlay before and after",
        "overlay_before",
        "overlay_after",
        "fixed green, moving magenta, grey where they agree; left before, right after alignment",
    ),
    Mode(
        "difference before and after",
        "difference_before",
        "difference_after",
        "orange where the moving image is brighter, purple where the fixed image is",
    ),
)


class Compared(NamedTuple):
    """The pictures of the viewer by name, and their size (height, width)."""

    pictures: Mapping[str, Figure]
    size: tuple[int, int]


class Details(NamedTuple):
    """The surroundings of three patches, and the charts."""

    zooms: list[Zoom]
    charts: list[Figure]


def compared(view: View, transform: Transform) -> Compared:
    """The pictures of both entire images."""
    return Compared(_pictures(view, transform.quality), (view.fixed.shape[0], view.fixed.shape[1]))


def details(scene: Scene) -> Details:
    """The pictures of patches and the charts. Also compiles the template of the page."""
    template("page.html")
    return Details(zooms(scene), charts(scene))


def page(transform: Transform, compared: Compared, details: Details) -> str:
    """The report of one alignment as HTML."""
    quality = transform.quality
    return template("page.html").render(
        css=text("style.css"),
        js=text("viewer.js"),
        fixed=PurePath(transform.fixed.path or "fixed").name,
        moving=PurePath(transform.moving.path or "moving").name,
        unit=_unit(transform),
        verdict=quality.verdict,
        meaning=MEANING[quality.verdict],
        reasons=quality.reasons,
        notes=quality.notes,
        modes=MODES,
        aspect=compared.size,
        pictures=compared.pictures,
        figures=figures(quality),
        landmarks=quality.landmarks,
        zooms=details.zooms,
        ranked_by=ranked_by(transform),
        charts=details.charts,
        origin=origin(transform),
        settings=transform.provenance.settings.items(),
    )


def _pictures(view: View, quality: Quality) -> dict[str, Figure]:
    """The pictures that the viewer can show, by name."""
    before, after = quality.similarity_before, quality.similarity_after
    similarity = ""
    if before is not None and after is not None:
        similarity = f"; similarity {before:.2f} before and {after:.2f} after alignment"
    return {
        "fixed": _figure(view.fixed, "fixed", "The fixed image in grey."),
        "before": _figure(
            view.before,
            "moving, before alignment",
            "The moving image before alignment, drawn on the fixed image's grid.",
        ),
        "after": _figure(
            view.after, "aligned", "The moving image after alignment, drawn on the fixed image's grid."
        ),
        "overlay_before": _figure(
            false_colour(view.fixed, view.before),
            "overlay before",
            f"Both images before alignment in false colour{similarity}.",
        ),
        "overlay_after": _figure(
            false_colour(view.fixed, view.after),
            "overlay after",
            f"Both images after alignment in false colour{similarity}.",
        ),
        "difference_before": _figure(
            difference(view.fixed, view.before),
            "difference before",
            "Moving minus fixed grey before alignment.",
        ),
        "difference_after": _figure(
            difference(view.fixed, view.after), "difference after", "Aligned minus fixed grey."
        ),
    }


def _figure(picture: Picture | Grey, caption: str, alt: str) -> Figure:
    return Figure(jpeg_url(picture), caption, alt)


def _unit(transform: Transform) -> str:
    """The size of a fixed pixel in words; empty where it is not known."""
    size = transform.fixed.pixel_size
    return f", each {size.x:g} × {size.y:g} {size.unit or ''}".rstrip() if size else ""
