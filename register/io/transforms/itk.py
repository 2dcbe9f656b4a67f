"""Transforms of ITK: text (.tfm) and HDF5 files are written, text files with a global transform are read."""

import re
from pathlib import Path

import numpy as np

from register.errors import FileError
from register.files.atomic import atomic_write, write_text
from register.geometry import affine, models
from register.io.transforms.export_format import ExportFormat, ExportOptions, ExportReport
from register.io.transforms.fields import sampled_field
from register.io.transforms.numbers import parsed
from register.io.transforms.parameters import (
    GlobalParameters,
    Parameters,
    affine_parameters,
    fitted_spline,
    spline_parameters,
)
from register.io.transforms.units import Units
from register.transforms.transform import Transform

AFFINE, COMPOSITE = "AffineTransform_double_2_2", "CompositeTransform_double_2_2"
VERSIONS = {"ITKVersion": "5.4.0", "HDFVersion": "1.10", "OSName": "any", "OSVersion": "any"}
"""What ITK's reader expects at the top of an HDF5 file."""


def write_text_file(transform: Transform, path: Path, options: ExportOptions) -> ExportReport:
    """Write an affine transform, or for local models an affine transform after a B-spline.

    ITK applies the transform that is listed last first.
    """
    units = Units.of(transform)
    linear = affine_parameters(units.matrix(transform.matrix))
    if models.is_global(transform.model):
        _write(path, [(AFFINE, linear)])
        return ExportReport(units.description(), "AffineTransform")
    inverse = affine.invert(transform.matrix)
    stretch = float(np.linalg.norm(transform.matrix[:, :2], 2))  # of the fit's fixed pixels in moving pixels
    spline, error = fitted_spline(
        lambda points: affine.apply(inverse, transform.map(points)),
        transform,
        options.spacing,
        options.tolerance,
        stretch,
    )
    knots = spline_parameters(spline, units.fixed)
    _write(path, [(COMPOSITE, ([], [])), (AFFINE, linear), ("BSplineTransform_double_2_2", knots)])
    rows, columns, _ = spline.coefficients.shape
    return ExportReport(units.description(), "B-spline, then affine", error, (columns, rows))


def write_hdf5(transform: Transform, path: Path, options: ExportOptions) -> ExportReport:
    """Write an affine transform, or for local models a displacement field."""
    import h5py

    units = Units.of(transform)
    kind, (values, fixed) = AFFINE, affine_parameters(units.matrix(transform.matrix))
    report = ExportReport(units.description(), "AffineTransform")
    if not models.is_global(transform.model):
        field = sampled_field(transform, options.spacing or 1.0, units)
        rows, columns, _ = field.vectors.shape
        kind = "DisplacementFieldTransform_double_2_2"
        values, fixed = field.vectors.ravel().tolist(), [columns, rows, 0, 0, *field.spacing, 1, 0, 0, 1]
        report = ExportReport(units.description(), "DisplacementFieldTransform", field_error_max=field.error)
    with atomic_write(path) as beside, h5py.File(beside, "w") as file:
        text = h5py.string_dtype("ascii")
        for name, value in VERSIONS.items():
            file.create_dataset(name, data=[value], dtype=text)
        group = file.create_group("TransformGroup/0")
        group.create_dataset("TransformType", data=[kind], dtype=text)
        group.create_dataset("TransformFixedParameters", data=np.asarray(fixed, np.float64))
        group.create_dataset("TransformParameters", data=np.asarray(values, np.float64))
    return report


TEXT = ExportFormat("itk", ".tfm", write_text_file)
HDF5 = ExportFormat("itk-h5", ".h5", write_hdf5, "h5py")


def read_global(path: str | Path, text: str) -> GlobalParameters:
    """The one global transform of a text file. Raises ``FileError`` for several transforms or none."""
    found = {
        key: re.findall(rf"^{key}:(.*)$", text, re.MULTILINE)
        for key in ("Transform", "Parameters", "FixedParameters")
    }
    if len(found["Transform"]) != 1 or len(found["Parameters"]) != 1:
        raise FileError(
            path,
            f"holds {len(found['Transform'])} ITK transforms",
            "a start is a file with one global transform",
        )
    kind = found["Transform"][0].strip().split("_")[0]
    centre = (found["FixedParameters"] or [""])[0]
    return GlobalParameters(kind, parsed(path, found["Parameters"][0]), parsed(path, centre)[:2])


def _write(path: Path, transforms: list[tuple[str, Parameters]]) -> None:
    """Write transforms, each a kind with its parameters, as text."""
    lines = ["#Insight Transform File V1.0"]
    for number, (kind, (values, fixed)) in enumerate(transforms):
        lines += [f"#Transform {number}", f"Transform: {kind}"]
        if values:
            lines += [f"Parameters: {_numbers(values)}", f"FixedParameters: {_numbers(fixed)}"]
    write_text(path, "\n".join(lines) + "\n")


def _numbers(values: list[float]) -> str:
    return " ".join(map(repr, values))
