"""The solution of one connected group: the transform of each of its images from the common frame."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from register.engine.group import fields, global_maps
from register.engine.group.fields import Fields
from register.engine.group.graph import best_connected
from register.engine.group.links import Link, parts, sampled
from register.errors import RegisterError
from register.geometry import affine
from register.geometry.arrays import Float64
from register.geometry.patch_grid import PatchGrid
from register.geometry.pixel_size import PixelSize
from register.transforms.frame import Frame
from register.transforms.quality import PatchFigures, Quality, Verdict
from register.transforms.transform import Transform

AGREES = 0.5
"""Share of its weight that a link keeps if it agrees with the others."""
CONTRADICTS = 0.01
"""Largest residual of the links of an image that is ``ok``, as a share of the diagonal of the frame."""
FINER = 0.7
"""Spacing of the common patch grid in units of that of the links' grids, to lose little between them."""
HALVINGS = 6
"""Times that a field with folds is halved."""
OUTLINE = 33
"""Points along each edge of an image that are mapped to find the size of a mean frame."""
LARGEST = 4
"""Largest ratio of the pixels of a mean frame to those of all images."""
MEAN, AUTO = "mean", "auto"


@dataclass(frozen=True)
class Solution:
    """The common frame of a group, the reference image (None: the mean), and the transform of each image.

    ``kept`` and ``residual`` belong to the links: the share of its weight that each kept, and its median
    distance from the solution in pixels of its moving image (NaN where not known).
    """

    frame: Frame
    reference: int | None
    transforms: dict[int, Transform]
    kept: Float64
    residual: Float64


def solve(
    images: Sequence[Frame],
    members: Sequence[int],
    links: Sequence[Link],
    *,
    reference: str | int = AUTO,
    model: str = "local",
    union: bool = False,
) -> Solution:
    """The common frame of the connected ``members`` of a set, and their transforms.

    ``images`` are the frames of all images, ``links`` those between members. ``reference`` is ``auto``,
    ``mean``, or an image; ``model`` that of ``Settings``; with ``union`` the frame holds all images, and
    otherwise is the reference's own grid.
    """
    index = {image: n for n, image in enumerate(members)}
    own = [replace(x, fixed=index[x.fixed], moving=index[x.moving]) for x in links]
    centre = reference if isinstance(reference, int) else members[_centre(own, len(members))]
    matched = [sampled(link) for link in own]
    kind = "affine" if model in ("affine", "local") else "similarity"
    mirrored = _mirrored(own, len(members), index[centre])
    kind = "translation" if model == "translation" and not any(mirrored) else kind
    found = global_maps.solve(len(members), matched, index[centre], mirrored, kind)
    isometric = model == "rigid" or (model == "translation" and kind != model)
    common = _rigid(found.common_from_image) if isometric else found.common_from_image
    held = None if reference == MEAN else index[centre]
    if held is None:
        common = global_maps.without_net_shape(common)
    frames = [images[image] for image in members]
    frame, common = _frame(frames, common, None if union else held)
    solved = _fields(frame, common, own, found.kept, held) if model == "local" else None
    kept, residual = (solved.kept, solved.residual) if solved else (found.kept, _residuals(common, own))
    transforms = {
        image: _transform(frame, images[image], affine.invert(common[n]), solved, n)
        for image, n in index.items()
    }
    if held is not None and not union:  # exactly: its pixels are copied
        transforms[centre] = Transform("translation", frame, images[centre], affine.identity())
    return Solution(frame, None if held is None else centre, transforms, kept, residual)


def _centre(links: Sequence[Link], count: int) -> int:
    """The best connected image of those that are not mirrored relative to most others."""
    mirrored = np.array(_mirrored(links, count, 0))
    usual = mirrored == (2 * mirrored.sum() > count)
    weights = _weights(links)
    order = best_connected(list(range(count)), weights)
    return next(image for image in order if usual[image])


def _weights(links: Sequence[Link]) -> dict[tuple[int, int], float]:
    """The weights of links: the trust over the squared expected error."""
    return {
        (link.fixed, link.moving): link.trust / float(np.median(sampled(link).sigma)) ** 2 for link in links
    }


