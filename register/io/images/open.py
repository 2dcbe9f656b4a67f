"""Open and read images: the file's own pixels, what they mean, and the size of a pixel."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.files.atomic import atomic_write
from register.images.pixels import EVERYTHING, PaletteColours, Pixels
from register.io.images import ome_zarr, raster, tiff, tiff_write

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ASSOCIATED, UNASSOCIATED = 1, 2
"""Extra samples that are opacity (TIFF 6.0, tag ExtraSamples)."""


@dataclass(frozen=True)
class Selection:
    """What of a file is read: a series (None: the largest), a level of its pyramid, and the index of every axis that is neither x, y nor channel."""

    series: int | None = None
    level: int = 0
    plane: str | None = None

    def pick(self, path: Path, axes: str, shape: tuple[int, ...]) -> dict[str, int]:
        """The index of each axis that is not read whole; raises ``FileError`` naming the axes of a stack of which no plane is chosen."""
        sizes = dict(zip(axes, shape, strict=True))
        picked = {axis: n for axis, n in self._asked(path, sizes).items() if axis in sizes}
        picked |= {axis: 0 for axis, n in sizes.items() if n == 1 and axis not in "YX" and axis not in picked}
        left = [axis for axis in axes if axis not in "YX" and axis not in picked]
        if left in ([], ["C"], ["S"]):
            return picked
        stack = [axis for axis in left if axis not in "CS"] or left[:1]
        size = " × ".join(map(str, shape))
        example = ",".join(f"{axis}=0" for axis in stack)
        raise FileError(
            path,
            f"is a stack with axes {axes} ({size})",
            f"choose a plane of it: align --fixed-plane {example} or --moving-plane {example}, apply --plane {example}",
        )

    def _asked(self, path: Path, sizes: dict[str, int]) -> dict[str, int]:
        asked = {}
        for item in self.plane.split(",") if self.plane else []:
            axis, _, number = item.strip().upper().partition("=")
            if not number.isdigit() or axis in ("Y", "X"):
                raise FileError(
                    path, f"cannot be read at plane {item!r}", "planes are named like Z=3 or Z=3,T=0"
                )
            if axis not in sizes or int(number) >= sizes[axis]:
                known = ", ".join(f"{a} of {n}" for a, n in sizes.items() if a not in "YX") or "none"
                raise FileError(
                    path, f"has no plane {item}; its axes besides x and y: {known}", "count from 0"
                )
            asked[axis] = int(number)
        return asked


WHOLE_IMAGE = Selection()


@dataclass(frozen=True)
class Image:
    """Pixels (c, h, w) in the file's own dtype and what the file says about them.

    ``kind`` is ``tiff``, ``ome``, ``png`` or ``other``. ``colour`` says what the first channels are: ``grey`` (any number of channels),
    ``inverted`` (0 is white), ``rgb``, ``cmyk``, ``lab`` or ``palette`` (indices into ``palette``, (3, n) of 16 bits); ``extra`` are TIFF's codes of
    those after them, 1 and 2 being opacity. ``layout`` is ``contig`` (the channels of a pixel together), ``planar``, ``pages`` or unknown.
    ``pixel_size`` is ``(x, y)`` in ``pixel_unit``, both None when the file does not say.
    ``pixels`` may still be in the file; ``smaller`` are the same picture at coarser levels.
    """

    pixels: Pixels
    kind: str = "tiff"
    colour: str = "grey"
    extra: tuple[int, ...] = ()
    layout: str = ""
    palette: NDArray[Any] | None = None
    icc: bytes | None = None
    nodata: float | None = None
    geotags: tuple[tuple[int, int, int, Any], ...] = ()
    position: tuple[float, float, str] | None = None
    pixel_size: tuple[float, float] | None = None
    pixel_unit: str | None = None
    channel_names: tuple[str, ...] = ()
    channel_colours: tuple[int, ...] = ()
    path: str | None = None
    notes: tuple[str, ...] = ()
    smaller: tuple[Pixels, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` in pixels."""
        return self.pixels.shape[1], self.pixels.shape[2]

    @property
    def channels(self) -> int:
        """How many channels there are, opacity among them."""
        return self.pixels.shape[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a value."""
        return self.pixels.dtype

    @property
    def alpha(self) -> bool:
        """Whether the last channel is opacity."""
        return bool(self.extra) and self.extra[-1] in (ASSOCIATED, UNASSOCIATED)

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels in memory."""
        return math.prod(self.pixels.shape) * self.dtype.itemsize

    @property
    def white(self) -> float | None:
        """The value of white, where the type says it."""
        return float(np.iinfo(self.dtype).max) if self.dtype.kind == "u" else None

    def in_memory(self) -> "Image":
        """The same with its pixels in memory, the finest level alone."""
        return replace(self, pixels=np.ascontiguousarray(self.pixels[EVERYTHING]), smaller=())

    def coloured(self) -> "Image":
        """The same with the colours its indices stand for; other images as they are."""
        if self.palette is None:
            return self
        palette = self.palette
        if self.dtype.itemsize == 1 and not (palette % 257).any():
            palette = (palette // 257).astype(np.uint8)
        elif not (palette & 255).any():
            palette = (palette >> 8).astype(np.uint8)
        levels = [PaletteColours(x, palette) for x in (self.pixels, *self.smaller)]
        return replace(self, pixels=levels[0], smaller=tuple(levels[1:]), colour="rgb", palette=None)

    def picture(self) -> NDArray[Any]:
        """The colours or channels (h, w, c) in memory, without opacity: what ``register.align`` takes."""
        pixels = self.coloured().pixels[EVERYTHING]
        return np.moveaxis(pixels[:-1] if self.alpha else pixels, 0, 2)


def open_image(path: str | Path, part: Selection = WHOLE_IMAGE) -> Image:
    """The image in a TIFF, OME-TIFF, OME-Zarr, PNG, JPEG, or any other file Pillow reads; large ones stay in the file until a window is read.

    Raises ``FileError`` naming the file and what is wrong: missing, empty, damaged, not an image, a stack.
    """
    path = Path(path)
    try:
        if ome_zarr.is_ome_zarr(path):
            fields = ome_zarr.read(path, part)
        else:
            head = _head(path)
            fields = tiff.read(path, part) if head[:4] in TIFF_MAGIC else raster.read(path, head, part)
        finest, *smaller = fields.pop("levels")
        if 0 in finest.shape:
            raise FileError(
                path,
                f"holds an image without pixels ({finest.shape[2]} × {finest.shape[1]})",
                "check that the file is whole",
            )
        return Image(finest, path=str(path), smaller=tuple(smaller), **fields)
    except (FileError, KeyboardInterrupt):
        raise
    except MemoryError:
        raise FileError(path, "is larger than the free memory", "use a smaller level of it") from None
    except (
        Exception
    ) as error:  # decoders raise anything on damaged files; the file is what is wrong, and it is named
        raise unreadable(path, error) from error


def read_image(path: str | Path, part: Selection = WHOLE_IMAGE) -> Image:
    """``open_image`` with all pixels in memory; raises ``FileError``."""
    try:
        return open_image(path, part).in_memory()
    except (FileError, KeyboardInterrupt):
        raise
    except MemoryError:
        raise FileError(path, "is larger than the free memory", "use a smaller level of it") from None
    except Exception as error:
        raise unreadable(Path(path), error) from error


def write_image(
    path: str | Path,
    image: Image,
    *,
    compression: str = "deflate",
    pyramid: bool = False,
    nearest: bool = False,
    tick: tiff_write.Tick = lambda n: None,
) -> None:
    """Write a TIFF, OME-TIFF (``.ome.tif``, or its kind) or PNG (``.png``), whole or not at all; ``tick`` hears how many values were written.

    Raises ``FileError``.
    """
    name = str(path).lower()
    with atomic_write(path) as beside:
        if name.endswith(".png"):
            raster.write_png(beside, image)
        else:
            image = replace(image, kind="ome") if name.endswith((".ome.tif", ".ome.tiff")) else image
            tiff_write.write(
                beside, image, compression=compression, pyramid=pyramid, nearest=nearest, tick=tick
            )


def unreadable(path: Path, error: Exception) -> FileError:
    """The one line about a file on which a decoder gave up."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return FileError(path, f"cannot be read as an image ({reason})", "check that the file is whole")


def aligned_name(moving: Image) -> str:
    """The name of the aligned image's file: PNG stays PNG, OME and pyramids become OME-TIFF, everything else a TIFF."""
    plain = moving.dtype in (np.uint8, np.uint16) and moving.channels <= 4
    if moving.kind == "png" and plain:
        return "aligned.png"
    return "aligned.ome.tif" if moving.kind == "ome" or moving.smaller else "aligned.tif"


def _head(path: Path) -> bytes:
    """The first bytes of a file; raises ``FileError`` when there is none."""
    try:
        with open(path, "rb") as file:
            head = file.read(32)
    except FileNotFoundError:
        raise FileError(path, "does not exist", "check the path") from None
    except IsADirectoryError:
        raise FileError(path, "is a folder", "name an image file in it") from None
    except OSError as error:
        raise FileError(path, f"cannot be opened ({error.strerror})") from None
    if not head:
        raise FileError(path, "is empty", "it was probably not copied to the end")
    return head
