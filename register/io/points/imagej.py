"""Points in ImageJ's regions of interest, ``.roi`` and ``.zip``, read and written with roifile."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from register.errors import FileError
from register.files.atomic import atomic_write
from register.io.points.model import Change, Points, as_lists, worst

SUFFIXES = (".roi", ".zip")
POINT = 10
"""The type of a region that consists of points."""
KEPT = (
    "position",
    "c_position",
    "z_position",
    "t_position",
    "stroke_color",
    "fill_color",
    "stroke_width",
    "group",
)
"""Attributes of a region that are written unchanged."""


@dataclass(frozen=True)
class Rois:
    """The regions of a file; ``points`` are the vertices of all regions, one region after the other."""

    regions: list[Any]
    points: Points
    corner: bool = True
    unit: str = "px"
    suffixes: tuple[str, ...] = SUFFIXES

    @property
    def names(self) -> set[str]:
        """The names of the properties of all regions, each of which is a line ``name: value``."""
        lines = (line for region in self.regions for line in (region.props or "").splitlines())
        return {line.partition(":")[0].strip() for line in lines}

    def write(self, path: str | Path, change: Change) -> None:
        """Write the regions with other vertices, with decimals; rectangles and ovals become polygons.

        The properties of each region stay, and get, per column, the worst value of its vertices.
        """
        points, columns = change(self.points)
        roifile = _roifile(path)
        offset, moved, lists = 0, [], as_lists(columns)
        for region in self.regions:
            end = offset + len(_vertices(region))
            properties = {name: worst(values[offset:end]) for name, values in lists.items()}
            moved.append(_moved(roifile, region, points[offset:end]))
            kept = [line for line in (region.props or "").splitlines() if line.strip()]
            lines = [*kept, *(f"{name}: {str(x).lower()}" for name, x in properties.items())]
            moved[-1].props = "".join(f"{line}\n" for line in lines)
            offset = end
        several = len(moved) > 1 or Path(path).suffix == ".zip"
        with atomic_write(path) as beside:
            roifile.roiwrite(beside, moved if several else moved[0], mode="w")


def read_rois(path: str | Path) -> Rois:
    """The regions of a file. Raises ``FileError`` when roifile is missing or cannot read the file."""
    roifile = _roifile(path)
    try:
        found = roifile.roiread(path)
        regions = found if isinstance(found, list) else [found]
        vertices = [_vertices(region) for region in regions]
    except Exception as error:  # roifile raises any exception on damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileError(path, f"cannot be read as ImageJ regions ({reason})", "check the file") from None
    if not vertices:
        raise FileError(path, "holds no regions", "save regions of interest into it")
    return Rois(regions, np.concatenate(vertices))


def _moved(roifile: Any, region: Any, vertices: Points) -> Any:
    """A region with other vertices."""
    new = roifile.ImagejRoi.frompoints(vertices.astype(np.float32), name=region.name)
    kinds = roifile.ROI_TYPE
    new.roitype = kinds.POLYGON if region.roitype in (kinds.RECT, kinds.OVAL) else region.roitype
    for name in KEPT:
        setattr(new, name, getattr(region, name))
    return new


def _vertices(region: Any) -> Points:
    """Vertices (n, 2) from the corner of the image; integer points are the centres of their pixels."""
    integers = region.subpixel_coordinates is None and int(region.roitype) == POINT
    return np.asarray(region.coordinates(), np.float64).reshape(-1, 2) + (0.5 if integers else 0.0)


def _roifile(path: str | Path) -> Any:
    """The optional library."""
    try:
        return importlib.import_module("roifile")
    except ImportError:
        raise FileError(
            path, "needs roifile, which is not installed", "pip install 'register-cli[export]'"
        ) from None
