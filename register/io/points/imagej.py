"""ImageJ's regions of interest, ``.roi`` and ``.zip``, through roifile."""

import importlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from register.errors import FileError
from register.files.atomic import atomic_write

DIGITS = 6
"""Decimals written: a millionth of a pixel."""
SUFFIXES = (".roi", ".zip")


@dataclass(frozen=True)
class Rois:
    """The regions of a file; ``points`` are all their vertices, from the image's corner, region after region."""

    regions: list[Any]
    points: Tensor
    corner: bool = True

    def write(self, path: str | Path, points: Tensor, columns: dict[str, list[Any]]) -> None:
        """Write the regions with other vertices, below a pixel; rectangles and ovals become polygons. ``columns`` go into their properties."""
        roifile = _roifile(path)
        offset, moved = 0, []
        for region in self.regions:
            count = len(_vertices(region))
            new = roifile.ImagejRoi.frompoints(
                points[offset : offset + count].numpy().astype(np.float32), name=region.name
            )
            kinds = roifile.ROI_TYPE
            new.roitype = kinds.POLYGON if region.roitype in (kinds.RECT, kinds.OVAL) else region.roitype
            for name in (
                "position",
                "c_position",
                "z_position",
                "t_position",
                "stroke_color",
                "fill_color",
                "stroke_width",
                "group",
            ):
                setattr(new, name, getattr(region, name))
            inside = {name: worst(values[offset : offset + count]) for name, values in columns.items()}
            new.props = "".join(f"{name}: {str(value).lower()}\n" for name, value in inside.items())
            moved.append(new)
            offset += count
        with atomic_write(path) as beside:
            roifile.roiwrite(
                beside, moved if len(moved) > 1 or Path(path).suffix == ".zip" else moved[0], mode="w"
            )


def read_rois(path: str | Path) -> Rois:
    """The regions of a file. Raises ``FileError`` naming it when roifile is missing or cannot read it."""
    roifile = _roifile(path)
    try:
        found = roifile.roiread(path)
        regions = found if isinstance(found, list) else [found]
        vertices = [_vertices(region) for region in regions]
    except (
        Exception
    ) as error:  # the library raises anything on damaged files; the file is what is wrong, and it is named
        raise FileError(
            path,
            f"cannot be read as ImageJ regions ({str(error).splitlines()[0] if str(error) else type(error).__name__})",
        ) from None
    if not vertices:
        raise FileError(path, "holds no regions")
    return Rois(regions, torch.from_numpy(np.concatenate(vertices)))


def _vertices(region: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Vertices (n, 2) from the image's corner; a point on whole pixels stands in their middle."""
    whole_pixels = region.subpixel_coordinates is None and int(region.roitype) == 10
    return np.asarray(region.coordinates(), np.float64).reshape(-1, 2) + (0.5 if whole_pixels else 0.0)


def _roifile(path: str | Path) -> Any:
    try:
        return importlib.import_module("roifile")
    except ImportError:
        raise FileError(
            path, "needs roifile, which is not installed", "pip install 'register-cli[export]'"
        ) from None


def worst(values: list[Any]) -> Any:
    """Of values of one kind: false when any is, or the largest number; None when there is none, or it has no end."""
    if not values or isinstance(values[0], bool):
        return all(values) if values else None
    largest = max(values)
    return round(largest, DIGITS) if math.isfinite(largest) else None
