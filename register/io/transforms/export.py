"""Other programs' transform formats. All of them take fixed points to moving points, in physical units where both pixel sizes are known.

One function and one entry in ``FORMATS`` each: it writes the file and returns what should be said about it.
"""

import csv
import gzip
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from register.errors import RegisterError, TransformError
from register.files.atomic import atomic_folder, atomic_write, write_bytes, write_text
from register.geometry import affine, bspline
from register.images import interpolation
from register.transforms.schema import CONVENTION
from register.transforms.transform import Transform

GLOBAL = ("translation", "rigid", "similarity", "affine")
METRES = {"nm": 1e-9, "µm": 1e-6, "um": 1e-6, "micron": 1e-6, "mm": 1e-3, "cm": 1e-2, "m": 1.0}
NGFF_VERSION = "0.6rc0"
NGFF_UNITS = {
    "nm": "nanometer",
    "µm": "micrometer",
    "um": "micrometer",
    "micron": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
}
Report = dict[str, Any]


@dataclass(frozen=True)
class Units:
    """The size of a fixed and of a moving pixel in one physical unit; all ones, and no unit, when the files do not say."""

    fixed: tuple[float, float] = (1.0, 1.0)
    moving: tuple[float, float] = (1.0, 1.0)
    name: str | None = None

    @classmethod
    def of(cls, transform: Transform) -> "Units":
        """The units of a transform; pixels unless both sizes are known in units of length."""
        fixed, moving = transform.fixed.pixel_size, transform.moving.pixel_size
        if not fixed or not moving or not fixed.unit or not moving.unit:
            return cls()
        if fixed.unit == moving.unit:
            factor = 1.0
        elif fixed.unit in METRES and moving.unit in METRES:
            factor = METRES[moving.unit] / METRES[fixed.unit]
        else:
            return cls()
        return cls(fixed.xy, moving.times(factor, factor).xy, fixed.unit)

    def matrix(self, pixels: NDArray[np.float64]) -> Tensor:
        """A pixel matrix (2, 3) in physical units."""
        matrix = torch.from_numpy(pixels)
        up, down = (
            torch.diag(torch.tensor(v, dtype=torch.float64))
            for v in (self.moving, [1 / s for s in self.fixed])
        )
        return torch.cat([up @ matrix[:, :2] @ down, up @ matrix[:, 2:]], 1)

    def said(self) -> str:
        """The unit in words."""
        return (
            f"{self.name}, from the pixel sizes of both images"
            if self.name
            else "pixels (spacing 1): the pixel sizes are not known"
        )


@dataclass(frozen=True)
class Field:
    """Displacements (rows, columns, 2), moving point minus fixed point in physical units, every ``step`` fixed pixels from pixel (0, 0) on."""

    vectors: NDArray[np.float64]
    step: float
    spacing: tuple[float, float]
    error: float


def sampled_field(transform: Transform, step: float, units: Units) -> Field:
    """The field of a transform; ``error`` is the largest distance, in moving pixels, of linear interpolation halfway between its points."""

    def at(x: Tensor, y: Tensor) -> Tensor:
        return torch.from_numpy(transform.map_grid(x.numpy(), y.numpy())) * torch.tensor(
            units.moving, dtype=torch.float64
        )

    x, y = (
        torch.arange(int(np.ceil((side - 1) / step)) + 1, dtype=torch.float64) * step
        for side in (transform.fixed.width, transform.fixed.height)
    )
    mapped = at(x, y)
    error = 0.0
    if len(x) > 1 and len(y) > 1:
        middle = (mapped[1:, 1:] + mapped[1:, :-1] + mapped[:-1, 1:] + mapped[:-1, :-1]) / 4
        apart = (middle - at((x[1:] + x[:-1]) / 2, (y[1:] + y[:-1]) / 2)) / torch.tensor(
            units.moving, dtype=torch.float64
        )
        error = float(apart.norm(dim=-1).max())
    still = affine.points_at(x, y) * torch.tensor(units.fixed, dtype=torch.float64)
    return Field((mapped - still).numpy(), step, (units.fixed[0] * step, units.fixed[1] * step), error)


