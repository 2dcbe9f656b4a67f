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
from register.io.images.colours import ColourPicture
from register.transforms.transform import Transform

Grey = NDArray[np.float32]
Picture = NDArray[np.uint8]
SIDE = 900
"""Longest side, in pixels, of pictures of an entire image."""
LOW, MIDDLE, HIGH = np.array([84.0, 39, 136]), np.array([245.0, 245, 245]), np.array([179.0, 88, 6])
"""Colours of a difference of -1, 0 and 1: purple, near white and orange (after ColorBrewer's PuOr), which
can be distinguished with colour-blind vision."""


class View(NamedTuple):
    """A region on the fixed grid as greys (h, w) in [0, 1], NaN outside an image.

    The fixed image, the moving image before alignment, and the moving image after alignment.
    """

    fixed: Grey
    before: Grey
    after: Grey


@dataclass(frozen=True)
class Scene:
    """Two grey levels in [0, 1] on the CPU, and the transform between the original images."""

    fixed: Level
    moving: Level
    transform: Transform
    colours: tuple[ColourPicture | None, ColourPicture | None] = (None, None)
    """Both images in their own colours, where they have any."""

    @classmethod
    def of(
        cls,
        fixed: Level,
        moving: Level,
        transform: Transform,
        colours: tuple[ColourPicture | None, ColourPicture | None] = (None, None),
    ) -> "Scene":
        """The scene of two levels with any range of values."""
        return cls(_normal(fixed), _normal(moving), transform, colours)

    @property
    def unaligned(self) -> Transform:
        """The identity between both images."""
        matrix = affine.identity()
        return replace(self.transform, model="translation", matrix=matrix, grid=None, matrices=None, chain=())

    def coarser(self, side: float) -> "Scene":
        """The scene with a fixed level of at most ``side`` pixels and moving pixels of the same size."""
        fixed = pyramid.shrink(self.fixed, max(self.fixed.size) / side)
        matrix = torch.from_numpy(self.transform.matrix)
        return replace(self, fixed=fixed, moving=comparison.match_pixel_size(self.moving, fixed, matrix))

    def entire(self) -> View:
        """The entire fixed image, its longest side at most ``SIDE`` pixels."""
        return self.coarser(SIDE).view()

    def view(self) -> View:
        """The entire fixed level."""
        fixed, after = self.aligned()
        return View(fixed, self._sampled(self.unaligned), after)

    def aligned(self, rows: slice = slice(None), columns: slice = slice(None)) -> tuple[Grey, Grey]:
        """The fixed and the aligned grey of a region of the fixed level, by default all of it."""
        return valid_grey(self.fixed)[rows, columns], self._sampled(self.transform, rows, columns)

    def _sampled(self, transform: Transform, rows: slice = slice(None), columns: slice = slice(None)) -> Grey:
        """The moving grey in a region of the fixed level, by a transform of the originals."""
        y, x = (
            np.arange(n, dtype=float)[span] for n, span in zip(self.fixed.size, (rows, columns), strict=True)
        )
        up = self.fixed.original_from_level.numpy()
        return sampled(self.moving, transform, up[0, 0] * x + up[0, 2], up[1, 1] * y + up[1, 2])


def sampled(level: Level, transform: Transform, x: NDArray[np.float64], y: NDArray[np.float64]) -> Grey:
    """The grey (len(y), len(x)) of a moving level at fixed positions x and y, NaN outside the image."""
    down = affine.invert(level.original_from_level.numpy())
    units = (float(down[0, 0]), float(down[1, 1])), (float(down[0, 2]), float(down[1, 2]))
    points = torch.from_numpy(transform.map_grid(x, y, units)).float()
    values = interpolation.sample(level.image[None], points[None])[0, 0]
    grey: Grey = torch.where(interpolation.inside(points, *level.size), values, torch.nan).numpy()
    return grey


def valid_grey(level: Level) -> Grey:
    """The grey (h, w) of a level; invalid pixels are black."""
    grey: Grey = (level.image * (level.mask > 0))[0].numpy()
    return grey


def checkerboard(fixed: Grey, moving: Grey, side: int) -> Picture:
    """Alternating squares of the fixed and the moving grey, of ``side`` pixels, as RGB bytes (h, w, 3)."""
    y, x = (np.arange(n) // side % 2 == 0 for n in fixed.shape)
    grey = np.where(y[:, None] == x, as_bytes(fixed), as_bytes(moving))
    return np.repeat(grey[..., None], 3, axis=2)


def difference(fixed: Grey, moving: Grey) -> Picture:
    """Moving minus fixed grey as RGB bytes (h, w, 3): orange where it is positive, purple where negative."""
    by = np.linspace(-1, 1, 511)[:, None]
    colours = np.rint(MIDDLE + np.where(by > 0, by * (HIGH - MIDDLE), -by * (LOW - MIDDLE))).astype(np.uint8)
    levels = np.nan_to_num(np.rint(255 * (moving - fixed)))
    return colours.take(levels.astype(np.int16) + 255, axis=0)


def as_bytes(picture: Grey) -> Picture:
    """Greys in [0, 1] as bytes; NaN is black."""
    return np.rint(np.where(np.isnan(picture), 0, picture) * 255).astype(np.uint8)


def _normal(level: Level) -> Level:
    """A level on the CPU with greys in [0, 1]."""
    level = Level(level.image.detach().cpu(), level.mask.cpu(), level.original_from_level)
    return Level(preprocess.normalise(level.image, level.mask), level.mask, level.original_from_level)
