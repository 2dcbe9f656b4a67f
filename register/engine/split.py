"""Align images of which pieces move apart: tears, cracks, folds of a section, shear bands.

Each side of the line is aligned by itself, from the pixels of that side alone, so that neither the patches
nor their blend mix the sides. Every side has patches everywhere, which is how finite elements with a
discontinuity hold it. Source: Hansbo & Hansbo, "A finite element method for the simulation of strong and weak
discontinuities in solid mechanics", CMAME 193 (2004).
"""

from collections.abc import Callable
from dataclasses import replace
from statistics import median

import numpy as np
import torch
from torch import Tensor

from register.engine.pair import Alignment
from register.engine.quality import verdict
from register.errors import AlignmentError
from register.geometry import affine, models
from register.images import preprocess
from register.images.pyramid import Level
from register.images.split_mask import Labels
from register.settings import Settings
from register.transforms.quality import PatchFigures, Quality, Verdict
from register.transforms.sides import Sides
from register.transforms.transform import Transform

FAILED_SHARE = 0.5
"""Share of the image on sides that failed from which on the alignment failed."""
POINTS = 64
"""Points along each axis at which displacements are measured; as many in all determine an affine map."""
AT_LINE = 1.4
"""Factor of the expected error of a patch that overlaps the line; see ``python -m benchmarks.tears``."""
BESIDE = 2
"""Pixels beside the line without weight."""

Run = Callable[..., Alignment]
"""``pair.align`` for given sizes: takes both levels, ``settings`` and ``start``."""


def align(
    first: Alignment, fixed: Level, moving: Level, labels: Labels, settings: Settings, run: Run
) -> Alignment:
    """The alignment of every side of an image by itself.

    ``first`` is that of the entire image: each side starts from its map, and is compared by its similarity.
    ``labels`` are those of ``Sides``. A side that cannot be aligned follows the entire image, and the
    verdict says so.
    """
    settings = replace(settings, metric=first.quality.metric or settings.metric)
    seconds, history = dict(first.seconds), dict(first.history)
    found, problems = [], []
    for number in range(1, int(np.abs(labels).max()) + 1):
        part = _part(fixed, labels == number)
        try:
            one = _best(
                part, moving, _nearest(first.transform, labels == number, settings.model), settings, run
            )
        except AlignmentError as error:
            found.append(_unaligned(first.transform))
            problems.append(f"side {number} {error.message}: it follows the entire image")
            continue
        found.append(one.transform)
        seconds = {name: seconds.get(name, 0.0) + spent for name, spent in one.seconds.items()}
        history |= {f"side {number}: {name}": losses for name, losses in one.history.items()}
    size, area = first.transform.fixed, abs(first.quality.det_global or 1.0)
    sides = Sides(labels, (size.width, size.height), tuple(_judged(labels, found, area)))
    quality = _quality(first.quality, sides, problems, first.transform)
    made = replace(first.transform, model="split", grid=None, matrices=None, sides=sides, quality=quality)
    return replace(
        first,
        transform=replace(made, patch_figures=PatchFigures()).checked(),
        seconds=seconds,
        history=history,
    )


def _best(part: Level, moving: Level, start: Tensor | None, settings: Settings, run: Run) -> Alignment:
    """The alignment of one side from the map that the entire image has there, if it is known, or from a
    search where that fails."""
    found = run(part, moving, settings=settings, start=start)
    if found.quality.verdict == Verdict.OK or start is None:
        return found
    searched = run(part, moving, settings=settings, start=None)
    worse = [x.quality.probability_wrong or 0.0 for x in (found, searched)]
    return searched if searched.quality.verdict != Verdict.FAILED and worse[1] < worse[0] else found