def export(
    transform: Transform, form: str, path: Path, *, spacing: float | None = None, tolerance: float = 0.01
) -> Report:
    """Write ``transform`` in a format of ``FORMATS``. ``spacing`` is that of fields and knots in fixed pixels; ``tolerance`` bounds a fitted spline.

    Raises ``RegisterError`` for a format or spacing that is not there, ``TransformError`` when a spline misses the tolerance.
    """
    if form not in FORMATS:
        raise RegisterError(f"--to {form}: is none of {', '.join(FORMATS)}")
    if spacing is not None and spacing <= 0:
        raise RegisterError(f"--spacing {spacing:g}: must be above 0")
    units = Units.of(transform)
    return {"format": form, "file": str(path), "units": units.said()} | FORMATS[form](
        transform, path, units, spacing, tolerance
    )


def _itk(transform: Transform, path: Path, units: Units, spacing: float | None, tolerance: float) -> Report:
    """ITK text: an affine, or for local models an affine after a B-spline (the last listed acts first)."""
    parts = [("AffineTransform_double_2_2", *_affine_parameters(units.matrix(transform.matrix)))]
    report: Report = {"model": "AffineTransform"}
    if transform.model not in GLOBAL:
        back = affine.invert(transform.matrix)
        stretch = float(np.linalg.norm(transform.matrix[:, :2], 2))  # of fixed pixels to moving ones
        spline, error = _spline(
            lambda points: affine.apply(back, transform.map(points)), transform, spacing, tolerance, stretch
        )
        parts = [
            ("CompositeTransform_double_2_2", [], []),
            parts[0],
            ("BSplineTransform_double_2_2", *_spline_parameters(spline, units.fixed)),
        ]
        report = {
            "model": "B-spline, then affine",
            "fit_error_max": error,
            "knots": list(spline.coefficients.shape[1::-1]),
        }
    lines = ["#Insight Transform File V1.0"]
    for number, (kind, values, fixed) in enumerate(parts):
        lines += [f"#Transform {number}", f"Transform: {kind}"]
        if values:
            lines += [f"Parameters: {_numbers(values)}", f"FixedParameters: {_numbers(fixed)}"]
    write_text(path, "\n".join(lines) + "\n")
    return report


def _itk_h5(
    transform: Transform, path: Path, units: Units, spacing: float | None, tolerance: float
) -> Report:
    """ITK HDF5: an affine, or for local models the displacement field itself."""
    h5py = _library("h5py")
    report: Report = {"model": "AffineTransform"}
    kind, (values, fixed) = "AffineTransform_double_2_2", _affine_parameters(units.matrix(transform.matrix))
    if transform.model not in GLOBAL:
        field = sampled_field(transform, spacing or 1.0, units)
        rows, columns, _ = field.vectors.shape
        kind = "DisplacementFieldTransform_double_2_2"
        values, fixed = field.vectors.flatten().tolist(), [columns, rows, 0, 0, *field.spacing, 1, 0, 0, 1]
        report = {"model": "DisplacementFieldTransform", "field_error_max": field.error}
    with atomic_write(path) as beside, h5py.File(beside, "w") as file:
        text = h5py.string_dtype("ascii")
        for name, value in (
            ("ITKVersion", "5.4.0"),
            ("HDFVersion", "1.10"),
            ("OSName", "any"),
            ("OSVersion", "any"),
        ):
            file.create_dataset(name, data=[value], dtype=text)
        group = file.create_group("TransformGroup/0")
        group.create_dataset("TransformType", data=[kind], dtype=text)
        group.create_dataset("TransformFixedParameters", data=np.asarray(fixed, np.float64))
        group.create_dataset("TransformParameters", data=np.asarray(values, np.float64))
    return report


