"""The pixel grid of an image."""

from dataclasses import dataclass

from register.geometry.pixel_size import PixelSize


@dataclass(frozen=True)
class Frame:
    """The pixel grid of one image: its size in pixels, its pixel size where known, and the file it came from."""

    width: int
    height: int
    pixel_size: PixelSize | None = None
    path: str | None = None
    sha256: str | None = None

    def at_scale(self, scale: float) -> "Frame":
        """The frame of the same image with pixels ``scale`` times finer, without path and hash."""
        size = self.pixel_size.times(1 / scale, 1 / scale) if self.pixel_size else None
        return Frame(max(round(self.width * scale), 1), max(round(self.height * scale), 1), size)
