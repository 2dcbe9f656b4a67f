"""Details of a report: the surroundings of the worst, the median and the best patch."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from register.geometry.arrays import Float64
from register.report.axes import Values
from register.report.charts import errors_of, per_patch
from register.report.html import Figure, jpeg_url
from register.report.panels import Scene, checkerboard, difference, false_colour
from register.transforms.transform import Transform

SIDE, SCALES = 160, (1, 4)
"""Side of the surroundings in pixels of a picture, and the sizes of such a pixel in working pixels."""


class Zoom(NamedTuple):
    """A patch: a title, and a row of pictures for every scale."""

    title: str
    rows: list[list[Figure]]


def zooms(scene: Scene) -> list[Zoom]:
    """The worst, the median and the best patch by expected error or, where that is unknown, by confidence.

    Each is shown as overlay, checkerboard and difference, at two scales.
    """
    badness = _badness(scene.transform)
    grid = scene.transform.grid
    if badness is None or grid is None:
        return []
    longest = max(scene.fixed.size)
    scenes = {1: scene}
    for scale in SCALES[1:]:
        if longest > scale * SIDE:
            scenes[scale] = scene.coarser(longest / scale)
    order = np.argsort(badness, axis=None)[: int(np.isfinite(badness).sum())]
    chosen = {"Worst": order[-1], "Median": order[len(order) // 2], "Best": order[0]}
    return [_zoom(scenes, word, int(patch)) for word, patch in chosen.items()]


def ranked_by(transform: Transform) -> str:
    """The figure by which patches are ranked."""
    return "confidence" if errors_of(transform) is None else "expected error"


def _badness(transform: Transform) -> Values | None:
    """A figure (rows, columns) that is larger in worse patches, NaN where unknown; None if all are."""
    errors = errors_of(transform)
    if errors is not None:
        return errors
    confidence = per_patch(transform, transform.patch_figures.confidence)
    return None if confidence is None or np.isnan(confidence).all() else -confidence


def _zoom(scenes: Mapping[int, Scene], word: str, patch: int) -> Zoom:
    """The surroundings of a patch, given by its index row by row, in scenes of several scales."""
    transform = scenes[1].transform
    assert transform.grid is not None
    x, y = centre = transform.grid.centres().reshape(-1, 2)[patch]
    title = f"{word} patch, at x {max(x, 0):.0f}, y {max(y, 0):.0f}"
    errors = errors_of(transform)
    if errors is not None:
        title += f", expected error {errors.flat[patch]:.2f} px"
    name = f"{word.lower()} patch"
    rows = [
        _around(scene, centre, f"{name}, {scale} working pixels to one") for scale, scene in scenes.items()
    ]
    return Zoom(title, rows)


def _around(scene: Scene, centre: Float64, what: str) -> list[Figure]:
    """Overlay, checkerboard and difference of the surroundings of a fixed point (x, y)."""
    up = scene.fixed.original_from_level
    spans = []
    for axis, size in ((1, scene.fixed.size[0]), (0, scene.fixed.size[1])):
        middle = round(float((centre[axis] - up[axis, 2]) / up[axis, axis]))
        first = min(max(middle - SIDE // 2, 0), max(size - SIDE, 0))
        spans.append(slice(first, min(first + SIDE, size)))
    view = scene.view(*spans)
    pictures = {
        "overlay": false_colour(view.fixed, view.after),
        "checkerboard": checkerboard(view.fixed, view.after, SIDE // 8),
        "difference": difference(view.fixed, view.after),
    }
    return [
        Figure(jpeg_url(picture), name, f"{name.capitalize()} around the {what}.")
        for name, picture in pictures.items()
    ]
