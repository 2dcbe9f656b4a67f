"""The charts of a report and their captions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from register.geometry import affine
from register.images import pyramid
from register.images.pyramid import Level
from register.report import maps
from register.report.axes import Axis, Values
from register.report.html import Figure, figure
from register.report.panels import Grey, Scene, valid_grey
from register.transforms.transform import Transform

BACKGROUND = 420
"""Longest side, in pixels, of the pictures under charts."""


@dataclass(frozen=True)
class Motion:
    """Displacements ``move`` (n, 2) at points ``at`` (n, 2) of a regular grid (rows, columns), in fixed
    pixels.

    They are relative to the global map if ``local``; otherwise the transform has no local part.
    """

    at: Values
    move: Values
    shape: tuple[int, int]
    local: bool

    @classmethod
    def of(cls, transform: Transform) -> "Motion":
        """The displacements of a transform at ``maps.ARROWS`` points along its longer side."""
        width, height = transform.fixed.width, transform.fixed.height
        step = maps.ARROWS / max(width, height)
        x, y = (np.linspace(0, n - 1, max(round(step * n), 2)) for n in (width, height))
        at = affine.points_at(x, y).reshape(-1, 2)
        mapped = transform.map(at)
        beyond = affine.apply(affine.invert(transform.matrix), mapped) - at
        local = transform.grid is not None and float(np.linalg.norm(beyond, axis=1).max()) > 1e-6
        return cls(at, beyond if local else mapped - at, (len(y), len(x)), local)


def charts(scene: Scene) -> list[Figure]:
    """Displacement, patch grid, confidence, expected error, change of area and convergence, with captions."""
    transform, motion = scene.transform, Motion.of(scene.transform)
    drawn = [
        _displacement(scene, motion),
        _patch_grid(scene, motion),
        _confidence(transform),
        _expected_error(transform),
        _area(transform) if motion.local else None,
        _convergence(transform),
    ]
    return [chart for chart in drawn if chart is not None]


def _displacement(scene: Scene, motion: Motion) -> Figure:
    """Arrows of the displacements over the fixed image."""
    length = np.linalg.norm(motion.move, axis=1)
    what = "Displacement relative to the global map"
    if not motion.local:
        what = "Displacement by the global map; there is no local part"
    caption = f"{what}: median {float(np.median(length)):.2f} px, largest {float(length.max()):.2f} px."
    size = (scene.transform.fixed.height, scene.transform.fixed.width)
    return figure(maps.arrows(_background(scene.fixed), size, motion.at, motion.move), caption)


def _patch_grid(scene: Scene, motion: Motion) -> Figure:
    """The centres of the patches, or regular points without patches, mapped to the moving image."""
    transform = scene.transform
    centres, shape = motion.at, motion.shape
    if transform.grid:
        centres = transform.grid.centres().reshape(-1, 2)
        shape = (transform.grid.rows, transform.grid.columns)
    mapped = transform.map(centres).reshape(*shape, 2)
    caption = f"The patch grid ({shape[1]} × {shape[0]} centres) mapped onto the moving image."
    size = (transform.moving.height, transform.moving.width)
    return figure(maps.mesh(_background(scene.moving), size, mapped), caption)


def _confidence(transform: Transform) -> Figure | None:
    """The confidence of every patch."""
    values = per_patch(transform, transform.patch_figures.confidence)
    if values is None:
        return None
    image = maps.patch_map(values, _size(transform), Axis(0, 1, "confidence"), "viridis")
    return figure(image, f"Confidence per patch, 0 to 1; median {maps.quantile(values, 0.5):.2f}.")


def _expected_error(transform: Transform) -> Figure | None:
    """The expected error of every patch, on a logarithmic scale."""
    errors = errors_of(transform)
    if errors is None:
        return None
    known = errors[np.isfinite(errors)]
    low, high = max(float(known.min()), 1e-3), float(known.max())
    bar = Axis(low, max(high, 1.5 * low), "expected error, px", log=True)
    caption = (
        "Expected error per patch: two of three errors are smaller; "
        f"median {maps.quantile(known, 0.5):.2f} px, largest {high:.2f} px. Grey: not known."
    )
    return figure(maps.patch_map(errors, _size(transform), bar, "cividis"), caption)


def _area(transform: Transform) -> Figure | None:
    """The change of area at every patch centre, relative to the global map."""
    grid = transform.grid
    if grid is None:
        return None
    centres = grid.centres().reshape(-1, 2)
    times = np.linalg.det(transform.expand(centres)[1]) / affine.determinant(transform.matrix)
    change = np.log2(times.clip(min=1e-3)).reshape(grid.rows, grid.columns)
    reach = max(float(np.abs(change).max()), 0.01)
    image = maps.patch_map(
        change, _size(transform), Axis(-reach, reach, "log₂ of the change of area"), "PuOr"
    )
    low, high = 2 ** float(change.min()), 2 ** float(change.max())
    caption = f"Change of area relative to the global map: {low:.2f} to {high:.2f} times; 0 is no change."
    return figure(image, caption)


def _convergence(transform: Transform) -> Figure | None:
    """The loss after every step of the optimisation."""
    history = transform.provenance.history
    if not history:
        return None
    caption = "Convergence: the loss of each level after every step; lower is more similar."
    return figure(maps.curves(history), caption)


def _size(transform: Transform) -> tuple[int, int]:
    return transform.fixed.height, transform.fixed.width


def _background(level: Level) -> Grey:
    """A level's grey, reduced."""
    return valid_grey(pyramid.shrink(level, max(level.size) / BACKGROUND))


def per_patch(transform: Transform, figures: Sequence[float | None]) -> Values | None:
    """Figures of patches as an array (rows, columns), NaN where unknown; None when there are none."""
    if transform.grid is None or not figures:
        return None
    return np.array(figures, dtype=float).reshape(transform.grid.rows, transform.grid.columns)


def errors_of(transform: Transform) -> Values | None:
    """The expected errors (rows, columns), NaN where unknown; None when all are."""
    errors = per_patch(transform, transform.patch_figures.expected_error)
    return None if errors is None or np.isnan(errors).all() else errors
