"""The coordinates of a file of points: pixels, lengths, or those of a map, by what is known of an image."""

from pathlib import Path

import numpy as np

from register.errors import FileError
from register.geometry import affine
from register.geometry.arrays import Float64
from register.io.points.columns import MAP, PIXELS
from register.transforms.frame import Frame
from register.transforms.transform import Transform

HALF_PIXEL = 0.5
MICROMETRES = {"nm": 1e-3, "µm": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6}
"""Units of length in micrometres."""


def from_pixels(transform: Transform, unit: str, source: Path, *, moving: bool, corner: bool) -> Float64:
    """The matrix (2, 3) from pixels of the fixed image, or of the ``moving`` one, to coordinates of a file.

    ``unit`` is ``px``, a length or ``map``; with ``corner`` the corner of the first pixel is (0, 0). Raises
    ``FileError`` about the file ``source`` where the image has no size of a pixel, or no place on a map.
    """
    frame = transform.moving if moving else transform.fixed
    if unit == MAP:
        return _on_map(transform, frame, source, moving=moving)
    shift = HALF_PIXEL if corner else 0.0
    across, down = _pixel(frame, unit, source)
    return np.array([[across, 0.0, across * shift], [0.0, down, down * shift]])


def side(matrix: Float64) -> float:
    """The shorter side of a pixel in the coordinates of a file, of ``from_pixels``."""
    return float(np.linalg.norm(matrix[:, :2], axis=0).min())


def _on_map(transform: Transform, frame: Frame, source: Path, *, moving: bool) -> Float64:
    """The place of an image on its map, by its file."""
    from register.io.images.geotiff import map_from_pixel  # needs tifffile, and the next one PyTorch
    from register.workflows.apply import grid_of

    image = grid_of(transform, inverse=moving)
    found = None if image is None else map_from_pixel(image.geotags)
    if found is None or not abs(affine.determinant(found)) > 0:
        problem = f"has coordinates of a map, on which the place of {_name(frame)} is not known"
        raise FileError(source, problem, "put that GeoTIFF back to its place, or give pixels with --unit px")
    return found


def _pixel(frame: Frame, unit: str, source: Path) -> tuple[float, float]:
    """The sides of a pixel of an image in a unit."""
    if unit == PIXELS:
        return 1.0, 1.0
    size = frame.pixel_size
    if size is None or size.unit not in MICROMETRES:
        problem = f"has coordinates in {unit}, and the pixel size of {_name(frame)} is not known"
        raise FileError(source, problem, "give pixel coordinates with --unit px")
    factor = MICROMETRES[size.unit] / MICROMETRES[unit]
    return size.x * factor, size.y * factor


def _name(frame: Frame) -> str:
    return frame.path or f"image of {frame.width} × {frame.height} pixels"
