"""Details of a report: the surroundings of the worst, the median and the best patch."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from register.geometry.arrays import Float64
from register.report.axes import Values
from register.report.charts import errors_of, per_patch
from register.report.html import Figure, jpeg_url
from register.report.panels import Scene, checkerboard, difference
from register.report.pictures import Equalised, in_colour, local_contrast, neutral_overlay
from register.transforms.transform import Transform

TISSUE_SIDE, TISSUE = 400, 0.3
"""Longest side of the image on which contrast is measured, and the share of that of patches with high
contrast from which a patch counts as tissue."""
PLACES_SIDE = 420
"""Longest side of the picture that shows where the patches are."""
SIDE, SCALES = 160, (1, 4)
"""Side of the surroundings in pixels of a picture, and the sizes of such a pixel in working pixels."""


class Zoom(NamedTuple):
    """A patch: a title, and a row of pictures for every scale."""

    title: str
    rows: list[list[Figure]]
    place: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Rows and columns of its surroundings, first and last, in working pixels."""


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
    badness = np.where(_in_tissue(scene), badness, np.nan)
    order = np.argsort(badness, axis=None)[: int(np.isfinite(badness).sum())]
    if len(order) == 0:
        return []
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


def _in_tissue(scene: Scene) -> NDArray[np.bool_]:
    """Which patches (rows, columns) lie inside the image on something that both images show."""
    grid = scene.transform.grid
    assert grid is not None
    small = scene.coarser(TISSUE_SIDE)
    fixed, after = small.aligned()
    up = small.fixed.original_from_level.numpy()
    contrast = np.minimum(local_contrast(fixed), local_contrast(after))
    centres = grid.centres().reshape(-1, 2)
    x, y = ((centres[:, k] - up[k, 2]) / up[k, k] for k in (0, 1))
    height, width = contrast.shape
    inside = (x > 0.02 * width) & (x < 0.98 * width) & (y > 0.02 * height) & (y < 0.98 * height)
    at = contrast[np.rint(y).astype(int).clip(0, height - 1), np.rint(x).astype(int).clip(0, width - 1)]
    enough = at > TISSUE * float(np.quantile(at, 0.9))
    return (inside & enough).reshape(grid.rows, grid.columns)


def places(scene: Scene, chosen: list[Zoom]) -> Figure:
    """The fixed image with a frame around the surroundings of every chosen patch."""
    small = scene.coarser(PLACES_SIDE)
    picture = in_colour(small, small.view())[0]
    ratio = max(picture.shape[:2]) / max(scene.fixed.size)
    for zoom in chosen:
        top, bottom, left, right = (round(edge * ratio) for edge in zoom.place)
        for thick, value in ((2, 0), (0, 255)):
            rows = slice(max(top - thick, 0), bottom + thick), slice(max(left - thick, 0), right + thick)
            inner = slice(top + 2, bottom - 2), slice(left + 2, right - 2)
            kept = picture[inner].copy()
            picture[rows] = value
            picture[inner] = kept
    words = ", ".join(zoom.title.split(" patch")[0].lower() for zoom in chosen)
    return Figure(jpeg_url(picture), "where they are", f"The fixed image with frames: {words}.")


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
    return Zoom(title, rows, _surroundings(scenes[1], centre))


def _around(scene: Scene, centre: Float64, what: str) -> list[Figure]:
    """Overlay, checkerboard and difference of the surroundings of a fixed point (x, y)."""
    top, bottom, left, right = _surroundings(scene, centre)
    fixed, after = scene.aligned(slice(top, bottom), slice(left, right))
    one, other = Equalised.of(fixed), Equalised.of(after)
    pictures = {
        "overlay": neutral_overlay(one, other, opposite=one.is_opposite(other)),
        "checkerboard": checkerboard(fixed, after, SIDE // 8),
        "difference": difference(fixed, after),
    }
    return [
        Figure(jpeg_url(picture), name, f"{name.capitalize()} around the {what}.")
        for name, picture in pictures.items()
    ]


def _surroundings(scene: Scene, centre: Float64) -> tuple[int, int, int, int]:
    """Rows and columns, first and last, of the surroundings of a fixed point (x, y) in a scene."""
    up, spans = scene.fixed.original_from_level, []
    for axis, size in ((1, scene.fixed.size[0]), (0, scene.fixed.size[1])):
        middle = round(float((centre[axis] - up[axis, 2]) / up[axis, axis]))
        first = min(max(middle - SIDE // 2, 0), max(size - SIDE, 0))
        spans += [first, min(first + SIDE, size)]
    return spans[0], spans[1], spans[2], spans[3]
