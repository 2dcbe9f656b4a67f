"""What an alignment found, as layers: the aligned layer, the patches and the expected error."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from register.errors import RegisterError
from register.geometry import affine
from register.geometry.arrays import Float64
from register.io.images.model import Image
from register.napari.layers import layer_affine
from register.napari.lazy import LayerData
from register.transforms.transform import Transform

ALIGNED, PATCHES, ERROR = "aligned", "patches", "expected error"
"""Names of the layers of a result."""
METADATA = "register"
"""The key of the transform in the metadata of the layers that were made by it."""
KEPT = "colormap", "contrast_limits", "gamma"
"""What the aligned layer has of its source."""


@dataclass(frozen=True)
class NewLayer:
    """A layer to add: its kind (``image``, ``labels``, ``points``, ``shapes``), its data and its options."""

    kind: str
    data: Any
    options: dict[str, object]

    def add_to(self, viewer: Any) -> Any:
        """The layer, added to a viewer."""
        return getattr(viewer, f"add_{self.kind}")(self.data, **self.options)


def affine_layer(transform: Transform, fixed_world: Float64, moving: Any) -> NewLayer:
    """The data of the moving layer, not copied, placed on the fixed image by the global map.

    ``fixed_world`` (2, 3) is the matrix from fixed pixels to the world.
    """
    placed = affine.compose(fixed_world, affine.invert(transform.matrix))
    options: dict[str, object] = {
        "name": f"{moving.name} ({ALIGNED})",
        "rgb": moving.rgb,
        "multiscale": moving.multiscale,
        "affine": layer_affine(placed, moving.ndim),
        "metadata": {METADATA: transform.values()},
    }
    return NewLayer("image", moving.data, options | _look(moving))


def resampled_layer(transform: Transform, data: LayerData, fixed_world: Float64, moving: Any) -> NewLayer:
    """The resampled moving layer on the fixed image, with the look of the moving layer."""
    options: dict[str, object] = {
        "name": f"{moving.name} ({ALIGNED})",
        "rgb": data.rgb,
        "multiscale": data.multiscale,
        "affine": layer_affine(fixed_world),
        "metadata": {METADATA: transform.values()},
    }
    return NewLayer("image", data.data, options | _look(moving))


def _look(moving: Any) -> dict[str, object]:
    """The colours of a layer, for another one."""
    if moving.rgb:
        return {}
    return {name: getattr(moving, name) for name in KEPT}


def patch_layers(transform: Transform, fixed_world: Float64) -> list[NewLayer]:
    """The patches as points with their figures, and the expected error in moving pixels as an image.

    Both are empty for global models, which have no patches. Patches whose error is not known are NaN.
    """
    grid = transform.grid
    if grid is None:
        return []
    figures = transform.patch_figures
    centres = grid.centres().reshape(-1, 2)
    error = transform.expected_error(centres)
    known = np.where(np.isfinite(error), error, np.nan)
    columns = {
        "confidence": figures.confidence,
        "status": figures.status,
        "similarity": figures.similarity_after,
    }
    features = {name: list(values) for name, values in columns.items() if values}
    features["expected error"] = known.round(3).tolist()
    top = float(np.nanpercentile(known, 95)) if np.isfinite(known).any() else 1.0
    place = affine.compose(
        fixed_world, np.array([[grid.spacing[0], 0, grid.origin[0]], [0, grid.spacing[1], grid.origin[1]]])
    )
    image = NewLayer(
        "image",
        known.reshape(grid.rows, grid.columns).astype(np.float32),
        {
            "name": ERROR,
            "affine": layer_affine(place),
            "colormap": "magma",
            "contrast_limits": (0.0, max(top, 1e-3)),
            "interpolation2d": "linear",
            "opacity": 0.6,
            "blending": "translucent",
            "visible": False,
        },
    )
    points = NewLayer(
        "points",
        centres[:, ::-1],
        {
            "name": PATCHES,
            "affine": layer_affine(fixed_world),
            "features": features,
            "face_color": "expected error",
            "face_colormap": "magma",
            "face_contrast_limits": (0.0, max(top, 1e-3)),
            "size": 0.25 * min(grid.spacing),
            "symbol": "square",
            "visible": False,
        },
    )
    return [image, points]


def checked_size(transform: Transform, fixed: Image, moving: Image) -> None:
    """Raise ``RegisterError`` unless a transform is one between two images of these sizes."""
    for name, frame, image in (("fixed", transform.fixed, fixed), ("moving", transform.moving, moving)):
        height, width = image.size
        if (frame.width, frame.height) != (width, height):
            raise RegisterError(
                f"the {name} layer is {width} × {height} pixels, the transform's {name} image "
                f"{frame.width} × {frame.height}; choose the layers that it belongs to"
            )
