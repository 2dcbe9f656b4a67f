"""The quality report: one HTML file that a person looks at once and understands; it asks for nothing outside itself."""

from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np

from register.geometry.arrays import Float64
from register.report.charts import charts, errors_of, per_patch
from register.report.html import address, template, text
from register.report.panels import Grey, Picture, Scene, View, checkerboard, difference, false_colour
from register.transforms.quality import Quality
from register.transforms.transform import Transform

ZOOM, SCALES = 160, (1, 4)
"""Side, in pixels of a level, of what is shown around a patch, and how many working pixels such a pixel is wide."""
MEANING = {
    "ok": "The images agree where there is something to see.",
    "suspect": "Something speaks against this alignment: look at it before you use it.",
    "failed": "No alignment was found that can be told from chance. Do not use the aligned image.",
}
MODES = (
    ("fixed and aligned", "fixed", "after", "left of the line the fixed image, right of it the aligned one"),
    (
        "fixed and moving as it was",
        "fixed",
        "before",
        "left of the line the fixed image, right of it the moving one as it was",
    ),
    (
        "overlay before and after",
        "overlay_before",
        "overlay_after",
        "fixed green, moving magenta, grey where they agree: left before, right after",
    ),
    (
        "difference before and after",
        "difference_before",
        "difference_after",
        "orange where the moving image is brighter, purple where the fixed one is",
    ),
)


class Compared(NamedTuple):
    """The pictures that are compared, and their height and width."""

    pictures: dict[str, dict[str, str]]
    size: tuple[int, int]


class Details(NamedTuple):
    """Pictures around three patches, and charts."""

    zooms: list[dict[str, Any]]
    charts: list[dict[str, str]]


def compared(view: View, transform: Transform) -> Compared:
    """What the page shows of both images as a whole."""
    return Compared(_pictures(view, transform.quality), (view.fixed.shape[0], view.fixed.shape[1]))


def details(scene: Scene) -> Details:
    """What it shows of parts, and the page's template made ready."""
    template("page.html")
    return Details(_zooms(scene), charts(scene))


def page(transform: Transform, compared: Compared, details: Details) -> str:
    """The whole report of one alignment as HTML."""
    names = {
        kind: PurePath(frame.path or kind).name
        for kind, frame in (("fixed", transform.fixed), ("moving", transform.moving))
    }
    quality = transform.quality
    return template("page.html").render(
        css=text("style.css"), js=text("viewer.js"), names=names, unit=_unit(transform),
        verdict=quality["verdict"], meaning=MEANING[quality["verdict"]], reasons=quality.get("reasons", []), notes=quality.get("notes", []),
        modes=[{"name": name, "left": left, "right": right, "words": words} for name, left, right, words in MODES],
        aspect=compared.size, pictures=compared.pictures, figures=_figures(transform), landmarks=quality.get("landmarks"),
        zooms=details.zooms, ranked_by="expected error" if errors_of(transform) is not None else "confidence",
        charts=details.charts, origin=_origin(transform), settings=transform.provenance.get("settings", {}).items(),
    )  # fmt: skip


def _pictures(view: View, quality: Quality) -> dict[str, dict[str, str]]:
    """What the viewer can show, by name, with a text for who cannot see it."""
    likeness = (
        f"{quality['similarity_before']:.2f} before and {quality['similarity_after']:.2f} after alignment"
    )
    parts: dict[str, tuple[Picture | Grey, str, str]] = {
        "fixed": (view.fixed, "fixed", "The fixed image in grey."),
        "before": (
            view.before,
            "moving, as it was",
            "The moving image as it was, drawn on the fixed image's grid.",
        ),
        "after": (
            view.after,
            "aligned",
            "The moving image after alignment, drawn on the fixed image's grid.",
        ),
        "overlay_before": (
            false_colour(view.fixed, view.before),
            "overlay before",
            f"Both images before alignment in false colour; similarity {likeness}.",
        ),
        "overlay_after": (
            false_colour(view.fixed, view.after),
            "overlay after",
            f"Both images after alignment in false colour; similarity {likeness}.",
        ),
        "difference_before": (
            difference(view.fixed, view.before),
            "difference before",
            "Moving minus fixed grey before alignment.",
        ),
        "difference_after": (
            difference(view.fixed, view.after),
            "difference after",
            "Aligned minus fixed grey.",
        ),
    }
    return {
        name: {"data": address(picture), "caption": caption, "alt": alt}
        for name, (picture, caption, alt) in parts.items()
    }


