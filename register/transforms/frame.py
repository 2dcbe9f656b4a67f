"""The pixel grid of an image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from register.geometry import affine
from register.geometry.arrays import Float64
from register.geometry.pixel_size import PixelSize


@dataclass(frozen=True)
class Frame:
    """The pixel grid of an image: its size in pixels, its pixel size where known, and its file."""

    width: int
    height: int
    pixel_size: PixelSize | None = None
    path: str | None = None
    sha256: str | None = None

    @property
    def pixel_unit(self) -> str | None:
        """The unit of the pixel size, where it is known."""
        return self.pixel_size.unit if self.pixel_size else None

    def contains(self, points: Float64) -> NDArray[np.bool_]:
        """Whether points (..., 2) lie on the pixels, [-0.5, width - 0.5] x [-0.5, height - 0.5]: (...)."""
        x, y = points[..., 0], points[..., 1]
        return (x >= -0.5) & (x <= self.width - 0.5) & (y >= -0.5) & (y <= self.height - 0.5)

    def sample_points(self, side: int) -> Float64:
        """A regular grid of points (side², 2) from the centre of the first pixel to that of the last."""
        x, y = (np.linspace(0, length - 1, side) for length in (self.width, self.height))
        return affine.points_at(x, y).reshape(-1, 2)

    def at_scale(self, scale: float) -> "Frame":
        """The frame of the same image with pixels ``scale`` times finer, without path and hash."""
        size = self.pixel_size.times(1 / scale, 1 / scale) if self.pixel_size else None
        return Frame(max(round(self.width * scale), 1), max(round(self.height * scale), 1), size)
