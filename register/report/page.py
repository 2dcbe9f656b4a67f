"""The quality report: one HTML file that needs no other file and no network."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import NamedTuple

from register.report import advice
from register.report.charts import charts
from register.report.figures import figures, origin
from register.report.html import Figure, jpeg_url, template, text
from register.report.panels import SIDE, Grey, Picture, Scene, View
from register.report.pictures import Overlays, in_colour, outlines
from register.report.summary import summary
from register.report.zooms import Zoom, places, ranked_by, zooms
from register.transforms.quality import Quality
from register.transforms.transform import Transform


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
        "fixed green, moving magenta, grey where structures agree; left before, right after alignment",
    ),
    Mode(
        "outlines before and after",
        "outlines_before",
        "outlines_after",
        "the fixed image with the edges of the moving image in magenta; left before, right after alignment",
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
    places: Figure | None = None


def compared(scene: Scene, view: View, overlays: Overlays) -> Compared:
    """The pictures of both entire images, and their overlays."""
    drawn = in_colour(scene.coarser(SIDE), view)
    return Compared(_pictures(view, drawn, overlays, scene.transform.quality), drawn[0].shape[:2])


def details(scene: Scene) -> Details:
    """The pictures of patches and the charts. Also compiles the template of the page."""
    template("page.html")
    found = zooms(scene)
    return Details(found, charts(scene), places(scene, found) if found else None)


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
        meaning=advice.VERDICTS[quality.verdict],
        plainly=advice.plainly(quality),
        steps=advice.next_steps(transform),
        summary=summary(transform),
        scale=_scale(transform),
        reasons=quality.reasons,
        notes=quality.notes,
        modes=MODES,
        aspect=compared.size,
        pictures=compared.pictures,
        figures=figures(quality),
        landmarks=quality.landmarks,
        held=quality.held,
        zooms=details.zooms,
        places=details.places,
        ranked_by=ranked_by(transform),
        charts=details.charts,
        origin=origin(transform),
        settings=transform.provenance.settings.items(),
    )


def _pictures(view: View, drawn: list[Picture], overlays: Overlays, quality: Quality) -> dict[str, Figure]:
    """The pictures that the viewer can show, by name."""
    before, after = quality.similarity_before, quality.similarity_after
    similarity = ""
    if before is not None and after is not None:
        similarity = f"; similarity {before:.2f} before and {after:.2f} after alignment"
    fixed, moving, aligned = drawn
    return {
        "fixed": _figure(fixed, "fixed", "The fixed image."),
        "before": _figure(
            moving,
            "moving, before alignment",
            "The moving image before alignment, drawn on the fixed image's grid.",
        ),
        "after": _figure(
            aligned, "aligned", "The moving image after alignment, drawn on the fixed image's grid."
        ),
        "overlay_before": _figure(
            overlays.before,
            "overlay before",
            f"Both images before alignment in false colour{similarity}.",
        ),
        "overlay_after": _figure(
            overlays.after,
            "overlay after",
            f"Both images after alignment in false colour{similarity}.",
        ),
        "outlines_before": _figure(
            outlines(fixed, view.before), "outlines before", "Edges of the moving image on the fixed image."
        ),
        "outlines_after": _figure(
            outlines(fixed, view.after), "outlines after", "Edges of the aligned image on the fixed image."
        ),
    }


def _figure(picture: Picture | Grey, caption: str, alt: str) -> Figure:
    return Figure(jpeg_url(picture), caption, alt)


def _scale(transform: Transform) -> tuple[float, str] | None:
    """The width of the fixed image and its unit, for the scale bar; None where they are not known."""
    size = transform.fixed.pixel_size
    return (transform.fixed.width * size.x, size.unit) if size and size.unit else None


def _unit(transform: Transform) -> str:
    """The size of a fixed pixel in words; empty where it is not known."""
    size = transform.fixed.pixel_size
    return f", each {size.x:g} × {size.y:g} {size.unit or ''}".rstrip() if size else ""
