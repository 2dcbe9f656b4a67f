"""Align images in which something stays at its place while the content moves: text, scale bars, dust.

What is equal in both images without any displacement, while the rest is not or agrees under another map, is
left out, and the images are aligned again. Where that is not possible, because it covers all of the image,
what the images do not share tells that content has moved.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from register.compute import device, sums
from register.engine.fit.working_copy import working_copy
from register.engine.pair import Alignment
from register.engine.quality import residual_motion
from register.geometry import affine, affine_tensors
from register.images import filters, interpolation, preprocess, pyramid
from register.images.pyramid import Level
from register.transforms.quality import Verdict
from register.transforms.transform import Transform

SIDE = 768
"""Longest side, in pixels, of the copies on which such parts are looked for."""
SIGMA, AROUND = 1.2, 6.0
"""Standard deviations, in pixels, of the Gaussian before the gradients are taken, and of that over which
their agreement is averaged."""
EDGE = 3.0
"""Length of a gradient from which it is an edge, in units of the median."""
SAME, EQUAL = 0.35, 0.5
"""Difference of two gradients, in units of the larger one, up to which they are equal, and the share of the
edges around a pixel that are equal if it stays."""
FEWEST, LEAST_AREA, MOST_AREA = 0.01, 0.01, 0.5
"""Share of the pixels around one that stays that are edges, at least; share of the image that stays, at least
and at most."""
SHIFTS = (0.17, 0.08), (-0.11, 0.23), (0.05, -0.19), (-0.26, -0.07), (0.31, 0.29), (0.02, 0.38)
"""Displacements, as shares of the width and height, at which equality by chance is measured."""
ABOVE_CHANCE = 4.0
"""Area that is equal without displacement, at least, in units of the largest one by chance."""
LAG, NEIGHBOURHOOD = 3, 8.0
"""Displacement, in pixels, at which noise is not correlated with itself, and the standard deviation of the
local mean that is subtracted before."""
BLOCKS = 1, 2, 4
"""Sides of the blocks of pixels that are averaged before, in which weak content differs from noise."""
LEAST_STRUCTURE, AGREES = 0.05, 0.8
"""Least correlation of the rest with itself at that displacement, for it to show anything; and the least
correlation of both images without displacement, in units of that with themselves, for it to agree."""
CLIPPED = 3.0
"""Largest distance from the local mean, in units of its median."""
MOVED = 2.0
"""Least displacement, in pixels of the copy, by a map under which a part that stays is less equal."""
HARDLY, FOLLOWED = 8.0, 4.0
"""Median displacement, in pixels of the copy, up to which a pattern that stays may have decided; and the
distance from it up to which the motion of content is followed."""
SPOTS = 24
"""Points along a side at which displacements are measured."""
ALMOST_ALL = 0.2
"""Share of what stays that such a map may move by less."""


@dataclass(frozen=True)
class Edges:
    """The gradients (2, h, w) of an image, and which of its pixels are edges, bool (h, w)."""

    gradient: Tensor
    are: Tensor

    @classmethod
    def of(cls, image: Tensor, mask: Tensor) -> "Edges":
        """The edges of a grey plane (1, h, w) with its mask (1, h, w)."""
        along_x, along_y = filters.differences(filters.smooth(image[None], SIGMA))
        gradient = torch.cat([along_x, along_y], 1)[0]
        length = torch.hypot(*gradient)
        solid = preprocess.erode(mask[None], 4)[0, 0] > 0
        least = EDGE * filters.median(length[solid]) if bool(solid.any()) else math.inf
        return cls(gradient, solid & (length > max(least, 1e-3)))


@dataclass(frozen=True)
class Equality:
    """Where the edges of two images are equal.

    ``share`` (h, w) is the share of the edges around each pixel that are equal, and ``edges`` (h, w) the
    share of the pixels around it that are edges.
    """

    share: Tensor
    edges: Tensor

    @classmethod
    def of(cls, one: Edges, other: Edges) -> "Equality":
        """The equality of the edges of two images of one size."""
        lengths = torch.maximum(torch.hypot(*one.gradient), torch.hypot(*other.gradient))
        same = torch.hypot(*(one.gradient - other.gradient)) < SAME * lengths
        planes = torch.stack([one.are & other.are & same, one.are, other.are]).float()
        equal, first, second = filters.smooth_widely(planes[None], AROUND)[0]
        edges = (first + second) / 2
        return cls(equal / edges.clamp(min=1e-6), edges)

    @property
    def pixels(self) -> Tensor:
        """The pixels (h, w) around which most edges are equal."""
        return (self.share > EQUAL) & (self.edges > FEWEST)


Run = Callable[[Level, Level], Alignment]
"""An alignment of two grey levels."""


def align(fixed: Level, moving: Level, run: Run, masked: Run | None = None) -> Alignment:
    """Align two grey levels by ``run``, without what stays at its place while the rest moves.

    ``masked`` aligns levels of which something is left out, by default ``run`` too. Where the rest cannot be
    aligned by itself, the verdict is at best ``suspect``, and no error is expected.
    """
    if fixed.size != moving.size:
        return run(fixed, moving)
    with device.concurrently(lambda: _prepared(fixed, moving), fixed.image.device) as prepared:
        first = run(fixed, moving)
        copies, edges, equal = prepared()
    found = first
    if _area(_around(equal.pixels)) >= LEAST_AREA:
        found = _best(first, (fixed, moving), copies, edges, equal, masked or run)
    return _examined(found, *copies)


def _best(
    first: Alignment,
    levels: tuple[Level, Level],
    copies: tuple[Level, Level],
    edges: tuple[Edges, Edges],
    equal: Equality,
    masked: Run,
) -> Alignment:
    """The ``first`` alignment of two levels, or that without the parts that stay."""
    known, transform = first.quality.verdict != Verdict.FAILED, first.transform
    still = _still(*edges, equal.pixels)
    if still is not None and not any(follows(*copies, still, x) for x in (None, transform)[: 1 + known]):
        again = _without(*levels, still, masked)
        if again.quality.verdict != Verdict.FAILED:
            return again
        return _doubted(first, _part_decides(_area(still)))
    apart = _moved_apart(*copies, edges[0], equal, transform) if known else None
    still = None if apart is None else _still(*edges, equal.pixels, apart)
    if still is not None:
        again = _without(*levels, still, masked)
        good = again.quality.verdict == Verdict.OK
        return again if good and _is_moved(*copies, still, again.transform) else first
    return first


def _examined(found: Alignment, fixed: Level, moving: Level) -> Alignment:
    """The alignment of two images with their working copies; one that is ``ok`` is in doubt where it moves
    nothing, and what they do not share has moved."""
    if found.quality.verdict != Verdict.OK:
        return found
    moves = _moves(fixed, moving, found.transform)
    if filters.median(moves.norm(dim=-1)) > HARDLY:
        return found
    motion = residual_motion.find(fixed.image, moving.image, fixed.mask * moving.mask)
    own = [filters.median(part) for part in moves.T]
    if motion is None or math.hypot(motion.x - own[0], motion.y - own[1]) < FOLLOWED:
        return found
    points = _points(fixed, moving, found.transform)
    warped, mask = (_sampled(x, points) for x in (moving.image, moving.mask))
    mask = (mask * moving.mask * fixed.mask > 0.99).float()
    if residual_motion.is_explained(fixed.image, moving.image, warped, mask):
        return found
    pixel = pyramid.pixel(fixed)
    return _doubted(found, _pattern_decides(motion.x * pixel, motion.y * pixel))


def _prepared(fixed: Level, moving: Level) -> tuple[tuple[Level, Level], tuple[Edges, Edges], Equality]:
    """Working copies of two levels of one size, their edges, and the equality of these."""
    one, other = working_copy(fixed, SIDE, "fixed"), working_copy(moving, SIDE, "moving")
    edges = Edges.of(one.image, one.mask), Edges.of(other.image, other.mask)
    return (one, other), edges, Equality.of(*edges)


def follows(fixed: Level, moving: Level, still: Tensor, transform: Transform | None) -> bool:
    """Whether two working copies agree under a transform, or at the same place, outside of what stays.

    ``still`` (h, w) is what stays. They agree if they are as correlated as each of them is with itself a few
    pixels away, at the finest resolution at which they show something. Images that show nothing do not
    disagree.
    """
    rest = preprocess.erode((fixed.mask * moving.mask * ~still)[None], 2)[0]
    shown = (block for block in BLOCKS if _structure(fixed, moving, rest, block) >= LEAST_STRUCTURE)
    block = next(shown, None)
    if block is None:
        return True
    image, mask = moving.image, rest
    if transform is not None:
        points = _points(fixed, moving, transform)
        image, mask = _sampled(image, points), _sampled(moving.mask * ~still, points) * rest
        mask = (mask > 0.99).float()
    one, other = _detail(fixed.image, mask, block), _detail(image, mask, block)
    at_lag = [_covariance(x[..., LAG:], x[..., :-LAG]) for x in (one, other)]
    return abs(_covariance(one, other)) >= AGREES * math.sqrt(max(at_lag[0] * at_lag[1], 0.0))


def _structure(fixed: Level, moving: Level, rest: Tensor, block: int) -> float:
    """The correlation with itself, a few pixels away, of the rest of the image that shows less."""
    each = [_detail(x.image, rest, block) for x in (fixed, moving)]
    return min(_covariance(x[..., LAG:], x[..., :-LAG]) / max(_covariance(x, x), 1e-12) for x in each)


def _moved_apart(
    fixed: Level, moving: Level, edges: Edges, equal: Equality, transform: Transform
) -> Tensor | None:
    """The pixels (h, w) of two working copies that the global map of a transform moves, but whose edges are
    less equal under it than without displacement.

    ``edges`` are those of the fixed copy, ``equal`` their equality without displacement. None for a map that
    hardly moves anything.
    """
    matrix = torch.as_tensor(transform.matrix, dtype=torch.float64)
    step = affine.compose(affine.invert(moving.original_from_level), matrix)
    step = affine.compose(step, fixed.original_from_level)
    axes = interpolation.axes(*fixed.size, device=fixed.image.device)
    points, places = (
        affine.apply_to_grid(x[None].to(fixed.image), *axes) for x in (step, affine_tensors.identity())
    )
    far = (points - places).norm(dim=-1)[0] > MOVED
    if _area(far) < LEAST_AREA:
        return None
    under = Edges.of(_sampled(moving.image, points), _sampled(moving.mask, points))
    return far & (equal.share > Equality.of(edges, under).share + EQUAL / 2)


def _is_moved(fixed: Level, moving: Level, still: Tensor, transform: Transform) -> bool:
    """Whether a transform that was found without it moves what stays, bool (h, w), of two working copies.

    If not, it is a part of content that deforms, where the deformation undoes the global map, or that is
    moved along its own edges.
    """
    places = affine.points_at(*interpolation.axes(*fixed.size, device=fixed.image.device))
    far = (_points(fixed, moving, transform)[0] - places).norm(dim=-1)
    return float(torch.quantile(far[still], ALMOST_ALL)) > MOVED


def _points(fixed: Level, moving: Level, transform: Transform) -> Tensor:
    """The pixels (1, h, w, 2) of the moving copy at those of the fixed copy under a transform."""
    height, width = fixed.size
    x, y = (torch.arange(n, dtype=torch.float64) for n in (width, height))
    mapped = _mapped(fixed, moving, transform, affine.points_at(x, y).reshape(-1, 2))
    return mapped.reshape(1, height, width, 2).to(fixed.image)


def _moves(fixed: Level, moving: Level, transform: Transform) -> Tensor:
    """The displacements (n, 2) of points of the fixed copy under a transform, in pixels of the copies."""
    height, width = fixed.size
    x, y = (torch.linspace(0, n - 1, SPOTS, dtype=torch.float64) for n in (width, height))
    places = affine.points_at(x, y).reshape(-1, 2)
    return _mapped(fixed, moving, transform, places) - places


def _mapped(fixed: Level, moving: Level, transform: Transform, places: Tensor) -> Tensor:
    """Points (n, 2) of the fixed copy under a transform, in pixels of the moving copy."""
    mapped = transform.map(affine.apply(fixed.original_from_level, places))
    return affine.apply(affine.invert(moving.original_from_level), mapped)


def _sampled(plane: Tensor, points: Tensor) -> Tensor:
    """A plane (1, h, w) at points (1, h, w, 2), 0 outside."""
    return interpolation.sample(plane[None], points, padding="zeros")[0]


def _still(one: Edges, other: Edges, equal: Tensor, allowed: Tensor | None = None) -> Tensor | None:
    """The pixels (h, w) around those at which the edges of two images are ``equal``, where ``allowed``.

    None for too many, and for no more than are equal by chance, after other displacements.
    """
    region = _around(equal if allowed is None else equal & allowed)
    if not LEAST_AREA <= _area(region) <= MOST_AREA:
        return None
    height, width = equal.shape
    by_chance = 0.0
    for x, y in SHIFTS:
        shift = round(y * height), round(x * width)
        rolled = Edges(other.gradient.roll(shift, (1, 2)), other.are.roll(shift, (0, 1)))
        by_chance = max(by_chance, _area(Equality.of(one, rolled).pixels))
    return region if _area(equal) > ABOVE_CHANCE * by_chance else None


def _around(pixels: Tensor) -> Tensor:
    """The pixels (h, w) near some of others."""
    return filters.widened(pixels[None, None].float(), round(AROUND))[0, 0] > 0


def _area(pixels: Tensor) -> float:
    """The share of the pixels of a mask (h, w) that are True."""
    return float(sums.mean(pixels.float()))


def _detail(image: Tensor, mask: Tensor, block: int) -> Tensor:
    """A plane (1, h, w) in blocks, minus its local mean, 0 where ``mask`` (1, h, w) is 0, outliers clipped.

    Remains of what stays would otherwise outweigh weak content.
    """
    weight = (filters.block_means(mask[None], block)[0] > 0.99).to(image)
    image = filters.block_means(image[None], block)[0] * weight
    total, count = filters.smooth_widely(torch.stack([image, weight]), NEIGHBOURHOOD)
    detail = (image - total / count.clamp(min=1e-3)) * weight
    return filters.clipped(detail, weight > 0, CLIPPED)


def _covariance(one: Tensor, other: Tensor) -> float:
    """The sum of the products of two planes."""
    return float(sums.total(one * other))


def _without(fixed: Level, moving: Level, still: Tensor, run: Run) -> Alignment:
    """The alignment without what stays, by a mask (h, w) of a working copy."""
    rest = 1 - interpolate(still[None, None].float(), size=fixed.size, mode="nearest")[0]
    found = run(*(Level(x.image, x.mask * rest, x.original_from_level) for x in (fixed, moving)))
    note = f"{_area(still):.1%} of the image stays at its place while the rest moves, and was left out"
    return _with_quality(found, notes=(*(found.quality.notes or ()), note))


def _part_decides(share: float) -> str:
    """The reason for doubt where a ``share`` of the image may decide that only stays at its place."""
    return (
        f"{share:.1%} of the image is equal at the same place in both images, and the rest does not follow:"
        " text, a scale bar or dust may decide; mask it with --fixed-mask and --moving-mask"
    )


def _pattern_decides(x: float, y: float) -> str:
    """The reason for doubt where content has moved by pixels under a pattern that stays."""
    return (
        f"what differs has moved by ({round(x)}, {round(y)}) px, while a pattern stays at its place: the"
        " sensor, dust or the illumination may decide; divide both images by a flat field, or give --init"
    )


def _doubted(found: Alignment, reason: str) -> Alignment:
    """The alignment that is ``suspect`` for a reason, without an expected error."""
    patches = found.transform.patch_figures
    unknown = tuple(None for _ in patches.expected_error or ())
    transform = replace(found.transform, patch_figures=replace(patches, expected_error=unknown))
    found = replace(found, transform=transform)
    verdict = Verdict.worst([found.quality.verdict, Verdict.SUSPECT])
    reasons = (reason, *(found.quality.reasons or ()))
    return _with_quality(found, verdict=verdict, reasons=reasons, expected_error=None)


def _with_quality(found: Alignment, **changed: Any) -> Alignment:
    """The alignment with other figures of its quality."""
    quality = replace(found.quality, **changed)
    return replace(found, transform=replace(found.transform, quality=quality))
