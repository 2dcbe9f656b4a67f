"""Read the start of an alignment from a global transform of ITK (.tfm, .txt) or elastix."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.geometry.pixel_size import PixelSize, Sizes, comparable
from register.io.transforms import elastix, itk

LARGEST, SMALLEST = 1e9, 1e-12
"""The largest number of a matrix, and the determinant from which on it can be inverted."""


def read_start(path: str | Path, sizes: Sizes = (None, None)) -> NDArray[np.float64]:
    """The matrix (2, 3), in pixels, of a 2-D affine, similarity, rigid or translation transform.

    The lengths of the file are in the unit of the pixel ``sizes`` of the fixed and moving image; they are
    pixels where a size is not known or the units differ. Raises ``FileError`` for anything else: a
    deformation, three dimensions, several transforms.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(path, f"cannot be read as a transform ({error})", "check the path") from None
    program = elastix if text.lstrip().startswith(("(", "//")) else itk
    found = program.read_global(path, text)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # which the check below refuses
            physical = found.affine()
    except (KeyError, ValueError):
        raise FileError(
            path,
            f"is a {found.kind} with {len(found.values)} parameters",
            "a start is a 2-D affine, similarity, rigid (Euler) or translation transform",
        ) from None
    fixed_size, moving_size = comparable(sizes) or (PixelSize(1.0, 1.0), PixelSize(1.0, 1.0))
    fixed, moving = np.array(fixed_size.xy), np.array(moving_size.xy)[:, None]
    with np.errstate(over="ignore", invalid="ignore"):
        matrix = np.hstack([physical[:, :2] * fixed / moving, physical[:, 2:] / moving])
    size = abs(np.linalg.det(matrix[:, :2])) if abs(matrix).max() < LARGEST else 0.0  # a NaN is not below
    if not SMALLEST < size < 1 / SMALLEST:
        raise FileError(path, "holds a map that cannot be inverted", "check its parameters")
    return matrix
