"""The aligned image: pixels of the moving image's type on the fixed grid, computed while they are written."""

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from register.errors import FileError, RegisterError
from register.geometry import affine
from register.images.grayscale import brightfield
from register.io.images.model import Image
from register.io.images.open import ZARR, write_image
from register.io.images.working import Validity, sample
from register.settings import Settings
from register.transforms.canvas import Canvas
from register.transforms.resample import Warped, check_fill
from register.transforms.transform import Inverse, Transform

LARGE = 4096
"""Longest side in pixels above which a TIFF gets coarser levels by default."""
PACKED = {"none": 1.0, "auto": 0.7, "deflate": 0.7, "lzw": 0.7, "zstd": 0.7, "jpeg": 0.2}
"""Expected size of a file relative to its pixels in memory, by compression."""
DEGENERATE = 1e-3, 1e3
"""Smallest and largest change of area by a transform for which the aligned image is computed."""


@dataclass(frozen=True)
class OutputStyle:
    """Interpolation, fill value and storage of an aligned image."""

    interpolation: str = "bilinear"
    fill: str = "auto"
    compression: str = "auto"
    pyramid: bool | None = None
    jpeg_quality: int | None = None
    chunks: int | None = None
    pages: bool = False

    @classmethod
    def of(cls, chosen: Settings) -> "OutputStyle":
        """The style that settings ask for."""
        return cls(
            chosen.interpolation,
            chosen.fill,
            chosen.compression,
            chosen.pyramid,
            chosen.jpeg_quality,
            chosen.chunks,
            chosen.pyramid_pages,
        )


PLAIN = OutputStyle()
TIE_POINTS, TRANSFORMATION = 33922, 34264
"""Tags of GeoTIFF: ModelTiepoint and ModelTransformation."""


def aligned_image(
    moving: Image,
    grid: Image | None,
    transform: Transform | Inverse,
    style: OutputStyle,
    canvas: Canvas | None = None,
) -> Image:
    """The moving image on the grid of the fixed image, with the pixel size and georeference of ``grid``.

    The pixels are computed when they are read. Without ``grid`` the pixel size is that of the transform's
    fixed frame. Raises ``RegisterError`` for pixels that cannot be interpolated and for a degenerate
    transform.
    """
    forward = transform.forward if isinstance(transform, Inverse) else transform
    area = abs(float(affine.determinant(forward.matrix)))
    if not DEGENERATE[0] <= area <= DEGENERATE[1]:
        raise RegisterError(f"the transform changes areas by a factor of {area:.3g}: it is degenerate")
    moving = moving.interpolated(style.interpolation)
    fill = fill_value(style.fill, moving)
    pixels = Warped(moving.pixels, transform, style.interpolation, fill, moving.alpha, canvas)
    frame = transform.fixed
    place: dict[str, Any] = {
        "pixel_size": frame.pixel_size,
        "geotags": (),
        "position": None,
    }
    if grid is not None:
        place = {name: getattr(grid, name) for name in place}
        if canvas and (canvas.left or canvas.top):
            place |= {"geotags": _moved_tags(grid.geotags, canvas), "position": _moved_position(grid, canvas)}
    return replace(
        moving, pixels=pixels, smaller=(), nodata=fill if moving.nodata is not None else None, **place
    )


def fill_value(text: str, moving: Image) -> float | None:
    """The number of a ``--fill`` value, or None for the default of the pixel type.

    ``auto`` is the file's own no-data value, NaN for floats, white for brightfield, else 0.
    """
    check_fill(text, moving.dtype)
    if text != "auto":
        try:
            return float(text)
        except ValueError:
            raise RegisterError(f"--fill {text}: must be a number or auto") from None
    if moving.nodata is not None:
        return moving.nodata
    if moving.colour == "rgb" and moving.white is not None:
        pixels, valid = sample(moving, Validity(moving))
        if brightfield(
            torch.from_numpy(pixels[:3].astype(np.float32)), torch.from_numpy(valid), moving.white
        ):
            return moving.white
    return moving.white if moving.colour == "inverted" else None


def write_aligned(
    path: Path, image: Image, style: OutputStyle, *, tick: Callable[[float], None] = lambda share: None
) -> None:
    """Compute and write an aligned image; ``tick`` is called with the fraction that is done.

    Raises ``FileError``, before anything is written when the disk has not enough space.
    """
    pyramid = style.pyramid
    if pyramid is None:
        pyramid = style.pages or max(image.size) > LARGE or str(path).lower().endswith(ZARR)
    need = image.nbytes * PACKED[style.compression] * (4 / 3 if pyramid else 1) + (
        image.nbytes / 3 if pyramid else 0
    )
    folder = next(x for x in [path.parent, *path.parent.absolute().parents] if x.exists())
    free = shutil.disk_usage(folder).free
    if need > free:
        raise FileError(
            path,
            f"needs about {need / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free",
            "free some space or choose another --output",
        )
    total, done = math.prod(image.pixels.shape) * (4 / 3 if pyramid else 1), 0

    def ticked(count: int) -> None:
        nonlocal done
        done += count
        tick(done / total)

    write_image(
        path,
        image,
        compression=style.compression,
        jpeg_quality=style.jpeg_quality,
        chunks=style.chunks,
        pyramid=pyramid,
        pages=style.pages,
        nearest=style.interpolation == "nearest",
        tick=ticked,
    )


def _moved_tags(
    tags: tuple[tuple[int, int, int, Any], ...], canvas: Canvas
) -> tuple[tuple[int, int, int, Any], ...]:
    """The georeferencing tags of a grid, moved to the origin of the canvas.

    Source: GeoTIFF 1.1, where a tie point is raster coordinates followed by model coordinates.
    """
    moved = []
    for code, kind, count, value in tags:
        if code == TIE_POINTS:
            value = tuple(
                v - (canvas.left, canvas.top)[i % 6] if i % 6 < 2 else v for i, v in enumerate(value)
            )
        elif code == TRANSFORMATION:
            matrix = np.array(value, float).reshape(4, 4)
            matrix[:, 3] += matrix[:, 0] * canvas.left + matrix[:, 1] * canvas.top
            value = tuple(matrix.ravel().tolist())
        moved.append((code, kind, count, value))
    return tuple(moved)


def _moved_position(grid: Image, canvas: Canvas) -> tuple[float, float, str] | None:
    """The stage position of the canvas; None unless the grid has one in the unit of its pixel size."""
    if grid.position is None or grid.pixel_size is None or grid.position[2] != grid.pixel_size.unit:
        return None
    x, y, unit = grid.position
    return x + canvas.left * grid.pixel_size.x, y + canvas.top * grid.pixel_size.y, unit