def _elastix(
    transform: Transform, path: Path, units: Units, spacing: float | None, tolerance: float
) -> Report:
    """An elastix parameter file, affine or B-spline, for transformix."""
    moving = Path(transform.moving.path).suffix.lower() if transform.moving.path else ".tif"
    common = {
        "InitialTransformParameterFileName": "NoInitialTransform", "HowToCombineTransforms": "Compose",
        "FixedImageDimension": 2, "MovingImageDimension": 2, "FixedInternalImagePixelType": "float", "MovingInternalImagePixelType": "float",
        "Size": [transform.fixed.width, transform.fixed.height], "Index": [0, 0], "Spacing": list(units.fixed), "Origin": [0.0, 0.0],
        "Direction": [1.0, 0.0, 0.0, 1.0], "UseDirectionCosines": "true",
        "ResampleInterpolator": "FinalBSplineInterpolator", "FinalBSplineInterpolationOrder": 1, "Resampler": "DefaultResampler", "DefaultPixelValue": 0,
        "ResultImageFormat": moving.lstrip(".") if moving in (".tif", ".png", ".mha") else "tif", "ResultImagePixelType": "float",
        "CompressResultImage": "false",
    }  # fmt: skip
    if transform.model in GLOBAL:
        values, fixed = _affine_parameters(units.matrix(transform.matrix))
        own: dict[str, Any] = {
            "Transform": "AffineTransform",
            "NumberOfParameters": 6,
            "TransformParameters": values,
            "CenterOfRotationPoint": fixed,
        }
        report: Report = {"model": "AffineTransform"}
    else:

        def physical(points: NDArray[np.float64]) -> NDArray[np.float64]:
            """The map in units of fixed pixels on both sides, so that its displacement is physical."""
            return transform.map(points) * np.array(units.moving) / np.array(units.fixed)

        stretch = max(f / m for f, m in zip(units.fixed, units.moving, strict=True))
        spline, error = _spline(physical, transform, spacing, tolerance, stretch)
        values, fixed = _spline_parameters(spline, units.fixed)
        own = {
            "Transform": "BSplineTransform", "NumberOfParameters": len(values), "TransformParameters": values,
            "GridSize": [int(v) for v in fixed[:2]], "GridIndex": [0, 0], "GridSpacing": fixed[4:6], "GridOrigin": fixed[2:4],
            "GridDirection": [1.0, 0.0, 0.0, 1.0], "BSplineTransformSplineOrder": 3, "UseCyclicTransform": "false",
        }  # fmt: skip
        report = {"model": "BSplineTransform", "fit_error_max": error, "knots": fixed[:2]}
    write_text(path, "".join(f"({key} {_elastix_value(value)})\n" for key, value in (own | common).items()))
    return report


def _field_tiff(
    transform: Transform, path: Path, units: Units, spacing: float | None, tolerance: float
) -> Report:
    """float32 planes dx and dy in pixels, and a JSON beside them that says what they are."""
    import tifffile

    field = sampled_field(transform, spacing or 1.0, Units())
    with atomic_write(path) as beside:
        tifffile.imwrite(
            beside,
            np.moveaxis(field.vectors, 2, 0).astype(np.float32),
            photometric="minisblack",
            planarconfig="separate",
            metadata=None,
        )
    meaning = {
        "planes": ["dx", "dy"], "convention": CONVENTION, "vector": "moving point minus fixed point", "units": "pixels", "first": [0, 0], "stride": field.step,
        "fixed": [transform.fixed.width, transform.fixed.height], "moving": [transform.moving.width, transform.moving.height],
    }  # fmt: skip
    write_text(path.with_suffix(".json"), json.dumps(meaning, indent=1) + "\n")
    return {"units": "pixels", "field_error_max": field.error, "beside": str(path.with_suffix(".json"))}


def _field_nifti(
    transform: Transform, path: Path, units: Units, spacing: float | None, tolerance: float
) -> Report:
    """A five-dimensional NIfTI of intent 1007 with ITK's axes (LPS); lengths in millimetres when the unit is known."""
    nibabel = _library("nibabel")
    factor = METRES.get(units.name or "", 0.0) * 1e3 or 1.0
    (fixed_x, fixed_y), (moving_x, moving_y) = units.fixed, units.moving
    scaled = Units((fixed_x * factor, fixed_y * factor), (moving_x * factor, moving_y * factor), units.name)
    field = sampled_field(transform, spacing or 1.0, scaled)
    data = field.vectors.transpose(1, 0, 2)[:, :, None, None]
    image = nibabel.Nifti1Image(data, np.diag([-field.spacing[0], -field.spacing[1], 1, 1]))
    image.header.set_intent("vector")
    image.header.set_xyzt_units("mm" if units.name else "unknown")
    write_bytes(path, gzip.compress(image.to_bytes()) if path.suffix == ".gz" else image.to_bytes())
    return {"units": "mm" if units.name in METRES else units.said(), "field_error_max": field.error}


def _field_mha(
    transform: Transform, path: Path, units: Units, spacing: float | None, tolerance: float
) -> Report:
    """A MetaImage of two doubles per pixel: what SimpleITK reads as a displacement field."""
    field = sampled_field(transform, spacing or 1.0, units)
    rows, columns, _ = field.vectors.shape
    head = (
        "ObjectType = Image\nNDims = 2\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\nTransformMatrix = 1 0 0 1\n"
        f"Offset = 0 0\nElementSpacing = {field.spacing[0]!r} {field.spacing[1]!r}\nDimSize = {columns} {rows}\n"
        "ElementNumberOfChannels = 2\nElementType = MET_DOUBLE\nElementDataFile = LOCAL\n"
    )
    write_bytes(path, head.encode("ascii") + field.vectors.astype("<f8").tobytes())
    return {"field_error_max": field.error}


