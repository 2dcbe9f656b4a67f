"""What differs between two aligned images, and which pixels of the fixed image have no counterpart."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from register.engine.tears import labels
from register.engine.tears.residuals import Views
from register.images.pyramid import Level
from register.transforms.transform import Transform


@dataclass(frozen=True)
class Differences:
    """Planes (h, w) of a working copy of the fixed image.

    The ``residual`` is the local squared difference in units of the mean of unrelated pixels, 1 at most, NaN
    outside of the moving image. ``occluded`` is 255 where the fixed image has no counterpart, else 0.
    """

    residual: NDArray[np.float32]
    occluded: NDArray[np.uint8]


def of(fixed: Level, moving: Level, transform: Transform, side: int) -> Differences:
    """The differences of two grey levels under a transform, on a copy of at most ``side`` pixels.

    Pixels without counterpart differ as unrelated ones do, with most of their neighbours; those that sides
    of the transform name are among them. Those outside of the moving image are no occlusion.
    """
    views = Views.of(fixed, moving, transform.quality.metric or "structure", side)
    residual = views.difference(transform)
    known = ~residual.isnan()
    whole = np.ones(tuple(residual.shape), np.int8)
    hidden = torch.from_numpy(labels.chosen([residual], whole, known) < 0).to(known.device)
    if transform.sides:
        named = transform.sides.at(views.points().reshape(-1, 2)).reshape(whole.shape)
        hidden |= torch.from_numpy(named < 0).to(known.device)
    return Differences(
        residual.cpu().numpy().astype(np.float32),
        (hidden & known).cpu().numpy().astype(np.uint8) * np.uint8(255),
    )