def _mirrored(links: Sequence[Link], count: int, reference: int) -> list[bool]:
    """Whether each image is mirrored relative to the reference, by the most trusted path of links."""
    sign = {reference: 1.0}
    for _ in range(count):
        for link in sorted(links, key=lambda link: -link.trust):
            parity = float(np.sign(affine.determinant(link.transform.matrix)))
            for one, other in ((link.fixed, link.moving), (link.moving, link.fixed)):
                if one in sign and other not in sign:
                    sign[other] = sign[one] * parity
    return [sign.get(image, 1.0) < 0 for image in range(count)]


def _rigid(maps: Float64) -> Float64:
    """Similarities (n, 2, 3) with their scales set to 1 about the images' origins."""
    linear = maps[:, :, :2] / np.sqrt(np.abs(affine.determinant(maps)))[:, None, None]
    return np.concatenate([linear, maps[:, :, 2:]], 2)


def _frame(frames: Sequence[Frame], common: Float64, held: int | None) -> tuple[Frame, Float64]:
    """The common frame, and the maps to its pixels: the grid of one image, or one that holds all."""
    if held is not None:
        return frames[held], common
    outlines = []
    for frame, matrix in zip(frames, common, strict=True):
        x, y = (np.linspace(-0.5, side - 0.5, OUTLINE) for side in (frame.width, frame.height))
        sides = affine.points_at(x, y[[0, -1]]), affine.points_at(x[[0, -1]], y)
        outlines.append(affine.apply(matrix, np.concatenate([side.reshape(-1, 2) for side in sides])))
    low, high = (end(np.concatenate(outlines), axis=0) for end in (np.min, np.max))
    width, height = (math.ceil(x - 1e-6) for x in high - low)
    if width * height > LARGEST * sum(frame.width * frame.height for frame in frames):
        raise RegisterError(
            f"a frame for all images would be {width} × {height} pixels; name one as --reference, and use"
            " --canvas fixed"
        )
    moved = affine.compose(affine.translation(*(-0.5 - low)), common)
    return Frame(width, height, _pixel_size(frames, common)), moved


def _pixel_size(frames: Sequence[Frame], common: Float64) -> PixelSize | None:
    """The pixel size of a frame, the geometric mean of what the images say; None where their units differ."""
    known = [(frame.pixel_size, affine.scale(m)) for frame, m in zip(frames, common, strict=True)]
    sizes = [(size, scale) for size, scale in known if size is not None]
    if not sizes or len({size.unit for size, _ in sizes}) > 1:
        return None
    side = math.exp(np.mean([math.log(math.sqrt(size.x * size.y) / scale) for size, scale in sizes]))
    return PixelSize(side, side, sizes[0][0].unit)


def _fields(
    frame: Frame, common: Float64, links: Sequence[Link], kept: Float64, held: int | None
) -> Fields | None:
    """The patch fields of all images; None where no link has patches."""
    spacing = [
        min(link.transform.grid.spacing) * affine.scale(common[link.fixed])
        for link in links
        if link.transform.grid is not None
    ]
    if not spacing:
        return None
    grid = PatchGrid.cover(frame.height, frame.width, FINER * float(np.median(spacing)))
    # residuals of agreeing links are what global maps cannot express, and say nothing against a link
    kept = np.where(kept > AGREES, 1.0, kept)
    return fields.solve(grid, affine.invert(common), _with_unseen(common, links, kept), kept, held)


def _with_unseen(common: Float64, links: Sequence[Link], kept: Float64) -> list[Link]:
    """The links; those without local deformation with the usual deviation of the others from the global maps.

    A link of which only the global map was kept, because little of the tissue is left, says nothing of local
    deformation. It would hold the images against those that see it.
    """
    residual = _residuals(common, links)
    local = [n for n, link in enumerate(links) if link.is_local and kept[n] > AGREES]
    usual = float(np.median(residual[local])) if local else 0.0
    return [link if link.is_local else replace(link, unseen=usual) for link in links]


def _residuals(common: Float64, links: Sequence[Link]) -> Float64:
    """The median distance of each link from the global maps, in pixels of its moving image."""
    found = []
    for link in links:
        here = sampled(link)
        there = affine.compose(affine.invert(common[link.moving]), common[link.fixed])
        found.append(np.median(np.linalg.norm(affine.apply(there, here.points) - here.mapped, axis=1)))
    return np.array(found)


