"""Parameter files of elastix: affine and B-spline transforms are written, global ones are read."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.files.atomic import write_text
from register.geometry import models
from register.io.transforms.export_format import ExportFormat, ExportOptions, ExportReport
from register.io.transforms.numbers import parsed
from register.io.transforms.parameters import (
    GlobalParameters,
    affine_parameters,
    fitted_spline,
    spline_parameters,
)
from register.io.transforms.units import Units
from register.transforms.transform import Transform

Value = str | int | float | list[float] | list[int]
NO_INITIAL = "NoInitialTransform"
INITIAL_FILE = ("InitialTransformParameterFileName", "InitialTransformParametersFileName")
"""The names of the key that names another file, in old and new versions."""
FORMATS = (".tif", ".png", ".mha")
"""Image formats that transformix writes."""


def write(transform: Transform, path: Path, options: ExportOptions) -> ExportReport:
    """Write an affine transform, or for local models a B-spline transform."""
    units = Units.of(transform)
    if models.is_global(transform.model):
        values, centre = affine_parameters(units.matrix(transform.matrix))
        own: dict[str, Value] = {
            "Transform": "AffineTransform",
            "NumberOfParameters": 6,
            "TransformParameters": values,
            "CenterOfRotationPoint": centre,
        }
        _write(path, own | _common(transform, units))
        return ExportReport(units.description(), "AffineTransform")

    to_fixed_pixels = np.array(units.moving) / np.array(units.fixed)

    def physical(points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The map in units of fixed pixels on both sides, so that its displacement is physical."""
        return transform.map(points) * to_fixed_pixels

    stretch = float(max(1 / to_fixed_pixels))
    spline, error = fitted_spline(physical, transform, options.spacing, options.tolerance, stretch)
    values, fixed = spline_parameters(spline, units.fixed)
    columns, rows = int(fixed[0]), int(fixed[1])
    own = {
        "Transform": "BSplineTransform",
        "NumberOfParameters": len(values),
        "TransformParameters": values,
        "GridSize": [columns, rows],
        "GridIndex": [0, 0],
        "GridSpacing": fixed[4:6],
        "GridOrigin": fixed[2:4],
        "GridDirection": [1.0, 0.0, 0.0, 1.0],
        "BSplineTransformSplineOrder": 3,
        "UseCyclicTransform": "false",
    }
    _write(path, own | _common(transform, units))
    return ExportReport(units.description(), "BSplineTransform", error, (columns, rows))


EXPORT = ExportFormat("elastix", ".txt", write)


def read_global(path: str | Path, text: str) -> GlobalParameters:
    """The global transform of a parameter file. Raises ``FileError`` when it refers to another file."""
    found = dict(re.findall(r"^\((\w+)\s+(.*?)\)\s*$", text, re.MULTILINE))
    initial = next((found[key] for key in INITIAL_FILE if found.get(key)), NO_INITIAL)
    if initial.strip('"') != NO_INITIAL:
        raise FileError(
            path, f"starts from another file ({initial})", "a start is a file with one global transform"
        )
    return GlobalParameters(
        found.get("Transform", "").strip('"'),
        parsed(path, found.get("TransformParameters", "")),
        parsed(path, found.get("CenterOfRotationPoint", "0 0")),
    )


def _common(transform: Transform, units: Units) -> dict[str, Value]:
    """The parameters of both kinds: the fixed grid, and how transformix resamples."""
    suffix = Path(transform.moving.path).suffix.lower() if transform.moving.path else ".tif"
    return {
        "InitialTransformParameterFileName": NO_INITIAL,
        "HowToCombineTransforms": "Compose",
        "FixedImageDimension": 2,
        "MovingImageDimension": 2,
        "FixedInternalImagePixelType": "float",
        "MovingInternalImagePixelType": "float",
        "Size": [transform.fixed.width, transform.fixed.height],
        "Index": [0, 0],
        "Spacing": list(units.fixed),
        "Origin": [0.0, 0.0],
        "Direction": [1.0, 0.0, 0.0, 1.0],
        "UseDirectionCosines": "true",
        "ResampleInterpolator": "FinalBSplineInterpolator",
        "FinalBSplineInterpolationOrder": 1,
        "Resampler": "DefaultResampler",
        "DefaultPixelValue": 0,
        "ResultImageFormat": suffix.lstrip(".") if suffix in FORMATS else "tif",
        "ResultImagePixelType": "float",
        "CompressResultImage": "false",
    }


def _write(path: Path, values: dict[str, Value]) -> None:
    write_text(path, "".join(f"({key} {_text(value)})\n" for key, value in values.items()))


def _text(value: Value) -> str:
    """A value as elastix writes it."""
    if isinstance(value, list):
        return " ".join(map(repr, value))
    return f'"{value}"' if isinstance(value, str) else repr(value)
