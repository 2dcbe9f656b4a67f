"""An image as it was read from a file, and the part of a file that is read."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.geometry.pixel_size import PixelSize
from register.images.pixels import EVERYTHING, PaletteColours, Pixels

ASSOCIATED, UNASSOCIATED = 1, 2
"""Codes of an extra channel that holds opacity (TIFF 6.0, tag ExtraSamples)."""


class PlaneError(FileError):
    """A stack of which no plane is chosen."""


@dataclass(frozen=True)
class Selection:
    """The part of a file that is read.

    ``series`` is the number of an image in the file (None: the largest one), ``level`` the level of its
    pyramid (0 is the finest), and ``plane`` the index of every axis besides x, y and channel, such as
    ``Z=3,T=0``. With ``allow_truncated`` the part that is left of a file that is cut off is enough.
    """

    series: int | None = None
    level: int = 0
    plane: str | None = None
    allow_truncated: bool = False

    def indices(self, path: Path, axes: str, shape: tuple[int, ...]) -> dict[str, int]:
        """The index of each axis of which one element is read; the other axes are read in full.

        Raises ``FileError`` for a stack of which no plane is chosen, and for a plane that does not exist.
        """
        sizes = dict(zip(axes, shape, strict=True))
        chosen = self._chosen_plane(path, sizes)
        chosen |= {axis: 0 for axis, n in sizes.items() if n == 1 and axis not in "YX" and axis not in chosen}
        left = [axis for axis in axes if axis not in "YX" and axis not in chosen]
        if left in ([], ["C"], ["S"]):
            return chosen
        stack = [axis for axis in left if axis not in "CS"] or left[:1]
        size = " × ".join(map(str, shape))
        example = ",".join(f"{axis}=0" for axis in stack)
        raise PlaneError(
            path,
            f"is a stack with axes {axes} ({size})",
            f"choose one plane: align --fixed-plane {example} or --moving-plane {example},"
            f" apply and group --plane {example}",
        )

    def _chosen_plane(self, path: Path, sizes: dict[str, int]) -> dict[str, int]:
        """The index of each axis that ``plane`` names."""
        chosen = {}
        for item in self.plane.split(",") if self.plane else []:
            axis, _, number = item.strip().upper().partition("=")
            if not number.isdigit() or axis in ("Y", "X"):
                raise FileError(
                    path, f"cannot be read at plane {item!r}", "planes are written like Z=3 or Z=3,T=0"
                )
            if axis not in sizes or int(number) >= sizes[axis]:
                known = ", ".join(f"{a} of {n}" for a, n in sizes.items() if a not in "YX") or "none"
                raise FileError(
                    path, f"has no plane {item}; its axes besides x and y: {known}", "count from 0"
                )
            chosen[axis] = int(number)
        return chosen


LARGEST_SERIES = Selection()
"""The default: the finest level of the largest series."""


@dataclass(frozen=True)
class Image:
    """Pixels (c, h, w) in the data type of the file, and the metadata of the file.

    ``kind`` is the format: ``tiff``, ``ome``, ``png`` or ``other``. ``colour`` is the meaning of the first
    channels: ``grey`` (any number of channels), ``inverted`` (0 is white), ``rgb``, ``cmyk``, ``lab`` or
    ``palette`` (indices into ``palette``, (3, n) 16-bit values). ``extra`` are the TIFF codes of the
    channels after the colour; 1 and 2 mean opacity. ``layout`` is how the channels are stored: ``contig``
    (interleaved), ``planar``, ``pages``, or empty when unknown. ``pixel_size`` is None when the file does
    not state it. ``lut`` is a lookup table (3, n), 16 bits, in which the values of a single grey channel are
    displayed; the values themselves are no indices. ``gdal`` is GDAL's metadata as XML: descriptions, scales
    and offsets of bands, and tags. ``pixels`` may be an array or a reader that loads windows from the file;
    ``smaller`` are the coarser levels of the same image, finest first. ``notes`` are remarks for the user
    about how the file was read.
    """

    pixels: Pixels
    kind: str = "tiff"
    colour: str = "grey"
    extra: tuple[int, ...] = ()
    layout: str = ""
    palette: NDArray[Any] | None = None
    lut: NDArray[Any] | None = None
    icc: bytes | None = None
    nodata: float | None = None
    geotags: tuple[tuple[int, int, int, Any], ...] = ()
    gdal: str | None = None
    position: tuple[float, float, str] | None = None
    pixel_size: PixelSize | None = None
    channel_names: tuple[str, ...] = ()
    channel_colours: tuple[int, ...] = ()
    path: str | None = None
    notes: tuple[str, ...] = ()
    smaller: tuple[Pixels, ...] = ()

    @property
    def pixel_unit(self) -> str | None:
        """The unit of the pixel size; None when the file does not give it."""
        return self.pixel_size.unit if self.pixel_size else None

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` in pixels."""
        return self.pixels.shape[1], self.pixels.shape[2]

    @property
    def channels(self) -> int:
        """The number of channels, opacity included."""
        return self.pixels.shape[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The data type of the pixels."""
        return self.pixels.dtype

    @property
    def alpha(self) -> bool:
        """Whether the last channel is opacity."""
        return bool(self.extra) and self.extra[-1] in (ASSOCIATED, UNASSOCIATED)

    @property
    def nbytes(self) -> int:
        """The size of all pixels in memory, in bytes."""
        return math.prod(self.pixels.shape) * self.dtype.itemsize

    @property
    def white(self) -> float | None:
        """The largest value of unsigned integers; None for other data types, which have no fixed white."""
        return float(np.iinfo(self.dtype).max) if self.dtype.kind == "u" else None

    def in_memory(self) -> "Image":
        """The image with its pixels loaded into memory and without its coarser levels."""
        return replace(self, pixels=np.ascontiguousarray(self.pixels[EVERYTHING]), smaller=())

    def coloured(self) -> "Image":
        """The image with palette indices replaced by their colours; other images are returned unchanged."""
        if self.palette is None:
            return self
        palette = self.palette
        if self.dtype.itemsize == 1 and not (palette % 257).any():
            palette = (palette // 257).astype(np.uint8)
        elif not (palette & 255).any():
            palette = (palette >> 8).astype(np.uint8)
        levels = [PaletteColours(x, palette) for x in (self.pixels, *self.smaller)]
        return replace(self, pixels=levels[0], smaller=tuple(levels[1:]), colour="rgb", palette=None)

    def interpolated(self, interpolation: str) -> "Image":
        """The image as it is resampled: a palette becomes colours unless the interpolation is ``nearest``."""
        return self if interpolation == "nearest" else self.coloured()

    def picture(self) -> NDArray[Any]:
        """The channels (h, w, c) in memory without opacity: the form that ``register.align`` accepts."""
        pixels = self.coloured().pixels[EVERYTHING]
        return np.moveaxis(pixels[:-1] if self.alpha else pixels, 0, 2)
