"""``register info``: describe image and transform files."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from register.errors import FileError
from register.geometry import affine, arrays
from register.io.images.open import describe_file, open_header
from register.io.images.reader import FileDescription
from register.transforms.schema import refuse_movie
from register.transforms.transform import Transform

SAMPLES = 65
"""Points per side at which displacement and Jacobian are sampled."""
DIRECTION = (
    "maps a point (x, y) of the fixed image to the corresponding point of the moving image;"
    " pixels, 0-based, centres at integers"
)


def describe(path: Path) -> dict[str, Any]:
    """The description of a file, an image or a transform. Raises ``FileError`` for anything else."""
    if path.suffix.lower() == ".json":
        return {"path": str(path), "kind": "transform"} | describe_transform(Transform.load(path))
    refuse_movie(path)
    description = describe_file(path)
    try:
        image = open_header(path)
    except FileError as error:  # a stack, for example, cannot be aligned but can be described
        if description is None:
            raise
        return {"path": str(path), "kind": "image", **asdict(description), "notes": [str(error)]}
    if description is None:
        description = FileDescription("YX" if image.channels == 1 else "YXS", 1 + len(image.smaller))
    return {
        "path": str(path),
        "kind": "image",
        "container": image.kind,
        "width": image.size[1],
        "height": image.size[0],
        "dtype": str(image.dtype),
        "channels": image.channels,
        "colour": image.colour,
        "alpha": image.alpha,
        "channel_names": list(image.channel_names),
        "pixel_size": list(image.pixel_size.xy) if image.pixel_size else None,
        "pixel_unit": image.pixel_size.unit if image.pixel_size else None,
        "nodata": image.nodata,
        "notes": list(image.notes),
        **asdict(description),
    }


def describe_transform(transform: Transform) -> dict[str, Any]:
    """Direction, model, components of the global map, displacement, Jacobian, quality and provenance."""
    parts = affine.decompose(transform.matrix)
    fixed, moving, grid = transform.fixed, transform.moving, transform.grid
    points = fixed.sample_points(SAMPLES)
    mapped, jacobian = transform.expand(points)
    moved, determinant = np.linalg.norm(mapped - points, axis=1), np.linalg.det(jacobian)
    return {
        "direction": DIRECTION,
        "model": transform.model,
        "links": [{"model": link.transform.model, "inverse": link.inverse} for link in transform.chain],
        "fixed": [fixed.width, fixed.height],
        "moving": [moving.width, moving.height],
        "patches": None if grid is None else [grid.columns, grid.rows],
        "rotation_degrees": parts.rotation,
        "scale": parts.scale,
        "anisotropy": parts.anisotropy,
        "flipped": bool(affine.determinant(transform.matrix) < 0),
        "translation": transform.matrix[:, 2].tolist(),
        "displacement_median": arrays.median(moved),
        "displacement_max": float(moved.max()),
        "det_min": float(determinant.min()),
        "det_max": float(determinant.max()),
        "quality": {"verdict": transform.quality.verdict, **transform.quality},
        "provenance": dict(transform.provenance),
    }
