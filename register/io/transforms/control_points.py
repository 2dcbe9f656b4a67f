"""A transform as pairs of control points: a CSV table, or ground control points in a GDAL virtual raster."""

import csv
import io
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from register.errors import RegisterError
from register.files.atomic import write_text
from register.geometry import affine
from register.io.transforms.export_format import ExportFormat, ExportOptions, ExportReport
from register.io.transforms.units import Units
from register.transforms.transform import Transform

ALONG = 16
"""The number of control points along the longer side, unless a spacing is given."""
AXES = "X right, Y up, from the fixed image's upper left corner"


def control_points(transform: Transform, spacing: float | None) -> NDArray[np.float64]:
    """Fixed points (n, 2) on a grid whose outermost points lie on the outermost pixel centres."""
    fixed = transform.fixed
    step = spacing or max(fixed.width, fixed.height) / ALONG
    x, y = (
        np.linspace(0, side - 1, max(round((side - 1) / step), 1) + 1) for side in (fixed.width, fixed.height)
    )
    return affine.points_at(x, y).reshape(-1, 2)


def write_table(transform: Transform, path: Path, options: ExportOptions) -> ExportReport:
    """Write a CSV with fixed points x, y and the moving points they are mapped to, in pixels."""
    points = control_points(transform, options.spacing)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["x", "y", "moving_x", "moving_y"])
    writer.writerows(np.hstack([points, transform.map(points)]).tolist())
    write_text(path, file.getvalue())
    return ExportReport("pixels", points=len(points))


def write_gcp(transform: Transform, path: Path, options: ExportOptions) -> ExportReport:
    """Write a GDAL virtual raster of the moving file with ground control points.

    They relate pixels of the moving image (corner origin) to places in the fixed image.
    """
    moving, units = transform.moving, Units.of(transform)
    if not transform.continuous:
        raise RegisterError(
            "--to gcp: control points cannot hold sides that move apart; export a field or csv"
        )
    if not moving.path:
        raise RegisterError(
            "--to gcp: the transform does not name its moving image, which this format refers to"
        )
    points = control_points(transform, options.spacing)
    mapped = transform.map(points)
    inside = moving.contains(mapped)
    places = (points[inside] + 0.5) * np.array(units.fixed)
    lines = [
        f'    <GCP Id="{number}" Pixel="{column + 0.5:.6f}" Line="{row + 0.5:.6f}" X="{x:.9g}" Y="{-y:.9g}"/>'
        for number, ((x, y), (column, row)) in enumerate(
            zip(places.tolist(), mapped[inside].tolist(), strict=True), 1
        )
    ]
    source = escape(str(Path(moving.path).resolve()))
    file = f'<SourceFilename relativeToVRT="0">{source}</SourceFilename><SourceBand>1</SourceBand>'
    text = [
        f'<VRTDataset rasterXSize="{moving.width}" rasterYSize="{moving.height}">',
        '  <GCPList Projection="">',
        *lines,
        "  </GCPList>",
        '  <VRTRasterBand dataType="Float32" band="1">',
        f"    <SimpleSource>{file}</SimpleSource>",
        "  </VRTRasterBand>",
        "</VRTDataset>",
    ]
    write_text(path, "\n".join(text) + "\n")
    return ExportReport(units.description(), points=len(lines), axes=AXES)


TABLE = ExportFormat("csv", ".csv", write_table)
GCP = ExportFormat("gcp", ".vrt", write_gcp)