def _csv(transform: Transform, path: Path, units: Units, spacing: float | None, tolerance: float) -> Report:
    """Control points, in pixels: fixed x, y and the moving point they go to."""
    points = _control_points(transform, spacing)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["x", "y", "moving_x", "moving_y"])
    writer.writerows(torch.cat([points, transform.map(points)], 1).tolist())
    write_text(path, file.getvalue())
    return {"units": "pixels", "points": len(points)}


def _npz(transform: Transform, path: Path, units: Units, spacing: float | None, tolerance: float) -> Report:
    """NumPy arrays: the field (rows, columns, 2) in pixels and what is needed to place it."""
    field = sampled_field(transform, spacing or 1.0, Units())
    with atomic_write(path) as beside, open(beside, "wb") as file:
        np.savez_compressed(
            file, displacement=field.vectors, stride=field.step, matrix=transform.matrix, convention=CONVENTION,
            fixed=[transform.fixed.width, transform.fixed.height], moving=[transform.moving.width, transform.moving.height],
        )  # fmt: skip
    return {"units": "pixels", "field_error_max": field.error}


def _gcp(transform: Transform, path: Path, units: Units, spacing: float | None, tolerance: float) -> Report:
    """A GDAL virtual raster of the moving file with ground control points: its pixels (corner origin) to places of the fixed image."""
    if not transform.moving.path:
        raise RegisterError(
            "--to gcp: the transform does not name its moving image, which the points are attached to"
        )
    points = _control_points(transform, spacing)
    mapped = transform.map(points)
    shown = interpolation.inside(mapped, transform.moving.height, transform.moving.width)
    rows = [
        f'    <GCP Id="{number}" Pixel="{pixel + 0.5:.6f}" Line="{line + 0.5:.6f}" X="{(x + 0.5) * units.fixed[0]:.9g}" Y="{-(y + 0.5) * units.fixed[1]:.9g}"/>'
        for number, ((x, y), (pixel, line)) in enumerate(
            zip(points[shown].tolist(), mapped[shown].tolist(), strict=True), 1
        )
    ]
    source = escape(str(Path(transform.moving.path).resolve()))
    file = f'<SourceFilename relativeToVRT="0">{source}</SourceFilename><SourceBand>1</SourceBand>'
    band = f'  <VRTRasterBand dataType="Float32" band="1">\n    <SimpleSource>{file}</SimpleSource>\n  </VRTRasterBand>'
    size = f'rasterXSize="{transform.moving.width}" rasterYSize="{transform.moving.height}"'
    write_text(
        path,
        "\n".join(
            [
                f"<VRTDataset {size}>",
                '  <GCPList Projection="">',
                *rows,
                "  </GCPList>",
                band,
                "</VRTDataset>",
            ]
        )
        + "\n",
    )
    return {"points": len(rows), "axes": "X right, Y up, from the fixed image's upper left corner"}


def _ngff(transform: Transform, path: Path, units: Units, spacing: float | None, tolerance: float) -> Report:
    """An OME-Zarr 0.6rc0 scene (RFC-5): coordinate systems ``fixed`` and ``moving``, and the map from the one to the other."""
    zarr = _library("zarr")
    unit = {"unit": NGFF_UNITS[units.name]} if units.name in NGFF_UNITS else {}
    axes = [{"name": name, "type": "space", **unit} for name in ("y", "x")]
    link: dict[str, Any] = {
        "input": {"name": "fixed"},
        "output": {"name": "moving"},
        "name": "fixed to moving",
    }
    report: Report = {"version": NGFF_VERSION}
    field = None
    if transform.model in GLOBAL:
        (a, b, tx), (c, d, ty) = units.matrix(transform.matrix).tolist()
        link |= {
            "type": "affine",
            "affine": [[d, c, ty], [b, a, tx]],
        }  # rows and columns in the order of the axes, y first
    else:
        field = sampled_field(transform, spacing or 1.0, units)
        link |= {"type": "displacements", "path": "displacements", "interpolation": "linear"}
        report |= {"field_error_max": field.error}
    scene = {
        "coordinateSystems": [{"name": name, "axes": axes} for name in ("fixed", "moving")],
        "coordinateTransformations": [link],
    }
    with atomic_folder(path) as beside:
        root = zarr.create_group(
            beside, zarr_format=3, attributes={"ome": {"version": NGFF_VERSION, "scene": scene}}
        )
        if field is not None:
            system = {
                "name": "fixed",
                "axes": [{"name": "c", "type": "displacement", "discrete": True}, *axes],
            }
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
                "displacements", attributes={"ome": {"version": NGFF_VERSION, "multiscales": [image]}}
            )
            vectors = np.moveaxis(field.vectors[..., ::-1], 2, 0)
            group.create_array(
                "s0",
                data=np.ascontiguousarray(vectors),
                chunks=(2, 512, 512),
                dimension_names=("c", "y", "x"),
            )
    return report