def _nearest(transform: Transform, where: Labels, model: str) -> Tensor | None:
    """The global map (2, 3) of a model, affine for patches, nearest to a transform on some cells of a raster.

    None where the transform failed, or the cells determine no map.
    """
    if transform.quality.verdict == Verdict.FAILED:
        return None
    kind = models.get(model) if models.is_global(model) else models.AFFINE
    size, (rows, columns) = transform.fixed, where.shape
    y, x = np.nonzero(where)
    every = max(len(x) // POINTS**2, 1)
    points = np.stack([(x + 0.5) * size.width / columns, (y + 0.5) * size.height / rows], 1)[::every] - 0.5
    try:
        return torch.from_numpy(kind.fit(points, transform.map(points)))
    except ValueError:
        return None


def _part(fixed: Level, where: Labels) -> Level:
    """The level of one side, without the pixels next to the line, in whose filters the other side counts."""
    weight = preprocess.erode(_region(where, fixed)[None], BESIDE)[0]
    return Level(fixed.image, fixed.mask * weight, fixed.original_from_level)


def _region(where: Labels, level: Level) -> Tensor:
    """The share of 1 or 0 (1, h, w) of a raster at the pixels of a level."""
    rows, columns = where.shape
    y, x = (
        ((np.arange(n) + 0.5) * cells / n).astype(np.int64)
        for n, cells in zip(level.size, (rows, columns), strict=True)
    )
    return torch.from_numpy(where[y][:, x][None].astype(np.float32)).to(level.image.device)


def _unaligned(whole: Transform) -> Transform:
    """The transform of the entire image, for a side that cannot be aligned: without an expected error."""
    unknown = PatchFigures(expected_error=tuple(None for _ in whole.patch_figures.expected_error or ()))
    return replace(whole, quality=Quality(verdict=Verdict.FAILED), patch_figures=unknown)


def _judged(labels: Labels, found: list[Transform], area: float) -> list[Transform]:
    """The transforms of the sides, each with a verdict from the patches on its side alone.

    ``area`` is that of a fixed pixel in moving pixels.
    """
    judged = []
    for number, transform in enumerate(found, 1):
        figures, quality = transform.patch_figures, transform.quality
        if quality.probability_wrong is not None:
            status = [figures.status[k] for k in _own(labels, number, transform) if figures.status]
            called, reasons = verdict.verdict(quality, status, _expected(transform, area))
            quality = replace(quality, verdict=called, reasons=reasons)
        if quality.verdict == Verdict.FAILED:
            transform = _unaligned(transform)
            quality = replace(quality, expected_error=None)
        elif figures.expected_error:
            at_line = _at_line(labels, number, transform)
            errors = zip(figures.expected_error, at_line, strict=True)
            larger = tuple(round(e * AT_LINE, 4) if e is not None and near else e for e, near in errors)
            transform = replace(transform, patch_figures=replace(figures, expected_error=larger))
        judged.append(replace(transform, quality=quality))
    return judged


def _at_line(labels: Labels, number: int, transform: Transform) -> list[bool]:
    """Which patches of a transform overlap the line: pixels of their side are on one side of them only."""
    grid = transform.grid
    assert grid is not None
    sides: Sides[Transform] = Sides(labels, (transform.fixed.width, transform.fixed.height), ())
    around = np.array([[x, y] for x in (-1, 0, 1) for y in (-1, 0, 1)]) * np.array(grid.spacing)
    places = grid.centres().reshape(-1, 1, 2) + around
    own = sides.at(places.reshape(-1, 2)).reshape(-1, len(around)) == number
    found: list[bool] = (~own.all(1)).tolist()
    return found


def _own(labels: Labels, number: int, transform: Transform) -> list[int]:
    """The patches of a transform whose centres are on a side."""
    if transform.grid is None:
        return []
    sides: Sides[Transform] = Sides(labels, (transform.fixed.width, transform.fixed.height), ())
    return np.flatnonzero(sides.at(transform.grid.centres().reshape(-1, 2)) == number).tolist()


def _expected(transform: Transform, area: float) -> verdict.Expected:
    """What the verdict of a side is measured by: the sizes of the images, and the area of the entire map."""
    fixed, moving = transform.fixed, transform.moving
    covered = abs(transform.quality.det_global or 1.0) * fixed.width * fixed.height
    smaller = min(moving.width * moving.height / covered, 1.0)
    return verdict.Expected(float(np.hypot(fixed.width, fixed.height)), smaller, area)


def _quality(whole: Quality, sides: Sides[Transform], problems: list[str], before: Transform) -> Quality:
    """The quality of all sides together: the worst figure of a side, means by area, or counts."""
    number = np.abs(sides.labels)
    shares = [float((number == k).mean()) for k in range(1, len(sides.maps) + 1)]
    each = [side.quality for side in sides.maps]
    failed = sum(share for one, share in zip(each, shares, strict=True) if one.verdict == Verdict.FAILED)
    worst = Verdict.worst(one.verdict for one in each)
    if worst == Verdict.FAILED and failed < FAILED_SHARE:
        worst = Verdict.SUSPECT
    reasons = [f"side {k}: {text}" for k, one in enumerate(each, 1) for text in one.reasons]
    notes = [f"side {k}: {text}" for k, one in enumerate(each, 1) for text in one.notes]
    points = before.fixed.sample_points(POINTS)
    mapped = sides.expand(points)[0]
    moved = np.linalg.norm(mapped - points, axis=1)
    beyond = np.linalg.norm(affine.apply(affine.invert(before.matrix), mapped) - points, axis=1)

    def known(name: str) -> list[float]:
        return [value for one in each if (value := getattr(one, name)) is not None]

    def mean(name: str) -> float | None:
        values = [getattr(one, name) for one in each]
        if any(value is None for value in values):
            return None
        return round(float(np.average(values, weights=shares)), 4)

    return replace(
        whole,
        verdict=worst,
        reasons=(*problems, *reasons),
        notes=(*whole.notes, *notes, f"{len(each)} sides were aligned separately"),
        expected_error=_typical(sides),
        probability_wrong=max(known("probability_wrong"), default=None),
        recognised=min(known("recognised"), default=None),
        recognised_sigma=min(known("recognised_sigma"), default=None),
        back_and_forth=max(known("back_and_forth"), default=None),
        similarity_after=mean("similarity_after"),
        similarity_global=mean("similarity_global"),
        above_chance=min(known("above_chance"), default=None),
        displacement_median=round(float(np.median(moved)), 4),
        displacement_max=round(float(moved.max()), 4),
        local_displacement_median=round(float(np.median(beyond)), 4),
        local_displacement_max=round(float(beyond.max()), 4),
        det_min=min(known("det_min"), default=None),
        folds=int(sum(known("folds"))),
    )


def _typical(sides: Sides[Transform]) -> float | None:
    """The median expected error of the patches on their own sides, or of global maps; None if unknown."""
    errors: list[float] = []
    for number, side in enumerate(sides.maps, 1):
        values = side.patch_figures.expected_error
        own = (
            [values[k] for k in _own(sides.labels, number, side)] if values else [side.quality.expected_error]
        )
        errors += [value for value in own if value is not None]
    return round(median(errors), 4) if errors else None
