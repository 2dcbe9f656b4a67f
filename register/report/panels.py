"""Both images on one grid, and the pictures that compare them: false colour, checkerboard, difference."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from register.engine.fit import comparison
from register.geometry import affine
from register.images import interpolation, preprocess, pyramid
from register.images.pyramid import Level
from register.transforms.transform import Transform

Grey = NDArray[np.float32]
Picture = NDArray[np.uint8]
SIDE = 720
"""Longest side, in pixels, of pictures of a whole image."""
LOW, MIDDLE, HIGH = np.array([84.0, 39, 136]), np.array([245.0, 245, 245]), np.array([179.0, 88, 6])
"""Colours of a difference from -1 over 0 to 1: purple, near white, orange, which colour-blind eyes tell apart (ColorBrewer's PuOr)."""


class View(NamedTuple):
    """Greys (h, w) in [0, 1] of one part of the fixed image: itself, the moving image as it was and as it is aligned; NaN where it shows nothing."""

    fixed: Grey
    before: Grey
    after: Grey


@dataclass(frozen=True)
class Scene:
    """Two grey levels in [0, 1] on the CPU and the transform of their originals."""

    fixed: Level
    moving: Level
    transform: Transform

    @classmethod
    def of(cls, fixed: Level, moving: Level, transform: Transform) -> "Scene":
        """The scene of two levels of any range."""
        return cls(_normal(fixed), _normal(moving), transform)

    def coarser(self, side: float) -> "Scene":
        """The same with a fixed level of at most ``side`` pixels, and a moving one whose pixels are as large."""
        fixed = pyramid.shrink(self.fixed, max(self.fixed.size) / side)
        matrix = torch.from_numpy(self.transform.matrix)
        return replace(self, fixed=fixed, moving=comparison.match_pixel_size(self.moving, fixed, matrix))

    def whole(self) -> View:
        """All of it, no larger than a page shows."""
        return self.coarser(SIDE).view()

    def view(self, rows: slice = slice(None), columns: slice = slice(None)) -> View:
        """Selection of the fixed level, all of it by default."""
        still = replace(
            self.transform,
            model="translation",
            matrix=affine.identity(),
            grid=None,
            matrices=None,
            chain=(),
        )
        height, width = self.fixed.size
        y, x = (torch.arange(n, dtype=torch.float64)[span] for n, span in ((height, rows), (width, columns)))
        return View(
            seen(self.fixed)[rows, columns], *(self._read(way, x, y) for way in (still, self.transform))
        )

    def _read(self, transform: Transform, x: torch.Tensor, y: torch.Tensor) -> Grey:
        """The moving grey where a transform of the originals brings it on some of the fixed level's pixels."""
        up, down = self.fixed.original_from_level, affine.invert(self.moving.original_from_level)
        units = (float(down[0, 0]), float(down[1, 1])), (float(down[0, 2]), float(down[1, 2]))
        at = (up[0, 0] * x + up[0, 2]).numpy(), (up[1, 1] * y + up[1, 2]).numpy()
        points = torch.from_numpy(transform.map_grid(*at, units)).float()
        values = interpolation.sample(self.moving.image[None], points[None])[0, 0]
        grey: Grey = torch.where(interpolation.inside(points, *self.moving.size), values, torch.nan).numpy()
        return grey


def seen(level: Level) -> Grey:
    """The grey (h, w) of a level; black where it shows nothing."""
    grey: Grey = (level.image * (level.mask > 0))[0].numpy()
    return grey


def false_colour(fixed: Grey, moving: Grey) -> Picture:
    """An RGB picture (h, w, 3) of two greys (h, w) in [0, 1]: fixed in green, moving in magenta, which colour-blind eyes tell apart."""
    magenta = as_bytes(moving)
    return np.stack([magenta, as_bytes(fixed), magenta], axis=2)


def checkerboard(fixed: Grey, moving: Grey, side: int) -> Picture:
    """An RGB picture (h, w, 3) of squares of ``side`` pixels, fixed and moving in turn."""
    y, x = (np.arange(n) // side % 2 == 0 for n in fixed.shape)
    return np.repeat(np.where(y[:, None] == x, as_bytes(fixed), as_bytes(moving))[..., None], 3, axis=2)


def difference(fixed: Grey, moving: Grey) -> Picture:
    """An RGB picture (h, w, 3) of moving minus fixed: orange where the moving grey is brighter, purple where the fixed one is."""
    by = np.linspace(-1, 1, 511)[:, None]
    colours = np.rint(MIDDLE + np.where(by > 0, by * (HIGH - MIDDLE), -by * (LOW - MIDDLE))).astype(np.uint8)
    apart = np.nan_to_num(np.rint(255 * (moving - fixed)))
    return colours.take(apart.astype(np.int16) + 255, axis=0)


def as_bytes(picture: Grey) -> Picture:
    """Greys in [0, 1] as bytes; what is not known is black."""
    return np.rint(np.where(np.isnan(picture), 0, picture) * 255).astype(np.uint8)


def _normal(level: Level) -> Level:
    level = Level(level.image.detach().cpu(), level.mask.cpu(), level.original_from_level)
    return Level(preprocess.normalise(level.image, level.mask), level.mask, level.original_from_level)
