"""A transform as an OME-Zarr scene with coordinate transformations (OME-NGFF RFC-5)."""

from pathlib import Path
from typing import Any

import numpy as np

from register.files.atomic import atomic_folder
from register.geometry import models
from register.io.transforms.export_format import ExportFormat, ExportOptions, ExportReport
from register.io.transforms.fields import Field, sampled_field
from register.io.transforms.units import Units
from register.transforms.transform import Transform

VERSION = "0.6rc0"
UNITS = {
    "nm": "nanometer",
    "µm": "micrometer",
    "um": "micrometer",
    "micron": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
}
Json = dict[str, Any]
"""Metadata as they are written."""


def write(transform: Transform, path: Path, options: ExportOptions) -> ExportReport:
    """Write coordinate systems ``fixed`` and ``moving`` and the map between them."""
    import zarr

    units = Units.of(transform)
    unit = {"unit": UNITS[units.name]} if units.name in UNITS else {}
    axes: list[Json] = [{"name": name, "type": "space", **unit} for name in ("y", "x")]
    link: Json = {"input": {"name": "fixed"}, "output": {"name": "moving"}, "name": "fixed to moving"}
    field = None
    if models.is_global(transform.model):
        link |= {"type": "affine", "affine": _rows_first(units, transform)}
    else:
        field = sampled_field(transform, options.spacing or 1.0, units)
        link |= {"type": "displacements", "path": "displacements", "interpolation": "linear"}
    systems = [{"name": name, "axes": axes} for name in ("fixed", "moving")]
    scene = {"coordinateSystems": systems, "coordinateTransformations": [link]}
    with atomic_folder(path) as beside:
        root = zarr.create_group(
            beside, zarr_format=3, attributes={"ome": {"version": VERSION, "scene": scene}}
        )
        if field is not None:
            _write_field(root, field, axes)
    error = None if field is None else field.error
    return ExportReport(units.description(), field_error_max=error, version=VERSION)


EXPORT = ExportFormat("ngff", ".zarr", write)


def _rows_first(units: Units, transform: Transform) -> list[list[float]]:
    """The matrix with rows and columns in the order of the axes, y first."""
    (a, b, tx), (c, d, ty) = units.matrix(transform.matrix).tolist()
    return [[d, c, ty], [b, a, tx]]


def _write_field(root: Any, field: Field, axes: list[Json]) -> None:
    """Write the displacements as a multiscale image of one level in the group ``displacements``."""
    system = {"name": "fixed", "axes": [{"name": "c", "type": "displacement", "discrete": True}, *axes]}
    scale = {
        "type": "scale",
        "scale": [1.0, field.spacing[1], field.spacing[0]],
        "input": {"path": "s0"},
        "output": {"name": "fixed"},
    }
    image = {
        "name": "displacements",
        "coordinateSystems": [system],
        "datasets": [{"path": "s0", "coordinateTransformations": [scale]}],
    }
    group = root.create_group(
        "displacements", attributes={"ome": {"version": VERSION, "multiscales": [image]}}
    )
    vectors = np.moveaxis(field.vectors[..., ::-1], 2, 0)
    group.create_array(
        "s0", data=np.ascontiguousarray(vectors), chunks=(2, 512, 512), dimension_names=("c", "y", "x")
    )
