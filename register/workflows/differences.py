"""Write what differs between two aligned images: the occlusion mask and the residual map."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from register.engine.tears import differences
from register.geometry.pixel_size import PixelSize
from register.images.pyramid import Level
from register.io.images.model import Image
from register.io.images.open import write_image
from register.transforms.transform import Transform


def write(files: Mapping[str, Path], fixed: Level, moving: Level, transform: Transform, side: int) -> None:
    """Write the files of the roles ``occluded`` and ``residual``, if they are among ``files``.

    They are on a copy of the fixed image of at most ``side`` pixels, with its pixel size.
    """
    if "occluded" not in files and "residual" not in files:
        return
    found = differences.of(fixed, moving, transform, side)
    size, frame = transform.fixed.pixel_size, transform.fixed
    height, width = found.residual.shape
    if size is not None:
        size = PixelSize(size.x * frame.width / width, size.y * frame.height / height, size.unit)
    for role, plane in (("occluded", found.occluded), ("residual", found.residual)):
        if role in files:
            write_image(files[role], Image(np.ascontiguousarray(plane[None]), pixel_size=size))
