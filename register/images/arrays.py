"""Convert images that are NumPy arrays or PyTorch tensors to grey levels."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from register.compute import device
from register.errors import RegisterError
from register.images import grayscale, pyramid
from register.images.pyramid import Level

Array = NDArray[Any] | Tensor


class GreyLevel(NamedTuple):
    """The grey level of an image, and the name of the conversion that ``grayscale.choose`` chose."""

    level: Level
    name: str


def grey_level(
    image: Array,
    mask: Array | None = None,
    *,
    channel: str | None = None,
    nodata: float | None = None,
    place: torch.device = device.CPU,
) -> GreyLevel:
    """The grey level of an array (h, w) or (h, w, c), or of a tensor (h, w) or (c, h, w), with its mask.

    Pixels are invalid where they are not finite, where all channels equal ``nodata``, and where the
    ``mask`` (h, w) is 0. The level is computed on the device ``place`` if its memory suffices, otherwise on
    the CPU. Raises ``RegisterError`` for other shapes.
    """
    if image.ndim not in (2, 3):
        raise RegisterError(f"has {image.ndim} dimensions, not two or three (shape {tuple(image.shape)})")
    given, white = _planes(image)
    try:
        planes = device.upload([given], place)[0].float()
    except torch.OutOfMemoryError:
        planes = given.cpu().float()
    valid = torch.ones_like(planes[:1], dtype=torch.bool)
    if given.is_floating_point():
        valid = torch.isfinite(planes).all(0, keepdim=True)
    if nodata is not None:
        valid &= ~(planes == nodata).all(0, keepdim=True)
    if mask is not None:
        valid &= _checked_mask(mask, planes)
    colour = "rgb" if len(planes) == 3 else "grey"
    chosen = grayscale.choose(planes, valid, colour=colour, white=white, wanted=channel)
    return GreyLevel(pyramid.base(torch.where(valid, chosen(planes), 0.0), valid.float()), chosen.name)


def _checked_mask(mask: Array, planes: Tensor) -> Tensor:
    """The pixels (1, h, w) where a mask is not 0; raises ``RegisterError`` when its size is not that of the
    planes."""
    given = torch.as_tensor(mask, device=planes.device)
    size = tuple(planes.shape[1:])
    if tuple(given.shape) != size:
        raise RegisterError(f"and its mask differ in size: {size} and {tuple(given.shape)}")
    return (given != 0)[None]


def _planes(image: Array) -> tuple[Tensor, float | None]:
    """Planes (c, h, w) and the value of white, where the type of the pixels defines one.

    8- and 16-bit unsigned integers keep their type; other NumPy types become float32.
    """
    if isinstance(image, Tensor):
        white = 255.0 if image.dtype == torch.uint8 else None
        return (image[None] if image.ndim == 2 else image), white
    white = float(np.iinfo(image.dtype).max) if image.dtype.kind == "u" else None
    dtype = image.dtype if image.dtype in (np.uint8, np.uint16) else np.float32
    planes = image[None] if image.ndim == 2 else np.moveaxis(image, 2, 0)
    return torch.from_numpy(np.require(planes, dtype, ["C", "W"])), white
