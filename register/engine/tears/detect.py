"""Find where pieces of an image move apart, and align them separately.

Where a smooth map is fitted over a tear, the images do not match in a band along it. The band is found as a
path through the image. The fields of the patches on both sides are continued into the band; where they
disagree with each other and agree with the images, the springs between the patches are cut there, and the
sides are aligned separately. The gain is measured with the robust function of Geman & McClure, "Statistical
methods for tomographic image reconstruction" (1987), in which a pixel that matches nothing counts little.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from register.engine import split
from register.engine.fit import recover_patches
from register.engine.pair import Alignment
from register.engine.tears import labels, seam
from register.engine.tears.residuals import Views
from register.geometry import patch_grid
from register.images import filters
from register.images.pyramid import Level
from register.images.split_mask import Labels
from register.settings import Settings
from register.transforms.quality import Verdict
from register.transforms.transform import Transform

SIDE = 512
"""Longest side, in pixels, of the copies on which a line is looked for."""
LEAST_BAD, MOST_BAD = 0.001, 0.5
"""Share of the pixels that do not match, at least and at most, where a line is looked for."""
LEAST_LINE, LEAST_SIDE = 0.06, 0.02
"""Share of the path that does not match, and of the image on a side, at least."""
REACH, BESIDE = 0.15, 8
"""Distance from the path, as a share of the longer side, up to which pixels may change their side, and pixels
around one that does not match."""
OWN = 0.97
"""Share of the pixels of a patch, at least, that match and are on its side if it determines that side."""
CONTINUED = 0.25
"""Difference from which on a pixel has no counterpart under maps that are continued, which are less exact."""
LEAST_JUMP, SIGMAS, LEAST_GAIN = 1.0, 4.0, 0.0008
"""The displacement of the sides to each other, in pixels of the copy and in expected errors, and the gain, as
a share of the image, from which on they are separate."""
THICK, SOLID = 8.0, 0.35
"""Standard deviation, in pixels, of the Gaussian over which many pixels of a piece do not match, and their
share."""


@dataclass(frozen=True)
class Band:
    """Where a map leaves differences: those (h, w), their ``limit``, which pixels do not match, and the path
    through most of them with its two sides."""

    difference: Tensor
    limit: float
    bad: Tensor
    path: Tensor
    sides: Labels

    @property
    def zone(self) -> Tensor:
        """The pixels (h, w) whose side is not known."""
        reach = filters.widened(self.path[None, None].float(), round(REACH * max(self.path.shape)))[0, 0]
        around = filters.widened(self.bad[None, None].float(), BESIDE)[0, 0]
        return (reach > 0) & (around > 0)


def align(
    first: Alignment, fixed: Level, moving: Level, settings: Settings, run: Callable[..., Alignment]
) -> Alignment:
    """The alignment itself, or that of its sides where pieces of the image move apart."""
    if first.quality.verdict == Verdict.FAILED or first.transform.grid is None:
        return first
    views = Views.of(fixed, moving, first.quality.metric or "structure", SIDE)
    if (band := band_of(views, first.transform)) is None:
        return first
    for sides in candidates(views, band, first.transform):
        made = split.align(first, fixed, moving, sides, settings, run)
        made = refined(made, views, band)
        if separate(views, band, first.transform, made):
            note = "pieces of the image move apart: they were found and aligned separately"
            quality = replace(made.quality, notes=(*made.quality.notes, note))
            return replace(made, transform=replace(made.transform, quality=quality))
    return first


def band_of(views: Views, transform: Transform) -> Band | None:
    """The band that does not match under a transform, if there is one along a path through the image."""
    difference = views.difference(transform)
    limit = labels.limit_of(difference)
    if limit is None:
        return None
    known = ~difference.isnan()
    bad = known & (difference > limit)
    share = float(bad.sum()) / max(int(known.sum()), 1)
    if not LEAST_BAD < share < MOST_BAD:
        return None
    soft = filters.smooth(bad[None, None].float(), 2.0)[0, 0]
    sides, path = seam.divided(soft.cpu().numpy().astype(np.float64))
    along = soft.cpu().numpy()[path] > 0.5
    if along.mean() < LEAST_LINE or min((sides == 1).mean(), (sides == 2).mean()) < LEAST_SIDE:
        return None
    return Band(difference, limit, bad, torch.from_numpy(path).to(bad.device), sides)


def candidates(views: Views, band: Band, transform: Transform) -> list[Labels]:
    """The sides to try: those of the path, if patches on both of them match and their fields disagree along
    it; and a piece that does not match at all."""
    found = []
    matching = ~(filters.widened(band.bad[None, None].float(), 3)[0, 0] > 0).cpu().numpy()
    maps = [continued(transform, (band.sides == k) & matching, views) for k in (1, 2)]
    if maps[0] is not None and maps[1] is not None and jump(views, band, (maps[0], maps[1])) > LEAST_JUMP:
        differences = [
            views.difference(one, torch.from_numpy((band.sides == k) & matching).to(band.bad.device))
            for k, one in enumerate(maps, 1)
            if one is not None
        ]
        found.append(labels.chosen(differences, band.sides, band.zone, CONTINUED))
    solid = filters.smooth_widely(band.bad[None, None].float(), THICK)[0, 0] > SOLID
    if LEAST_SIDE < float(solid.float().mean()) < MOST_BAD:
        found.append(np.where(solid.cpu().numpy(), 2, 1).astype(np.int8))
    return found


def continued(transform: Transform, own: np.ndarray, views: Views) -> Transform | None:
    """The transform with the patches continued that are not on ``own`` pixels (h, w) of the copy; None where
    no patch is."""
    grid, matrices = transform.grid, transform.matrices
    assert grid is not None
    assert matrices is not None
    points = views.points()
    along_x = grid.axis_basis(points[0, :, 0], 0)[:, : grid.columns]
    along_y = grid.axis_basis(points[:, 0, 1], 1)[:, : grid.rows]
    weight = np.outer(along_y.sum(0), along_x.sum(0))
    held = torch.from_numpy(along_y.T @ own @ along_x >= OWN * np.maximum(weight, 1e-9))
    if not bool(held.any()):
        return None
    parameters = torch.from_numpy(patch_grid.from_matrices(grid, matrices))
    found = recover_patches.extrapolated(parameters, held).numpy()
    return replace(transform, matrices=patch_grid.to_matrices(grid, found))


def jump(views: Views, band: Band, maps: tuple[Transform, Transform]) -> float:
    """The median displacement of two maps to each other along the part of the path that does not match, in
    pixels of the copy."""
    on = (band.path & (filters.widened(band.bad[None, None].float(), 2)[0, 0] > 0)).cpu().numpy()
    points = views.points()[on]
    pixel = float(views.moving.original_from_level[0, 0])
    return float(np.median(np.linalg.norm(maps[0].map(points) - maps[1].map(points), axis=1))) / pixel


def refined(made: Alignment, views: Views, band: Band) -> Alignment:
    """The alignment with the sides chosen again by what their own maps leave."""
    sides = made.transform.sides
    assert sides is not None
    edge = _edge(np.abs(sides.labels)).to(band.bad.device)
    here = replace(band, path=edge if bool(edge.any()) else band.path)
    number = np.abs(sides.labels)
    own = [torch.from_numpy(number == k).to(band.bad.device) for k in range(1, len(sides.maps) + 1)]
    differences = [views.difference(one, use) for one, use in zip(sides.maps, own, strict=True)]
    found = labels.chosen(differences, np.abs(sides.labels), here.zone)
    return replace(made, transform=replace(made.transform, sides=replace(sides, labels=found)))


def separate(views: Views, band: Band, whole: Transform, made: Alignment) -> bool:
    """Whether the sides of an alignment move apart: they displace each other by more than their errors, and
    explain the images better than the map of the entire image."""
    transform = made.transform
    sides, expected = transform.sides, made.quality.expected_error
    assert sides is not None
    if expected is None or made.quality.verdict == Verdict.FAILED:
        return False
    if Verdict.worst([whole.quality.verdict, made.quality.verdict]) != whole.quality.verdict:
        return False
    pixel = float(views.moving.original_from_level[0, 0])
    edge = _edge(np.abs(sides.labels)).to(band.bad.device)
    moved = jump(views, replace(band, path=edge), (sides.maps[0], sides.maps[1]))
    after = views.difference(transform)
    gain = _robust(band.difference, band.limit) - _robust(after, band.limit)
    return moved > max(LEAST_JUMP, SIGMAS * expected / pixel) and float(gain.mean()) > LEAST_GAIN


def _robust(difference: Tensor, limit: float) -> Tensor:
    """The function of Geman & McClure of a difference of squares: 0.5 at the limit, at most 1."""
    known = difference.nan_to_num(1e3)
    return known / (known + limit)


def _edge(side: Labels) -> Tensor:
    """Which pixels (h, w) are beside one of another side."""
    found = np.zeros(side.shape, bool)
    found[:, 1:] |= side[:, 1:] != side[:, :-1]
    found[1:] |= side[1:] != side[:-1]
    return torch.from_numpy(found)