Writer = Callable[[Transform, Path, Units, float | None, float], Report]
FORMATS: dict[str, Writer] = {
    "itk": _itk, "itk-h5": _itk_h5, "elastix": _elastix, "field-tiff": _field_tiff, "field-nifti": _field_nifti, "field-mha": _field_mha,
    "ngff": _ngff, "csv": _csv, "npz": _npz, "gcp": _gcp,
}  # fmt: skip
SUFFIXES = {
    "itk": ".tfm", "itk-h5": ".h5", "elastix": ".txt", "field-tiff": ".tif", "field-nifti": ".nii.gz", "field-mha": ".mha",
    "ngff": ".zarr", "csv": ".csv", "npz": ".npz", "gcp": ".vrt",
}  # fmt: skip
"""How the files of each format usually end."""


def _spline(
    target: bspline.Map, transform: Transform, spacing: float | None, tolerance: float, stretch: float
) -> tuple[bspline.BSpline, float]:
    """A spline and its error in moving pixels, ``stretch`` times that of the fit; knots start half a patch apart and come nearer, unless ``spacing`` says."""
    begin = spacing or (
        min(transform.grid.spacing) / 2
        if transform.grid
        else max(transform.fixed.width, transform.fixed.height) / 16
    )
    enough = tolerance / stretch if spacing is None else math.inf
    spline, error = bspline.fit(
        target, transform.fixed.width, transform.fixed.height, begin, tolerance=enough
    )
    if error > enough:
        raise TransformError(
            f"a B-spline follows the map to {error * stretch:.3g} px at worst; --tolerance is {tolerance:g}"
        )
    return spline, error * stretch


def _control_points(transform: Transform, spacing: float | None) -> Tensor:
    """Fixed points (n, 2), the outer ones on the outermost pixel centres; sixteen along the longer side unless ``spacing`` says."""
    step = spacing or max(transform.fixed.width, transform.fixed.height) / 16
    y, x = (
        torch.linspace(0, side - 1, max(round((side - 1) / step), 1) + 1, dtype=torch.float64)
        for side in (transform.fixed.height, transform.fixed.width)
    )
    return affine.points_at(x, y).reshape(-1, 2)


def _affine_parameters(matrix: Tensor) -> tuple[list[float], list[float]]:
    """ITK's parameters of a matrix (2, 3): the linear part row by row, the translation; and the centre, here the origin."""
    return [*matrix[:, :2].flatten().tolist(), *matrix[:, 2].tolist()], [0.0, 0.0]


def _spline_parameters(
    spline: bspline.BSpline, pixel: tuple[float, float]
) -> tuple[list[float], list[float]]:
    """ITK's parameters of a spline in physical units: all x coefficients, x fastest, then all y; and size, origin, spacing, direction."""
    rows, columns, _ = spline.coefficients.shape
    values = [
        *(spline.coefficients[..., 0] * pixel[0]).flatten().tolist(),
        *(spline.coefficients[..., 1] * pixel[1]).flatten().tolist(),
    ]
    origin, spacing = (
        [v * p for v, p in zip(pair, pixel, strict=True)] for pair in (spline.origin, spline.spacing)
    )
    return values, [columns, rows, *origin, *spacing, 1, 0, 0, 1]


def _numbers(values: list[float]) -> str:
    return " ".join(map(repr, values))


def _elastix_value(value: Any) -> str:
    return (
        " ".join(map(repr, value))
        if isinstance(value, list)
        else f'"{value}"'
        if isinstance(value, str)
        else repr(value)
    )


def _library(name: str) -> Any:
    """An optional library, or the error that says how to get it."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise RegisterError(
            f"this format needs {name}, which is not installed; pip install 'register-cli[export]'"
        ) from None