def _transform(frame: Frame, image: Frame, matrix: Float64, solved: Fields | None, number: int) -> Transform:
    """The transform from the frame to one image; without folds."""
    plain = Transform("affine", frame, image, matrix)
    if solved is None:
        return plain
    scale = affine.scale(matrix)
    error = np.sqrt(solved.variance[number].ravel()) * scale
    known = tuple(round(float(e), 4) if math.isfinite(e) else None for e in error)
    status = tuple("weak" if e is None else "ok" for e in known)
    figures = PatchFigures(status=status, expected_error=known)
    values = solved.values[number]
    for _ in range(HALVINGS):
        matrices = fields.maps_of(solved.grid, matrix, values)
        made = replace(plain, model="local", grid=solved.grid, matrices=matrices, patch_figures=figures)
        if made.smallest_determinant() > 0:
            return made
        values = values / 2
    raise RegisterError("the solution of the set folds; use --model affine")


def verdicts(
    solution: Solution, members: Sequence[int], links: Sequence[Link]
) -> dict[int, tuple[Verdict, tuple[str, ...]]]:
    """The verdict of each member of a solved group and its reasons, from the links that agree with the rest.

    It is ``ok`` for images that ``ok`` links join with the reference (or with the largest part of the group),
    ``suspect`` for those that only suspect links join or whose links contradict each other, and ``failed``
    for the others.
    """
    limit = largest_residual(solution.frame)
    agree = [link for link, kept in zip(links, solution.kept, strict=True) if kept >= AGREES]
    strong = [link for link in agree if link.trust == 1.0]
    joined, sure = (_joined(solution, members, some) for some in (agree, strong))
    found: dict[int, tuple[Verdict, tuple[str, ...]]] = {}
    for image in members:
        own = [link for link in links if image in (link.fixed, link.moving)]
        agreeing = [link for link in own if link in agree]
        off = _contradiction(solution, links, image)
        if image in sure and off > limit:
            found[image] = Verdict.SUSPECT, (f"its links contradict each other by {off:.1f} px",)
        elif image in sure:
            found[image] = Verdict.OK, ()
        elif image in joined and (len(agreeing) > 1 or len(own) == 1):
            found[image] = Verdict.SUSPECT, ("only suspect links join it with the others",)
        else:
            found[image] = Verdict.FAILED, (_why(len(own), len(agreeing)),)
    return found


def largest_residual(frame: Frame) -> float:
    """The largest distance, in pixels, of an ``ok`` image's links from the solution on a frame."""
    return CONTRADICTS * math.hypot(frame.width, frame.height)


def _contradiction(solution: Solution, links: Sequence[Link], image: int) -> float:
    """The largest residual of the links of an image that are not left out, in pixels."""
    known = zip(links, solution.kept, np.nan_to_num(solution.residual), strict=True)
    own = [float(off) for link, kept, off in known if image in (link.fixed, link.moving) and kept >= AGREES]
    return max(own, default=0.0)


def _why(own: int, agreeing: int) -> str:
    if not agreeing:
        return f"none of its {own} links agrees with the other images"
    return f"only {agreeing} of its {own} links agrees with the other images, and that one is suspect"


def _joined(solution: Solution, members: Sequence[int], links: Sequence[Link]) -> set[int]:
    """The members that links join with the reference, or the largest part of them."""
    index = {image: n for n, image in enumerate(members)}
    found = parts(len(members), [(index[link.fixed], index[link.moving]) for link in links])
    held = solution.reference
    part = found[0] if held is None else next(part for part in found if index[held] in part)
    return {members[n] for n in part}


def with_verdict(transform: Transform, verdict: Verdict, reasons: Sequence[str]) -> Transform:
    """The transform of an image with its quality."""
    known = [error for error in transform.patch_figures.expected_error if error is not None]
    expected = round(float(np.median(known)), 4) if known else None
    determinant = float(affine.determinant(transform.matrix))
    notes = ("the image is mirrored",) if determinant < 0 else ()
    quality = Quality(
        verdict=verdict,
        reasons=tuple(reasons),
        expected_error=expected,
        det_global=round(determinant, 6),
        notes=notes,
    )
    return replace(transform, quality=quality)
