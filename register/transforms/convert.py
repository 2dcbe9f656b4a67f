"""Convert frames and patches from and to the values of the transform file."""

from dataclasses import dataclass, field

import numpy as np

from register.errors import TransformError
from register.geometry.arrays import Float64
from register.geometry.patch_grid import PatchGrid
from register.geometry.pixel_size import PixelSize
from register.transforms.frame import Frame
from register.transforms.quality import PatchFigures
from register.transforms.schema import FrameFile, Json, PatchesFile

LISTS = ("confidence", "status", "similarity_before", "similarity_after", "expected_error")
"""The figures of patches, in the order of the file."""


@dataclass(frozen=True)
class Patches:
    """The patch grid, the absolute maps (rows, columns, 2, 3) of its patches, and their figures."""

    grid: PatchGrid | None = None
    matrices: Float64 | None = None
    figures: PatchFigures = field(default_factory=PatchFigures)


def frame_of(file: FrameFile) -> Frame:
    """The frame from its values in a file."""
    size = PixelSize(file.pixel_size[0], file.pixel_size[1], file.pixel_unit) if file.pixel_size else None
    return Frame(file.width, file.height, size, file.path, file.sha256)


def unknown_keys(file: FrameFile) -> Json:
    """The keys of a frame in a file that ``Frame`` does not hold: unknown ones, and a unit without a size."""
    unit = {"pixel_unit": file.pixel_unit} if file.pixel_unit and not file.pixel_size else {}
    return unit | file.unknown()


def frame_values(frame: Frame) -> Json:
    """The values of a frame in the file."""
    size = frame.pixel_size
    return {
        "path": frame.path,
        "width": frame.width,
        "height": frame.height,
        "pixel_size": [size.x, size.y] if size else None,
        "pixel_unit": size.unit if size else None,
        "sha256": frame.sha256,
    }


def patches_of(file: PatchesFile | None) -> Patches:
    """The patches from their values in a file. Raises ``TransformError`` for a wrong count."""
    if file is None:
        return Patches()
    count = file.columns * file.rows
    figures = {name: getattr(file, name) for name in LISTS if getattr(file, name) is not None}
    for name, values in {"matrices": file.matrices, **figures}.items():
        if len(values) != count:
            raise TransformError(
                f"patches.{name} has {len(values)} entries; {file.columns} columns by {file.rows} rows "
                f"need {count}"
            )
    (left, top), (across, down) = file.origin, file.spacing
    grid = PatchGrid(file.columns, file.rows, (left, top), (across, down))
    matrices = np.array(file.matrices).reshape(file.rows, file.columns, 2, 3)
    return Patches(grid, matrices, PatchFigures.of(figures | file.unknown()))


def patches_values(grid: PatchGrid | None, matrices: Float64 | None, figures: PatchFigures) -> Json | None:
    """The values of patches in the file; None without patches."""
    if grid is None or matrices is None:
        return None
    return {
        "columns": grid.columns,
        "rows": grid.rows,
        "origin": list(grid.origin),
        "spacing": list(grid.spacing),
        "blend": "bilinear",
        "matrices": matrices.reshape(-1, 2, 3).tolist(),
        **figures,
    }