def _zooms(scene: Scene) -> list[dict[str, Any]]:
    """Around the worst, the median and the best patch: overlay, checkerboard and difference, at two scales."""
    transform = scene.transform
    rank = errors_of(transform)
    if rank is None:
        rank = -per_patch(transform, "confidence") if "confidence" in transform.patch_figures else None
    if rank is None or transform.grid is None or not np.isfinite(rank).any():
        return []
    longest = max(scene.fixed.size)
    scenes = {
        scale: scene.coarser(longest / scale) if scale > 1 else scene
        for scale in SCALES
        if scale == 1 or longest > scale * ZOOM
    }
    order = np.argsort(np.where(np.isfinite(rank), rank, np.nan), axis=None)[: int(np.isfinite(rank).sum())]
    chosen = []
    for word, index in (("Worst", order[-1]), ("Median", order[len(order) // 2]), ("Best", order[0])):
        centre = transform.grid.centres().reshape(-1, 2)[index]
        rows = [
            _around(at, centre, f"{word.lower()} patch, {scale} working pixels to one")
            for scale, at in scenes.items()
        ]
        error = errors_of(transform)
        told = f", expected error {error.flat[index]:.2f} px" if error is not None else ""
        chosen.append(
            {
                "title": f"{word} patch, at x {max(centre[0], 0):.0f}, y {max(centre[1], 0):.0f}{told}",
                "rows": rows,
            }
        )
    return chosen


def _around(scene: Scene, centre: Float64, what: str) -> list[dict[str, str]]:
    """Overlay, checkerboard and difference of what lies around a fixed point."""
    spans = []
    for axis, size in ((1, scene.fixed.size[0]), (0, scene.fixed.size[1])):
        up = scene.fixed.original_from_level
        middle = round(float((centre[axis] - up[axis, 2]) / up[axis, axis]))
        first = min(max(middle - ZOOM // 2, 0), max(size - ZOOM, 0))
        spans.append(slice(first, min(first + ZOOM, size)))
    view = scene.view(*spans)
    parts = (
        ("overlay", false_colour(view.fixed, view.after)),
        ("checkerboard", checkerboard(view.fixed, view.after, ZOOM // 8)),
        ("difference", difference(view.fixed, view.after)),
    )
    return [
        {"data": address(picture), "caption": name, "alt": f"{name.capitalize()} around the {what}."}
        for name, picture in parts
    ]


def _unit(transform: Transform) -> str:
    size = transform.fixed.pixel_size
    return f", each {size.x:g} × {size.y:g} {size.unit or ''}".rstrip() if size else ""


def _figures(transform: Transform) -> list[tuple[str, str, str]]:
    """The figures of the verdict: name, value, meaning."""
    quality = transform.quality
    metric = quality.get("metric", "the metric")
    rows = [
        (
            "Similarity",
            f"{quality['similarity_before']:.3f} → {quality['similarity_after']:.3f}",
            f"before and after, at most 1, by {metric}",
        ),
        (
            "Displacement",
            f"{quality['displacement_median']:.2f} px, largest {quality['displacement_max']:.2f} px",
            "of the whole map, median first",
        ),
        (
            "LocalFit displacement",
            f"{quality['local_displacement_median']:.2f} px, largest {quality['local_displacement_max']:.2f} px",
            "beyond the global map",
        ),
        ("Overlap", f"{quality['overlap']:.0%}", "of the fixed image lies on the moving one"),
    ]
    known = {
        "expected_error": (
            "Expected error",
            "{:.2f} px",
            "of the median patch: two of three are nearer to the truth",
        ),
        "recognised": (
            "Windows recognised",
            "{:.0%}",
            "of other windows are less like a fixed window than its own partner; chance gives 50 %",
        ),
        "above_chance": (
            "Above chance",
            "{:.1f} σ",
            "the global map's similarity over that of the same images shifted apart",
        ),
        "back_and_forth": (
            "Back and forth",
            "{:.2f} px",
            "median distance after aligning the other way and composing both maps",
        ),
        "matches_agreeing": (
            "Matches features",
            "{:d}",
            "that the descent never saw and that agree with the map",
        ),
        "det_min": ("Smallest local det J", "{:.2f}", "above 0: nothing folds"),
    }
    for key, (name, form, means) in known.items():
        if quality.get(key) is not None:
            rows.append((name, form.format(quality[key]), means))
    return rows


def _origin(transform: Transform) -> list[tuple[str, str]]:
    """Files, sizes, hashes, versions, device and seconds."""
    rows = []
    for kind, frame in (("fixed", transform.fixed), ("moving", transform.moving)):
        rows.append(
            (
                kind,
                f"{frame.path or 'an array'}, {frame.width} × {frame.height}"
                + (f", SHA-256 {frame.sha256}" if frame.sha256 else ""),
            )
        )
    provenance = transform.provenance
    rows += [
        (name, str(provenance[name]))
        for name in ("created", "register", "torch", "numpy", "python", "device", "threads", "seed")
        if name in provenance
    ]
    rows += [
        (f"seconds, {stage}", f"{seconds:.2f}") for stage, seconds in provenance.get("seconds", {}).items()
    ]
    rows.append(("metric", str(transform.quality.get("metric_choice", ""))))
    return rows
