"""Find the pieces of the fixed image that are mapped onto background of the moving image, or outside of it.

A piece that is missing, or lies elsewhere, leaves nothing to compare where its place is background without
noise, which has no weight, or beyond the moving image. The patches there say nothing, and those of the other
pieces agree. So whole pieces are asked for: areas of content that background surrounds.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from register.engine.fit import global_fit
from register.geometry import affine
from register.images import filters, interpolation, preprocess
from register.images.pyramid import Level

SIDE = 512
"""Longest side, in pixels, of the levels on which pieces are looked for."""
CONTENT = 0.2
"""Texture weight up to which pixels tell the grey value of the background."""
LEAST_PIECE, LEAST_MISSING = 0.01, 0.08
"""Share of the image that a piece covers, and of the content that is missing, at least."""
WHOLE = 0.7
"""Share of a piece that is mapped onto background or outside from which it is missing."""
SMOOTHING, UNIFORM, LIKE = 2.0, 0.03, 0.08
"""Standard deviation, in pixels, of the Gaussian before grey values are compared with that of the background,
the largest median deviation of background, and the largest difference of a pixel that shows it."""
AROUND = 4
"""Pixels around content that are not taken for background."""
CUT = 0.4
"""Content along the frame of an image, as a share of that in all of it, up to which the image shows whole
pieces; a part of a larger scene has as much along its frame as elsewhere."""


@dataclass(frozen=True)
class Shown:
    """What a level shows: which pixels are content and which background, bool (h, w)."""

    level: Level
    content: Tensor
    background: Tensor

    @property
    def is_whole(self) -> bool:
        """Whether the frame of the image cuts few pieces."""
        content = self.content.double()
        return float(_frame(content).mean()) < CUT * float(content.mean())


@dataclass(frozen=True)
class Missing:
    """Pieces of the fixed image that the moving image does not show where they are mapped.

    ``where`` (h, w) are their pixels on a ``level``, ``count`` is their number ``among`` all pieces, and
    ``share`` that of the content.
    """

    level: Level
    where: Tensor
    count: int
    among: int
    share: float

    def at(self, points: Tensor) -> Tensor:
        """Whether fixed points (n, 2) lie on a missing piece: bool (n,)."""
        return _looked_up(self.where, self.level, points)

    @property
    def reason(self) -> str:
        """Why the alignment is suspect."""
        return (
            f"{self.count} of {self.among} pieces of the fixed image ({self.share:.0%} of its content) are "
            "not recognised: they are mapped onto background of the moving image, or outside of it; they are "
            "missing or lie elsewhere, and have no expected error"
        )


def missing(
    images: tuple[Level, Level], valid: tuple[Tensor, Tensor] | None, mapped: Callable[[Tensor], Tensor]
) -> Missing | None:
    """The missing pieces of the first image; None where there are none, or the images show no pieces.

    ``images`` are working copies, ``valid`` (1, h, w) their pixels that are not masked, constant borders
    included, and ``mapped`` is the map of points (n, 2) of the originals. A piece outside of the moving image
    is missing only if both images show whole pieces and the frame of the fixed one does not cut it. Both must
    have a background of one grey value, and another piece must be there.
    """
    fixed, moving = (shown(copy, mask) for copy, mask in zip(images, valid or (None, None), strict=True))
    if fixed is None or moving is None:
        return None
    number, labels = filters.opencv().connectedComponents(fixed.content.byte().cpu().numpy(), connectivity=8)
    pieces = torch.from_numpy(labels).long()
    row, column = pieces.nonzero(as_tuple=True)
    at = torch.stack([column, row], 1).double()
    there = mapped(affine.apply(fixed.level.original_from_level.double().cpu(), at))
    lost = _looked_up(moving.background, moving.level, there)
    own = pieces[row, column]
    if fixed.is_whole and moving.is_whole:
        cut = torch.bincount(_frame(pieces), minlength=number) > 0
        lost |= ~_inside(moving.level, there) & ~cut[own]
    area = torch.bincount(own, minlength=number)
    gone = torch.bincount(own, lost.double(), minlength=number) / area.clamp(min=1)
    large = area >= LEAST_PIECE * pieces.numel()
    named = large & (gone > WHOLE)
    share = float(area[named].sum()) / max(float(area[large].sum()), 1.0)
    if share < LEAST_MISSING or bool(named[large].all()):
        return None
    return Missing(fixed.level, named[pieces], int(named.sum()), int(large.sum()), share)


def shown(copy: Level, valid: Tensor | None) -> Shown | None:
    """What a working copy shows; None where it has no background of one grey value."""
    level = global_fit.at_side(copy, SIDE)
    known = (level.mask > 0.5 if valid is None else _shrunk(valid, level))[0]
    texture = preprocess.texture_of(level)[0]
    grey = filters.smooth(level.image[None], SMOOTHING)[0, 0]
    flat = known & (texture <= CONTENT)
    if int(flat.count_nonzero()) < LEAST_PIECE * flat.numel():
        return None
    away = (grey - filters.median(grey[flat])).abs()
    if filters.median(away[flat]) > UNIFORM:
        return None
    content = known & ~flat & (away > LIKE)
    around = filters.widened(content[None, None].float(), AROUND)[0, 0] > 0
    return Shown(level, content, known & ~around)


def _frame(plane: Tensor) -> Tensor:
    """The values (n,) of the outermost pixels of (h, w)."""
    return torch.cat([plane[0], plane[-1], plane[:, 0], plane[:, -1]])


def _shrunk(valid: Tensor, level: Level) -> Tensor:
    """The mask (1, h, w) of a copy on its level."""
    height, width = level.size
    shrunk = torch.nn.functional.adaptive_avg_pool2d(valid[None].float(), (height, width))[0]
    return shrunk > 0.5


def _looked_up(plane: Tensor, level: Level, points: Tensor) -> Tensor:
    """The values (n,) of bool (h, w) at the pixels nearest to points (n, 2) of the original; else false."""
    at = _on(level, points).round()
    height, width = plane.shape
    x, y = at[:, 0].clamp(0, width - 1).long(), at[:, 1].clamp(0, height - 1).long()
    return plane.cpu()[y, x] & interpolation.inside(at, height, width)


def _inside(level: Level, points: Tensor) -> Tensor:
    """Whether points (n, 2) of the original are on a level."""
    return interpolation.inside(_on(level, points), *level.size)


def _on(level: Level, points: Tensor) -> Tensor:
    """Points (n, 2) of the original in pixels of a level."""
    return affine.apply(affine.invert(level.original_from_level.double().cpu()), points)
