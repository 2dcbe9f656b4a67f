"""What the charts of a report show, and their captions."""

import math
from typing import Any

import numpy as np

from register.geometry import affine
from register.geometry.arrays import Float64
from register.images import pyramid
from register.images.pyramid import Level
from register.report import maps
from register.report.panels import Grey, Scene, seen
from register.transforms.transform import Transform

BACKGROUND = 420
"""Longest side, in pixels, of the pictures under charts."""


def charts(scene: Scene) -> list[dict[str, str]]:
    """Displacement, patch grid, confidence, expected error, Jacobian and convergence, each with its text."""
    transform = scene.transform
    size = (transform.fixed.height, transform.fixed.width)
    x, y = (np.linspace(0, n - 1, max(round(maps.ARROWS * n / max(size)), 2)) for n in size[::-1])
    at = affine.points_at(x, y).reshape(-1, 2)
    mapped = transform.map(at)
    local = affine.apply(affine.invert(transform.matrix), mapped) - at
    moved = float(np.linalg.norm(local, axis=1).max())
    about_global = transform.grid is not None and moved > 1e-6
    move = local if about_global else mapped - at
    drawn = [
        _chart(
            maps.arrows(_background(scene.fixed), size, at, move),
            _told_displacement(about_global, move),
        )
    ]
    centres = transform.grid.centres().reshape(-1, 2) if transform.grid else at
    shape = (transform.grid.rows, transform.grid.columns, 2) if transform.grid else (len(y), len(x), 2)
    moving_size = (transform.moving.height, transform.moving.width)
    lines = transform.map(centres).reshape(shape)
    caption = f"The patch grid ({shape[1]} × {shape[0]} centres) where it lies on the moving image."
    drawn.append(_chart(maps.mesh(_background(scene.moving), moving_size, lines), caption))
    if "confidence" in transform.patch_figures:
        values = per_patch(transform, "confidence")
        image = maps.patch_map(values, size, "confidence", low=0, high=1, colours="viridis")
        drawn.append(_chart(image, f"Confidence per patch, 0 to 1; median {maps.quantile(values, 0.5):.2f}."))
    errors = errors_of(transform)
    if errors is not None:
        known = errors[np.isfinite(errors)]
        low, middle, high = max(float(known.min()), 1e-3), maps.quantile(known, 0.5), float(known.max())
        image = maps.patch_map(
            errors,
            size,
            "expected error, px",
            low=low,
            high=max(high, 1.5 * low),
            colours="cividis",
            log=True,
        )
        told = f"Expected error per patch: two of three are nearer than that; median {middle:.2f} px, largest {high:.2f} px. Grey: nothing to see."
        drawn.append(_chart(image, told))
    if about_global:
        times = np.linalg.det(transform.expand(centres)[1]) / affine.determinant(transform.matrix)
        change = np.log2(times.clip(min=1e-3)).reshape(shape[:2])
        reach = max(float(np.abs(change).max()), 0.01)
        image = maps.patch_map(
            change, size, "log₂ of the change of area", low=-reach, high=reach, colours="PuOr"
        )
        drawn.append(
            _chart(
                image,
                f"LocalFit change of area beyond the global map, from {2 ** change.min():.2f} to {2 ** change.max():.2f} times; 0 is none.",
            )
        )
    history = transform.provenance.get("history")
    if history:
        drawn.append(
            _chart(
                maps.curves(history),
                "Convergence: the loss of each level, step by step; lower is more alike.",
            )
        )
    return drawn


def _background(level: Level) -> Grey:
    """A level's grey, small."""
    return seen(pyramid.shrink(level, max(level.size) / BACKGROUND))


def _told_displacement(about_global: bool, move: Float64) -> str:
    length = np.linalg.norm(move, axis=1)
    what = (
        "Displacement beyond the global map"
        if about_global
        else "Displacement of the global map; there is no local part"
    )
    return f"{what}: median {float(np.median(length)):.2f} px, largest {float(length.max()):.2f} px."


def _chart(data: str, caption: str) -> dict[str, str]:
    return {"data": data, "caption": caption, "alt": caption}


def per_patch(transform: Transform, name: str) -> Any:
    """Figures per patch (rows, columns) as floats; what is not known is NaN."""
    assert transform.grid is not None
    values = [math.nan if x is None else x for x in transform.patch_figures[name]]
    return np.array(values, dtype=float).reshape(transform.grid.rows, transform.grid.columns)


def errors_of(transform: Transform) -> Any:
    """The expected errors (rows, columns), or None when none is known."""
    if transform.grid is None or not any(
        x is not None for x in transform.patch_figures.get("expected_error", [])
    ):
        return None
    return per_patch(transform, "expected_error")
