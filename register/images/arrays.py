"""Convert images that are NumPy arrays or PyTorch tensors to grey levels."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from register.compute import device
from register.errors import RegisterError
from register.images import debris, pyramid
from register.images.conversion import Conversion, working_dtype
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
    scaled_first = given.dtype == torch.float64  # on the CPU, because some devices have no float64
    planes = given.cpu() if scaled_first else _uploaded([given], place)[0].float()
    valid = torch.ones_like(planes[:1], dtype=torch.bool)
    if given.is_floating_point():
        valid = torch.isfinite(planes).all(0, keepdim=True)
    if nodata is not None:
        valid &= ~(planes == nodata).all(0, keepdim=True)
    if mask is not None:
        valid &= _checked_mask(mask, planes)
    colour = "rgb" if len(planes) == 3 else "grey"
    chosen = Conversion.of(planes, valid, colour=colour, white=white, wanted=channel)
    plane, clean = chosen(planes, valid)
    share = valid.float()
    if not chosen.keeps_all:
        plane, share = debris.removed(plane, clean.float(), share)
    if scaled_first:
        plane, share = _uploaded([plane, share], place)
    return GreyLevel(pyramid.base(plane, share), chosen.name)


def _uploaded(tensors: list[Tensor], place: torch.device) -> list[Tensor]:
    """The tensors on a device if its memory suffices, otherwise on the CPU."""
    try:
        return device.upload(tensors, place)
    except torch.OutOfMemoryError:
        return [x.cpu() for x in tensors]


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

    8- and 16-bit unsigned integers keep their type; others become float32, or float64 where that would
    round them.
    """
    if isinstance(image, Tensor):
        white = 255.0 if image.dtype == torch.uint8 else None
        given = image[None] if image.ndim == 2 else image
        return (given.double() if image.dtype in (torch.int32, torch.int64) else given), white
    white = float(np.iinfo(image.dtype).max) if image.dtype.kind == "u" else None
    dtype = image.dtype if image.dtype in (np.uint8, np.uint16) else working_dtype(image.dtype)
    planes = image[None] if image.ndim == 2 else np.moveaxis(image, 2, 0)
    return torch.from_numpy(np.require(planes, dtype, ["C", "W"])), white
