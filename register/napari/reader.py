"""The reader of the plugin: ``napari transform.json`` opens both images and the aligned one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from register.geometry import affine
from register.geometry.arrays import Float64
from register.io.images.model import Image
from register.napari import results
from register.napari.files import KINDS, TRANSFORM, layers_of, opened
from register.napari.layers import layer_affine
from register.napari.lazy import resampled
from register.transforms.transform import Transform

LayerTuple = tuple[Any, dict[str, object], str]


def reader_of(path: str | list[str]) -> Callable[[str], list[LayerTuple]] | None:
    """The function that reads a file if it is a transform of ``register``, as napari asks for it."""
    named = isinstance(path, str) and Path(path).name.endswith(TRANSFORM)
    return read if named else None


def read(path: str) -> list[LayerTuple]:
    """Both images, the aligned image and the patches of a transform. Raises ``FileError``."""
    transform, folder = Transform.load(path), Path(path).parent
    fixed, moving = (opened(transform, folder, kind) for kind in KINDS)
    world = _world(fixed)
    data = resampled(moving.coloured(), transform)
    aligned = results.NewLayer(
        "image",
        data.data,
        {
            "name": results.ALIGNED,
            "rgb": data.rgb,
            "multiscale": data.multiscale,
            "affine": layer_affine(world),
            "metadata": {results.METADATA: transform.values()},
        },
    )
    new = [*layers_of(fixed, "fixed"), *layers_of(moving, "moving"), aligned]
    new += results.patch_layers(transform, world)
    return [(layer.data, layer.options, layer.kind) for layer in new]


def _world(image: Image) -> Float64:
    """The matrix (2, 3) from the pixels of an opened image to the world, as its layer has it."""
    size = image.pixel_size
    if size is None or not size.unit:
        return affine.identity()
    return np.array([[size.x, 0.0, 0.0], [0.0, size.y, 0.0]])
