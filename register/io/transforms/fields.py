"""A transform as a displacement field sampled on a grid: TIFF, NIfTI, MetaImage and NumPy files."""

import gzip
import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.files.atomic import atomic_write, write_bytes, write_text
from register.geometry import affine
from register.geometry.pixel_size import METRES
from register.io.transforms.export_format import ExportFormat, ExportOptions, ExportReport
from register.io.transforms.units import PIXELS, Units
from register.transforms.schema import CONVENTION
from register.transforms.transform import Transform

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Field:
    """Displacements (rows, columns, 2): moving point minus fixed point, in physical units.

    Samples lie every ``step`` fixed pixels, which are ``spacing`` (x, y) in physical units, from pixel (0,
    0) on. ``error`` is the largest error, in moving pixels, of linear interpolation halfway between the
    samples.
    """

    vectors: NDArray[np.float64]
    step: float
    spacing: tuple[float, float]
    error: float


def sampled_field(transform: Transform, step: float, units: Units) -> Field:
    """The displacement field of a transform, sampled every ``step`` fixed pixels."""
    x, y = (
        np.arange(int(np.ceil((side - 1) / step)) + 1) * step
        for side in (transform.fixed.width, transform.fixed.height)
    )
    mapped = transform.map_grid(x, y)
    error = 0.0
    if len(x) > 1 and len(y) > 1:
        middle = (mapped[1:, 1:] + mapped[1:, :-1] + mapped[:-1, 1:] + mapped[:-1, :-1]) / 4
        exact = transform.map_grid((x[1:] + x[:-1]) / 2, (y[1:] + y[:-1]) / 2)
        error = float(np.linalg.norm(middle - exact, axis=-1).max())
    vectors = mapped * np.array(units.moving) - affine.points_at(x, y) * np.array(units.fixed)
    return Field(vectors, step, (units.fixed[0] * step, units.fixed[1] * step), error)


def write_tiff(transform: Transform, path: Path, options: ExportOptions) -> ExportReport:
    """Write float32 planes dx and dy in pixels, and beside them a JSON file that describes them."""
    import tifffile

    field = sampled_field(transform, options.spacing or 1.0, PIXELS)
    planes = np.moveaxis(field.vectors, 2, 0).astype(np.float32)
    with atomic_write(path) as beside:
        tifffile.imwrite(beside, planes, photometric="minisblack", planarconfig="separate", metadata=None)
    description = {
        "planes": ["dx", "dy"],
        "convention": CONVENTION,
        "vector": "moving point minus fixed point",
        "units": "pixels",
        "first": [0, 0],
        "stride": field.step,
        "fixed": [transform.fixed.width, transform.fixed.height],
        "moving": [transform.moving.width, transform.moving.height],
    }
    described = path.with_suffix(".json")
    write_text(described, json.dumps(description, indent=1) + "\n")
    return ExportReport("pixels", field_error_max=field.error, beside=str(described))


def write_nifti(transform: Transform, path: Path, options: ExportOptions) -> ExportReport:
    """Write a five-dimensional NIfTI of intent 1007 (vector) with ITK's axes (LPS).

    Lengths are in millimetres when the unit is known, else in pixels.
    """
    nibabel: Any = importlib.import_module("nibabel")

    units = Units.of(transform)
    units = units.times(METRES.get(units.name or "", 0.0) * 1e3 or 1.0)
    field = sampled_field(transform, options.spacing or 1.0, units)
    data = field.vectors.transpose(1, 0, 2)[:, :, None, None]
    image = nibabel.Nifti1Image(data, np.diag([-field.spacing[0], -field.spacing[1], 1, 1]))
    image.header.set_intent("vector")
    image.header.set_xyzt_units("mm" if units.name else "unknown")
    content = image.to_bytes()
    write_bytes(path, gzip.compress(content) if path.suffix == ".gz" else content)
    name = "mm" if units.name in METRES else units.description()
    return ExportReport(name, field_error_max=field.error)


def write_mha(transform: Transform, path: Path, options: ExportOptions) -> ExportReport:
    """Write a MetaImage of two doubles per pixel, which SimpleITK reads as a displacement field."""
    units = Units.of(transform)
    field = sampled_field(transform, options.spacing or 1.0, units)
    rows, columns, _ = field.vectors.shape
    header = (
        "ObjectType = Image\nNDims = 2\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        "CompressedData = False\nTransformMatrix = 1 0 0 1\nOffset = 0 0\n"
        f"ElementSpacing = {float(field.spacing[0])!r} {float(field.spacing[1])!r}\n"
        f"DimSize = {columns} {rows}\n"
        "ElementNumberOfChannels = 2\nElementType = MET_DOUBLE\nElementDataFile = LOCAL\n"
    )
    write_bytes(path, header.encode("ascii") + field.vectors.astype("<f8").tobytes())
    return ExportReport(units.description(), field_error_max=field.error)


def write_npz(transform: Transform, path: Path, options: ExportOptions) -> ExportReport:
    """Write NumPy arrays: the field (rows, columns, 2) in pixels, stride, global matrix, both sizes."""
    field = sampled_field(transform, options.spacing or 1.0, PIXELS)
    with atomic_write(path) as beside, open(beside, "wb") as file:
        np.savez_compressed(
            file,
            displacement=field.vectors,
            stride=field.step,
            matrix=transform.matrix,
            convention=CONVENTION,
            fixed=[transform.fixed.width, transform.fixed.height],
            moving=[transform.moving.width, transform.moving.height],
        )
    return ExportReport("pixels", field_error_max=field.error)


TIFF = ExportFormat("field-tiff", ".tif", write_tiff)
NIFTI = ExportFormat("field-nifti", ".nii.gz", write_nifti, "nibabel")
MHA = ExportFormat("field-mha", ".mha", write_mha)
NPZ = ExportFormat("npz", ".npz", write_npz)
