"""Move layers through a transform: points and shapes by coordinates, labels and images by resampling."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import RegisterError
from register.geometry import affine
from register.geometry.arrays import Float64
from register.io.images.model import Image
from register.napari.layers import layer_affine, pixels_from, with_xy, world_from, xy
from register.napari.lazy import resampled
from register.napari.results import METADATA, NewLayer
from register.transforms import compose
from register.transforms.frame import Frame
from register.transforms.transform import Link, Transform

KINDS = ("points", "shapes", "labels", "image")
"""Kinds of layers that can be moved."""
CIRCLE = 64
"""Vertices of the polygon that an ellipse becomes."""
OUTLINES = {"rectangle": "polygon", "ellipse": "polygon", "line": "path"}
"""What a shape becomes, because its image under the map is not of the same type."""


def moved(
    layer: Any, image: Image | None, transform: Transform, fixed: Any, moving: Any, *, inverse: bool = False
) -> NewLayer:
    """A layer that lies on the fixed layer, moved onto the moving layer; with ``inverse`` the other way.

    ``image`` is what a labels or image layer shows. Points get the columns ``inside`` and ``expected error``.
    Raises ``RegisterError`` for other kinds of layers, and for values that cannot be resampled.
    """
    kind = kind_of(layer)
    source, target = (moving, fixed) if inverse else (fixed, moving)
    name = f"{layer.name} (on {target.name})"
    metadata = {METADATA: transform.values()}
    if kind in ("labels", "image"):
        assert image is not None
        return _raster(layer, image, transform, source, target, name, inverse=inverse)
    to_source, world = pixels_from(layer, source), world_from(target)
    common: dict[str, object] = {
        "name": name, "affine": layer_affine(world, layer.ndim), "metadata": metadata,
    }  # fmt: skip
    if kind == "points":
        points = affine.apply(to_source, xy(layer.data))
        mapped, inside, error = _mapped(transform, points, inverse)
        features = layer.features.assign(**{"inside": inside, "expected error": error})
        look = {"symbol": layer.symbol, "size": layer.size, "face_color": layer.face_color}
        return NewLayer("points", with_xy(layer.data, mapped), common | {"features": features} | look)
    shapes, types = [], []
    for vertices, shape in zip(layer.data, layer.shape_type, strict=True):
        outline = _ellipse(vertices) if shape == "ellipse" else np.asarray(vertices, np.float64)
        mapped, _, _ = _mapped(transform, affine.apply(to_source, xy(outline)), inverse)
        if not np.isfinite(mapped).all():
            raise RegisterError(f"layer {layer.name!r}: a shape lies where the transform has no inverse")
        shapes.append(with_xy(outline, mapped))
        types.append(OUTLINES.get(shape, shape))
    look = {name: getattr(layer, name) for name in ("edge_color", "face_color", "edge_width")}
    return NewLayer("shapes", shapes, common | {"shape_type": types, "features": layer.features} | look)


def kind_of(layer: Any) -> str:
    """The kind of a layer in small letters. Raises ``RegisterError`` unless it is one of ``KINDS``."""
    kind = type(layer).__name__.lower()
    if kind not in KINDS:
        raise RegisterError(f"layer {layer.name!r} is of {kind}; points, shapes, labels and images move")
    return kind


def _mapped(
    transform: Transform, points: Float64, inverse: bool
) -> tuple[Float64, NDArray[np.bool_], Float64]:
    """Mapped points (n, 2), whether they lie on the image (n,), their expected error (n,) in its pixels."""
    frame = transform.fixed if inverse else transform.moving
    mapped = transform.inverse().map(points) if inverse else transform.map(points)
    return mapped, frame.contains(mapped), Link(transform, inverse).expected_error(points)


def _raster(
    layer: Any, image: Image, transform: Transform, source: Any, target: Any, name: str, *, inverse: bool
) -> NewLayer:
    """A labels or image layer on the grid of the target image."""
    pull = transform if inverse else compose.invert(transform)
    height, width = image.size
    to_layer = affine.compose(affine.invert(world_from(layer)), world_from(source))
    at = compose.followed_by(pull, to_layer, Frame(width, height))
    labels = kind_of(layer) == "labels"
    data = resampled(image, at, interpolation="nearest" if labels else "bilinear", fill=0 if labels else None)
    options: dict[str, object] = {
        "name": name,
        "multiscale": data.multiscale,
        "affine": layer_affine(world_from(target)),
        "metadata": {METADATA: transform.values()},
    }
    if labels:
        return NewLayer("labels", data.data, options)
    look = {} if data.rgb else {"colormap": layer.colormap, "contrast_limits": layer.contrast_limits}
    return NewLayer("image", data.data, options | {"rgb": data.rgb} | look)


def _ellipse(corners: NDArray[Any]) -> Float64:
    """The polygon (``CIRCLE``, ndim) of an ellipse that is given by the four corners of its box."""
    corners = np.asarray(corners, np.float64)
    centre, across, down = corners.mean(0), (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    angle = np.linspace(0, 2 * np.pi, CIRCLE, endpoint=False)[:, None]
    return np.asarray(centre + np.cos(angle) * across + np.sin(angle) * down)
