"""A transform written into a SpatialData: an affine one into an element, any other as a grid beside it.

SpatialData (0.8) reads no displacements of RFC-5, only affine transformations and sequences of them. Its
coordinates have their origin at the corner of pixel (0, 0).
"""

from pathlib import Path
from typing import Any

import numpy as np

from register.errors import FileError
from register.files.atomic import atomic_folder
from register.geometry import affine, models
from register.geometry.arrays import Float64
from register.io.transforms.export_format import ExportFormat, ExportOptions, ExportReport
from register.io.transforms.fields import Field, sampled_field
from register.io.transforms.ngff import Json
from register.io.transforms.spatialdata_element import (
    DAMAGED,
    Element,
    consolidate,
    open_element,
    transformation,
)
from register.io.transforms.units import PIXELS
from register.transforms.transform import Transform

FIXED = "fixed"
"""The coordinate system of the fixed image's pixels, where no element of that image is named."""
GRID = "_displacements"
"""What is added to the name of an element for its grid of displacements."""
COARSEST = 64.0
"""Distance of samples, in pixels, from which on it is halved until the grid is as exact as asked for."""
MOST = 2**22
"""Samples of a grid above which it is not made finer by itself: 64 MB, and a slide's patches need fewer."""
RASTER_VERSIONS = {2: ("0.4-dev-spatialdata", "0.2"), 3: ("0.5-dev-spatialdata", "0.3")}
"""Versions of OME-Zarr and of SpatialData's images, by the version of zarr."""
NON_LINEAR = (
    "SpatialData reads no non-linear transformation: the displacements are an image of their own, and the "
    "element has no new transformation"
)


def write(transform: Transform, path: Path, options: ExportOptions) -> ExportReport:
    """Write the map of the element of the moving image to where the fixed image lies.

    That is the coordinate system ``fixed``, or those of ``options.fixed_element``. A transform that is not
    affine becomes an image of two channels, the displacements from fixed to moving pixels; the element stays
    as it is. Raises ``FileError`` for elements that do not belong to the images, and for a transformation or
    a grid that is there and may not be overwritten.
    """
    element = open_element(path)
    try:
        systems = _fixed_systems(transform, element, options.fixed_element)
        element.check(transform.moving, "moving", systems)
        if models.is_global(transform.model):
            moved = _corner(affine.invert(transform.matrix))
            element.state(
                {name: affine.compose(each, moved) for name, each in systems.items()}, options.overwrite
            )
            report = ExportReport("pixels", coordinate_systems=tuple(systems))
        else:
            report = _write_grid(transform, element, systems, options)
        consolidate(element.root)
    except (*DAMAGED, OSError) as error:
        raise FileError(path, f"has damaged metadata ({error})", "write it again") from None
    return report


EXPORT = ExportFormat("spatialdata", ".zarr", write, extends=True)


def _fixed_systems(transform: Transform, element: Element, name: str | None) -> dict[str, Float64]:
    """The coordinate systems of the fixed image, and the maps (2, 3) from its pixels to them."""
    if name is None:
        return {FIXED: affine.identity()}
    fixed = open_element(element.root / name)
    fixed.check(transform.fixed, "fixed")
    if fixed.path == element.path:
        raise FileError(
            element.path, "is named as the element of both images", "name another --fixed-element"
        )
    if not (found := fixed.systems()):
        raise FileError(fixed.path, "states no transformation", "leave --fixed-element out")
    return found


def _write_grid(
    transform: Transform, element: Element, systems: dict[str, Float64], options: ExportOptions
) -> ExportReport:
    """Write the displacements beside the element."""
    import zarr

    field = _field(transform, options)
    path = element.root / "images" / f"{element.path.name}{GRID}"
    if path.exists() and not options.overwrite:
        raise FileError(path, "exists already", "use --overwrite")
    sampled = _corner(np.array([[field.step, 0.0, 0.0], [0.0, field.step, 0.0]]))
    axes = ["c", "y", "x"]
    stated = [transformation(axes, name, affine.compose(each, sampled)) for name, each in systems.items()]
    version = element.group.metadata.zarr_format
    if not path.parent.exists():
        zarr.create_group(path.parent, zarr_format=version)
    with atomic_folder(path) as beside:
        group = zarr.create_group(
            beside, zarr_format=version, attributes=_attributes(version, path.name, stated)
        )
        _write_vectors(group, field)
    return ExportReport(
        "pixels",
        field_error_max=field.error,
        coordinate_systems=tuple(systems),
        beside=str(path),
        note=NON_LINEAR,
    )


def _field(transform: Transform, options: ExportOptions) -> Field:
    """The displacements as far apart as asked for, or as the largest error allows."""
    if options.spacing is not None:
        return sampled_field(transform, options.spacing, PIXELS)
    step = COARSEST
    while True:
        field = sampled_field(transform, step, PIXELS)
        if field.error <= options.tolerance or step <= 1 or field.vectors.size * 2 > MOST:
            return field
        step /= 2


def _attributes(version: int, name: str, stated: list[Json]) -> Json:
    """The attributes of an image of displacements."""
    ome, own = RASTER_VERSIONS[version]
    axes = [{"name": name, "type": "channel" if name == "c" else "space"} for name in "cyx"]
    scale = {"type": "scale", "scale": [1.0, 1.0, 1.0]}
    image = {
        "name": f"/images/{name}",
        "axes": axes,
        "datasets": [{"path": "s0", "coordinateTransformations": [scale]}],
        "coordinateTransformations": stated,
    }
    omero = {"channels": [{"label": "dx"}, {"label": "dy"}]}
    kept = {"spatialdata_attrs": {"version": own}}
    if version == 2:
        return {"multiscales": [image | {"version": ome}], "omero": omero, **kept}
    return {"ome": {"version": ome, "multiscales": [image], "omero": omero}, **kept}


def _write_vectors(group: Any, field: Field) -> None:
    """Write the displacements (2, rows, columns)."""
    vectors = np.ascontiguousarray(np.moveaxis(field.vectors, 2, 0))
    chunks = tuple(min(side, most) for side, most in zip(vectors.shape, (2, 512, 512), strict=True))
    if group.metadata.zarr_format == 2:
        group.create_array(
            "s0", data=vectors, chunks=chunks, chunk_key_encoding={"name": "v2", "separator": "/"}
        )
    else:
        group.create_array("s0", data=vectors, chunks=chunks, dimension_names=("c", "y", "x"))


def _corner(matrix: Float64) -> Float64:
    """A matrix (2, 3) between pixel centres, for coordinates that begin at the corner of a pixel."""
    half = affine.translation(0.5, 0.5)
    return affine.compose(half, affine.compose(matrix, affine.invert(half)))
