"""Convert images that are NumPy arrays or PyTorch tensors to grey levels."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from register.compute import device
from register.errors import RegisterError
from register.geometry.user_points import real_array
from register.images import debris, pyramid
from register.images.conversion import Conversion, working_dtype
from register.images.pyramid import Level

Array = NDArray[Any] | Tensor


class GreyLevel(NamedTuple):
    """The grey level of an image, and the name of the conversion that ``grayscale.choose`` chose."""

    level: Level
    name: str


@dataclass(frozen=True)
class Picture:
    """An image that was checked: real numbers (h, w) or (h, w, c), or a tensor (h, w) or (c, h, w); and where
    a masked array hides pixels (h, w)."""

    values: Array
    hidden: NDArray[np.bool_] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        shape = tuple(self.values.shape)
        return (shape[-2], shape[-1]) if isinstance(self.values, Tensor) else (shape[0], shape[1])


def picture(image: object) -> Picture:
    """An array, masked array, tensor or nested lists as an image.

    Raises ``RegisterError`` for another number of dimensions, for no pixels, and for values that are no real
    numbers.
    """
    hidden = None
    if isinstance(image, Tensor):
        if image.is_complex() or image.is_quantized or image.layout != torch.strided:
            raise RegisterError(
                f"is a tensor of {image.dtype} ({image.layout}); dense real numbers are needed"
            )
        tensor = image.detach().clone() if image.is_inference() else image.detach()
        half = tensor.dtype in (torch.bfloat16, torch.float16)
        values: Array = tensor.float() if half else tensor
    else:
        values = _real(image)
        if isinstance(image, np.ma.MaskedArray):
            hidden = np.asarray(np.ma.getmaskarray(image).reshape(*image.shape[:2], -1).any(axis=2))
            values = np.ma.getdata(image)
    if values.ndim not in (2, 3):
        raise RegisterError(f"has {values.ndim} dimensions, not two or three (shape {tuple(values.shape)})")
    if 0 in values.shape:
        raise RegisterError(f"has no pixels (shape {tuple(values.shape)})")
    return Picture(values, hidden)


def _real(image: object) -> NDArray[Any]:
    """An array of real numbers. Raises ``RegisterError`` for anything else."""
    try:
        return real_array(image, "pixels")
    except RegisterError as error:
        raise RegisterError(f"cannot be used: {error}") from None
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise RegisterError(
            f"must be an array, a tensor, nested lists of one size or a path ({reason})"
        ) from None


def grey_level(
    image: object,
    mask: object = None,
    *,
    channel: str | None = None,
    nodata: float | None = None,
    place: torch.device = device.CPU,
) -> GreyLevel:
    """The grey level of an array (h, w) or (h, w, c), or of a tensor (h, w) or (c, h, w), with its mask.

    Pixels are invalid where they are not finite, where all channels equal ``nodata``, and where the
    ``mask`` (h, w) is 0. The level is computed on the device ``place`` if its memory suffices, otherwise on
    the CPU. Raises ``RegisterError`` for other shapes and types.
    """
    checked = image if isinstance(image, Picture) else picture(image)
    given, white = _planes(checked.values)
    scaled_first = given.dtype == torch.float64  # on the CPU, because some devices have no float64
    planes = given.cpu() if scaled_first else _uploaded([given], place)[0].float()
    valid = torch.ones_like(planes[:1], dtype=torch.bool)
    if given.is_floating_point():
        valid = torch.isfinite(planes).all(0, keepdim=True)
    if nodata is not None:
        valid &= ~(planes == nodata).all(0, keepdim=True)
    if mask is not None:
        valid &= _checked_mask(mask, planes)
    if checked.hidden is not None:
        valid &= ~torch.from_numpy(checked.hidden).to(planes.device)[None]
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


def _checked_mask(mask: object, planes: Tensor) -> Tensor:
    """The pixels (1, h, w) where a mask is not 0; raises ``RegisterError`` when its size is not that of the
    planes."""
    values = picture(mask).values
    given = values if isinstance(values, Tensor) else torch.from_numpy(np.ascontiguousarray(values != 0))
    given = given.to(planes.device)
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
